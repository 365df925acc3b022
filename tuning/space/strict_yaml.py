"""Strict YAML: one document of plain values, numbers as people write them, and the line of
everything.

PyYAML reads `1e-4` as text, `no` as False, `010` as 8, keeps the last of two equal keys and expands
alias bombs. Here values follow YAML 1.2's core schema; anchors, aliases, tags and duplicate keys
are refused.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import yaml

from text_recognizer.errors import InputError, Problem
from text_recognizer.text import TEXT_RULE, clipped, is_text, shown

# far more than any search; the densest file of this size takes a second to read
MAX_BYTES = 100_000
MAX_DEPTH = 20
SUCH_AS = "Give the path of a search space such as search_spaces/mlp.yaml."
Path_ = tuple[str | int, ...]

INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
WORDS = {
    "": None,
    "~": None,
    "null": None,
    "true": True,
    "false": False,
    ".nan": float("nan"),
    ".inf": float("inf"),
    "-.inf": float("-inf"),
}


class YamlFile:
    """A parsed file: its `content`, and where each value stands.

    Raises:
        InputError: with what is wrong with the file's form, and the line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[Path_, int] = {}
        self.problems: list[Problem] = []
        self.content = self._plain(self._compose(self._read()), ())
        if self.problems:
            raise InputError(*self.problems)

    def where(self, *keys: str | int) -> str:
        """`file:line key.key` of a value, or of the nearest thing around it that the file has."""
        line = next(
            (self.lines[keys[:n]] for n in range(len(keys), -1, -1) if keys[:n] in self.lines), 1
        )
        return f"{self.path}:{line} {'.'.join(clipped(str(key)) for key in keys)}".rstrip()

    def _read(self) -> str:
        try:
            found = self.path.stat()
            # to read a pipe is to wait, perhaps for ever
            if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
                self._refuse(None, "a regular file", "a pipe, a socket or a device", SUCH_AS)
            self.size = found.st_size
            if self.size > MAX_BYTES and stat.S_ISREG(found.st_mode):
                self._refuse(None, f"a file of at most {MAX_BYTES:,} bytes", f"{self.size:,} bytes")
            text = self.path.read_bytes().decode("utf-8")
        except UnicodeDecodeError as error:
            self._refuse(error.object[: error.start].count(b"\n") + 1, "text in UTF-8", str(error))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            self._refuse(None, "a readable file", reason[:1].lower() + reason[1:], SUCH_AS)
        return text

    def _compose(self, text: str) -> yaml.Node:
        """The node tree. What could blow up while it is built is refused where it begins."""
        try:
            composer = Composer(text, self._refuse)
        except yaml.reader.ReaderError as error:
            line = len((text[: error.position] + ".").splitlines())
            self._refuse(
                line,
                "valid YAML",
                f"the character {text[error.position]!r}",
                "Write it as an escape in double quotes.",
            )
        try:
            node: yaml.Node | None = composer.get_single_node()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            got = " ".join(part for part in (error.context, error.problem) if part)
            self._refuse(mark.line + 1 if mark else None, "valid YAML", clipped(got, 200))
        # PyYAML's own: of the character "\U00110000", or of a version with 5,000 digits
        except (ValueError, OverflowError):
            self._refuse(
                composer.line + 1, "valid YAML", "a number that no character or no version has"
            )
        if node is None:
            self._refuse(None, "a search space", "an empty file")
        return node

    def _refuse(self, line: int | None, rule: str, got: str, hint: str = "") -> NoReturn:
        raise InputError(
            Problem(f"{self.path}:{line}" if line else str(self.path), rule, got, hint)
        )

    def _plain(self, node: yaml.Node, keys: Path_) -> Any:
        self.lines.setdefault(keys, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, keys)
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(item, (*keys, index)) for index, item in enumerate(node.value)]
        return scalar(node.value) if getattr(node, "style", None) is None else node.value

    def _mapping(self, node: yaml.MappingNode, keys: Path_) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.append(
                    Problem(f"{self.path}:{line}", "keys are words", "a list or a mapping")
                )
                continue
            key = str(key_node.value)
            if not is_text(key):
                self.problems.append(
                    Problem(f"{self.path}:{line}", TEXT_RULE, f"the key {shown(key)}")
                )
                continue
            if key in result:
                self.problems.append(
                    Problem(
                        f"{self.path}:{line}",
                        "each key stands once",
                        f"{shown(key)} again",
                        "Remove one.",
                    )
                )
            self.lines[(*keys, key)] = line
            result[key] = self._plain(value_node, (*keys, key))
        return result


class Composer(yaml.BaseLoader):
    """Builds nodes in one pass and looks at each before it is built; `refuse` is told of
    anchors, tags and great depth.
    """

    def __init__(self, text: str, refuse: Callable[..., NoReturn]) -> None:
        super().__init__(text)
        self.refuse = refuse
        self.depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1
        if anchor := getattr(event, "anchor", None):
            self.refuse(line, "no anchors and aliases", shown(anchor), "Write the value out.")
        if tag := getattr(event, "tag", None):
            self.refuse(line, "plain values without tags", shown(tag))
        if self.depth > MAX_DEPTH:
            self.refuse(line, f"at most {MAX_DEPTH} levels", "a deeper one")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class Writer(yaml.SafeDumper):
    """Quotes what `scalar` would take for something else than text, and the line breaks that
    PyYAML writes and does not read.
    """

    def text(self, value: str) -> yaml.ScalarNode:
        plain = scalar(value) == value and value.isprintable()
        return self.represent_scalar("tag:yaml.org,2002:str", value, style=None if plain else '"')

    yaml_representers = yaml.SafeDumper.yaml_representers | {str: text}  # type: ignore[assignment]  # typed for the base alone


def as_text(content: Any) -> str:
    """Plain values as the text of a file that `YamlFile` reads as the same values."""
    return yaml.dump(
        content,
        Dumper=Writer,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=None,
        width=120,
    )


def scalar(text: str) -> Any:
    """An unquoted word as YAML 1.2's core schema reads it: null, true, false, numbers, else
    text.
    """
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    if INTEGER.fullmatch(text):
        return int(text) if len(text) <= 400 else float(text)
    return float(text) if FLOAT.fullmatch(text) else text
