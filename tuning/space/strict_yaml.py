"""Strict YAML: one document of plain values, with the line of each value for messages.

PyYAML reads `1e-4` as text, `no` as False and `010` as 8, keeps the last of two equal keys, and
expands alias bombs. Here values follow YAML 1.2's core schema. Anchors, aliases, tags and duplicate
keys are refused.
"""

import math
import re
import stat
from pathlib import Path
from typing import Any, NoReturn

import yaml

from text_recognizer.errors import InputError, Problem
from text_recognizer.text import TEXT_RULE, clipped, is_text, printable, reason_of, shown

# PyYAML reads the densest file of this size, a list of 50,000 ones, in 1.0 to 1.3 s.
MAX_SPACE_BYTES = 100_000
MAX_PROBLEMS = 100
MAX_DEPTH = 20  # a search space needs 5
SUCH_AS = "Give the path of a search space such as search_spaces/mlp.yaml."
MAX_INT = 2**53  # the study stores numbers as doubles, which are exact up to here
Keys = tuple[str | int, ...]  # the place of a value in a file, e.g. ("space", "lr", "low")

# As in YAML 1.2, but `0x1F` and `0o17` are words. Python converts no int of more than 4,300 digits:
# a longer one is read as a float, and so as infinite.
INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,399})")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
WORDS = {
    "": None,
    "~": None,
    "null": None,
    "true": True,
    "false": False,
    ".nan": math.nan,
    ".inf": math.inf,
    "-.inf": -math.inf,
}


class YamlFile:
    """A parsed file: its `content`, the place of each value, and the `problems` found so far.

    Raises:
        InputError: the file cannot be read, or its YAML cannot be parsed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: dict[str, Problem] = {}  # by place
        self._places: dict[Keys, str] = {}  # "file:line", or a flag
        self.content: dict[str, Any] = self._plain(self._compose(self._read()), ())

    def where(self, *keys: str | int) -> str:
        """The place of a value: `file:line key.key`, or the flag that replaces it.

        If the file has no such key, the line is that of the nearest parent.
        """
        parent = keys
        while parent not in self._places:
            parent = parent[:-1]
        place = self._places[parent]
        names = ".".join(clipped(str(key)) for key in keys)
        return place if place.startswith("--") else f"{place} {names}".rstrip()

    def replace(self, keys: tuple[str, ...], flag: str, value: Any) -> None:
        """Put a flag's value in the place of the file's; messages about it then name the flag."""
        self._places[keys] = flag
        parent = self.content
        for key in keys[:-1]:
            if parent.get(key) is None:
                parent[key] = {}
            parent = parent[key]
            if not isinstance(parent, dict):
                return  # the reader refuses it
        parent[keys[-1]] = value

    def refuse(self, keys: Keys, rule: str, got: str, hint: str = "") -> None:
        """Note a problem and go on, so that the user sees all problems at once.

        Raises:
            InputError: at the hundredth, with all of them.
        """
        self.note(Problem(self.where(*keys), rule, got, hint))

    def note(self, problem: Problem) -> None:
        """`refuse` for a problem that is made already."""
        # One for each place: a NaN is no finite number, and then no whole number either.
        self.problems.setdefault(problem.where, problem)
        # Nobody reads more, and the hints of thousands would take 20 s.
        if len(self.problems) == MAX_PROBLEMS:
            raise InputError(*self.problems.values())

    def _stop(self, message: str, line: int | None = None) -> NoReturn:
        """Refuse a file that cannot be read any further."""
        place = f"{self.path}:{line}" if line else self.path
        raise InputError(printable(f"{place}: {message}"))

    def _read(self) -> str:
        try:
            status = self.path.stat()
            if not stat.S_ISREG(status.st_mode):  # reading a pipe may never end
                self._stop(f"not a regular file. {SUCH_AS}")
            if status.st_size > MAX_SPACE_BYTES:
                self._stop(f"{status.st_size:,} bytes, but the limit is {MAX_SPACE_BYTES:,}")
            return self.path.read_bytes().decode()
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            self._stop(f"not text in UTF-8: {error.reason}", line)
        except (OSError, ValueError) as error:
            self._stop(f"{reason_of(error).lower()}. {SUCH_AS}")

    def _compose(self, text: str) -> yaml.Node:
        """The tree of nodes, whose values are still text."""
        try:
            composer = StrictComposer(text)
            node = composer.get_single_node()
        except yaml.reader.ReaderError as error:
            # not count("\n"): YAML also ends lines at U+0085 and U+2028
            line = len((text[: error.position] + ".").splitlines())
            got = f"the character {text[error.position]!r}"
            self._stop(f"invalid YAML: {got}; write it as an escape in double quotes", line)
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            got = " ".join(filter(None, (error.context, error.problem)))
            self._stop(f"invalid YAML: {clipped(got, 200)}", line)
        except (ValueError, OverflowError):
            # PyYAML fails like this at "\U00110000", and at a version with 5,000 digits
            line = composer.line + 1
            self._stop("invalid YAML: an impossible character or version number", line)
        if not isinstance(node, yaml.MappingNode):
            self._stop(f"empty, or no mapping of names to values. {SUCH_AS}")
        return node

    def _plain(self, node: yaml.Node, keys: Keys) -> Any:
        """The value of a node."""
        self._places.setdefault(keys, f"{self.path}:{node.start_mark.line + 1}")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, keys)
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(item, (*keys, index)) for index, item in enumerate(node.value)]
        is_quoted = getattr(node, "style", None) is not None  # "3" in quotes is text
        value = node.value if is_quoted else scalar(node.value)
        if rule := broken_rule(value):
            self.refuse(keys, rule, shown(value))
        return value

    def _mapping(self, node: yaml.MappingNode, keys: Keys) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line, key = key_node.start_mark.line + 1, key_node.value
            if not isinstance(key, str):
                self._stop("a key is a list or a mapping; only words can be keys", line)
            place = (*keys, key)
            self._places[place] = f"{self.path}:{line}"
            if not is_text(key):
                self.refuse(place, TEXT_RULE, f"the key {shown(key)}")
            if key in result:
                self.refuse(place, "each key is given once", f"{shown(key)} again", "Remove one.")
            result[key] = self._plain(value_node, place)
        return result


class StrictComposer(yaml.BaseLoader):
    """Builds the tree of nodes; refuses anchors, tags and deep nesting before it builds them."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        problem = None
        if event.anchor:  # nine lines of aliases can expand to a billion values
            anchor = shown(event.anchor)
            problem = f"anchors and aliases are not allowed ({anchor}); write the value out"
        elif tag := getattr(event, "tag", None):
            problem = f"tags are not allowed ({shown(tag)})"
        elif self.depth > MAX_DEPTH:  # PyYAML recurses, and Python stops at 1,000 calls
            problem = f"more than {MAX_DEPTH} levels"
        if problem:
            raise yaml.composer.ComposerError(None, None, problem, event.start_mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class StrictWriter(yaml.SafeDumper):
    """Quotes text that `scalar` would read as another value, and line breaks.

    PyYAML writes some line breaks, such as U+0085, that it does not read back.
    """

    def text(self, value: str) -> yaml.ScalarNode:
        plain = scalar(value) == value and value.isprintable()
        return self.represent_scalar("tag:yaml.org,2002:str", value, style=None if plain else '"')

    # types-PyYAML types the values for the base class only
    yaml_representers = yaml.SafeDumper.yaml_representers | {str: text}  # type: ignore[assignment]


def to_yaml(content: Any) -> str:
    """Plain values as YAML; `YamlFile` reads the same values from it."""
    return yaml.dump(
        content,
        Dumper=StrictWriter,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=None,
        width=120,
    )


def broken_rule(value: Any) -> str | None:
    """The rule that a single value of a file breaks, or None."""
    if isinstance(value, float) and not math.isfinite(value):
        return "a finite number"
    if isinstance(value, int) and abs(value) > MAX_INT:
        return f"a whole number from {-MAX_INT} to {MAX_INT}"
    return None if is_text(value) else TEXT_RULE


def scalar(text: str) -> Any:
    """The value of an unquoted word: None, True, False, a number, or the word itself."""
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    if INTEGER.fullmatch(text):
        return int(text)
    return float(text) if FLOAT.fullmatch(text) else text


def quotes_hint(value: Any) -> str:
    """A hint if a text would be another value without its quotes."""
    is_quoted = isinstance(value, str) and scalar(value) != value
    return "Write it without quotes." if is_quoted else ""
