"""What the command lines have in common."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path

import pytest

from text_recognizer.command import exit_code_of
from text_recognizer.errors import RunError
from tuning.cli import Parser, folder_path


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
