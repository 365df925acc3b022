"""Every command of README.md and docs/usage.md but `make test` itself, in their order, as a newcomer
would type them; then what they left behind.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import optuna
import pytest
import torch
import yaml
from PIL import Image

from text_recognizer.data.digits import Digits
from text_recognizer.predict import Recognizer
from text_recognizer.util import checksum

ROOT = Path(__file__).resolve().parents[2]
TEXT = "".join((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/usage.md"))
BLOCKS = re.findall(r"^```sh\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
COMMANDS = [line.split("  #")[0].strip() for block in BLOCKS for line in block.splitlines()]
# Five epochs of MNIST take more than a minute: here each has a twentieth of the batches.
SHORTER = {"--max_epochs=5": " --limit_train_batches=0.05"}
EPOCHS = 40
LIMIT_S = 600


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as a newcomer has it: no runs, no data, the installed environment. The search of
    `make search` is smaller.
    """
    folder = tmp_path_factory.mktemp("clone")
    for path in ROOT.iterdir():
        if path.name not in ("runs", "data", ".git", "search_spaces"):
            (folder / path.name).symlink_to(path)
    shutil.copytree(ROOT / "search_spaces", folder / "search_spaces")
    space = folder / "search_spaces" / "mlp.yaml"
    whole = space.read_text()
    smaller = whole.replace("{epochs: 120}", f"{{epochs: {EPOCHS}}}").replace(
        "max_epochs: 12", "max_epochs: 6"
    )
    assert f"stop: {{epochs: {EPOCHS}}}" in smaller
    assert "max_epochs: 6" in smaller
    space.write_text(smaller)
    images, _ = Digits().trainval[torch.arange(1)]
    Image.fromarray(255 - images[0, 0].numpy()).resize((90, 90)).save(folder / "digit.png")
    return folder


def run(command: str, place: Path, data_dir: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command in the activated environment. `data_dir` is the only data folder."""
    environment = os.environ | {
        "PATH": f"{ROOT / '.venv/bin'}:{os.environ['PATH']}",
        "TEXT_RECOGNIZER_DATA_DIR": data_dir,
    }
    return subprocess.run(
        command,
        shell=True,
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def test_the_readme_has_the_two_commands_first() -> None:
    assert COMMANDS[:2] == ["make search", "make test"]


# A cluster and a shared file system are not everywhere: `tests/cluster` has these.
@pytest.mark.parametrize(
    "command",
    [command for command in COMMANDS if command != "make test" and "--address" not in command],
)
def test_command(command: str, place: Path, request: pytest.FixtureRequest) -> None:
    data_dir = (
        str(request.getfixturevalue("mnist_dir"))
        if "MNIST" in command or "mnist" in command
        else ""
    )
    shorter = "".join(more for part, more in SHORTER.items() if part in command)
    done = run(command + shorter, place, data_dir)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    (place / f"{COMMANDS.index(command)}.out").write_text(done.stdout)


def output_of(place: Path, part: str) -> str:
    """The output of the first command that contains `part`."""
    path = place / f"{next(i for i, command in enumerate(COMMANDS) if part in command)}.out"
    if not path.exists():
        pytest.skip(f"`{COMMANDS[int(path.stem)]}` did not run")
    return path.read_text()


@pytest.fixture
def latest(place: Path) -> Path:
    output_of(place, "make search")
    return place / "runs" / "latest"


def test_the_search_says_what_it_does_and_where_the_result_is(place: Path) -> None:
    said = output_of(place, "make search")
    assert "Searching on Digits" in said
    assert "no GPU" in said or torch.cuda.is_available()
    assert "dashboard http://127.0.0.1:" in said
    assert re.search(r"best: trial \d+, val_acc 0\.9\d+ at epoch \d+", said)
    command = rf"retrain: python {ROOT}/tuning/retrain\.py runs/mlp-"
    assert re.search(command, said), "the files of this checkout are links"
    assert "\x1b" not in said, "plain lines in a pipe"


def test_the_run_folder_holds_what_was_promised(latest: Path) -> None:
    expected = "search.yaml study.db trials.csv summary.json best_config.yaml best.ckpt report.html environment.json trials final "
    expected += "best_validation.json tensorboard"
    assert set(expected.split()) <= {path.name for path in latest.iterdir()}
    assert stat.S_IMODE(latest.stat().st_mode) == 0o700
    summary = json.loads((latest / "summary.json").read_text())
    assert (summary["status"], summary["data_class"], summary["schema_version"]) == (
        "complete",
        "Digits",
        1,
    )
    assert summary["counts"]["running"] == summary["counts"]["waiting"] == 0
    rows = list(csv.DictReader((latest / "trials.csv").open()))
    assert len(rows) == sum(summary["counts"].values())
    # slots that report at the same time may all have one more
    assert EPOCHS <= sum(int(row["epochs"]) for row in rows) < EPOCHS + os.cpu_count()
    assert sum(int(row["epochs"]) for row in rows) == summary["epochs_trained"]


def test_study_summary_csv_and_report_agree(latest: Path) -> None:
    best = json.loads((latest / "summary.json").read_text())["best"]
    (study,) = optuna.get_all_study_names(f"sqlite:///{latest.resolve()}/study.db")
    trials = optuna.load_study(
        storage=f"sqlite:///{latest.resolve()}/study.db", study_name=study
    ).trials
    finite = {
        trial.number: max(trial.intermediate_values.values())
        for trial in trials
        if trial.intermediate_values
    }
    assert best["value"] == finite[best["trial"]] == max(finite.values())
    assert trials[best["trial"]].intermediate_values[best["epoch"]] == best["value"]
    assert trials[0].params == {"fc1": 1024, "fc2": 128, "lr": 1e-3}, "lab 1's own MLP is the first"
    row = list(csv.DictReader((latest / "trials.csv").open()))[best["trial"]]
    assert (float(row["val_acc"]), int(row["best_epoch"])) == (best["value"], best["epoch"])
    assert f"<b>val_acc {best['value']:.4f}</b>" in (latest / "report.html").read_text()


def test_the_exported_weights_are_those_of_the_best_epoch(latest: Path) -> None:
    best = json.loads((latest / "summary.json").read_text())["best"]
    data = Digits()
    images, labels = data.trainval[data.splits()[1]]
    hits = Recognizer.load(latest / "best.ckpt").probabilities(images).argmax(1) == labels
    assert hits.float().mean().item() == best["value"]


def test_the_best_config_trained_again_gives_the_searchs_score(place: Path, latest: Path) -> None:
    best = json.loads((latest / "summary.json").read_text())["best"]
    said = output_of(place, "--config runs/latest/best_config.yaml")
    assert (
        f"validation, epoch {best['epoch']}: val_loss {best['metrics']['val_loss']:.4f}  val_acc {best['value']:.4f}"
        in said
    )
    config = yaml.safe_load((latest / "best_config.yaml").read_text())
    assert config | best["params"] == config
    assert (config["monitor"], config["patience"]) == ("val_acc", 0)


def test_the_final_model_read_the_test_set_once_and_predicts(place: Path, latest: Path) -> None:
    metrics = json.loads((latest / "final" / "metrics.json").read_text())
    assert metrics["test_reads"] == 1
    data = Digits()
    examples = data.load_test()
    hits = (
        Recognizer.load(latest / "final" / "model.ckpt").probabilities(examples.images).argmax(1)
        == examples.labels
    )
    assert hits.double().mean().item() == metrics["per_seed"][0]["test_acc"] > 0.9
    assert (latest / "final" / "config.yaml").exists()


def test_a_picture_is_read(place: Path) -> None:
    _, labels = Digits().trainval[torch.arange(1)]
    assert output_of(place, "text_recognizer.predict").startswith(f"digit.png: {labels.item()} (")


def test_checkpoints_of_the_best_are_left_and_of_those_that_an_extension_goes_on_with(
    latest: Path,
) -> None:
    files = [path for path in (latest / "trials").rglob("*") if path.is_file()]
    rows = list(csv.DictReader((latest / "trials.csv").open()))
    at_rungs = [row for row in rows if row["epochs"] in ("1", "4")]
    assert 3 <= len({path.parent for path in files}) <= 3 + len(at_rungs)
    trials = optuna.load_study(
        storage=f"sqlite:///{latest.resolve()}/study.db", study_name=None
    ).trials
    recorded = {
        v["checkpoint"]: v["sha256"]
        for t in trials
        for k, v in t.user_attrs.items()
        if k.startswith("epoch:")
    }
    assert all(
        recorded[str(path.relative_to(latest / "trials"))] == checksum(path) for path in files
    )


def test_a_narrow_network_is_visibly_worse(place: Path) -> None:
    def accuracy(part: str) -> float:
        found = re.search(r"test, epoch \d+: .*test_acc (\d\.\d+)", output_of(place, part))
        assert found
        return float(found[1])

    assert accuracy("--gpus=1 --fc1=4 --fc2=8") < 0.6 < 0.85 < accuracy("--max_epochs=5 --gpus=1")


def test_no_process_is_left(latest: Path) -> None:
    left = subprocess.run(
        ["pgrep", "-f", str(latest.resolve())], capture_output=True, text=True, check=False
    )
    assert left.stdout == ""
