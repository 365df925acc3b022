"""`report.html`: what was searched and found, in one file without a network. `python tuning/report.py RUN` writes it again."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from text_recognizer.errors import exit_code_of
from tuning.record import open_record
from tuning.results import counts, epochs_trained, ranking
from tuning.run_folder import RunFolder, open_run, read_json, shown_path, write_text
from tuning.study import Study

TEMPLATE = "report.html.jinja"


def write(folder: RunFolder) -> Path:
    """Write the report of a run from what is in its folder. Raises `RunError` where that is damaged."""
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    templates.filters["short"] = lambda value: f"{value:.4g}" if isinstance(value, float) else str(value)
    write_text(folder.report, templates.get_template(TEMPLATE).render(content(folder)))
    return folder.report


def content(folder: RunFolder) -> dict[str, Any]:
    """All that the template shows, as plain values."""
    space, record = open_record(folder)
    study = Study(record, space, trials=space.search.trials)
    place = {best.trial.number: rank for rank, best in enumerate(ranking(study.trials, study.metric, study.mode), 1)}
    rows = [
        {
            "rank": place.get(trial.number),
            "number": trial.number,
            "status": trial.status,
            "cause": trial.cause,
            "epochs": len(trial.epochs),
            "best": trial.best_epoch(study.metric, study.mode),
            "params": [trial.params.get(name, "") for name in space.parameters],
        }
        for trial in study.trials
    ]
    rows.sort(key=lambda row: (row["rank"] is None, row["rank"] or 0, row["number"]))
    return {
        "summary": read_json(folder.summary) | {"counts": counts(study.trials), "epochs_trained": epochs_trained(study.trials)},
        "environment": read_json(folder.environment),
        "search": space.search,
        "names": list(space.parameters),
        "rows": rows,
        "causes": any(row["cause"] for row in rows),
        "space_file": folder.space.read_text(encoding="utf-8"),
        "best_config": folder.best_config.read_text(encoding="utf-8") if folder.best_config.exists() else "",
    }


def main() -> None:
    """Rebuild the report of a run, or print its summary."""
    parser = argparse.ArgumentParser(prog="report.py", description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--json", action="store_true", help="print the summary instead")
    arguments = parser.parse_args()
    folder = open_run(arguments.run)
    if arguments.json:
        print(json.dumps(read_json(folder.summary), indent=2))
    else:
        print(f"wrote {shown_path(write(folder))}")


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
