"""Trains the best config of a search with several seeds, and reads the test set once."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from text_recognizer.data.base_data_module import find_data_dir
from text_recognizer.data.util import BaseDataset
from text_recognizer.errors import NoResultError, RunError
from text_recognizer.text import shown_path
from training.experiment import build_data
from tuning.analysis.html import write_report
from tuning.analysis.run_data import read_run_data
from tuning.final.candidates import Config, by_mean, check_best, configs_of, lab_1, read_best_config
from tuning.final.folder import WORKPLACE, mend_final, write_final
from tuning.final.scores import (
    accuracy_per_class,
    candidate_lines,
    candidate_of,
    result_lines,
    scores_of,
)
from tuning.ray_backend import Interruptions, own_cluster, run_tasks
from tuning.run import (
    Baseline,
    Candidate,
    FinalMetrics,
    Options,
    RunFolder,
    TrainedOn,
    read_as_ours,
    unwritable,
)
from tuning.study import check_direction, get_attr, open_study, set_attr
from tuning.verification import data_sum, evaluate, preflight
from tuning.worker.training_task import Trained, Training, train_once

TEST_READS = "test_reads"  # attribute of the study: how often the run's test set was read


@dataclass(frozen=True)
class Request:
    """What the user asked for.

    Args:
        seeds: how often each config is trained, at least 1.
        top: how many of the best configs are compared, at least 1.
        data_dir: the folder of the data sets; None takes the search's own.
        options: the CPUs and the share of a GPU for each training.
    """

    seeds: int
    top: int
    data_dir: str | None
    options: Options


class Retraining:
    """The final script's work on a run.

    Args:
        folder: the run of a search that ended with a best trial. This process has locked it.
        say: prints a line.

    Raises:
        RunError: the run was changed since it ended, or is damaged.
        InputError: no training fits on this machine.
    """

    def __init__(self, folder: RunFolder, request: Request, say: Callable[[str], None]) -> None:
        self.folder = folder
        self.say = say
        self.interruptions = Interruptions()
        mend_final(folder)
        self.record = open_study(folder)
        self.search = read_run_data(folder, self.record)
        self.objective = self.search.space.search.objective
        check_direction(self.record, self.objective)
        check_best(self.search)
        with read_as_ours(folder.path):
            best = read_best_config(self.search)
            self.reads = int(get_attr(self.record, TEST_READS, 0)) + 1
        if request.data_dir is not None:
            best["data_dir"] = str(find_data_dir(request.data_dir))
        self.configs = configs_of(self.search, best)[: request.top]
        # The first seed is the search's own: with it the best trial has the value of the search.
        first = best.get("seed", 0)
        self.seeds = [(first + i) % 2**32 for i in range(request.seeds)]
        # All trainings of a step run side by side; the last step trains two configs.
        trainings = len(self.seeds) * max(len(self.configs), 2)
        self.machine = preflight.machine()
        self.slots = request.options.slots([self.machine], trainings)
        if self.slots.note:
            say(f"note: {self.slots.note.replace('searching', 'training')}")
        if len(self.configs) < request.top:
            say(f"note: only {len(self.configs)} trials of this run can be best")

    def run(self) -> None:
        """Choose a config, train it, test it, and write `final/` and the report.

        Raises:
            NoResultError: a training failed or diverged.
            DataError: the data cannot be read.
            RunError: the data is not the search's.
            StorageError: the disk cannot be written.
            KeyboardInterrupt, SystemExit: a signal interrupted the work.
        """
        examples = self.searched_data()
        # A run is private to its owner; the data downloaded above is not.
        os.umask(0o077)
        try:
            temporary = TemporaryDirectory(
                dir=self.folder.path, prefix=WORKPLACE, ignore_cleanup_errors=True
            )
        except OSError as error:
            raise unwritable(self.folder.path, error) from None
        with self.interruptions, temporary as name:
            with self.workers(examples, Path(name)):
                config, candidates = self.choose()
                models = self.train_final(config, Path(name))
            metrics = self.test(config, candidates, models, len(examples))
            # Always the first seed's model: choosing a model by its test result would make the
            # test set a validation set.
            write_final(self.folder, models[0], config, metrics, self.search)
        for line in result_lines(metrics):
            self.say(line)
        final = shown_path(self.folder.final)
        self.say(
            f"wrote {final}/model.ckpt (seed {self.seeds[0]}), config.yaml, metrics.json, README.md"
        )
        self.say(f"wrote {shown_path(write_report(read_run_data(self.folder, self.record)))}")

    def searched_data(self) -> BaseDataset:
        """The training and validation examples, checked to be those of the search."""
        data = build_data(self.configs[0].settings)
        data.prepare_data()
        name = type(data).__name__
        with read_as_ours(self.folder.path):
            recorded = get_attr(self.record, "fingerprint")["data"][name]
        if data_sum(data.trainval) != recorded:
            raise RunError(f"{data.data_dir}: {name} is not the data that the search used.")
        return data.trainval

    @contextmanager
    def workers(self, examples: BaseDataset, place: Path) -> Iterator[None]:
        """Run Ray within the block, so that `train` has workers."""
        self.say(f"{self.folder.name}: starting Ray …")
        self.shared = {
            "metric": self.objective.metric,
            "slots": self.slots,
            "images": examples.images.numpy(),
            "labels": examples.labels.numpy(),
        }

        def last_words(reason: str) -> None:
            # The process ends without leaving its `with` blocks, so no other line deletes this.
            shutil.rmtree(place, ignore_errors=True)
            sys.stderr.write(f"\nerror: {reason}; the run was not changed.\n")

        ray = own_cluster(self.machine, dashboard=False, last_words=last_words)
        with ray as cluster, self.interruptions.ray_watched(cluster, last_words):
            self.interruptions.install()  # ray.init has taken SIGTERM for itself
            yield

    def train(self, calls: Sequence[Training]) -> list[Trained]:
        """Train in Ray's workers. The results are in the order of the calls."""
        return run_tasks(train_once, calls, self.shared, self.slots, self.say_done)

    def choose(self) -> tuple[Config, list[Candidate]]:
        """Compare the configs by their mean over the seeds.

        Returns:
            The best config, and the results of all; no results if there is only one config.

        Raises:
            NoResultError: all configs diverged.
        """
        if len(self.configs) == 1:
            return self.configs[0], []
        # The best trial of a search may owe its place to the chance of one seed.
        self.say_begin(f"the {len(self.configs)} best configs on the training data")
        calls = [
            Training(str(config), config.settings | {"seed": seed}, config.epochs)
            for config in self.configs
            for seed in self.seeds
        ]
        results = iter(self.train(calls))
        candidates = [
            candidate_of(config, [next(results).value for _ in self.seeds])
            for config in self.configs
        ]
        best = by_mean(candidates, self.objective)[0]
        if best.mean is None:
            raise NoResultError(f"{self.folder.path}: all of the best configs diverged.")
        compared = [one.model_copy(update={"chosen": one is best}) for one in candidates]
        for line in candidate_lines(compared, self.objective):
            self.say(line)
        return self.configs[candidates.index(best)], compared

    def train_final(self, config: Config, place: Path) -> list[Path]:
        """Train the config and lab 1's defaults with each seed, on training and validation data.

        Returns:
            The files of weights in `place`: the config's, then those of lab 1's defaults.

        Raises:
            NoResultError: a training diverged.
        """
        settings = {str(config): config.settings, "lab 1's defaults": lab_1(config)}
        self.say_begin(
            f"{' and '.join(settings)} for {config.epochs} epochs on training and validation data"
        )
        calls = [
            Training(label, one | {"seed": seed}, config.epochs, place / f"{label}-{seed}.ckpt")
            for label, one in settings.items()
            for seed in self.seeds
        ]
        for call, result in zip(calls, self.train(calls), strict=True):
            if result.diverged:
                raise NoResultError(f"{call}: training diverged. Compare more configs: --top 3.")
        return [call.weights for call in calls if call.weights]

    def test(
        self, config: Config, candidates: list[Candidate], models: Sequence[Path], trained_on: int
    ) -> FinalMetrics:
        """Read the test set once, and evaluate all models on it.

        Args:
            models: checkpoints of the config, one for each seed, then of lab 1's defaults.
            trained_on: number of training and validation examples.
        """
        # Recorded first, so that a reading counts even if this process dies after it.
        set_attr(self.record, TEST_READS, self.reads)
        examples = build_data(config.settings).load_test()
        found = [evaluate(model, examples) for model in models]
        own, others = found[: len(self.seeds)], found[len(self.seeds) :]
        return FinalMetrics(
            **scores_of(self.seeds, own),
            trial=config.trial,
            epochs=config.epochs,
            metric=self.objective.metric,
            mode=self.objective.mode,
            promised=config.searched,
            seeds=self.seeds,
            per_class=accuracy_per_class(own),
            test_examples=len(examples),
            test_reads=self.reads,
            baseline=Baseline(**scores_of(self.seeds, others), config=lab_1(config)),
            candidates=candidates,
            trained_on=TrainedOn(data_class=config.settings["data_class"], examples=trained_on),
            sha256={},
        )

    def say_begin(self, what: str) -> None:
        n = len(self.seeds)
        plural = "s" * (n > 1)
        self.say(f"{self.folder.name}: training {what}, {n} seed{plural} each; {self.slots}")

    def say_done(self, call: Training, result: Trained) -> None:
        # The final training has no validation data left to measure a value on.
        score = "" if call.weights else f"   {self.objective.metric} {result.value:.4f}"
        outcome = "   diverged" if result.diverged else score
        self.say(f"  {call}{outcome}   {result.seconds:.1f} s")
