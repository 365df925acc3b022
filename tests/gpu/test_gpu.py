"""All that only a GPU shows, by whole commands on the real MNIST: `pytest -m gpu` on a machine
with one.
"""

from __future__ import annotations

import csv
import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.formula import EPOCHS, search
from tests.processes import ROOT, Command, run
from tests.unit.training.test_experiment import SaveEach
from text_recognizer import whole_epochs
from text_recognizer.predict import Recognizer
from text_recognizer.tables import MODELS
from training.experiment import build_data, train
from training.settings import checked
from tuning.ray_backend.local_cluster import own_cluster
from tuning.run.resources import Node, Slots
from tuning.study.storage import open_storage

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]

SPACE = """
experiment: {model_class: MLP, data_class: MNIST}
space:
  fc1: {type: int, low: 64, high: 1024, log: true}
  lr: {type: float, low: 3e-4, high: 3e-3, log: true}
search: {trials: 6, max_epochs: 4, asha: {grace_epochs: 1, reduction_factor: 2}}
"""
# 65,536 x 4,096 weights take 1.1 GB, and with gradients and Adam's averages 4.3 GB.
TOO_LARGE = """
experiment: {model_class: MLP, data_class: MNIST}
space:
  fc1: {type: choice, values: [64, 65536]}
search:
  trials: 2
  max_epochs: 1
  start_with: [{fc1: 65536}, {fc1: 64}]
"""
SILENT: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False}


def command(folder: Path, data: Path, text: str, *flags: str) -> list[str]:
    space = folder / "space.yaml"
    space.write_text(text)
    script = [str(ROOT / "tuning/search.py"), "--space", "space.yaml"]
    return [*script, "--data-dir", str(data), "--no-dashboard", "--name", "run", *flags]


def searched(folder: Path, data: Path, *flags: str, text: str = SPACE) -> Command:
    """A whole search, in `folder / "runs/run"`."""
    ran = run(command(folder, data, text, *flags), folder)
    assert ran.process.returncode == 0, ran.output + ran.errors
    return ran


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "runs/run/trials.csv").open() as file:
        return list(csv.DictReader(file))


def devices(folder: Path) -> set[str]:
    """Where the weights of all checkpoints of a run were."""
    paths = list(folder.glob("runs/run/trials/**/*.ckpt"))
    assert paths
    loaded = (torch.load(path, weights_only=True)["state_dict"] for path in paths)
    return {weights.device.type for state in loaded for weights in state.values()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, mnist_dir: Path) -> Path:
    """The folder of a search with half a GPU for each trial."""
    folder = tmp_path_factory.mktemp("half")
    ran = searched(folder, mnist_dir, "--gpus-per-trial", "0.5")
    assert "2 at once (1 CPU each, 0.5 GPU)" in ran.output
    return folder


def test_two_trials_share_a_gpu(finished: Path) -> None:
    summary = json.loads((finished / "runs/run/summary.json").read_text())
    assert summary["status"] == "complete"
    assert summary["resources"] == {"slots": 2, "cpus_per_trial": 1, "gpus_per_trial": 0.5}
    assert summary["best"]["value"] > 0.95
    assert devices(finished) == {"cuda"}


def test_what_was_trained_on_a_gpu_is_read_on_a_cpu(finished: Path, mnist_dir: Path) -> None:
    recognizer = Recognizer.load(finished / "runs/run/best.ckpt")
    data = build_data(checked({"data_class": "MNIST", "data_dir": str(mnist_dir)}))
    images, labels = data.trainval[data.splits()[1]]
    accuracy = (recognizer.probabilities(images).argmax(1) == labels).float().mean().item()
    summary = json.loads((finished / "runs/run/summary.json").read_text())
    assert accuracy == pytest.approx(summary["best"]["metrics"]["val_acc"], abs=2e-4)


def test_the_final_script_shares_the_gpu(finished: Path) -> None:
    ran = run(
        [str(ROOT / "tuning/retrain.py"), "runs/run", "--seeds", "2", "--gpus-per-trial", "0.5"],
        finished,
    )
    assert ran.process.returncode == 0, ran.output + ran.errors
    assert "2 at once (1 CPU each, 0.5 GPU)" in ran.output
    assert json.loads((finished / "runs/run/final/metrics.json").read_text())["seeds"] == [0, 1]


def test_four_trials_share_a_gpu(tmp_path: Path, mnist_dir: Path) -> None:
    ran = searched(tmp_path, mnist_dir, "--gpus-per-trial", "0.25")
    assert "4 at once (1 CPU each, 0.25 GPU)" in ran.output
    assert {row["status"] for row in rows(tmp_path)} <= {"complete", "stopped_early"}


def test_without_a_share_trials_leave_the_gpu_alone(tmp_path: Path, mnist_dir: Path) -> None:
    searched(tmp_path, mnist_dir, "--gpus-per-trial", "0", "--trials", "2", "--max-epochs", "1")
    assert devices(tmp_path) == {"cpu"}


def test_a_killed_search_goes_on_to_the_same_result(tmp_path: Path, mnist_dir: Path) -> None:
    """With one slot, all trials and values repeat exactly, whatever was killed on the way."""
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    straight.mkdir()
    killed.mkdir()
    searched(straight, mnist_dir, "--gpus-per-trial", "1")
    victim = Command(command(killed, mnist_dir, SPACE, "--gpus-per-trial", "1"), killed)
    victim.wait_to_say("stopped early", "complete")
    family = victim.family()
    for process in family:
        process.send_signal(signal.SIGKILL)
    victim.end()
    resumed = run(
        [str(ROOT / "tuning/search.py"), "--resume", "runs/run", "--no-dashboard"], killed
    )
    assert resumed.process.returncode == 0, resumed.output + resumed.errors
    assert rows(killed) == rows(straight)


def test_what_is_too_large_is_out_of_memory_and_the_search_goes_on(
    tmp_path: Path, mnist_dir: Path
) -> None:
    total = torch.cuda.get_device_properties(0).total_memory
    share = f"{2.5e9 / total:.4f}"
    flags = ("--gpus-per-trial", share, "--max-concurrent", "1")
    searched(tmp_path, mnist_dir, *flags, text=TOO_LARGE)
    large, small = rows(tmp_path)
    assert (large["status"], small["status"]) == ("out_of_memory", "complete")
    assert "OutOfMemoryError" in large["cause"]
    assert (tmp_path / "runs/run/logs/trial-0.txt").exists()


def test_a_process_whose_context_is_dead_is_replaced(tmp_path: Path) -> None:
    """A trial that fails an assertion of the device's takes all later ones of its process along."""
    url = f"sqlite:///{tmp_path / 'study.db'}"
    open_storage(url)
    folder = tmp_path / "run"
    with own_cluster(Node(1, 1), dashboard=False):
        study = search(folder, url, trials=3, slots=Slots(1, 1, 1), faults=["poisons its GPU"])
    assert study.trial(0).outcome == "complete"
    (failure,) = study.trial(0).failures
    assert "device-side assert" in failure
    assert len(study.trial(0).epochs) == EPOCHS
    pids = [line.split()[2] for line in (folder / "acknowledged-0").read_text().splitlines()]
    assert len(set(pids)) == 2, "it went on in a new process"


def test_one_command_trains_on_the_gpu(tmp_path: Path, mnist_dir: Path) -> None:
    flags = ["--model_class=MLP", "--data_class=MNIST", "--max_epochs=1", "--gpus=1"]
    flags += ["--fc1=4", "--fc2=8", f"--data_dir={mnist_dir}"]
    ran = run([str(ROOT / "training/run_experiment.py"), *flags], tmp_path)
    assert ran.process.returncode == 0, ran.errors
    (path,) = tmp_path.rglob("best.ckpt")
    assert {w.device.type for w in torch.load(path)["state_dict"].values()} == {"cuda"}


FILL = """
import sys
import torch
from training.experiment import build_data, train
from training.settings import checked
from tuning.worker.trainable import limit_memory
share, data = float(sys.argv[1]), sys.argv[2]
limit_memory(share)
settings = checked({"data_class": "MNIST", "data_dir": data, "gpus": 1, "max_epochs": 2, "fc1": 1024})
train(settings, build_data(settings), whole_epochs=True, enable_checkpointing=False,
      enable_progress_bar=False, enable_model_summary=False)
held = []
try:
    while True:
        held.append(torch.empty(32 * 2**20, dtype=torch.uint8, device="cuda"))
except torch.OutOfMemoryError:
    free, total = torch.cuda.mem_get_info()
    print("took", (total - free) / total, "of", share, "torch", torch.cuda.memory_reserved() / 1e6,
          "beside", (total - free - torch.cuda.memory_reserved()) / 1e6)
"""


@pytest.mark.parametrize("share", [0.05, 0.25])
def test_memory_of_a_process_stays_within_its_share(
    share: float, tmp_path: Path, mnist_dir: Path
) -> None:
    """The context, too. Nothing else may use the GPU meanwhile."""
    ran = run(["-c", FILL, str(share), str(mnist_dir)], tmp_path)
    assert ran.process.returncode == 0, ran.errors
    took = ran.output.splitlines()[-1]
    print(took)
    assert share - 0.02 < float(took.split()[1]) <= share


class AsksTheDevice(nn.Module):
    """A model whose forward reads a number from the device, which a graph cannot hold."""

    capturable = True  # which is not true

    def __init__(self, input_dims: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes))
        self.layers(torch.zeros(1, *input_dims))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images)
        return logits * (1 if logits.sum().item() > 0 else 2)


HARD = {"augment": True, "optimizer": "SGD", "momentum": 0.9, "one_cycle": True}
CASES: dict[str, dict[str, Any]] = {
    "lab 1": {},
    "batches that fit": {"batch_size": 500},
    "augmented, SGD, one cycle": HARD,
    "AdamW, one cycle": {"optimizer": "AdamW", "one_cycle": True, "weight_decay": 0.1},
    "RMSprop": {"optimizer": "RMSprop"},
    "RMSprop, one cycle": {"optimizer": "RMSprop", "one_cycle": True},
    "CNN": {"model_class": "CNN", "conv_dim": 8},
    "asks the device": {"model_class": "AsksTheDevice"},
}


@pytest.fixture
def trains(
    mnist_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[dict[str, Tensor], dict[str, Tensor], list[bool]]]:
    """Trains with these settings; weights, metrics, and whether each capture worked."""
    captures: list[bool] = []
    original = whole_epochs.capture

    def capture(work: Callable[[], None]) -> Callable[[], None]:
        captures.append(False)
        replay = original(work)
        captures[-1] = True
        return replay

    monkeypatch.setattr(whole_epochs, "capture", capture)

    def once(
        extra: dict[str, Any], *, epochs: int = 2, **how: Any
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], list[bool]]:
        captures.clear()
        given = {"data_class": "MNIST", "data_dir": str(mnist_dir), "gpus": 1, "lr": 1e-3}
        settings = checked(given | {"max_epochs": epochs} | extra)
        trainer, lit_model = train(settings, build_data(settings), **SILENT, **how)
        state = {name: weights.cpu() for name, weights in lit_model.state_dict().items()}
        return state, dict(trainer.callback_metrics), [*captures]

    return once


@pytest.mark.filterwarnings("ignore:.*without a CUDA graph.*")
@pytest.mark.parametrize("case", CASES)
def test_a_graph_gives_the_weights_of_single_steps(
    case: str, trains: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MODELS, "AsksTheDevice", AsksTheDevice)
    off = {"enable_checkpointing": False}
    single, metrics, captures = trains(CASES[case], **off)
    assert not captures
    graphed, graphed_metrics, captures = trains(CASES[case], whole_epochs=True, **off)
    expected = {"asks the device": [False], "RMSprop, one cycle": []}
    assert captures == expected.get(case, [True])
    apart = max(float((single[name] - graphed[name]).abs().max()) for name in single)
    print(f"{case}: weights {apart:.1e} apart, {metrics} {graphed_metrics}")
    if case != "CNN":  # cuDNN's sums have no fixed order: 0.1 apart after two epochs
        assert apart == 0
    assert graphed_metrics["val_acc"] == pytest.approx(metrics["val_acc"], abs=0.005)


@pytest.mark.parametrize("extra", [{}, {"one_cycle": True}, HARD])
def test_a_graphed_training_goes_on_from_a_checkpoint_with_the_same_weights(
    extra: dict[str, Any], trains: Callable[..., Any], tmp_path: Path
) -> None:
    keep = {"callbacks": [SaveEach(tmp_path)], "whole_epochs": True}
    straight, *_ = trains(extra, epochs=3, **keep)
    first = shutil.copy(tmp_path / "1.ckpt", tmp_path / "first.ckpt")
    resumed, *_ = trains(extra, epochs=3, continue_from=Path(first), **keep)
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)


def test_a_graphed_training_goes_on_on_a_cpu(trains: Callable[..., Any], tmp_path: Path) -> None:
    extra = {"one_cycle": True}
    keep = {"callbacks": [SaveEach(tmp_path)], "whole_epochs": True}
    _, metrics, _ = trains(extra, epochs=2, **keep)
    there = {"continue_from": tmp_path / "1.ckpt", "enable_checkpointing": False}
    _, on_cpu, _ = trains(extra | {"gpus": 0}, epochs=2, whole_epochs=True, **there)
    assert on_cpu["val_acc"] == pytest.approx(metrics["val_acc"], abs=0.01)
