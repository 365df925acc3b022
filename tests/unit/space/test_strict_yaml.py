"""Strict YAML: values as people mean them, and a refusal with a line for everything else."""

from __future__ import annotations

from pathlib import Path

import pytest

from text_recognizer.errors import InputError
from tuning.space.strict_yaml import MAX_BYTES, YamlFile, scalar


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


BAD = {
    "empty": (b"", "empty file"),
    "comments only": (b"# nothing\n", "empty file"),
    "binary": (b"\x00\xff\xfe\x80", "UTF-8"),
    "UTF-16": ("space: {}".encode("utf-16"), "UTF-8"),
    "too large": (b"# " + b"x" * MAX_BYTES, "at most"),
    "two documents": (b"a: 1\n---\nb: 2\n", "single document"),
    "tab indent": (b"a:\n\tb: 1\n", ":2"),
    "unclosed flow": (b"a: [1, 2\nb: 3\n", "valid YAML"),
    "undefined alias": (b"a: *b\n", "no anchors and aliases"),
    "python object": (b"a: !!python/object/apply:os.system [ls]\n", "without tags"),
    "alias bomb": (b"a: &a [1]\nb: &b [*a, *a]\nc: [*b, *b]\n", "no anchors and aliases"),
    "5,000 levels": (b"[" * 5000 + b"]" * 5000, "levels"),
    "duplicate key": (b"a: 1\nb: 2\na: 3\n", ":3"),
    "key that is a list": (b"? [1]\n: 2\n", "keys are words"),
    "control characters": (b"a: \x07\n", "valid YAML"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_with_its_reason(name: str, tmp_path: Path) -> None:
    content, expected = BAD[name]
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        YamlFile(path)
    assert str(path) in str(error.value)
    assert expected in str(error.value)


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        YamlFile(tmp_path / "missing.yaml")
    with pytest.raises(InputError, match="directory"):
        YamlFile(tmp_path)
