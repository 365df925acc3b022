"""What a GPU gives: an epoch of a trial against single steps and Ray's recipe, trials a minute by
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
from unittest.mock import patch

import pytorch_lightning as pl
import torch
from torch import Tensor

from benchmarks.bench import Figures, extracted, peer, print_table
from benchmarks.measure import ratio, spread
from benchmarks.task import Task
from text_recognizer.command import exit_code_of
from text_recognizer.data.base_data_module import find_data_dir
from training.experiment import build_data, quiet_lightning, train
from training.settings import Settings, checked
from tuning.worker.guard import clean_up
from tuning.worker.trainable import share_of_torch

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


def gaps(ends: list[float]) -> list[float]:
    return [after - before for before, after in pairwise(ends)]


def steps(device: str, data_dir: str) -> Figures:
    """An epoch alone on the device, and whether the weights are the same."""
    figures: Figures = {}
    networks = (f"MLP {fc1}-{fc2}" for fc1, fc2 in widths(device))
    rows = [["an epoch, alone on the device", *networks]]
    kinds: dict[str, list[str]] = {
        "single steps of Lightning": [],
        "whole epochs, no CUDA graph": [],
        "as a trial trains": [],
    }
    for fc1, fc2 in widths(device):
        given = {
            "data_class": "MNIST",
            "data_dir": data_dir,
            "gpus": int(device == "cuda"),
            "max_epochs": sized(device, 6),
        }
        settings = checked(given | {"fc1": fc1, "fc2": fc2, "lr": 1e-3})
        with patch("text_recognizer.whole_epochs.can_capture", lambda _: False):
            found = {
                "single steps of Lightning": ordinary(settings, whole_epochs=False),
                "whole epochs, no CUDA graph": ordinary(settings, whole_epochs=True),
            }
        found["as a trial trains"] = ordinary(settings, whole_epochs=True)
        for kind, (seconds, weights) in found.items():
            apart = max(
                float((weights[name].cpu() - other.cpu()).abs().max())
                for name, other in found["single steps of Lightning"][1].items()
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
    most, epochs = sized(device, 12), sized(device, 4)
    fc1, fc2 = widths(device)[-1]
    what = f"{most} trials x {epochs} epochs, MLP {fc1}-{fc2}"
    rows = [[what, "trials a minute", "a trial's epoch"]]
    tasks = {f"ours, {share:g} GPU a trial": ("ours", share, most) for share in SHARES}
    tasks["Ray's recipe, 0.5 GPU a trial"] = ("ray_recipe", 0.5, 2)
    for name, (who, share, trials) in tasks.items():
        gpus = share if device == "cuda" else 0
        task = Task(fc1, fc2, trials, epochs, data_dir, gpus=gpus, dashboard=False)
        done, seconds = peer(who, task)
        first = min(map(min, done.epochs))
        figures[name] = {
            "trials_a_minute": 60 * trials / (done.end - first),
            "epoch_s": done.steady,
            "command_s": seconds,
        }
        print(json.dumps({name: figures[name]}), flush=True)  # this may be the last that fits
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


SECTIONS = {"memory": memory, "steps": steps, "shares": shares}


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
