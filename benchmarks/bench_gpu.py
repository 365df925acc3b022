"""What a GPU gives: an epoch of a trial against Ray's recipe and a CUDA graph, trials a minute by
share, memory by share.

`benchmarks/gpu.sh` runs it where there is a GPU. `--device cpu` runs the same on a CPU, but for
what CUDA alone has, with two epochs and two trials of a small network, to see that it works.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.bench import Figures, extracted, peer, print_table
from benchmarks.measure import ratio, spread
from benchmarks.task import Task
from text_recognizer.command import exit_code_of
from text_recognizer.data.base_data_module import find_data_dir
from text_recognizer.seeds import seed_of
from training.experiment import build_data, build_lit_model, quiet_lightning, train
from training.settings import Settings, checked
from tuning.worker.guard import clean_up
from tuning.worker.trainable import share_of_torch

WARM_UP = 3  # steps before a graph is captured, which are ordinary steps of the training
RESULTS = Path("docs/benchmarks_gpu.json")
SHARES = (1.0, 0.5, 0.25)


def widths(device: str) -> tuple[tuple[int, int], ...]:
    """The networks, smallest first."""
    return ((128, 64), (1024, 128)) if device == "cuda" else ((32, 16),)


def sized(device: str, usual: int) -> int:
    """Epochs or trials: a few on a CPU."""
    return usual if device == "cuda" else 2


class Clock(pl.callbacks.Checkpoint):
    """When each epoch ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        _ = float(trainer.callback_metrics["val_acc"])  # waits for the device
        self.ends.append(time.perf_counter())


def ordinary(settings: Settings, *, whole_epochs: bool) -> tuple[list[float], dict[str, Tensor]]:
    """Seconds of each epoch but the first, and the weights, of this project's own training."""
    clock = Clock()
    quiet: Settings = {"enable_progress_bar": False, "enable_model_summary": False}
    _, lit_model = train(
        settings, build_data(settings), callbacks=[clock], whole_epochs=whole_epochs, **quiet
    )
    return gaps(clock.ends), lit_model.model.state_dict()


def graphed(settings: Settings, epochs: int) -> tuple[list[float], dict[str, Tensor]]:
    """The same training, without validation, each step replayed from a CUDA graph: a prototype, to
    know what it would gain.

    The first steps are ordinary ones, on another stream as torch asks for; the step is captured
    after them, so that capturing changes neither weights nor random numbers. The last, smaller
    batch of an epoch is an ordinary step. Source: torch's notes on CUDA graphs, "whole network
    capture".
    """
    data, lit_model = build_data(settings), build_lit_model(settings)
    device = torch.device("cuda")
    network = lit_model.model.to(device).train()
    optimizer = torch.optim.Adam(
        network.parameters(), lr=settings["lr"], fused=True, capturable=True
    )
    loader = data.train_dataloader()
    examples = loader.dataset.to(device)
    inputs = torch.zeros(data.batch_size, *data.config.input_dims, device=device)
    labels = torch.zeros(data.batch_size, dtype=torch.long, device=device)
    graph, taken, ends = torch.cuda.CUDAGraph(), 0, []
    stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def step(images: Tensor, targets: Tensor) -> None:
        loss: Any = cross_entropy(network(images), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    for epoch in range(epochs):
        generator = torch.Generator().manual_seed(seed_of("order", data.seed, epoch))
        order = loader.indices[torch.randperm(len(loader.indices), generator=generator)]
        torch.manual_seed(seed_of("epoch", data.seed, epoch))
        for index in torch.split(order, data.batch_size):
            images, targets = data.prepared(examples[index.to(device)])
            whole = len(targets) == data.batch_size
            if whole and taken == WARM_UP:
                torch.cuda.synchronize()
                optimizer.zero_grad()
                with torch.cuda.graph(graph):
                    step(inputs, labels)
            if whole and taken >= WARM_UP:
                inputs.copy_(images)
                labels.copy_(targets)
                graph.replay()
            else:
                stream.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(stream):
                    step(images, targets)
                torch.cuda.current_stream().wait_stream(stream)
            taken += whole
        torch.cuda.synchronize()
        ends.append(time.perf_counter())
    return gaps(ends), network.state_dict()


def gaps(ends: list[float]) -> list[float]:
    return [after - before for before, after in pairwise(ends)]


def steps(device: str, data_dir: str) -> Figures:
    """An epoch alone on the device: single steps of Lightning, whole epochs, a graph; and
    whether the weights are the same.
    """
    figures: Figures = {}
    networks = (f"MLP {fc1}-{fc2}" for fc1, fc2 in widths(device))
    rows = [["an epoch, alone on the device", *networks]]
    kinds: dict[str, list[str]] = {
        "single steps": [],
        "whole epochs": [],
        "CUDA graph (prototype)": [],
    }
    for fc1, fc2 in widths(device):
        given = {
            "data_class": "MNIST",
            "data_dir": data_dir,
            "gpus": int(device == "cuda"),
            "max_epochs": sized(device, 6),
        }
        settings = checked(given | {"fc1": fc1, "fc2": fc2, "lr": 1e-3})
        found = {
            "single steps": ordinary(settings, whole_epochs=False),
            "whole epochs": ordinary(settings, whole_epochs=True),
        }
        if device == "cuda":
            found["CUDA graph (prototype)"] = graphed(settings, 6)
        for kind, (seconds, weights) in found.items():
            apart = max(
                float((weights[name].cpu() - other.cpu()).abs().max())
                for name, other in found["single steps"][1].items()
            )
            kinds[kind].append(f"{spread(seconds)}, weights {apart:.1e} apart")
            figures[f"{kind}, MLP {fc1}-{fc2}"] = {"seconds": seconds, "weights_apart": apart}
    print_table([*rows, *([kind, *cells] for kind, cells in kinds.items() if cells)])
    return figures


def shares(device: str, data_dir: str) -> Figures:
    """Searches with each share of the device: trials a minute once they run, and an epoch
    against Ray's recipe.
    """
    figures: Figures = {}
    most, epochs = sized(device, 12), sized(device, 5)
    fc1, fc2 = widths(device)[-1]
    what = f"{most} trials x {epochs} epochs, MLP {fc1}-{fc2}"
    rows = [[what, "trials a minute", "a trial's epoch"]]
    tasks = {f"ours, {share:g} GPU a trial": ("ours", share, most) for share in SHARES}
    tasks["Ray's recipe, 0.5 GPU a trial"] = ("ray_recipe", 0.5, 2)
    for name, (who, share, trials) in tasks.items():
        gpus = share if device == "cuda" else 0
        task = Task(fc1, fc2, trials, epochs, data_dir, gpus=gpus, dashboard=False)
        done, _ = peer(who, task)
        first = min(map(min, done.epochs))
        figures[name] = {
            "trials_a_minute": 60 * trials / (done.end - first),
            "epoch_s": done.steady,
        }
        rows.append([name, f"{figures[name]['trials_a_minute']:.1f}", spread(done.steady)])
    print_table(rows)
    cost = ratio(
        figures["Ray's recipe, 0.5 GPU a trial"]["epoch_s"],
        figures["ours, 0.5 GPU a trial"]["epoch_s"],
    )
    print(f"- Ray's recipe to ours, a trial's epoch: x {cost:.1f} (target >= 10)\n")
    return figures


def memory(device: str, data_dir: str) -> Figures:
    """The most device memory that a trial's process takes, against what each share allows it."""
    if device == "cpu":
        print("CUDA alone has this\n")
        return {}
    clean_up()
    settings = checked(
        {
            "data_class": "MNIST",
            "data_dir": data_dir,
            "gpus": 1,
            "max_epochs": 2,
            "fc1": 1024,
            "fc2": 128,
        }
    )
    torch.cuda.reset_peak_memory_stats()
    ordinary(settings, whole_epochs=True)
    free, total = torch.cuda.mem_get_info()
    # All that is not free, if nobody else is on the card.
    peak, context = torch.cuda.max_memory_reserved(), total - free - torch.cuda.memory_reserved()
    print_table(
        [
            ["share", "torch's limit, MB", "used by torch at most, MB", "beside that, MB"],
            *(
                [f"{share:g}", *(f"{n / 1e6:.0f}" for n in (limit, peak, context))]
                for share in SHARES
                for limit in [share_of_torch(share, total) * total]
            ),
        ]
    )
    return {"peak_mb": peak / 1e6, "total_mb": total / 1e6, "context_mb": context / 1e6}


SECTIONS = {"steps": steps, "shares": shares, "memory": memory}


def main() -> int:
    """Run all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument(
        "--data-dir", metavar="DIR", help="where MNIST's archives are, as for a search"
    )
    parser.add_argument(
        "--to",
        type=Path,
        metavar="FILE",
        help=f"the figures as JSON (default {RESULTS}; of a CPU none)",
    )
    flags = parser.parse_args()
    to = flags.to or (RESULTS if flags.device == "cuda" else Path(os.devnull))
    card = torch.cuda.get_device_name() if flags.device == "cuda" else "no GPU"
    results: Figures = {"card": card, "torch": torch.__version__, "date": str(date.today())}
    quiet_lightning(silent=True)
    print(f"{card}, torch {torch.__version__}, {date.today()}\n")
    with tempfile.TemporaryDirectory(prefix="bench-gpu-") as folder:
        data_dir = extracted(find_data_dir(flags.data_dir), folder)
        for name, section in SECTIONS.items():
            print(f"### {name}: {section.__doc__}\n", flush=True)
            results[name] = section(flags.device, data_dir)
            to.write_text(json.dumps(results, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
