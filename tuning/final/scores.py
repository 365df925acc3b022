"""Results of the final script: means over seeds, and the lines that the user reads."""

import math
from collections.abc import Iterator, Sequence
from statistics import fmean, stdev
from typing import Any

from text_recognizer.metrics import Objective
from tuning.final.candidates import Config, by_mean
from tuning.run import Candidate, FinalMetrics
from tuning.trials import plus_minus
from tuning.verification import Evaluation


def mean_and_std(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean and sample standard deviation (None for one value)."""
    # One seed that diverged makes the config useless: its mean must not hide that.
    if not all(map(math.isfinite, values)):
        return None, None
    return fmean(values), stdev(values) if len(values) > 1 else None


def candidate_of(config: Config, values: Sequence[float]) -> Candidate:
    """A config that was trained again, with its value for each seed (NaN if it diverged)."""
    mean, std = mean_and_std(values)
    return Candidate(
        trial=config.trial,
        epochs=config.epochs,
        searched=config.searched,
        mean=mean,
        std=std,
        each=[value if math.isfinite(value) else None for value in values],  # JSON has no NaN
        chosen=False,
    )


def scores_of(seeds: Sequence[int], models: Sequence[Evaluation]) -> dict[str, Any]:
    """The fields of `Score` for one config, from the evaluation of one model a seed."""
    accuracy, accuracy_std = mean_and_std([model.accuracy for model in models])
    loss, loss_std = mean_and_std([model.loss for model in models])
    return {
        "test_acc": accuracy,
        "test_acc_std": accuracy_std,
        "test_loss": loss,
        "test_loss_std": loss_std,
        "per_seed": [
            {"seed": seed, "test_acc": model.accuracy, "test_loss": model.loss}
            for seed, model in zip(seeds, models, strict=True)
        ],
    }


def accuracy_per_class(models: Sequence[Evaluation]) -> dict[str, float]:
    """The mean accuracy of the models on each class that has test images."""
    # `confusion[i]` counts the answers for images of class i, so `confusion[i][i]` are the hits.
    return {
        name: fmean(model.confusion[i][i] / sum(model.confusion[i]) for model in models)
        for i, name in enumerate(models[0].classes)
        if any(models[0].confusion[i])
    }


def candidate_lines(candidates: Sequence[Candidate], objective: Objective) -> Iterator[str]:
    """One line for each candidate, best first."""
    yield f"mean {objective.metric} of each config:"
    for one in by_mean(candidates, objective):
        yield (
            f"  trial {one.trial:<4} {plus_minus(one.mean, one.std)}   in the search "
            f"{one.searched:.4f}{'   <- chosen' if one.chosen else ''}"
        )


def result_lines(metrics: FinalMetrics) -> Iterator[str]:
    """The test results, beside those of lab 1's defaults and the value in the search."""
    reads = times(metrics.test_reads)
    yield f"results on the {metrics.test_examples:,} test images, read {reads} for this run:"
    compared = {f"trial {metrics.trial}": metrics, "lab 1's defaults": metrics.baseline}
    for label, score in compared.items():
        accuracy = plus_minus(score.test_acc, score.test_acc_std)
        loss = plus_minus(score.test_loss, score.test_loss_std)
        yield f"  {label:<16} acc {accuracy}   loss {loss}"
    part = "training" if metrics.metric.startswith("train") else "validation"
    yield f"in the search: {metrics.metric} {metrics.promised:.4f} on the {part} data"
    # The accuracy over all classes can hide one that is hardly recognised.
    worst, share = min(metrics.per_class.items(), key=lambda item: item[1])
    yield f"worst class: {worst} ({share:.3f})"
    if metrics.baseline.test_acc > metrics.test_acc:
        yield "hint: lab 1's defaults do better than this config; the search found nothing better"
    if metrics.test_reads > 1:
        yield (
            f"note: the test set has been read {reads} for this run; do not choose a model by "
            "these results, because the best of several is partly luck"
        )


def times(n: int) -> str:
    """`once`, or the number of times."""
    return "once" if n == 1 else f"{n} times"
