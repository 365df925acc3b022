"""Strict YAML: values as people mean them. What is refused: `tests/faults/test_bad_input.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuning.space.strict_yaml import YamlFile, scalar


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        (".5", 0.5),
        ("3", 3),
        ("-3", -3),
        ("010", 10.0),
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("null", None),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("2026-11-23", "2026-11-23"),
    ],
)
def test_a_word_means_what_people_mean(text: str, value: object) -> None:
    assert scalar(text) == value
    assert type(scalar(text)) is type(value)


def test_quoted_words_stay_text_and_lines_are_known(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text('a:\n  b: "1"\n  c: [1, 2]\n')
    file = YamlFile(path)
    assert file.content == {"a": {"b": "1", "c": [1, 2]}}
    assert file.where("a", "c", 1) == f"{path}:3 a.c.1"
    assert file.where("a", "missing") == f"{path}:1 a.missing"  # the nearest thing around it
