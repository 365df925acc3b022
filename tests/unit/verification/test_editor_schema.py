"""The JSON schema that editors read agrees with the reader of search space files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from tuning.space.settings_list import SCHEMA_FILE
from tuning.space.strict_yaml import YamlFile
from tuning.verification.editor_schema import json_schema

SPACES = sorted(SCHEMA_FILE.parent.glob("*.yaml"))


def complaints(path: Path) -> list[str]:
    return [
        error.message
        for error in Draft202012Validator(json_schema()).iter_errors(YamlFile(path).content)
    ]


def test_the_file_in_the_repository_is_what_make_schema_writes() -> None:
    assert json.loads(SCHEMA_FILE.read_text()) == json.loads(json.dumps(json_schema())), (
        "run `make schema`"
    )
    Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.name)
def test_our_own_spaces_are_valid_and_name_the_schema(path: Path) -> None:
    assert complaints(path) == []
    assert path.read_text().startswith("# yaml-language-server: $schema=schema.json\n")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("space: {fc1: {type: int, low: 1, hihg: 2}}", "hihg"),
        ("space: {fc9: {type: int, low: 1, high: 2}}", "fc9"),
        ("space: {seed: {type: int, low: 1, high: 2}}", "seed"),
        ("experiment: {max_epochs: 3}\nspace: {fc1: {type: int, low: 1, high: 2}}", "max_epochs"),
        ("space: {fc1: {type: int, low: 1, high: 2}}\nsearch: {sampler: tpo}", "tpo"),
        ("space: {fc1: {type: int, low: 1, high: 2}}\nsearch: {stop: {epohcs: 3}}", "epohcs"),
        ("search: {trials: 3}", "'space' is a required property"),
    ],
)
def test_what_an_editor_underlines(text: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(text)
    assert complaint in " ".join(complaints(tmp_path / "s.yaml"))
