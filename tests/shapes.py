"""Searches in every shape that a report can be asked to show, made of plain records: no Ray, no
study, no training.
"""

from __future__ import annotations

import base64
import io
import math
import random
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from text_recognizer.metrics import Objective
from tuning.analysis.run_data import RunData
from tuning.run.files import (
    BestTrial,
    Environment,
    FinalMetrics,
    Resources,
    Summary,
    Validation,
    WorstImage,
)
from tuning.space.reader import read_space
from tuning.space.search_space import SearchSpace
from tuning.trials.trial import Epoch, Outcome, Trial, counts, epochs_trained, ranking

NASTY = "<script>alert(1)</script>"
EPOCHS = 9
SPACE = f"""
experiment: {{model_class: MLP, data_class: Digits}}
space:
  fc1: {{type: int, low: 8, high: 4096, log: true}}
  dropout: {{type: float, low: 0.0, high: 0.5}}
  optimizer: {{type: categorical, choices: [Adam, SGD, "{NASTY}"]}}
  momentum: {{type: float, low: 0.0, high: 0.99, when: {{optimizer: SGD}}}}
search: {{trials: 30, max_epochs: {EPOCHS}}}
"""
ENVIRONMENT = Environment(
    command=f"python tuning/search.py --name '{NASTY}'",
    git_commit="0" * 40,
    python="3.11.7",
    versions={"torch": "2.15.0", "nothing": None},
    platform="Linux",
    processor="a slow one",
    cpus=2,
)


def trial(
    number: int, outcome: Outcome | None, epochs: int, value: Callable[[int], float] | None = None
) -> Trial:
    """A trial whose epochs were recorded one a second; its curve rises to about 0.9 unless told
    otherwise.
    """
    luck = random.Random(number)
    optimizer = luck.choice(["Adam", "SGD", NASTY])
    params = {
        "fc1": round(8 * 512 ** luck.random()),
        "dropout": luck.random() / 2,
        "optimizer": optimizer,
    }
    params |= {"momentum": luck.random() * 0.99} if optimizer == "SGD" else {}
    height = 0.8 + luck.random() / 10
    curve = value or (lambda epoch: height * (1 - 0.6**epoch) + luck.random() / 100)
    recorded = tuple(
        Epoch(
            k,
            {"val_acc": curve(k), "val_loss": 1 - curve(k)},
            time=1000.0 + 9 * number + k,
            worked=1.0 + 9 * number + k,
        )
        for k in range(1, epochs + 1)
    )
    return Trial(
        number, params, recorded, outcome, f"{NASTY} broke" if outcome == Outcome.FAILED else ""
    )


def many(n: int) -> list[Trial]:
    """A search that ended in every way there is."""
    others = [Outcome.DIVERGED, Outcome.OUT_OF_MEMORY, Outcome.STALLED, Outcome.FAILED]
    found = []
    for number in range(n):
        if number % 10 == 9:
            found.append(trial(number, others[number // 10 % 4], number // 40 % 3))
        else:
            epochs = (EPOCHS, 3, 1, 1)[number % 4]
            found.append(
                trial(
                    number, Outcome.COMPLETE if epochs == EPOCHS else Outcome.STOPPED_EARLY, epochs
                )
            )
    return found


def shape(name: str) -> tuple[str, list[Trial]]:
    """Status and trials of a search in one of the `SHAPES`."""
    nan = math.nan
    match name:
        case "nothing begun":
            return "running", []
        case "none finished":
            return "running", [trial(0, None, 2), trial(1, None, 0)]
        case "cut at once":
            return "interrupted", [trial(0, None, 0), trial(1, None, 0)]
        case "one trial":
            return "complete", [trial(0, Outcome.COMPLETE, EPOCHS)]
        case "ties":
            return "complete", [
                trial(n, Outcome.COMPLETE, EPOCHS, lambda k: min(0.9, k / 5)) for n in range(12)
            ]
        case "all diverged":
            return "failed", [
                trial(n, Outcome.DIVERGED, 2, lambda k: nan if k == 2 else 0.1) for n in range(4)
            ]
        case "in full swing":
            return "running", [*many(30), trial(30, None, 2), trial(31, None, 0)]
        case "interrupted":
            return "interrupted", [*many(12), trial(12, None, 1)]
        case "500 trials":
            return "complete", many(500)
        case _:
            return "complete", many(30)


SHAPES = (
    *(
        "nothing begun",
        "none finished",
        "one trial",
        "ties",
        "all diverged",
        "in full swing",
        "interrupted",
        "cut at once",
    ),
    *("500 trials", "everything"),
)


def space_in(folder: Path) -> SearchSpace:
    path = folder / "space.yaml"
    path.write_text(SPACE, encoding="utf-8")
    return read_space(path)


def run_data(name: str, folder: Path) -> RunData:
    """All that a report is made from, for one of the `SHAPES`; `everything` has a final model,
    too.
    """
    status, trials = shape(name)
    ranked = ranking(trials, Objective("val_acc", "max"))
    summary = Summary(
        name=f"{name} {NASTY}",
        status=status,
        data_class="Digits",
        metric="val_acc",
        mode="max",
        seed=0,
        counts=counts(trials),
        epochs_trained=epochs_trained(trials),
        wall_time_s=100.0,
        stop_reason="all trials are done" if status == "complete" else None,
        best=BestTrial.of(ranked[0]) if ranked else None,
        resources=Resources(slots=2),
        sha256={"best.ckpt": "0" * 64} if status == "complete" else {},
        warnings=[f"the best {NASTY} is near the top"] if name == "everything" else [],
    )
    done = status == "complete"
    return RunData(
        summary=summary,
        environment=ENVIRONMENT,
        space=space_in(folder),
        trials=trials,
        path=folder,
        best_config="fc1: 8\n" if done else "",
        validation=validation(ranked[0].trial.number) if done else None,
        final=final() if name == "everything" else None,
    )


def picture() -> str:
    file = io.BytesIO()
    Image.new("L", (28, 28), 90).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


def validation(number: int, hits: int = 36) -> Validation:
    """Answers on 36 images of each class, of which the last class has `hits` right."""
    classes = [str(k) for k in range(9)] + [NASTY]
    confusion = [[36 if i == j else 0 for j in range(10)] for i in range(10)]
    confusion[9][9], confusion[9][0] = hits, 36 - hits
    worst = [
        WorstImage(
            index=k,
            label=NASTY,
            predicted="0" if k < 36 - hits else NASTY,
            probability=k / 100,
            png=picture(),
        )
        for k in range(20)
    ]
    return Validation(
        trial=number, sha256="0" * 64, classes=classes, confusion=confusion, worst=worst
    )


def final(accuracy: float = 0.97, deviation: float | None = 0.2) -> FinalMetrics:
    """What the final script found: a spread between seeds that is larger than any lead."""
    scores = {
        "test_acc": accuracy,
        "test_acc_std": deviation,
        "test_loss": 0.1,
        "test_loss_std": 0.01,
        "per_seed": [],
    }
    chosen = {"trial": 0, "epochs": 9, "searched": 0.95, "mean": 0.94, "std": None}
    lost = {"trial": 3, "epochs": 9, "searched": 0.95, "mean": None, "std": None}  # it diverged
    return FinalMetrics.model_validate(
        {
            **scores,
            "trial": 0,
            "epochs": 9,
            "metric": "val_acc",
            "mode": "max",
            "promised": 0.95,
            "seeds": [0, 1, 2],
            "test_reads": 2,
            "per_class": {NASTY: 0.9, "1": 0.99},
            "test_examples": 360,
            "baseline": {**scores, "config": {}},
            "candidates": [
                chosen | {"each": [0.94], "chosen": True},
                lost | {"each": [None], "chosen": False},
            ],
            "trained_on": {"data_class": "Digits", "examples": 1437},
            "sha256": {},
        }
    )
