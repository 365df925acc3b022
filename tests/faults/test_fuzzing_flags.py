"""Command lines that Hypothesis makes up from what each parser says of itself, so that a new flag
is among them by itself.

They go through the same `main` as the command does; where the work would begin stands something
else. What is tested: a command line is taken or refused with exit code 2, never a crash, and
nothing is written, started or asked of a network before.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import is_dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import strategies as st

from tests.faults.efforts import EFFORTS, for_all, in_time
from text_recognizer.command import exit_code_of
from tuning import report, retrain, runs, search
from tuning.cli import Parser, folder_path

GOOD = "space:\n  fc1: {type: int, low: 8, high: 64}\n"
SUMMARY = {
    "status": "complete",
    "data_class": "Digits",
    "metric": "val_acc",
    "mode": "max",
    "seed": 0,
    "counts": {"complete": 1},
    "epochs_trained": 1,
    "wall_time_s": 1.5,
    "stop_reason": None,
    "best": {"trial": 0, "epoch": 1, "value": 0.5, "params": {"fc1": 8}},
    "resources": {},
}
DONE = "runs/done"  # a run; `\x1b[31m` is another, whose name colours a terminal
COLOURED = "runs/\x1b[31m"
COMMANDS = {"search": search, "retrain": retrain, "report": report, "runs": runs}

PATHS = (
    *(
        "good.yaml",
        DONE,
        COLOURED,
        "runs",
        "latest",
        "missing",
        "../x",
        "/",
        "/dev/null",
        "fifo",
        "loop",
        ".",
        "-",
        "~",
    ),
    *("x" * 300, "good.yaml/x"),
)
WORDS = (
    "val_acc",
    "val_loss",
    "max",
    "min",
    "MNIST",
    "Digits",
    "30m",
    "1h30m",
    "90s",
    "x",
    "1d 2h",
    "0s",
    "٣m",
    "9" * 400 + "d",
)
NUMBERS = (
    *(
        "0",
        "1",
        "2",
        "3",
        "0.5",
        "-1",
        "+1",
        "007",
        "1.5",
        "1e3",
        "1e999",
        "-inf",
        "nan",
        "inf",
        "1_0",
        " 1",
        "٣",
        "１",
    ),
    *("9" * 30, "9" * 5000),
)
ADDRESSES = (
    *(
        "auto",
        "127.0.0.1:6379",
        "ray://h:10001",
        "[::1]:1",
        "h:99999",
        "sqlite:///x",
        "postgresql://h/d",
    ),
    *(
        "postgres://h/d?password=s3cret",
        "postgresql://u:s3cret@h/d",
        "postgresql://u:s3cret@h:x/d",
        "mysql://u:s3cret@h/d",
    ),
)
HOSTILE = (
    *(
        "",
        " ",
        "\n",
        "\t",
        "a\nb",
        "\0",
        "a\0b",
        "\x1b[31m",
        "\x1b]0;t\x07",
        "\x85",
        "\u2028",
        "\u202e",
        "\udcff",
        "\ud800",
    ),
    *(
        "é",
        "𝟙",
        "%s",
        "{x}",
        "--",
        "---",
        "-x",
        "--=",
        "--trials",
        "--x=1",
        "=",
        "@file",
        "$HOME",
        "`id`",
        "; rm -rf x",
    ),
    "x" * 10_000,
)
TEXT = st.sampled_from(PATHS + WORDS + ADDRESSES + NUMBERS + HOSTILE) | st.text(max_size=20)


def likely(action: argparse.Action) -> st.SearchStrategy[str]:
    """Values that an action may well take."""
    if action.choices:
        return st.sampled_from([str(choice) for choice in action.choices])
    if action.type in (Path, folder_path):
        return st.sampled_from(PATHS)
    numeric = action.type in (int, float)
    return (
        st.sampled_from(NUMBERS) | st.integers().map(str) | st.floats().map(str)
        if numeric
        else st.sampled_from(WORDS)
    )


@st.composite
def one(draw: st.DrawFn, action: argparse.Action) -> list[str]:
    """A flag with its value, or what stands without a flag."""
    value = draw(likely(action) | likely(action) | TEXT)
    if not action.option_strings:
        return [value]
    flag = draw(st.sampled_from(action.option_strings))
    flag = flag.replace("-", "_").replace("__", "--", 1) if draw(st.booleans()) else flag
    if action.nargs == 0:
        return [flag] if draw(st.integers(0, 9)) else [f"{flag}={value}"]
    return draw(st.sampled_from([[flag, value], [f"{flag}={value}"]]))


def command_lines(parser: argparse.ArgumentParser) -> st.SearchStrategy[list[str]]:
    """A few of the flags and values that a parser takes, in any order; more often than not on
    good files.
    """
    actions = [action for action in parser._actions if not isinstance(action, argparse._HelpAction)]
    begin = st.sampled_from(
        [
            ["--space", "good.yaml"],
            ["--space=good.yaml", "--check"],
            ["--resume", DONE],
            [DONE],
            [COLOURED],
            [DONE, COLOURED],
            [],
        ]
    )
    parts = st.lists(st.one_of(*map(one, actions)), max_size=4).map(
        lambda found: [part for parts in found for part in parts]
    )
    return st.tuples(begin, parts, st.lists(TEXT, max_size=1)).map(
        lambda found: [part for parts in found for part in parts]
    )


class Watchdog:
    """What this process writes, starts and asks a network for: Python tells its audit hooks."""

    WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    CHANGES = (
        "os.mkdir",
        "os.rename",
        "os.remove",
        "os.rmdir",
        "os.symlink",
        "os.link",
        "os.truncate",
        "os.chmod",
        "os.chown",
    )
    STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork")
    CALLS = ("socket.connect", "socket.bind", "socket.getaddrinfo")

    def __init__(self) -> None:
        self.watching = False
        self.paths: list[str] = []
        self.started: list[str] = []
        sys.addaudithook(self._heard)  # for as long as the process lives

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.watching:
            return
        if arguments and isinstance(arguments[0], int):  # an open file, whose path was heard before
            return
        if event in self.CHANGES or (
            event == "open" and isinstance(arguments[2], int) and arguments[2] & self.WRITES
        ):
            self.paths.append(str(Path(os.fsdecode(arguments[0])).absolute()))
        elif event in self.STARTS + self.CALLS:
            self.started.append(f"{event} {arguments!r:.200}")

    @contextmanager
    def now(self) -> Iterator[None]:
        self.paths.clear()
        self.started.clear()
        self.watching = True
        try:
            yield
        finally:
            self.watching = False


WATCH = Watchdog()


class Stage:
    """A folder with runs and a space, and the commands with something else in the place of their
    work.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.began: list[str] = []
        (folder / "good.yaml").write_text(GOOD)
        os.mkfifo(folder / "fifo")
        (folder / "loop").symlink_to("loop")
        for name in (DONE, COLOURED):
            run = folder / name
            run.mkdir(parents=True)
            (run / "search.yaml").write_text(GOOD)
            (run / "summary.json").write_text(json.dumps(SUMMARY))
            (run / "best_config.yaml").write_text("fc1: 8\n")
        self.files = self.listed()
        for name, parts in (
            ("tuning.tuner", {"check": self.work("check")}),
            ("tuning.tuner.start", {"start": self.work("search"), "NewRun": SimpleNamespace}),
            ("tuning.tuner.resume", {"resume": self.work("resume")}),
            (
                "tuning.final",
                {
                    "Request": lambda *_: None,
                    "Retraining": self.work("retrain", SimpleNamespace(run=lambda: None)),
                },
            ),
        ):
            module = ModuleType(name)
            vars(module).update(parts)
            monkeypatch.setitem(sys.modules, name, module)
            above, _, last = name.rpartition(".")
            monkeypatch.setattr(import_module(above), last, module, raising=False)
        found = self.work("report", SimpleNamespace(damaged=[]))
        monkeypatch.setattr("tuning.analysis.run_data.read_run_data", found)
        monkeypatch.setattr("tuning.analysis.html.write_report", lambda _: Path("report.html"))
        monkeypatch.setattr("tuning.analysis.html.as_json", lambda _: "{}")

    def work(self, name: str, result: Any = 0) -> Callable[..., Any]:
        def begin(*given: Any, **named: Any) -> Any:
            self.began.append(name)
            options = [vars(one) for one in given if is_dataclass(one)]
            numbers = [
                value
                for values in (named, *options)
                for value in values.values()
                if isinstance(value, float)
            ]
            assert all(map(math.isfinite, numbers)), numbers
            return result

        return begin

    def listed(self) -> list[str]:
        return sorted(
            str(path.relative_to(self.folder))
            for path in self.folder.rglob("*")
            if path.name != ".lock"
        )

    def run(self, command: str, arguments: list[str]) -> tuple[int, str, str]:
        """The exit code of a command line, and what it said."""
        self.began.clear()
        said, complained = io.StringIO(), io.StringIO()
        with (
            in_time(),
            chdir(self.folder),
            redirect_stdout(said),
            redirect_stderr(complained),
            WATCH.now(),
        ):
            try:
                code = exit_code_of(lambda: COMMANDS[command].main(arguments))
            except SystemExit as end:  # argparse
                code = int(end.code or 0)
        return code, said.getvalue(), complained.getvalue()


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setenv("COLUMNS", "200")
    return Stage(tmp_path, monkeypatch)


def assert_taken_or_refused(stage: Stage, command: str, arguments: list[str]) -> int:
    """Exit code 0 and the work begun, or 2 and why not; nothing else happened."""
    code, said, complained = stage.run(command, arguments)
    assert code in (0, 2), complained
    assert "Traceback" not in complained
    assert not re.search("--storage: .*s3cret", complained)
    assert [
        path
        for path in WATCH.paths
        if not path.startswith(f"{stage.folder}/") and "__pycache__" not in path
    ] == []
    assert WATCH.started == []
    assert stage.listed() == stage.files
    by_argparse = f"{command}.py: error: " in complained
    if not by_argparse or isinstance(COMMANDS[command].parser(), Parser):
        assert all(line.isprintable() for line in [*said.split("\n"), *complained.split("\n")])
    if code == 2:
        assert stage.began == []
        assert said == ""
        assert by_argparse or complained.startswith("error: ")
    else:
        assert complained == ""
        assert len(stage.began) == (command != "runs")
    return code


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_takes_or_refuses_every_odd_value(command: str, stage: Stage) -> None:
    begin = {"search": ["--space", "good.yaml"], "retrain": [DONE], "report": [DONE]}.get(
        command, []
    )
    for action in COMMANDS[command].parser()._actions:
        values = (*HOSTILE, *(NUMBERS if action.type in (int, float) else PATHS + WORDS))
        if "address" in action.dest or action.dest == "storage":
            values += ADDRESSES
        for value in values if action.nargs != 0 else HOSTILE[:2]:
            arguments = (
                [f"{action.option_strings[0]}={value}"] if action.option_strings else [value]
            )
            assert_taken_or_refused(stage, command, begin + arguments)


@EFFORTS
@pytest.mark.parametrize("command", COMMANDS)
def test_any_command_line_is_taken_or_refused(times: int, command: str, stage: Stage) -> None:
    codes = set()

    def holds(arguments: list[str]) -> None:
        codes.add(assert_taken_or_refused(stage, command, arguments))

    for_all(holds, command_lines(COMMANDS[command].parser()), number=60, times=times)
    assert codes == {0, 2}, "what is made up is too tame, or too wild"


@EFFORTS
@pytest.mark.parametrize("command", COMMANDS)
def test_a_path_that_is_no_run_is_refused(times: int, command: str, stage: Stage) -> None:
    begin = {"search": ["--resume"], "runs": [DONE]}.get(command, [])

    def holds(path: str) -> None:
        assert assert_taken_or_refused(stage, command, [*begin, path]) == 2

    paths = TEXT.filter(lambda path: path not in (DONE, COLOURED) and not path.startswith("-"))
    for_all(holds, paths, number=25, times=times)
