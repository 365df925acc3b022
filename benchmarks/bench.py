"""This project's search beside its peers, and its own costs: `make bench`, or `python -m
benchmarks.bench --only epochs`.

All that is compared runs in one go on the same cores, turn by turn, several times; what counts are
ratios of medians. Prints Markdown, writes the figures to `docs/benchmarks.json`, and needs a
machine on which nothing else runs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from torchvision.datasets import MNIST

from benchmarks.measure import memory, ratio, run, spread
from benchmarks.task import Done, Task
from text_recognizer.command import exit_code_of
from text_recognizer.data.base_data_module import find_data_dir
from training.experiment import build_data
from tuning.run.environment import environment
from tuning.verification.preflight import gpu_names

PEERS = {
    "ours": "this project's search",
    "ray_train_recipe": (
        "Ray's recipe for Lightning with Tune (its documentation: Ray Train in each trial)"
    ),
    "ray_recipe": "Ray's recipe without Ray Train (the example it ships)",
    "optuna_example": "Optuna's example for Lightning, two processes",
    "bare_loop": "bare PyTorch loop, two processes",
}
RESULTS = Path("docs/benchmarks.json")
Figures = dict[str, Any]


def peer(name: str, task: Task) -> tuple[Done, float]:
    """What it told, and the seconds of its whole command."""
    ran = run("-W", "ignore", "-m", f"benchmarks.peers.{name}", task.as_json())
    return Done.heard(ran.output), ran.seconds


def in_turns(names: Sequence[str], task: Task, repeats: int) -> dict[str, list[tuple[Done, float]]]:
    """Each peer once, then each again: what slows the machine for a while meets all of them."""
    found: dict[str, list[tuple[Done, float]]] = {name: [] for name in names}
    for _ in range(repeats):
        for name in names:
            found[name].append(peer(name, task))
    return found


def fit(data_dir: str, repeats: int) -> Figures:
    """Eight trials of two epochs: the whole search, and the whole command."""
    return compare(["ours", "ray_recipe", "optuna_example", "bare_loop"], data_dir, repeats)


def documented(data_dir: str, repeats: int) -> Figures:
    """The same beside the recipe of Ray's documentation, which takes longer than all the others
    together.
    """
    return compare(["ours", "ray_train_recipe"], data_dir, repeats)


def compare(names: Sequence[str], data_dir: str, repeats: int) -> Figures:
    """Eight networks of two epochs each, by each of these peers; all are set against ours."""
    found = in_turns(names, Task(128, 64, 8, 2, data_dir), repeats)
    figures: Figures = {}
    rows = [
        [
            "8 trials x 2 epochs, MLP 128-64",
            "search",
            "x ours",
            "command",
            "x ours",
            "to the first epoch",
            "best val_acc",
        ]
    ]
    for name, results in found.items():
        figures[name] = {
            "search_s": [done.seconds for done, _ in results],
            "command_s": [seconds for _, seconds in results],
            "first_epoch_s": [
                min(map(min, done.epochs)) - done.end + seconds for done, seconds in results
            ],
            "steady_epoch_s": [second for done, _ in results for second in done.steady],
            "best": max(done.best for done, _ in results),
        }
        mine, ours = figures[name], figures["ours"]
        cells = [PEERS[name]]
        for key in ("search_s", "command_s"):
            cells += [spread(mine[key]), f"{ratio(mine[key], ours[key]):.2f}"]
        rows.append([*cells, spread(mine["first_epoch_s"]), f"{mine['best']:.4f}"])
    print_table(rows)
    return figures


def epochs(data_dir: str, repeats: int) -> Figures:
    """What an epoch of a trial costs once it runs, two at once, against the bare loop."""
    figures: Figures = {}
    rows = [["one trial's epoch, two trials at once", "ours", "bare loop", "ratio", "target"]]
    for widths, target in (((128, 64), 1.3), ((1024, 128), 1.1)):
        found = in_turns(["ours", "bare_loop"], Task(*widths, 2, 7, data_dir), repeats)
        steady = {
            name: [second for done, _ in results for second in done.steady]
            for name, results in found.items()
        }
        name = "MLP {}-{}".format(*widths)
        figures[name] = steady
        cost = ratio(steady["ours"], steady["bare_loop"])
        rows.append(
            [
                name,
                spread(steady["ours"]),
                spread(steady["bare_loop"]),
                f"{cost:.2f}",
                f"<= {target}",
            ]
        )
    print_table(rows)
    return figures


def memories(data_dir: str, repeats: int) -> Figures:
    """The most memory that driver and workers had, sampled while they train."""
    figures: Figures = {}
    rows = [["memory, MB", "driver", "a worker", "thereof its own"]]
    for name in ("ours", "ray_recipe", "bare_loop"):
        with memory() as found:
            peer(name, Task(128, 64, 2, 3, data_dir))
        worker = found["worker"]
        figures[name] = {kind: vars(value) for kind, value in found.items()}
        rows.append(
            [
                PEERS[name],
                f"{found['driver'].resident:.0f}",
                f"{worker.resident:.0f}",
                f"{worker.own:.0f}",
            ]
        )
    share = figures["ours"]["worker"]["resident"] / figures["bare_loop"]["worker"]["resident"]
    print_table(rows)
    print(
        f"- a worker to a bare process with the same data: x {share:.2f} resident (target <= 1.3)\n"
    )
    return figures


def start(data_dir: str, repeats: int) -> Figures:
    """What a user waits for before anything is trained, and for a whole small search."""
    with tempfile.TemporaryDirectory() as folder:
        broken = Path(folder) / "broken.yaml"
        broken.write_text("space: {fc1: {type: int, low: 9, high: 1}}\n")
        space = ["tuning/search.py", "--space", "search_spaces/mlp.yaml", "--data-class", "Digits"]
        commands: dict[str, tuple[list[str], int, int]] = {
            "`--help` (target <= 1 s)": (["tuning/search.py", "--help"], 0, 5),
            "a malformed file refused (target <= 1 s)": (
                ["tuning/search.py", "--space", str(broken)],
                2,
                5,
            ),
            "`--check`": ([*space, "--check"], 0, 3),
            "imports of a worker": (["-c", "import tuning.worker.trainable"], 0, 3),
            "imports of a bare loop: torch, an optimizer": (["-c", BARE], 0, 3),
            "`make search`: 30 trials on Digits (target <= 180 s)": (
                [*space, "--runs-dir", folder, "--quiet"],
                0,
                3,
            ),
        }
        figures: Figures = {}
        rows = [["command", "seconds"]]
        for name, (command, code, times) in commands.items():
            figures[name] = [run(*command, code=code).seconds for _ in range(times)]
            rows.append([name, spread(figures[name])])
    print_table(rows)
    return figures


BARE = "import torch; torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], fused=True)"


def asha(data_dir: str, repeats: int) -> Figures:
    """The shipped search on MNIST, with its epochs spent by promotion, by Ray's ASHA and without
    either: epochs trained, best accuracy, time.
    """
    figures: Figures = {}
    text = Path("search_spaces/mlp.yaml").read_text()
    rows = [["trials of up to 12 epochs, MNIST", "epochs", "best val_acc", "search, s"]]
    ways = {"promotion": "", "stopping": "asha: {type: stopping}", "none": "scheduler: none"}
    for seed in range(repeats):
        for way, setting in ways.items():
            with tempfile.TemporaryDirectory() as folder:
                space = Path(folder) / "space.yaml"
                space.write_text(text.replace("search:\n", f"search:\n  {setting}\n"))
                flags = [
                    "--data-class",
                    "MNIST",
                    "--data-dir",
                    data_dir,
                    "--seed",
                    str(seed),
                    "--no-dashboard",
                    "--quiet",
                ]
                run(
                    "tuning/search.py",
                    "--space",
                    str(space),
                    "--runs-dir",
                    folder,
                    "--name",
                    "asha",
                    *flags,
                )
                summary = json.loads((Path(folder) / "asha" / "summary.json").read_text())
            name = f"{way}, seed {seed}"
            keys = {
                "epochs": summary["epochs_trained"],
                "best": summary["best"]["value"],
                "wall_s": summary["wall_time_s"],
            }
            figures[name] = keys
            rows.append([name, str(keys["epochs"]), f"{keys['best']:.4f}", f"{keys['wall_s']:.0f}"])
    print_table(rows)
    return figures


def driver(data_dir: str, repeats: int) -> Figures:
    """What a reported epoch costs the driver, after 50 and 1,000 trials; and with more slots."""
    asked = [
        ("--trials", "1000", "--slots", "2"),
        *(("--trials", "200", "--slots", str(slots)) for slots in (1, 4, 8)),
    ]
    found = [
        json.loads(run("-m", "benchmarks.bench_driver", *flags).output.splitlines()[-1])
        for flags in asked
    ]
    rows = [["driver, CPU ms per reported epoch", "ours", "Ray's share", "memory, MB"]]
    for figures in found:
        for place, trials in enumerate(figures["trials"]):
            cells = [
                f"{figures[key][place]:.{digits}f}"
                for key, digits in (("ours_cpu_ms", 1), ("ray_cpu_ms", 1), ("memory_mb", 0))
            ]
            rows.append([f"{figures['slots']} slots, after {trials} trials", *cells])
    print_table(rows)
    print("- targets: ours <= 25 ms at 50 trials, <= 35 ms at 1,000\n")
    return {"runs": found}


SECTIONS: dict[str, tuple[Callable[[str, int], Figures], int]] = {
    "start": (start, 1),
    "fit": (fit, 3),
    "documented": (documented, 2),
    "epochs": (epochs, 4),
    "memory": (memories, 1),
    "driver": (driver, 1),
    "asha": (asha, 1),
}


def print_table(rows: Sequence[Sequence[str]]) -> None:
    head, *rest = rows
    print(
        "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rest]) + "\n",
        flush=True,
    )


def extracted(data_dir: Path, folder: str) -> str:
    """MNIST as torchvision reads it, its archives unpacked, which the peers need. Raises
    `DataError` where there is none.
    """
    build_data({"data_class": "MNIST", "data_dir": str(data_dir)}).prepare_data()
    raw = Path(folder) / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in (data_dir / "MNIST" / "raw").glob("*-ubyte*"):
        shutil.copyfile(file, raw / file.name)
    MNIST(folder, download=True)  # finds the files, and only unpacks them
    return folder


def main() -> int:
    """Run the sections asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=SECTIONS,
        default=list(SECTIONS),
        metavar="SECTION",
        help=", ".join(SECTIONS),
    )
    parser.add_argument(
        "--repeats",
        type=int,
        metavar="N",
        help="of fit, documented, epochs and asha (default: their own)",
    )
    parser.add_argument(
        "--data-dir", metavar="DIR", help="where MNIST's archives are, as for a search"
    )
    parser.add_argument(
        "--to",
        type=Path,
        default=RESULTS,
        metavar="FILE",
        help=f"the figures as JSON (default {RESULTS})",
    )
    flags = parser.parse_args()
    results: Figures = json.loads(flags.to.read_text()) if flags.to.exists() else {}
    known = environment(gpu_names()).model_dump()
    about = {
        key: known[key]
        for key in ("git_commit", "git_dirty", "python", "versions", "processor", "cpus", "gpus")
    }
    about |= {"date": str(date.today())}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        data_dir = extracted(find_data_dir(flags.data_dir), folder)
        for name in flags.only:
            section, repeats = SECTIONS[name]
            print(f"### {name}: {section.__doc__}\n", flush=True)
            begin, load = time.time(), os.getloadavg()[0]
            figures = section(data_dir, flags.repeats or repeats)
            results[name] = {
                "about": about,
                "load_before": load,
                "minutes": (time.time() - begin) / 60,
                "figures": figures,
            }
            flags.to.write_text(json.dumps(results, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
