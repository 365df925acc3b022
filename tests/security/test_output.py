"""What stands in a name, an error or a parameter is shown, and neither obeyed by a terminal, a
browser or a spreadsheet.

`test_html.py` has the report's policy, and tags in what its shapes have; `test_console.py`,
`test_runs.py` and `test_folder.py` have the terminal of a search, the list of runs and the model
card.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from tests import shapes
from tests.security.commands import Commands
from tests.security.conftest import Watched
from tests.security.planting import copy_of
from tests.security.test_checkpoints import content
from tests.unit.analysis.test_html import Page
from text_recognizer import predict
from text_recognizer.command import exit_code_of
from text_recognizer.data.digits import Digits
from text_recognizer.errors import RunError
from text_recognizer.metrics import Objective
from tuning.analysis import html
from tuning.callbacks.tensorboard import Curves
from tuning.run.files import Environment, Summary
from tuning.run.folder import RunFolder
from tuning.trials.table import trials_table
from tuning.trials.trial import Epoch, Outcome, Trial

ESCAPE = "\x1b]0;gotcha\x07\x1b[2J\x9b31m\u202e"
NASTY = f"\"'></script></td><img src=x onerror=alert(1)><script>alert(2)</script>{{{{ 7 * 7 }}}}{ESCAPE}"
FORMULAS = ("=HYPERLINK(1)", "+1+cmd|' /C calc'!A0", "-2+3", "@SUM(1)")
CHANGES: tuple[dict[str, Any], ...] = (
    {},
    {"status": f"running{ESCAPE}"},
    {"counts": {ESCAPE: "many"}},
    {"stop_reason": ESCAPE, "data_class": ESCAPE},
)
OBEYED = ("\x1b", "\x07", "\x9b", "\u202e")


def with_nasty(value: Any, but: frozenset[str]) -> Any:
    """A plain value in which every text, but those under some keys, has `NASTY` behind it."""
    if isinstance(value, dict):
        return {
            key: inner if key in but else with_nasty(inner, but) for key, inner in value.items()
        }
    if isinstance(value, list):
        return [with_nasty(inner, but) for inner in value]
    return value + NASTY if isinstance(value, str) else value


def test_no_text_of_a_run_is_markup_in_its_report(tmp_path: Path) -> None:
    """Every text of summary, environment, best config and validation, and each trial's cause and
    choice.
    """
    run = shapes.run_data("everything", tmp_path)
    assert run.validation is not None
    validation = with_nasty(run.validation.model_dump(), frozenset({"png"}))
    summary = with_nasty(run.summary.model_dump(), frozenset({"status", "metric", "mode"}))
    environment = with_nasty(run.environment.model_dump(), frozenset())
    more = {"gpus": [NASTY], "versions": {NASTY: NASTY}}
    nasty = replace(
        run,
        summary=Summary.model_validate(summary | {"stop_reason": NASTY}),
        environment=Environment.model_validate(environment | more),
        best_config=NASTY,
        damaged=[NASTY],
        validation=run.validation.model_validate(validation),
        trials=[replace(trial, cause=NASTY if trial.cause else "") for trial in run.trials],
    )
    text = html.write_report(nasty).read_text(encoding="utf-8")
    page = Page(text)
    assert [attributes.get("id") for tag, attributes in page.tags if tag == "script"] == [
        "figures",
        None,
        None,
    ]
    images = [attributes["src"] or "" for tag, attributes in page.tags if tag == "img"]
    assert images
    assert all(src.startswith("data:image/png;base64,") for src in images)
    assert [
        name for _, attributes in page.tags for name in attributes if name.startswith("on")
    ] == []
    assert page.text.count("{{ 7 * 7 }}") > 10
    assert "49" + ESCAPE not in page.text


def test_no_text_of_a_plot_ends_its_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = {"data": [{"text": [NASTY]}], "layout": {}}
    monkeypatch.setattr(html, "figures", lambda *_: {"curves": figure}.items())
    path = html.write_report(shapes.run_data("one trial", tmp_path))
    text = path.read_text(encoding="utf-8")
    assert Page(text).figures == {"curves": figure}


def test_a_cell_of_the_table_is_no_formula_and_a_number_stays_one() -> None:
    trials = [
        Trial(n, {"a": text, "b": -0.5}, (), Outcome.FAILED, text)
        for n, text in enumerate(FORMULAS)
    ]
    trials.append(
        Trial(
            4,
            {"a": NASTY, "b": 1e-5},
            (Epoch(1, {"val_loss": -0.25}),),
            Outcome.COMPLETE,
            f"two\nlines{ESCAPE}",
        )
    )
    text = trials_table(trials, ["a", "b"], Objective("val_loss", "min"))
    rows = list(csv.DictReader(io.StringIO(text)))
    assert (
        [row["cause"] for row in rows[:4]]
        == [row["a"] for row in rows[:4]]
        == [f"'{formula}" for formula in FORMULAS]
    )
    assert [float(row["b"]) for row in rows] == [-0.5, -0.5, -0.5, -0.5, 1e-5]
    assert float(rows[4]["val_loss"]) == -0.25
    assert rows[4]["cause"].startswith("two\nlines\\x1b]0;")
    assert not any(sign in text for sign in OBEYED)


def test_nothing_in_tensorboards_files_is_obeyed(tmp_path: Path) -> None:
    Curves(tmp_path, Objective("val_acc", "max"), print).on_change(
        Trial(0, {"a": NASTY}, (), Outcome.FAILED, NASTY)
    )
    written = next(tmp_path.rglob("events*")).read_bytes()
    assert written.count(b"gotcha") == 2
    assert not any(part.encode() in written for part in ("\x1b]0;", "\x1b[2J", "\x9b31m", "\u202e"))


def test_an_error_is_shown_line_by_line(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise RunError(f"{ESCAPE} is damaged:\nand {ESCAPE} too")

    assert exit_code_of(fail) == 4
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 2
    assert not any(sign in said for sign in OBEYED)


def test_a_strangers_label_is_shown_by_predict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mapping = [f"{digit}{ESCAPE}" for digit in Digits.config.mapping]
    torch.save(
        content(data_config=asdict(Digits.config) | {"mapping": mapping}), tmp_path / "best.ckpt"
    )
    Image.new("L", (28, 28), 90).save(tmp_path / "digit.png")
    sys.argv[1:] = [str(tmp_path / "best.ckpt"), str(tmp_path / "digit.png")]
    predict.main()
    said = capsys.readouterr().out
    assert "gotcha" in said
    assert not any(sign in said for sign in OBEYED)


def test_no_command_says_what_a_terminal_obeys(
    watched: Watched,
    tmp_path: Path,
    commands: Callable[[RunFolder], Commands],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In the run's own name, its summary, its space, and a file that is not as it should be."""
    folder = copy_of(watched.folder, tmp_path, f"nasty{ESCAPE}")
    summary = json.loads(folder.summary.read_text())
    for change in CHANGES:
        folder.summary.write_text(json.dumps(summary | change))
        (folder.validation).write_text(json.dumps({ESCAPE: 1}))
        ran = commands(folder)
        ran.run("report", "report --json", "runs", "runs RUN RUN", "resume", "retrain", "extend")
        said = "".join(capsys.readouterr())
        assert said.count("gotcha") > 3
        assert [line for line in said.split("\n") if any(sign in line for sign in OBEYED)] == []


def test_a_folders_name_is_no_setting_of_the_best_config(
    watched: Watched, tmp_path: Path, commands: Callable[[RunFolder], Commands]
) -> None:
    """It stands in the comment at the head of the file."""
    folder = copy_of(watched.folder, tmp_path, "odd\naugment: true\n# ")
    settings = yaml.safe_load(folder.best_config.read_text())
    folder.best_config.unlink()
    ran = commands(folder)
    ran.run("resume")
    assert ran.codes == {"resume": 0}
    assert yaml.safe_load(folder.best_config.read_text()) == settings
    shutil.rmtree(folder.path)
