"""The final model: the best config trained with several seeds on training and validation data, the
test set read once for all.

With `top` above one the best configs are first trained again on the training part alone: the
search's winner may owe its place to the luck of one seed. No choice is made by the test set.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

from text_recognizer.data.util import BaseDataset
from text_recognizer.errors import ClusterError, NoResultError, RunError
from training.experiment import build_data
from tuning.analysis import html
from tuning.analysis.run_data import read_run_data
from tuning.cli import shown_path
from tuning.final.candidates import (
    Config,
    best_mean,
    configs,
    exported_first,
    lab_1,
    read_best_config,
    same_recipe,
    seeds_from,
)
from tuning.final.folder import FILES, delete, reads_before, workplace, write_final
from tuning.final.model_card import Origin
from tuning.final.scores import Final, candidate, candidate_lines, result_lines, score_of
from tuning.ray_backend.local_cluster import Cluster, own_cluster, sigterm_is_an_exit
from tuning.ray_backend.tasks import Tasks
from tuning.run.environment import environment
from tuning.run.folder import RunFolder
from tuning.run.options import Options
from tuning.run.reading import read_as_ours
from tuning.study.optuna_record import check_direction, get_attr, open_record, own_trials, set_attr
from tuning.trials.trial import ranking
from tuning.verification import preflight
from tuning.verification.fingerprint import data_sum, differences
from tuning.worker.training_task import Trained, Training, train_once

TEST_READS = "test_reads"  # under this name the study knows how often the run's test set was read


@dataclass(frozen=True)
class Request:
    """What the user asked for: seeds per config, how many of the best configs to look at, where
    the data is, how to run.
    """

    seeds: int
    top: int
    data_dir: str | None  # None: where the search had it
    options: Options


class Retraining:
    """One process's work on the final model of a run whose lock it holds.

    Args:
        summary: of a search that has ended with a best trial.
        say: prints a line.

    Raises:
        RunError: the run was changed since it ended, or is damaged.
    """

    def __init__(
        self,
        folder: RunFolder,
        summary: Mapping[str, Any],
        request: Request,
        say: Callable[[str], None],
    ) -> None:
        self.folder = folder
        self.request = request
        self.say = say
        with read_as_ours(folder.path):
            self.space, self.record = open_record(folder)
            self.objective = self.space.search.objective
            check_direction(self.record, self.objective.mode)
            self.trials = own_trials(self.record, self.objective.metric)
            ranked = exported_first(ranking(self.trials, self.objective), summary["best"])
            winner = read_best_config(folder, summary)
            if request.data_dir:
                winner["data_dir"] = str(Path(request.data_dir).resolve())
            self.configs = configs(winner, list(self.space.parameters), ranked[: request.top])
            self.seeds = seeds_from(winner.get("seed", 0), request.seeds)
            self.reads = max(get_attr(self.record, TEST_READS, 0), reads_before(folder))

    def go(self) -> None:
        """Train, choose, test, and put `final/` in place in one step.

        Raises:
            NoResultError: a training failed or diverged.
            InputError, RunError, StorageError, DataError
        """
        node = preflight.machine()
        self.slots = self.request.options.slots([node], len(self.seeds) * max(len(self.configs), 2))
        self.say_notes()
        examples = self.examples()
        # what a run has is its owner's; downloaded data is as the user's umask has it
        os.umask(0o077)
        with workplace(self.folder) as new:
            self.say(f"{self.folder.name}: starting Ray …")
            ray = own_cluster(dashboard=False, num_cpus=int(node.cpus), num_gpus=int(node.gpus))
            with ray as cluster, sigterm_is_an_exit():
                config, candidates, models = self.train(examples, new, cluster)
            final = self.test(config, candidates, models, len(examples))
            origin = Origin(self.folder.name, self.space, len(self.trials), environment().versions)
            write_final(self.folder, new, models[0], final, origin)
        for line in result_lines(final):
            self.say(line)
        self.say(
            f"wrote {shown_path(self.folder.final)}/{FILES[0]} (seed {self.seeds[0]}), "
            f"{', '.join(FILES[1:])}"
        )
        self.say(f"wrote {shown_path(html.write_report(read_run_data(self.folder)))}")

    def say_notes(self) -> None:
        """What is not as it was asked for."""
        if self.slots.note:
            self.say("note: no GPU here: training on the CPUs")
        if len(self.configs) < self.request.top:
            self.say(
                f"note: only {len(self.configs)} trials of this run can be best; --top "
                f"{self.request.top} has no more"
            )

    def examples(self) -> BaseDataset:
        """Training and validation examples, after they proved to be those of the search. Raises
        `DataError`, `RunError`.
        """
        settings = self.configs[0].settings
        data = build_data(settings)
        data.prepare_data()
        with read_as_ours(self.folder.path):
            recorded = dict(get_attr(self.record, "fingerprint")["data"])
        if lines := list(differences(recorded, {settings["data_class"]: data_sum(data.trainval)})):
            text = "\n".join(lines)
            raise RunError(
                f"{data.data_dir}: `the data that was searched on` must hold, but:\n{text}"
            )
        return data.trainval

    def train(
        self, examples: BaseDataset, new: Path, cluster: Cluster
    ) -> tuple[Config, list[dict[str, Any]], list[Path]]:
        """All trainings, on the cluster that runs."""
        shared = {"images": examples.images.numpy(), "labels": examples.labels.numpy()}
        how = {"metric": self.objective.metric, "memory_share": self.slots.gpus or None}
        tasks: Tasks[Training, Trained] = Tasks(train_once, self.slots, shared | how)
        with cluster.watched(lambda name: end_without_ray(name, new)):
            config, candidates = (
                self.choose(tasks) if len(self.configs) > 1 else (self.configs[0], [])
            )
            return config, candidates, self.train_final(tasks, config, new)

    def choose(self, tasks: Tasks[Training, Trained]) -> tuple[Config, list[dict[str, Any]]]:
        """The config to go on with, and what each of the best came to. Raises `NoResultError`."""
        self.announce(
            f"the {len(self.configs)} best configs, on the training data alone, each with"
        )
        calls = [self.training(config, seed) for config in self.configs for seed in self.seeds]
        values = [
            result.value if result.sound else math.nan for result in tasks.run(calls, self.say_done)
        ]
        n = len(self.seeds)
        each = [values[i : i + n] for i in range(0, len(values), n)]
        best = best_mean(each, self.objective)
        if best is None:
            raise NoResultError(
                f"{self.folder.path}: `one of the best configs trains to its end` must hold, "
                "but all diverged."
            )
        candidates = [
            candidate(config, each[i], chosen=i == best) for i, config in enumerate(self.configs)
        ]
        for line in candidate_lines(candidates, self.objective):
            self.say(line)
        return self.configs[best], candidates

    def train_final(self, tasks: Tasks[Training, Trained], config: Config, new: Path) -> list[Path]:
        """Train the final models: the config's, one a seed, then lab 1's where those are not the
        same.

        Returns where in `new` their weights are. Raises `NoResultError`.
        """
        baseline = lab_1(config)
        same = same_recipe(config, baseline)
        beside = f"(it is {baseline.label})" if same else f"and {baseline.label} beside it"
        self.announce(
            f"{config.label}'s config {beside}, {config.epochs} epochs on training and "
            "validation data, with"
        )
        wanted = [
            (one, seed) for one in ([config] if same else [config, baseline]) for seed in self.seeds
        ]
        models = [new / f"{i}.ckpt" for i in range(len(wanted))]
        calls = [
            self.training(one, seed, model)
            for (one, seed), model in zip(wanted, models, strict=True)
        ]
        for call, result in zip(calls, tasks.run(calls, self.say_done), strict=True):
            if not result.sound:
                raise NoResultError(
                    f"{call}: `weights that are finite` must hold, but it diverged. Look at "
                    "others with --top 3."
                )
        return models

    def training(self, config: Config, seed: int, weights: Path | None = None) -> Training:
        """One call of a worker."""
        device = {"threads": self.slots.cpus, "gpus": 1 if self.slots.gpus else 0}
        return Training(
            config.label, seed, config.settings | {"seed": seed} | device, config.epochs, weights
        )

    def announce(self, what: str) -> None:
        seeds = f"{len(self.seeds)} seeds" if len(self.seeds) > 1 else "1 seed"
        self.say(f"{self.folder.name}: {what} {seeds}; {self.slots}")

    def say_done(self, call: Training, result: Trained) -> None:
        """One training has ended."""
        score = "" if call.weights else f"   {self.objective.metric} {result.value:.4f}"
        took = f"{result.seconds:.{1 if result.seconds < 10 else 0}f} s"
        self.say(f"  {call}{score if result.sound else '   diverged'}   {took}")

    def test(
        self,
        config: Config,
        candidates: Sequence[Mapping[str, Any]],
        models: Sequence[Path],
        trained_on: int,
    ) -> Final:
        """Read the test set, once for all models; that it was read is recorded before it is."""
        set_attr(self.record, TEST_READS, self.reads + 1)
        examples = build_data(config.settings).load_test()
        found = [
            score_of(model, seed, examples)
            for model, seed in zip(models, cycle(self.seeds), strict=False)
        ]
        n = len(self.seeds)
        return Final(
            config=config,
            models=found[:n],
            baseline=lab_1(config),
            baseline_models=found[-n:],
            candidates=candidates,
            objective=self.objective,
            trained_on={"data_class": config.settings["data_class"], "examples": trained_on},
            test_examples=len(examples),
            test_reads=self.reads + 1,
        )


def end_without_ray(name: str, new: Path) -> None:
    """End the process at once: with Ray's own processes gone, neither its calls nor its end can
    be waited for.
    """
    delete(new)
    sys.stderr.write(f"\nerror: {name} died; nothing of the run was changed.\n")
    sys.stderr.flush()
    os._exit(ClusterError.exit_code)
