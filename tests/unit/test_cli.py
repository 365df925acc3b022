"""What the command lines have in common."""

from __future__ import annotations

import argparse
import errno
import io
import os
import pwd
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from text_recognizer.command import exit_code_of
from text_recognizer.errors import RunError
from text_recognizer.text import reason_of, shown_path
from tuning.cli import Parser, folder_path, typed_script


def test_dashes_and_underscores_are_the_same_in_a_flag_alone() -> None:
    parser = Parser("x.py", None)
    parser.add_argument("--gpus-per-trial")
    parser.add_argument("words", nargs="*")
    flags = parser.parse(["--gpus_per-trial=a_b", "c_d", "--", "--my_run"])
    assert (flags.gpus_per_trial, flags.words) == ("a_b", ["c_d", "--my_run"])


def test_a_flag_that_is_given_a_double_dash_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    parser = Parser("x.py", None)
    parser.add_argument("--keep")
    with pytest.raises(SystemExit, match="2"):
        parser.parse(["--keep=--"])
    assert "argument --keep: expected one argument" in capsys.readouterr().err


def test_a_folder_need_not_be_there_but_must_be_possible(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert folder_path(f"{tmp_path}/new") == tmp_path / "new"
    for text in (f"{tmp_path}/loop", "a\0b", "\ud83d"):
        with pytest.raises(argparse.ArgumentTypeError, match="is no path"):
            folder_path(text)


def test_a_parser_quotes_what_a_terminal_would_obey(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        Parser("x.py", None).parse(["\x1b[31m", "a\nb"])
    said = capsys.readouterr().err
    assert said.endswith("x.py: error: unrecognized arguments: \\x1b[31m a\\nb\n")


def test_an_unknown_flag_is_answered_with_ours(capsys: pytest.CaptureFixture[str]) -> None:
    parser = Parser("x.py", None)
    parser.add_argument("--max-epochs")
    parser.add_argument("--gpus-per-trial")
    for given, ours in (("--epochs=5", "max-epochs"), ("--gpus", "gpus-per-trial")):
        with pytest.raises(SystemExit, match="2"):
            parser.parse([given])
        assert f"unrecognized arguments: {given}; did you mean --{ours}?" in capsys.readouterr().err


def test_an_error_is_said_without_what_a_terminal_would_obey(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail() -> int:
        raise RunError("runs/\x1b[31m: damaged\nsecond line")

    assert exit_code_of(fail) == 4
    assert capsys.readouterr().err == "error: runs/\\x1b[31m: damaged\nsecond line\n"


def test_sigterm_is_143_whoever_turned_it_into_an_exit() -> None:
    def ended() -> None:
        raise SystemExit(int(signal.SIGTERM))

    assert exit_code_of(ended) == 143


@pytest.mark.parametrize(
    ("place", "code"), [("pipe", 0), ("/dev/full", 0), ("/dev/full", 5), ("closed", 0)]
)
def test_output_that_nobody_takes_ends_nothing(
    place: str, code: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    if place == "pipe":
        reader, writer = os.pipe()
        os.close(reader)
        stream = os.fdopen(writer, "w")
    else:
        stream = open("/dev/full", "w") if place == "/dev/full" else None  # noqa: SIM115, PTH123
    done: list[str] = []

    def work() -> None:
        for _ in range(3):
            print("a line that is long" * 1000)
        done.append("all")

    monkeypatch.setattr("sys.stdout", stream)
    assert exit_code_of(work, output_is_result=code == 5) == code
    if stream:
        stream.close()
    assert done == ["all"]
    said = "error: the output cannot be written: No space left on device\n"
    assert capfd.readouterr().err == (said if place == "/dev/full" else "")


def test_a_refusal_keeps_its_exit_code_whatever_its_output_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> int:
        print("a line" * 10_000)
        raise RunError("damaged")

    with open("/dev/full", "w") as full:  # noqa: PTH123
        monkeypatch.setattr("sys.stdout", full)
        monkeypatch.setattr("sys.stderr", full)
        assert exit_code_of(fail, output_is_result=True) == 4


def test_a_name_that_a_terminal_cannot_show_ends_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw := io.BytesIO(), "ascii"))
    assert exit_code_of(lambda: print("größe \udcff")) == 0
    assert raw.getvalue() == b"gr\\xf6\\xdfe \\udcff\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_lets_a_command_clean_up(number: signal.Signals) -> None:
    cleaned: list[bool] = []

    def work() -> None:
        try:
            signal.raise_signal(number)
        finally:
            cleaned.append(True)

    before = signal.signal(number, signal.SIG_DFL)
    assert exit_code_of(work) == 128 + number
    assert signal.signal(number, before) == signal.SIG_DFL
    assert cleaned == [True]


def test_without_a_package_the_environment_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def needs(name: str) -> int:
        return exit_code_of(lambda: __import__(name) and None)

    assert needs("no_such_package") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"{sys.executable} has no package 'no_such_package'" in said
    assert f"source {shown_path(ROOT / '.venv/bin/activate')}" in said
    monkeypatch.setattr("text_recognizer.command.PROJECT", tmp_path)
    needs("no_such_package")
    assert f"make -C {tmp_path} setup && source {tmp_path}/.venv" in capsys.readouterr().err
    monkeypatch.setattr("text_recognizer.command.OLDEST_PYTHON", (3, 99))
    assert needs("json") == 2
    assert "has no Python 3.11 or newer" in capsys.readouterr().err
    monkeypatch.undo()
    assert needs("tuning.no_such_module") == 70, "a bug of ours"
    # An environment that was moved: to enter it leads elsewhere.
    activate = tmp_path / ".venv/bin/activate"
    activate.parent.mkdir(parents=True)
    monkeypatch.setattr("text_recognizer.command.PROJECT", tmp_path)
    for place, make in ((tmp_path / ".venv", False), ("/elsewhere/.venv", True)):
        activate.write_text(f'VIRTUAL_ENV="{place}"')
        capsys.readouterr()
        needs("no_such_package")
        assert ("setup && source" in capsys.readouterr().err) == make


def test_what_is_wrong_around_the_project_is_no_bug_of_ours(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refused() -> int:
        raise PermissionError(errno.EACCES, "Permission denied", "/somebody/logs")

    def does_not_load() -> int:
        try:
            raise ImportError("lib.so: failed to map segment from shared object")
        except ImportError as error:
            raise ImportError("\n\nAdvice of many lines", name="numpy") from error

    assert exit_code_of(refused) == 5
    assert capsys.readouterr().err == "error: /somebody/logs: Permission denied\n"
    assert exit_code_of(does_not_load) == 2
    said = "error: a package cannot be loaded: lib.so: failed to map segment from shared object\n"
    assert capsys.readouterr().err == said


def test_the_owner_of_somebody_elses_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    error = PermissionError(errno.EACCES, "Permission denied", str(path))
    assert reason_of(error) == "Permission denied"
    if os.getuid():
        pytest.skip("only root can give a file away")
    os.chown(path, pwd.getpwnam("nobody").pw_uid, -1)
    assert reason_of(error) == f"Permission denied, {path} belongs to nobody"


def test_a_command_is_typed_with_the_python_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    beside = Path(sys.executable)
    monkeypatch.setenv("PATH", str(beside.parent))
    assert typed_script("tuning/search.py") == "python tuning/search.py"
    # The system's Python is the same file, but not this environment.
    (tmp_path / "python").symlink_to(beside.resolve())
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert typed_script("tuning/search.py") == f"{beside} {ROOT}/tuning/search.py"


def test_make_notices_an_environment_of_another_folder(tmp_path: Path) -> None:
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / ".venv").mkdir()

    def planned(made: Path) -> str:
        (tmp_path / ".venv/pyvenv.cfg").write_text(f"command = /usr/bin/python3 -m venv {made}\n")
        (tmp_path / ".venv/.ready").touch()
        return subprocess.run(
            ["make", "-n", "setup"], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout

    assert "Nothing to be done" in planned(tmp_path / ".venv")
    assert "rm -rf .venv" in planned(ROOT / ".venv")
