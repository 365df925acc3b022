"""What the final models come to on the test set: each one's score, `metrics.json`, and the lines
that say it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from text_recognizer.data.base_data_module import EVALUATION_BATCH_SIZE
from text_recognizer.data.util import BaseDataset, normalise
from text_recognizer.metrics import Objective
from text_recognizer.predict import Recognizer
from tuning.final.candidates import Config, mean_and_std, same_recipe
from tuning.trials.trial import SCHEMA_VERSION


@dataclass(frozen=True)
class ModelScore:
    """One model on the test set. `per_class` is the share of each class's images that it
    recognises, in [0, 1].
    """

    seed: int
    accuracy: float
    loss: float  # cross entropy, mean over the images
    per_class: dict[str, float]


@dataclass(frozen=True)
class Final:
    """All that was found; the models of `config` and of `baseline` have the same seeds, in
    order, or are the same ones.
    """

    config: Config
    models: Sequence[ModelScore]
    baseline: Config
    baseline_models: Sequence[ModelScore]
    candidates: Sequence[Mapping[str, Any]]
    objective: Objective
    trained_on: Mapping[str, Any]
    test_examples: int
    test_reads: int  # of this run's test set, this one included

    @property
    def seeds(self) -> list[int]:
        return [model.seed for model in self.models]

    def as_metrics(self, sha256: Mapping[str, str]) -> dict[str, Any]:
        """The content of `metrics.json`."""
        return {
            "schema_version": SCHEMA_VERSION,
            "trial": self.config.trial,
            "epochs": self.config.epochs,
            "metric": self.objective.metric,
            "mode": self.objective.mode,
            "promised": self.config.searched,
            "seeds": self.seeds,
            **scores(self.models),
            "per_class": mean_per_class(self.models),
            "test_examples": self.test_examples,
            "baseline": {"config": self.baseline.settings, **scores(self.baseline_models)},
            "candidates": list(self.candidates),
            "test_reads": self.test_reads,
            "sha256": dict(sha256),
            "trained_on": dict(self.trained_on),
        }


def score_of(checkpoint: Path, seed: int, examples: BaseDataset) -> ModelScore:
    """Load a model as its users do, and ask it about the test examples. Raises
    `CheckpointError`.
    """
    recognizer = Recognizer.load(checkpoint)
    statistics = recognizer.data.mean, recognizer.data.std
    with torch.inference_mode():
        batches = torch.split(examples.images, EVALUATION_BATCH_SIZE)
        # (n, classes)
        logits = torch.cat([recognizer.model(normalise(images, *statistics)) for images in batches])
    hits = (logits.argmax(1) == examples.labels).double()
    per_class = {
        name: float(hits[of_class].mean())
        for index, name in enumerate(recognizer.data.mapping)
        if (of_class := examples.labels == index).any()
    }
    return ModelScore(
        seed, float(hits.mean()), float(cross_entropy(logits, examples.labels)), per_class
    )


def scores(models: Sequence[ModelScore]) -> dict[str, Any]:
    """Means and standard deviations over the seeds, and each seed's own."""
    accuracy, accuracy_std = mean_and_std([model.accuracy for model in models])
    loss, loss_std = mean_and_std([model.loss for model in models])
    return {
        "test_acc": accuracy,
        "test_acc_std": accuracy_std,
        "test_loss": loss,
        "test_loss_std": loss_std,
        "per_seed": [
            {"seed": model.seed, "test_acc": model.accuracy, "test_loss": model.loss}
            for model in models
        ],
    }


def mean_per_class(models: Sequence[ModelScore]) -> dict[str, float]:
    """Each class's accuracy, the mean over the seeds."""
    return {name: fmean(model.per_class[name] for model in models) for name in models[0].per_class}


def candidate(config: Config, each: Sequence[float], chosen: bool) -> dict[str, Any]:
    """One of the best, trained again with several seeds; without a mean where one of them
    diverged. JSON knows no NaN.
    """
    mean, std = mean_and_std(each) if all(map(math.isfinite, each)) else (None, None)
    return {
        "trial": config.trial,
        "epochs": config.epochs,
        "searched": config.searched,
        "mean": mean,
        "std": std,
        "each": [value if math.isfinite(value) else None for value in each],
        "chosen": chosen,
    }


def candidate_lines(candidates: Sequence[Mapping[str, Any]], objective: Objective) -> Iterator[str]:
    """The candidates, best first."""
    yield f"by their mean {objective.metric}:"
    for one in sorted(
        candidates,
        key=lambda one: math.inf if one["mean"] is None else -objective.sign * one["mean"],
    ):
        again = plus_minus(one["mean"], one["std"])
        yield (
            f"  trial {one['trial']:<4} {again}   in the search {one['searched']:.4f}"
            + "   <- goes on" * one["chosen"]
        )


def result_lines(final: Final) -> Iterator[str]:
    """The result against lab 1's defaults and against what the search promised."""
    seen = ", never seen before" if final.test_reads == 1 else ""
    yield (
        f"test, read {times(final.test_reads)} for this run ({final.test_examples:,} images{seen}):"
    )
    compared = [(final.config.label, final.models), (final.baseline.label, final.baseline_models)]
    width = max(len(label) for label, _ in compared)
    for label, models in compared[: 1 if same_recipe(final.config, final.baseline) else 2]:
        found = scores(models)
        accuracy, loss = (
            plus_minus(found[f"test_{name}"], found[f"test_{name}_std"]) for name in ("acc", "loss")
        )
        yield f"  {label:<{width}} acc {accuracy}   loss {loss}"
    part = "training" if final.objective.metric.startswith("train") else "validation"
    yield (
        f"the search promised {final.objective.metric} {final.config.searched:.4f} on the "
        f"{part} data"
    )
    worst, share = min(mean_per_class(final.models).items(), key=lambda item: item[1])
    yield f"worst class: {worst} ({share:.3f})"
    if mean_accuracy(final.baseline_models) > mean_accuracy(final.models):
        yield (
            "look: lab 1's defaults do better than this config: the search has found nothing "
            "that helps"
        )
    if final.test_reads > 1:
        yield (
            f"note: the test set has been read {times(final.test_reads)} for this run; to "
            "choose by it would be to fool oneself: "
            "the best of several readings looks better than its model is"
        )


def mean_accuracy(models: Sequence[ModelScore]) -> float:
    """Over the seeds."""
    return fmean(model.accuracy for model in models)


def plus_minus(mean: float | None, std: float | None) -> str:
    """Mean ± standard deviation; the mean alone where one seed has none; no mean where a seed
    diverged.
    """
    if mean is None:
        return "diverged"
    return f"{mean:.4f}" if std is None else f"{mean:.4f} ± {std:.4f}"


def times(n: int) -> str:
    """How often, in words."""
    return "once" if n == 1 else f"{n} times"
