"""Remarks on the result of a search, as an experienced colleague would make them."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from tuning.analysis.progress import position
from tuning.analysis.run_data import RunData
from tuning.run import FinalMetrics, Validation
from tuning.space import CategoricalParameter, Parameter, SearchSpace
from tuning.trials import RANKED, Best, Outcome, Trial

MANY = 0.25  # of all trials: more than an accident
NEAR_END = 0.02  # of a parameter's range
CLOSE = 0.1  # of the way from the median to the best: such a trial is about as good
FEW_CLOSE = 2
FEWEST_RANKED = 4  # with fewer ranked trials the median says nothing
TOP_HINT = "retrain.py --top 3"


def search_remarks(
    ranked: Sequence[Best],
    space: SearchSpace,
    trials: Sequence[Trial],
    validation: Validation | None = None,
) -> Iterator[str]:
    """Remarks on the result of a search.

    Args:
        ranked: the trials that can be best, best first.
        trials: all trials.
        validation: the answers of a trial, usually the best, on the validation data.
    """
    yield from failure_remarks(trials)
    if not ranked:
        return
    best = ranked[0]
    yield from range_remarks(best, space.parameters)
    if best.epoch.epoch == space.search.max_epochs and best.trial.outcome == Outcome.COMPLETE:
        yield (
            f"the best trial was still improving at its last epoch ({best.epoch.epoch}); try more "
            "epochs"
        )
    # with fewer than two trials for each parameter, no trial is near enough to the best to compare
    usable, n_parameters = sum(trial.can_be_best for trial in trials), len(space.parameters)
    if usable < 2 * n_parameters:
        yield f"only {usable} usable trials for {n_parameters} parameters; try more"
    else:
        yield from outlier_remarks(ranked)
    # an older file may be of a trial that was best before an extension
    if validation and validation.trial == best.trial.number:
        yield from validation_remarks(validation)


def failure_remarks(trials: Sequence[Trial]) -> Iterator[str]:
    """A remark on each outcome without a usable result that many trials have."""
    hints = {
        Outcome.DIVERGED: "try lower learning rates",
        Outcome.OUT_OF_MEMORY: "try narrower networks or a larger share of the GPU",
    }
    for outcome, n in Counter(trial.outcome for trial in trials).items():
        if outcome and outcome not in RANKED and n >= max(2, MANY * len(trials)):
            hint = hints.get(outcome, "see their causes")
            yield f"{n} of {len(trials)} trials ended as {outcome.replace('_', ' ')}; {hint}"


def range_remarks(best: Best, parameters: Mapping[str, Parameter]) -> Iterator[str]:
    """A remark on each parameter whose best value is near an end of its range."""
    for name, value in best.trial.params.items():
        parameter = parameters[name]
        if isinstance(parameter, CategoricalParameter):
            continue
        share = position(value, parameter)
        if min(share, 1 - share) <= NEAR_END:
            end, edge = ("top", parameter.high) if share > 0.5 else ("bottom", parameter.low)
            yield (
                f"the best {name} ({value:.4g}) is near the {end} of its range ({edge:.4g}); try a "
                "wider range"
            )


def outlier_remarks(ranked: Sequence[Best]) -> Iterator[str]:
    """A remark if hardly any other trial comes close to the best."""
    # a fixed distance cannot serve: 0.01 is much at an accuracy of 0.99, and little at 0.5
    best, median = ranked[0].value, ranked[len(ranked) // 2].value
    within = CLOSE * abs(best - median)
    close = sum(abs(other.value - best) <= within for other in ranked[1:])
    if close < FEW_CLOSE and len(ranked) >= FEWEST_RANKED:
        others = "only one other" if close else "no other"
        yield (
            f"{others} trial is within {within:.4f} of the best, which may be luck; try more "
            f"trials, or {TOP_HINT}"
        )


def validation_remarks(validation: Validation) -> Iterator[str]:
    """A remark if the best trial is hardly better than guessing. If it is better, a remark on each
    class that it recognises worse than the rest by three points and by three standard errors.
    """
    hits = [row[i] for i, row in enumerate(validation.confusion)]
    sizes = [sum(row) for row in validation.confusion]
    total = sum(sizes)
    share = sum(hits) / max(1, total)
    if total and share * len(sizes) < 2:
        yield (
            f"the best trial recognises {share:.1%} of the validation images: hardly better than "
            "guessing"
        )
        return
    for name, hit, size in zip(validation.classes, hits, sizes, strict=True):
        others = total - size
        if size and others:
            recall, rest = hit / size, (sum(hits) - hit) / others
            # the standard error of a share. If the rest has no error, it is taken to have one:
            # with an error of 0, a single wrong image of a class would be a remark
            error = math.sqrt(max(rest * (1 - rest), 1 / others) / size)
            if rest - recall > max(0.03, 3 * error):
                yield (
                    f"class {name}: {recall:.1%} of its {size} validation images are recognised, "
                    f"against {rest:.1%} of the others"
                )


def report_remarks(run: RunData) -> list[str]:
    """The remarks in a run's report, on its final model and on its search."""
    remarks = [*run.damaged, *run.summary.warnings]
    if run.final is None:
        return remarks
    if run.final.candidates:  # the user has followed this hint
        remarks = [remark for remark in remarks if not remark.endswith(TOP_HINT)]
    return [*final_remarks(run.final, run.ranked), *remarks]


def final_remarks(final: FinalMetrics, ranked: Sequence[Best]) -> Iterator[str]:
    """A remark if lab 1's defaults are better than the final model. Another if the best trial's
    lead over the second is smaller than the differences between the final model's seeds.
    """
    if final.baseline.test_acc > final.test_acc:
        yield (
            "lab 1's defaults, trained the same way, recognise "
            f"{final.baseline.test_acc - final.test_acc:.2%} more of the test images"
        )
    spread = final.test_acc_std if final.metric.endswith("acc") else final.test_loss_std
    # candidates were already compared by their means over several seeds
    if spread is not None and len(ranked) > 1 and not final.candidates:
        lead = abs(ranked[0].value - ranked[1].value)
        if lead < spread:
            yield (
                f"the best trial's lead over trial {ranked[1].trial.number} ({lead:.4f}) is "
                f"smaller than the standard deviation over {len(final.seeds)} seeds "
                f"({spread:.4f}): both may be equally good; try {TOP_HINT}"
            )
