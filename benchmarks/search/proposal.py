"""What a proposal costs: CPU of `Study.next_trial` with a SQLite study of so many trials, which has
its parameters committed. `python -m benchmarks.search.proposal [--sampler gp] [--trials 1000 10000]`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import optuna

from text_recognizer.command import exit_code_of
from text_recognizer.seeds import seed_of
from tuning.space import SearchSpace, read_space
from tuning.study import Study, create_record, distribution_of, sqlite_url
from tuning.study.optuna_record import epoch_to_plain
from tuning.study.storage import open_storage
from tuning.trials import Epoch, Outcome

SPACE = """
space:
{parameters}
search: {{trials: 1000000, max_epochs: 52, sampler: {sampler}}}
"""
PARAMETERS, PROPOSALS = 8, 15


def space_of(folder: Path, sampler: str) -> SearchSpace:
    lines = [f"  p{i}: {{type: float, low: 0, high: 1}}" for i in range(PARAMETERS)]
    path = folder / "space.yaml"
    path.write_text(SPACE.format(parameters="\n".join(lines), sampler=sampler))
    return read_space(path)


def ended_trial(space: SearchSpace, number: int) -> optuna.trial.FrozenTrial:
    """An ended trial of 1, 4, 16 or 52 epochs."""
    rng = np.random.default_rng(seed_of("proposal", number))
    params = {name: float(rng.random()) for name in space.parameters}
    worth = 1 - sum((value - 0.4) ** 2 for value in params.values()) / PARAMETERS
    length = next(n for n, share in ((52, 64), (16, 16), (4, 4), (1, 1)) if number % share == 0)
    epochs = [
        Epoch(n, {"val_acc": worth * (1 - 0.5**n)}, worked=number + n / 100)
        for n in range(1, length + 1)
    ]
    attributes = {f"epoch:{one.epoch}": epoch_to_plain(one) for one in epochs}
    return optuna.trial.create_trial(
        state=optuna.trial.TrialState.PRUNED,
        params=params,
        distributions={name: distribution_of(one) for name, one in space.parameters.items()},
        intermediate_values={one.epoch: one.metrics["val_acc"] for one in epochs},
        user_attrs={**attributes, "outcome": str(Outcome.STOPPED_EARLY), "cause": ""},
    )


def measured(trials: int, sampler: str) -> list[float]:
    """CPU milliseconds of each proposal; the first one, which reads the study, is left out."""
    with tempfile.TemporaryDirectory(prefix="bench-proposal-") as name:
        folder = Path(name)
        space, url = space_of(folder, sampler), sqlite_url(folder / "study.db")
        create_record(url, space, "s")
        record = optuna.load_study(study_name="s", storage=open_storage(url))
        record.add_trials([ended_trial(space, number) for number in range(trials)])
        study = Study(record, space, trials=10**6)
        found = []
        for _ in range(PROPOSALS + 1):
            start = time.process_time()
            trial = study.next_trial()
            found.append(1000 * (time.process_time() - start))
            assert trial is not None
            study.record_epoch(trial.number, Epoch(1, {"val_acc": 0.3}))
            study.close(trial.number, Outcome.STOPPED_EARLY)
        return found[1:]


def main() -> int:
    """Print a line of JSON for each size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sampler", choices=["gp", "tpe", "random"], default="gp")
    parser.add_argument("--trials", type=int, nargs="+", default=[30, 100, 300, 1000, 10_000])
    flags = parser.parse_args()
    for trials in flags.trials:
        found = measured(trials, flags.sampler)
        result = {"sampler": flags.sampler, "trials": trials, "cpu_ms": statistics.median(found)}
        print(json.dumps(result | {"from": min(found), "to": max(found)}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
