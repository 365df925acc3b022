"""What the command lines have in common."""

from __future__ import annotations

import argparse
import math
import signal
from pathlib import Path

import pytest

from text_recognizer.command import exit_code_of
from text_recognizer.errors import InputError, RunError
from tuning.cli import Parser, folder_path, integer, number, with_dashes


def test_dashes_and_underscores_are_the_same_in_a_flag_alone() -> None:
    assert with_dashes(["--gpus_per_trial=1_0", "a_b", "--data_dir", "c_d"]) == [
        "--gpus-per-trial=1_0",
        "a_b",
        "--data-dir",
        "c_d",
    ]
    assert with_dashes(["--json", "--", "--my_run"]) == ["--json", "--", "--my_run"]


def test_a_flag_that_is_given_a_double_dash_is_refused() -> None:
    with pytest.raises(InputError, match=r"^--keep: "):
        with_dashes(["--keep=--"])


@pytest.mark.parametrize("text", ["1_0", "٣", "１", " 1", "1\n", "", "half", "0x1"])
def test_a_number_is_written_as_everybody_does(text: str) -> None:
    for read in (integer, number):
        with pytest.raises(ValueError):  # noqa: PT011 - argparse says the rest
            read(text)


@pytest.mark.parametrize(
    ("text", "value"), [("0.5", 0.5), ("1e-3", 0.001), (".5", 0.5), ("-1", -1.0), ("inf", math.inf)]
)
def test_numbers(text: str, value: float) -> None:
    assert number(text) == value


def test_a_folder_need_not_be_there_but_must_be_possible(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert folder_path(f"{tmp_path}/new") == tmp_path / "new"
    for text in (f"{tmp_path}/loop", "a\0b", "\ud83d"):
        with pytest.raises(argparse.ArgumentTypeError, match="is no path"):
            folder_path(text)


def test_a_parser_quotes_what_a_terminal_would_obey(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        Parser("x.py", None).parse_args(["\x1b[31m", "a\nb"])
    said = capsys.readouterr().err
    assert said.endswith("x.py: error: unrecognized arguments: \\x1b[31m a\\nb\n")


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
