"""Runs in a list and side by side, from the files that a search leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.shapes import final
from text_recognizer.command import exit_code_of
from text_recognizer.errors import InputError, RunError
from text_recognizer.metrics import Objective, mode_of
from tuning import runs
from tuning.analysis.comparison import Comparison, cell_text
from tuning.run.files import BestTrial, Environment, Resources, Summary
from tuning.run.folder import RunFolder, create_run
from tuning.run.listing import all_runs, read_run_info
from tuning.run.lock import locked
from tuning.run.reading import write_model, write_text
from tuning.trials.table import trials_table
from tuning.trials.trial import Epoch, Outcome, Trial, counts, epochs_trained, ranking

ROOT = Path(__file__).resolve().parents[2]
FC1 = {"type": "int", "low": 8, "high": 64, "log": True}
LR = {"type": "float", "low": 0.001, "high": 0.1}
ESCAPE = "\x1b]0;gotcha\x07\x1b[31m"
HOLD = """
import sys
from pathlib import Path
from tuning.run.folder import RunFolder
from tuning.run.lock import locked

with locked(RunFolder(Path(sys.argv[1]))):
    print("held", flush=True)
    input()
"""


class Maker:
    """Makes run folders as a search leaves them."""

    def __init__(self, runs_dir: Path) -> None:
        self.runs_dir = runs_dir

    def run(
        self,
        name: str,
        *values: float,
        metric: str = "val_acc",
        data: str = "Digits",
        status: str = "complete",
        trials: int = 4,
        begun: float = 1.8e9,
        space: dict[str, Any] | None = None,
        fixed: dict[str, Any] | None = None,
    ) -> RunFolder:
        """A run with one complete trial of two epochs for each value, and two stopped after the
        first of three.
        """
        folder = create_run(self.runs_dir, name, "mlp")
        parameters = space or {"fc1": FC1, "lr": LR}
        search = {"metric": metric, "trials": trials, "max_epochs": 3}
        experiment = {"data_class": data} | (fixed or {})
        write_text(
            folder.space,
            yaml.safe_dump({"experiment": experiment, "space": parameters, "search": search}),
        )
        done = [
            Trial(
                i,
                {"fc1": 8 + i, "lr": 0.01},
                (
                    Epoch(1, {metric: value / 2 if mode_of(metric) == "max" else value * 2}),
                    Epoch(2, {metric: value}),
                ),
                Outcome.COMPLETE,
            )
            for i, value in enumerate(values)
        ]
        poor = (Epoch(1, {metric: 0.01 if mode_of(metric) == "max" else 9.0}),)
        done += [
            Trial(len(done) + i, {"fc1": 60, "lr": 0.09}, poor, Outcome.STOPPED_EARLY, cause)
            for i, cause in enumerate(("", "30m"))
        ]
        objective = Objective(metric, mode_of(metric))
        best = ranking(done, objective)
        summary = Summary(
            name=name,
            status=status,
            data_class=data,
            metric=metric,
            mode=objective.mode,
            seed=0,
            counts=counts(done),
            epochs_trained=epochs_trained(done),
            wall_time_s=75.5,
            stop_reason="all trials are done",
            best=BestTrial.of(best[0]) if values else None,
            resources=Resources(slots=2, gpus_per_trial=0.5),
        )
        write_model(folder.summary, summary)
        write_text(folder.trials_csv, trials_table(done, list(parameters), objective))
        versions: dict[str, str | None] = {"torch": "2.15.0", "ray": "2.60.0"}
        environment = Environment(git_commit="a" * 40, python="3.11.7", versions=versions)
        write_model(folder.environment, environment)
        os.utime(folder.space, (begun, begun))
        return folder


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Maker:
    monkeypatch.chdir(tmp_path)
    return Maker(tmp_path / "runs")


def change(folder: RunFolder, **changes: Any) -> None:
    content = json.loads(folder.summary.read_text()) | changes
    folder.summary.write_text(json.dumps(content))


def said(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> list[str]:
    runs.main([str(argument) for argument in arguments])
    return capsys.readouterr().out.splitlines()


def parsed(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Any:
    """The JSON that a command prints; no parser but Python's knows NaN."""
    runs.main([*map(str, arguments), "--json"])
    return json.loads(capsys.readouterr().out, parse_constant=lambda word: pytest.fail(word))


def exit_code(*arguments: str | Path) -> int:
    return exit_code_of(lambda: runs.main([str(argument) for argument in arguments]))


def test_runs_are_listed_newest_first_and_latest_is_one_of_them(
    make: Maker, capsys: pytest.CaptureFixture[str]
) -> None:
    make.run("old", 0.8, begun=1.7e9)
    new = make.run("new", 0.8, 0.91, begun=1.9e9)
    make.run("middle", begun=1.8e9, status="failed")
    new.final.mkdir()
    write_text(new.final / "metrics.json", final(0.9, 0.0123).model_dump_json())
    (make.runs_dir / "notes").mkdir()
    (make.runs_dir / "a file").write_text("")
    head, *lines = said(capsys)
    assert head.split("  ")[0] == "run"
    assert [line.split()[0] for line in lines] == ["new", "middle", "old"]
    assert [cell.strip() for cell in lines[0].split("  ") if cell][1:9] == [
        *("complete", "Digits", "4/4", "val_acc 0.9100", "1", "6", "1m16s", "0.9000 ± 0.0123")
    ]
    assert " failed " in lines[1]


def test_a_run_elsewhere_that_a_link_leads_to_is_listed(make: Maker, tmp_path: Path) -> None:
    Maker(tmp_path / "other disk").run("far", 0.9)
    make.run("near", 0.9)
    (make.runs_dir / "linked").symlink_to(tmp_path / "other disk" / "far")
    (make.runs_dir / "broken").symlink_to("nowhere")
    (make.runs_dir / "loop").symlink_to("loop")
    assert sorted(run.name for run in all_runs(make.runs_dir)) == ["linked", "near"]


def test_an_extended_run_has_more_trials_than_its_file_says(make: Maker) -> None:
    make.run("extended", *[0.5] * 6, trials=4)
    change(
        make.run("running", *[0.5] * 6, trials=20),
        counts={"complete": 6, "failed": 2, "running": 3},
    )
    found = {run.name: (run.trials_ended, run.trials_wanted) for run in all_runs(make.runs_dir)}
    assert found == {"extended": (8, 8), "running": (8, 20)}


@pytest.fixture
def holder(make: Maker) -> Iterator[RunFolder]:
    """A run that another process works on."""
    folder = make.run("held", 0.9, status="running")
    command = [sys.executable, "-c", HOLD, str(folder.path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield folder
        process.kill()


def test_a_run_whose_driver_lives_is_running_and_one_whose_driver_is_gone_was_killed(
    make: Maker, holder: RunFolder
) -> None:
    make.run("killed", 0.9, status="running")  # its lock was never taken
    left = make.run("left", 0.9, status="running")
    with locked(left):  # and this one's was
        pass
    make.run("ended", 0.9, status="interrupted")
    status = {run.name: run.status for run in all_runs(make.runs_dir)}
    assert status == {
        "held": "running",
        "killed": "killed",
        "left": "killed",
        "ended": "interrupted",
    }
    with pytest.raises(RunError, match="process"), locked(holder):
        pytest.fail("its holder still has it")
    with locked(left):  # and nobody has this one
        pass


def test_a_run_that_has_only_just_begun_is_running(
    holder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    holder.summary.unlink()
    assert said(capsys)[1].split()[:4] == ["held", "running", "-", "-"]
    assert parsed(capsys)[0]["status"] == "running"


@pytest.fixture
def read_only_disk(make: Maker) -> Iterator[None]:
    """The runs' folder turns read-only; skipped where a test may not mount."""
    folder = str(make.runs_dir)
    for options in (["--bind", folder, folder], ["-o", "remount,ro,bind", folder]):
        if subprocess.run(["mount", *options], capture_output=True, check=False).returncode:
            pytest.skip("nothing can be mounted here")
    yield
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_read_only_disk_is_read(
    make: Maker, holder: RunFolder, request: pytest.FixtureRequest
) -> None:
    make.run("killed", 0.9, status="running")
    request.getfixturevalue("read_only_disk")
    with pytest.raises(OSError, match="Read-only"):
        (holder.path / "x").touch()
    assert {run.name: run.status for run in all_runs(make.runs_dir)} == {
        "held": "running",
        "killed": "killed",
    }


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("summary.json", None),
        ("summary.json", '{"status": "comp'),
        ("summary.json", "[]"),
        ("summary.json", '{"status": "complete"}'),
        ("search.yaml", None),
        ("search.yaml", "space: ["),
        ("search.yaml", "space: {}\nsearch: {trials: many}"),
        ("environment.json", "{"),
        ("final/metrics.json", "{"),
    ],
)
def test_a_damaged_run_is_listed_with_what_is_wrong_among_sound_ones(
    file: str, content: str | None, make: Maker, capsys: pytest.CaptureFixture[str]
) -> None:
    make.run("sound", 0.9)
    path = make.run("bad", 0.9).path / file
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_text(content)
    text = said(capsys)
    assert {line.split()[0]: line.split()[1] for line in text[1:3]} == {
        "bad": "damaged",
        "sound": "complete",
    }
    assert text[3].startswith("bad is damaged: ")
    assert file in text[3]
    assert len(text) == 4
    assert {run["name"]: run["reason"] is None for run in parsed(capsys)} == {
        "bad": False,
        "sound": True,
    }
    assert exit_code("runs/sound", "runs/bad") == (
        2 if file == "search.yaml" and content is None else 4
    )


def test_values_that_no_search_writes_are_damage_and_never_nan_in_json(
    make: Maker, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make.run("odd", 0.9)
    text = folder.summary.read_text()
    folder.summary.write_text(text.replace('"value": 0.9', '"value": NaN'))
    assert "summary.json" in parsed(capsys)[0]["reason"]
    folder.summary.write_text(text.replace('"lr": 0.01', '"lr": Infinity'))
    assert parsed(capsys)[0]["best"]["params"] == {"fc1": 8, "lr": None}
    make.run("other", 0.9)
    assert {"what": "best lr", "left": None, "right": 0.01} in parsed(
        capsys, "runs/odd", "runs/other"
    )["differences"]


def test_where_there_are_no_runs_it_says_how_to_make_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for arguments in ([], ["--runs-dir", "empty"], ["--runs_dir=empty"]):
        (line,) = said(capsys, *arguments)
        assert "tuning/search.py --space" in line
        assert parsed(capsys, *arguments) == []
    (tmp_path / "runs").write_text("a file")
    for arguments in ([], ["--runs-dir", "missing"], ["--runs-dir", "runs"]):
        assert exit_code(*arguments) == 2
        assert "a folder of runs" in capsys.readouterr().err


def test_one_run_or_three_are_refused(make: Maker, capsys: pytest.CaptureFixture[str]) -> None:
    path = make.run("r", 0.9).path
    for paths in ([path], [path] * 3):
        assert exit_code(*paths) == 2
        assert f"two runs or none` must hold, but got {len(paths)}" in capsys.readouterr().err
    assert exit_code(path, path, "--runs-dir", "x") == 2
    assert exit_code(path, "missing") == 2
    with pytest.raises(InputError, match="a run folder"):
        runs.main(["missing", str(path)])


@pytest.mark.parametrize(
    ("left", "right", "words"),
    [
        (
            {"values": (0.8, 0.91)},
            {"values": (0.85,)},
            "left is better: val_acc 0.9100 against 0.8500, by 0.06",
        ),
        (
            {"values": (0.5,)},
            {"values": (0.85,)},
            "right is better: val_acc 0.8500 against 0.5000, by 0.35",
        ),
        (
            {"values": (0.2,), "metric": "val_loss"},
            {"values": (0.1,), "metric": "val_loss"},
            "right is better: val_loss 0.1000 against",
        ),
        ({"values": (0.9,)}, {"values": (0.8, 0.9)}, "neither is better: both have val_acc 0.9000"),
        (
            {"values": (0.9,)},
            {"values": (0.1,), "metric": "val_loss"},
            "cannot be compared: left is judged by val_acc, right by val_loss",
        ),
        (
            {"values": (0.9,)},
            {"values": (0.8,), "data": "MNIST"},
            "cannot be compared: left is on Digits, right on MNIST",
        ),
        ({"values": (0.9,)}, {"values": ()}, "cannot be compared: there is no best trial in right"),
        (
            {"values": ()},
            {"values": ()},
            "cannot be compared: there is no best trial in left and right",
        ),
    ],
)
def test_it_says_which_is_better_or_why_that_cannot_be_said(
    left: dict[str, Any],
    right: dict[str, Any],
    words: str,
    make: Maker,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, what in (("left", left), ("right", right)):
        make.run(
            name, *what["values"], **{key: value for key, value in what.items() if key != "values"}
        )
    assert words in said(capsys, "runs/left", "runs/right")[0]
    assert words in parsed(capsys, "runs/left", "runs/right")["verdict"]


def test_two_runs_side_by_side_with_what_differs_marked(
    make: Maker, capsys: pytest.CaptureFixture[str]
) -> None:
    left = make.run("left", 0.8, 0.91)
    momentum = {"type": "float", "low": 0.0, "high": 0.9, "when": {"fc1": [8, 9]}}
    right = make.run(
        "right",
        0.85,
        fixed={"lr": 0.01, "optimizer": "SGD"},
        space={"fc1": FC1 | {"high": 128}, "momentum": momentum},
    )
    right.final.mkdir()
    write_text(right.final / "metrics.json", final(0.84, None).model_dump_json())
    environment = json.loads(right.environment.read_text())
    environment["versions"] = {"torch": "2.14.0", "ray": "2.60.0"}
    right.environment.write_text(json.dumps(environment))
    lines = said(capsys, left.path, right.path)
    table = {line[3:].split("  ")[0]: line for line in lines[2:]}
    assert all(line[0] in "* " for line in lines[1:])
    marked = {what for what, line in table.items() if line.startswith("*")}
    assert marked == {
        *(
            "best value",
            "best trial",
            "best fc1",
            "final test acc",
            "trials complete",
            "epochs trained",
        ),
        *(
            "range of fc1",
            "range of lr",
            "range of momentum",
            "fixed lr",
            "fixed optimizer",
            "torch",
        ),
    }
    same = (
        "status",
        "data",
        "metric",
        "best epoch",
        "epochs skipped",
        "wall time",
        "slots",
        "seed",
        "sampler",
        "scheduler",
        "max_epochs",
    )
    assert {*same, "git commit", "trials stopped early"} <= table.keys() - marked
    assert "ray" not in table, "of versions those that differ"
    assert table["range of lr"].split()[-1] == "-"
    assert table["range of fc1"].endswith("int 8 to 128; log")
    assert table["range of momentum"].endswith("float 0.0 to 0.9; when fc1 is 8, 9")
    assert table["epochs skipped"].split()[-1] == "2"
    plain = parsed(capsys, left.path, right.path)
    assert {row["what"] for row in plain["differences"]} == marked
    assert (plain["left"]["name"], plain["right"]["test_acc"]) == ("left", 0.84)


def test_runs_of_one_name_are_told_apart_by_their_paths(
    make: Maker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left, right = make.run("r", 0.9), Maker(tmp_path / "old").run("r", 0.8)
    assert said(capsys, left.path, right.path)[0].startswith("runs/r is better")


def test_without_a_sound_table_the_epochs_saved_are_not_known(make: Maker) -> None:
    folder = make.run("r", 0.9)
    assert read_run_info(folder).epochs_skipped == 2
    for content in (
        "",
        "trial,status,cause\n0,stopped_early,\n",
        "status,epochs,cause\nstopped_early,x,\n",
        "status\nstopped_early\n",
    ):
        folder.trials_csv.write_text(content)
        assert read_run_info(folder).epochs_skipped in ((0,) if content == "" else (None,))
    folder.trials_csv.unlink()
    assert read_run_info(folder).epochs_skipped is None


def test_what_a_terminal_would_obey_is_shown_and_not_sent(
    make: Maker, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make.run("evil", 0.9)
    best = json.loads(folder.summary.read_text())["best"]
    change(
        folder,
        data_class=ESCAPE,
        stop_reason=ESCAPE,
        best=best | {"params": {ESCAPE: ESCAPE, "[bold]x": "[red]"}},
    )
    evil = folder.path.rename(folder.path.with_name(f"a{ESCAPE}\n[red]"))
    make.run("good", 0.8)
    bad = make.run("bad", 0.8).path.rename(make.runs_dir / f"b{ESCAPE}")
    (bad / "summary.json").unlink()
    for arguments in ([], ["--json"], [evil, "runs/good"], [evil, "runs/good", "--json"]):
        text = "\n".join(said(capsys, *arguments))
        assert "gotcha" in text
        assert "\x1b" not in text
        assert "\x07" not in text
        assert "[red]" in text or "--json" in arguments, "and no markup"


def test_a_narrow_terminal_shows_less_and_says_so(
    make: Maker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make.run("r", 0.9)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")  # without colours
    monkeypatch.setenv("COLUMNS", "52")
    head, _, last = said(capsys)
    assert head.split() == ["run", "status", "trials", "best", "test", "acc"]
    assert last == "a wider terminal shows begun, time, epochs, by trial, data"
    monkeypatch.setenv("COLUMNS", "200")
    assert said(capsys)[0].split()[-1] == "begun"


def test_every_value_of_a_comparison_can_be_shown(make: Maker) -> None:
    """A run with everything against one that has only just begun."""
    whole = read_run_info(make.run("whole", 0.9))
    bare = type(whole)("bare", make.runs_dir, 0.0, "running")
    comparison = Comparison(whole, bare)
    assert "no best trial in bare" in comparison.verdict()
    assert {cell_text(row.what, row.right) for row in comparison.rows()} == {"-", "running"}
