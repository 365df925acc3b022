"""What a careful colleague would remark on the result of a search. Pure functions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tuning.run.files import FinalMetrics, Validation
from tuning.trials.trial import RANKED, Best, Outcome, Trial

MANY = 0.25  # of all trials: more than an accident
CLOSE = 0.1  # of the way from the median to the best: so near counts as just as good
FEW_CLOSE = 2
TOP_HINT = "retrain.py --top 3"
FEWEST = 4  # trials that can be best, below which there is no region to speak of


def advice(
    ranked: Sequence[Best],
    space: dict[str, Any],
    trials: Sequence[Trial],
    max_epochs: int,
    validation: Validation | None = None,
) -> list[str]:
    """Remarks on the best of `ranked` trials, best first.

    Args:
        space: the `space` section of the search, as plain values.
        validation: the winner's answers, where they are known.
    """
    remarks = many_failed(trials)
    if not ranked:
        return remarks
    best = ranked[0]
    remarks += range_ends(best, space)
    if best.epoch.epoch == max_epochs and best.trial.outcome == Outcome.COMPLETE:
        remarks.append(
            f"the best trial was best at its last epoch ({max_epochs}); more epochs may do better"
        )
    finished = sum(trial.outcome in RANKED for trial in trials)
    if finished < 2 * len(space):
        remarks.append(
            f"only {finished} trials that count for {len(space)} parameters; more may do better"
        )
    elif lonely := lonely_winner(ranked):
        remarks.append(lonely)
    return remarks + (validation.remarks() if validation else [])


def many_failed(trials: Sequence[Trial]) -> list[str]:
    """A remark where many trials ended without a value that counts."""
    hints = {
        Outcome.DIVERGED: "a lower top of lr's range may help",
        Outcome.OUT_OF_MEMORY: "narrower networks, or a larger share",
    }
    found = []
    for outcome, n in Counter(trial.outcome for trial in trials).items():
        if outcome and outcome not in RANKED and n >= max(2, MANY * len(trials)):
            hint = hints.get(outcome, "see their causes")
            found.append(
                f"{n} of {len(trials)} trials ended as {outcome.replace('_', ' ')}: {hint}"
            )
    return found


def range_ends(best: Best, space: dict[str, Any]) -> list[str]:
    """Parameters whose best value is at an end of their range."""
    remarks = []
    for name, value in best.trial.params.items():
        low, high = space[name].get("low"), space[name].get("high")
        if low is not None and (end := near_end(value, low, high, bool(space[name].get("log")))):
            edge = high if end == "top" else low
            remarks.append(
                f"the best {name} ({value:.4g}) is near the {end} of its range ({edge:.4g}); a "
                "wider range may do better"
            )
    return remarks


def near_end(value: float, low: float, high: float, log: bool, margin: float = 0.02) -> str | None:
    """`top` or `bottom` where `value` is within `margin` of that end of its range (on its own
    scale), else None.
    """
    share = math.log(value / low) / math.log(high / low) if log else (value - low) / (high - low)
    return "bottom" if share <= margin else "top" if share >= 1 - margin else None


def lonely_winner(ranked: Sequence[Best]) -> str | None:
    """A remark where hardly any other trial comes close to the best: it may be luck, and its
    neighbourhood is unknown.
    """
    best, median = ranked[0].value, ranked[len(ranked) // 2].value
    within = CLOSE * abs(best - median)
    close = sum(abs(other.value - best) <= within for other in ranked[1:])
    if close >= FEW_CLOSE or best == median or len(ranked) < FEWEST:
        return None
    others = "no other trial comes" if close == 0 else "one other trial comes"
    return (
        f"{others} within {within:.4f} of the best: the winner may be luck; more trials, or "
        f"{TOP_HINT}"
    )


def seed_spread(final: FinalMetrics, ranked: Sequence[Best], metric: str) -> list[str]:
    """A remark where the final model's seeds differ by more than the winner was ahead: the next
    trial may be as good.
    """
    spread = final.test_acc_std if metric.endswith("acc") else final.test_loss_std
    if spread is None or len(ranked) < 2:
        return []
    lead = abs(ranked[0].value - ranked[1].value)
    if spread <= lead or final.candidates:  # with candidates the luck was looked at
        return []
    return [
        f"the winner's lead over trial {ranked[1].trial.number} ({lead:.4f}) is smaller than "
        "what the seed alone changes "
        f"({spread:.4f}, standard deviation over {len(final.seeds)} seeds): the two may be as "
        f"good; see {TOP_HINT}"
    ]


def final_remarks(final: FinalMetrics, ranked: Sequence[Best], metric: str) -> list[str]:
    """What the final script's results add to a search's remarks."""
    remarks = seed_spread(final, ranked, metric)
    if final.baseline.test_acc > final.test_acc:
        gap = final.baseline.test_acc - final.test_acc
        remarks.insert(
            0,
            (
                f"lab 1's defaults, trained the same way, read {gap:.2%} more of the test images "
                "right than this config"
            ),
        )
    return remarks
