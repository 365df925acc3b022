"""The JSON files of a run: one model for each, used by what writes the file and by all readers."""

from __future__ import annotations

import base64
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from text_recognizer.metrics import Mode
from tuning.run.reading import Lenient
from tuning.space import FrozenModel, Real
from tuning.trials import Best

WORST = 20  # images that are kept
PNG = b"\x89PNG\r\n\x1a\n"


class BestTrial(Lenient):
    """The best trial and its best epoch."""

    trial: int
    epoch: int
    value: Real
    params: dict[str, Any]
    # pydantic writes NaN and infinity as null, because JSON does not have them
    metrics: dict[str, float | None] = Field(default={})

    @classmethod
    def of(cls, best: Best) -> BestTrial:
        """The best trial of a study, as `summary.json` has it."""
        return cls(
            trial=best.trial.number,
            epoch=best.epoch.epoch,
            value=best.value,
            params=best.trial.params,
            metrics=dict(best.epoch.metrics),
        )


class Resources(Lenient):
    """How many trials ran at once, and what each had."""

    slots: int = 1
    cpus_per_trial: int = 1
    gpus_per_trial: Real = 0.0


class Summary(Lenient):
    """`summary.json`: how a search stands. `status` is running, complete, interrupted or failed."""

    schema_version: int = 1
    name: str = ""
    status: str
    data_class: str
    metric: str
    mode: Mode
    seed: int
    counts: dict[str, int]
    epochs_trained: int
    wall_time_s: Real
    stop_reason: str | None
    best: BestTrial | None
    resources: Resources
    # of best_config.yaml and best.ckpt, once the search is complete
    sha256: dict[str, str] = Field(default={})
    warnings: list[str] = Field(default=[])


class StorageNote(Lenient):
    """`storage.json`: the URL of the run's study, and its name there."""

    url: str
    study: str


class Environment(Lenient):
    """`environment.json`: what a run was made with."""

    command: str = ""
    git_commit: str | None = None
    git_dirty: bool = False
    python: str | None = None
    versions: dict[str, str | None] = Field(default={})
    platform: str = ""
    processor: str = ""
    cpus: int | None = None
    gpus: list[str] = Field(default=[])


def png(text: str) -> str:
    """Base64 of a PNG, and nothing else: the report puts it into a page."""
    try:
        content = base64.b64decode(text, validate=True)
    except ValueError:
        content = b""
    if not content.startswith(PNG):
        raise ValueError("base64 of a PNG picture")
    return text


class WorstImage(FrozenModel):
    """One image: its number among the training and validation examples, what it is, and what the
    winner takes it for.
    """

    index: Annotated[int, Field(ge=0)]
    label: str
    predicted: str
    probability: Annotated[float, Field(ge=0, le=1)]  # that the winner gives to the true class
    png: Annotated[str, AfterValidator(png)]


class Validation(FrozenModel):
    """The winner's answers on the validation data.

    `confusion[true][predicted]` counts images, both in the order of `classes`; `worst` begins with
    the worst.
    """

    trial: int
    sha256: str  # of the weights that were asked
    classes: list[str]
    confusion: list[list[Annotated[int, Field(ge=0)]]]
    worst: Annotated[list[WorstImage], Field(max_length=WORST)]

    @model_validator(mode="after")
    def _is_square(self) -> Validation:
        n = len(self.classes)
        if [len(row) for row in self.confusion] != [n] * n:
            raise ValueError(f"confusion has {n} rows of {n} counts")
        return self


class SeedScore(Lenient):
    """Test results of one model."""

    seed: int
    test_acc: Real
    test_loss: Real  # cross entropy, mean over the images


class Score(Lenient):
    """Test results of one config: means and sample standard deviations over its seeds.

    The deviations are None for one seed.
    """

    test_acc: Real
    test_acc_std: Real | None
    test_loss: Real
    test_loss_std: Real | None
    per_seed: list[SeedScore]


class Baseline(Score):
    """Test results of lab 1's defaults, and their settings."""

    config: dict[str, Any]


class Candidate(Lenient):
    """One of the best trials, trained again with several seeds on the training part alone."""

    trial: int
    epochs: int
    searched: Real  # its value in the search
    mean: Real | None  # over the seeds; None if one of them diverged
    std: Real | None
    each: list[Real | None]  # None for a seed that diverged
    chosen: bool


class TrainedOn(Lenient):
    """The data that the final model was trained on."""

    data_class: str
    examples: int


class FinalMetrics(Score):
    """`final/metrics.json`: the final model's test results, beside those of lab 1's defaults."""

    schema_version: int = 1
    trial: int
    epochs: int
    metric: str
    mode: Mode
    promised: Real  # the config's value in the search
    seeds: list[int]
    per_class: dict[str, Real]  # accuracy, mean over the seeds
    test_examples: int
    test_reads: int  # of this run's test set, this one included
    baseline: Baseline
    candidates: list[Candidate]
    trained_on: TrainedOn
    sha256: dict[str, str]  # of the other files in the folder
