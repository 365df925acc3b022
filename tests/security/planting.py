"""Payloads that a stranger may have put into a run's folder. Each would touch a file if it were run."""

from __future__ import annotations

import base64
import csv
import json
import pickle
import shutil
import sqlite3
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import yaml

from text_recognizer.util import checksum
from tuning.run.folder import RunFolder

# Tune's own state, as `Tuner.restore` would read it, in an experiment's folder and below it
OF_TUNE = (
    *(
        "tuner.pkl",
        "trainable.pkl",
        "experiment_state-2026-11-24_12-00-00.json",
        "searcher-state-2026-11-24_12-00-00.pkl",
    ),
    *(
        "search_gen_state-2026-11-24_12-00-00.json",
        "0/params.pkl",
        "0/params.json",
        "0/result.json",
        "0/.validate_storage_marker",
    ),
    *(
        "0/checkpoint_000000/.tune_metadata",
        "0/checkpoint_000000/dict_checkpoint.pkl",
        "0/checkpoint_000000/.is_checkpoint",
    ),
)


class Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self.marker,)


class Stranger:
    """Plants payloads in a run's folder. All of them touch `marker`."""

    def __init__(self, folder: RunFolder, marker: Path) -> None:
        self.folder, self.marker = folder, marker
        self.pickled = pickle.dumps(
            {"state_dict": Payload(marker), "content": [Payload(marker)]}, protocol=2
        )
        self.in_base64 = base64.b64encode(self.pickled).decode()
        self.tagged = f'!!python/object/apply:os.system ["touch {marker}"]'
        self.command = (
            f'=HYPERLINK("file://{marker}")\x1b]0;gotcha\x07<script>$(touch {marker})</script>'
        )

    def pickles(self) -> Iterator[Path]:
        """Turn one file after another into a pickle; the other files are as they were."""
        whole = {path: path.read_bytes() for path in self.files()}
        for path in one_of_each(whole):
            path.write_bytes(self.pickled)
            yield path
            for other, content in whole.items():
                other.write_bytes(content)

    def files(self) -> list[Path]:
        """All files of a run, with one of the final script."""
        self.folder.final.mkdir(exist_ok=True)
        (self.folder.final / "metrics.json").touch()
        return sorted(path for path in self.folder.path.rglob("*") if path.is_file())

    def in_yaml(self, path: Path) -> None:
        """Replace a value by a tag that unsafe YAML loaders run. The summary gets the new checksum."""
        content = yaml.safe_load(path.read_text())
        section = content.get("experiment", content)
        path.write_text(f"batch_size: {self.tagged}\n" + yaml.safe_dump(content))
        if section is not content:
            plain = yaml.safe_dump(content).replace(
                "experiment:", f"experiment:\n  batch_size: {self.tagged}", 1
            )
            path.write_text(plain)
        self.agree()

    def in_checkpoints(self) -> None:
        """Replace the pickle inside of each checkpoint. Study and summary get the new checksums."""
        for path in self.folder.path.rglob("*.ckpt"):
            with zipfile.ZipFile(path) as archive:
                entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
            with zipfile.ZipFile(path, "w") as archive:
                for name, content in entries.items():
                    archive.writestr(name, self.pickled if name.endswith("data.pkl") else content)
        with closing(sqlite3.connect(self.folder.study)) as database, database:
            rows = database.execute(
                "SELECT trial_user_attribute_id, value_json FROM trial_user_attributes WHERE key LIKE 'epoch:%'"
            )
            for key, text in rows.fetchall():
                epoch = json.loads(text)
                path = self.folder.checkpoints / epoch["checkpoint"]
                if path.is_file():
                    changed = json.dumps(epoch | {"sha256": checksum(path)})
                    database.execute(
                        "UPDATE trial_user_attributes SET value_json = ? WHERE trial_user_attribute_id = ?",
                        (changed, key),
                    )
        self.agree()

    def agree(self) -> None:
        """Write the current checksums into the summary."""
        summary = json.loads(self.folder.summary.read_text())
        files = (self.folder.best_config, self.folder.best_checkpoint)
        self.folder.summary.write_text(
            json.dumps(summary | {"sha256": {path.name: checksum(path) for path in files}})
        )

    def texts(self) -> list[tuple[str, str]]:
        """(table, column) of the study's texts that are not empty."""
        with closing(sqlite3.connect(self.folder.study)) as database:
            tables = [
                row[0]
                for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            ]
            columns = [
                (table, column)
                for table in tables
                for _, column, kind, *_ in database.execute(f"PRAGMA table_info({table})")
                if "CHAR" in kind or "TEXT" in kind
            ]
            return [
                pair
                for pair in columns
                if database.execute(f"SELECT count({pair[1]}) FROM {pair[0]}").fetchone()[0]
            ]

    def in_study(self, table: str, column: str, value: Any) -> None:
        """Write the value into every row of a column, or into one row if values must differ."""
        with closing(sqlite3.connect(self.folder.study)) as database, database:
            database.execute(f"UPDATE OR IGNORE {table} SET {column} = ?", (value,))

    def leftovers(self) -> None:
        """Write payloads into files that no command reads: Tune's state, logs, tables, pages, events."""
        for name in OF_TUNE:
            path = self.folder.ray / "tune-0" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps(
                {"runner_data": {"_type": "CLOUDPICKLE_FALLBACK", "value": self.pickled.hex()}}
            )
            path.write_bytes(text.encode() if path.suffix == ".json" else self.pickled)
        self.folder.logs.mkdir(exist_ok=True)
        (self.folder.logs / "trial-0-stalled.txt").write_bytes(self.pickled)
        for path in self.folder.tensorboard.rglob("events*"):
            path.write_bytes(self.pickled)
        (self.folder.path / ".lock").write_bytes(self.pickled)
        self.folder.report.write_bytes(self.pickled)
        rows = list(csv.DictReader(self.folder.trials_csv.open()))
        with self.folder.trials_csv.open("w") as file:
            table = csv.DictWriter(file, rows[0].keys())
            table.writeheader()
            table.writerows(
                [row | {"cause": self.command, "status": "stopped_early"} for row in rows]
            )


def one_of_each(paths: Iterable[Path]) -> list[Path]:
    """All files, but of the trials' files only the first of each kind."""
    return list(
        {path.parents[1] if path.parent.name.isdecimal() else path: path for path in paths}.values()
    )


def copy_of(folder: RunFolder, place: Path, name: str = "strange") -> RunFolder:
    """A copy of a run, to be damaged."""
    return RunFolder(Path(shutil.copytree(folder.path, place / "runs" / name)))
