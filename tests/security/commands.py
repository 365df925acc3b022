"""Every command that reads a run's folder, run in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from text_recognizer import predict
from text_recognizer.command import exit_code_of
from training import run_experiment
from tuning import report, retrain, runs, search
from tuning.run.folder import RunFolder

SPACE = """
experiment: {data_class: Digits}
space:
  fc1: {type: int, low: 16, high: 64}
  optimizer: {type: categorical, choices: [Adam, SGD]}
search: {trials: 2, max_epochs: 2}
"""


class Commands:
    """Calls of every command on one run's folder, and their exit codes."""

    def __init__(self, folder: RunFolder, place: Path) -> None:
        image = place / "digit.png"
        Image.new("L", (28, 28), 90).save(image)
        (place / "space.yaml").write_text(SPACE)
        path = str(folder.path)
        self.all: dict[str, tuple[Callable[[], int | None], list[str]]] = {
            "report": (report.main, [path]),
            "report --json": (report.main, [path, "--json"]),
            "runs": (runs.main, ["--runs-dir", str(folder.path.parent)]),
            "runs RUN RUN": (runs.main, [path, path]),
            "resume": (search.main, ["--resume", path]),
            "retrain": (retrain.main, [path, "--top", "2"]),
            "warm start": (search.main, ["--space", "space.yaml", "--warm-start", path, "--check"]),
            "run_experiment": (
                run_experiment.main,
                ["--config", str(folder.best_config), "--max_epochs=1"],
            ),
            "predict": (predict.main, [str(folder.best_checkpoint), str(image)]),
            # It must be the last one: it ends before it is done.
            "extend": (search.main, ["--resume", path, "--trials", "40"]),
        }
        self.codes: dict[str, int] = {}

    def run(self, *names: str) -> None:
        """Run the named commands, or all."""
        for name in names or self.all:
            main, sys.argv[1:] = self.all[name]
            self.codes[name] = exit_code_of(main)
