"""Valid space files that Hypothesis makes up: all that the schema knows, in many hands."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Any

from hypothesis import strategies as st

from text_recognizer.metrics import METRICS, mode_of
from tuning.space.owned_settings import OWNED_BY_SEARCH, SAME_FOR_ALL_TRIALS
from tuning.space.strict_yaml import WORDS, scalar

MAX_INT = 2**53
Content = dict[str, Any]

# Text that YAML, or one of its versions, takes for something else, and what PyYAML writes in one
# way and reads in another.
SIGNS = "~ null NULL nUll true tRue yes no on << = ? - : | > { } [a] a,b --- ... \\ \\n %a @a `a é 𝟙 !!x &a *a ' \" '' \"a #"
NUMBERS = "1e-4 1E5 089 010 0x1F 0b1 1_000 12:30 1. .5 5e-324 1e999 -0 2026-11-23 -.5e+3 .nan .inf -.inf +.inf"
TRICKY = (
    *SIGNS.split(),
    *NUMBERS.split(),
    *(
        "",
        "- a",
        "a: b",
        "a #b",
        "# a",
        " a",
        "a ",
        "a\n",
        "\na",
        "a\n\n b",
        "a\tb",
        "\0",
        "\x1b[31m",
    ),
    *("a\x85b", "a\u2028b\u2029", "\ufeffa"),
)
TEXT = st.sampled_from(TRICKY) | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
WHOLE = st.integers(-MAX_INT, MAX_INT) | st.integers(-100, 100)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
SCALAR = st.none() | st.booleans() | WHOLE | FINITE | TEXT
NESTED = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
NAMES = "fc1 fc2 lr dropout optimizer momentum null true yes y _ e1 class when"
NAME = (
    st.sampled_from(NAMES.split())
    | st.text(string.ascii_letters + string.digits + "_", min_size=1, max_size=9)
).filter(lambda name: name.isidentifier() and name not in OWNED_BY_SEARCH | SAME_FOR_ALL_TRIALS)


@st.composite
def ints(draw: st.DrawFn) -> Content:
    """An int parameter without its condition."""
    if draw(st.booleans()):
        low = draw(st.integers(1, MAX_INT - 1))
        return {"type": "int", "low": low, "high": draw(st.integers(low + 1, MAX_INT)), "log": True}
    step, steps = draw(st.none() | st.integers(1, 2**40)), draw(st.integers(1, 2**12))
    low = draw(st.integers(-MAX_INT, MAX_INT - steps * (step or 1)))
    found = {"type": "int", "low": low, "high": low + steps * (step or 1)}
    return found | ({"step": step} if step else {}) | draw(st.sampled_from([{}, {"log": False}]))


@st.composite
def floats(draw: st.DrawFn) -> Content:
    """A float parameter without its condition; the grid of one with a step is decimal, as people
    write them.
    """
    kind = draw(st.sampled_from(["linear", "log", "step"]))
    if kind == "step":
        low, step, digits = (
            draw(st.integers(*span)) for span in ((-(10**6), 10**6), (1, 10**4), (-9, 30))
        )
        steps = draw(st.sampled_from([1, 2, 3]) | st.integers(1, 10**4))
        low, high, step = (float(f"{value}e{-digits}") for value in (low, low + steps * step, step))
        return {"type": "float", "low": low, "high": high, "step": step}
    ends = st.floats(1e-300 if kind == "log" else -8e307, 8e307)
    low, high = sorted(draw(st.lists(ends, min_size=2, max_size=2, unique=True)))
    return {"type": "float", "low": low, "high": high} | ({"log": True} if kind == "log" else {})


CATEGORICAL = st.lists(SCALAR, min_size=2, max_size=5, unique=True).map(
    lambda found: {"type": "categorical", "choices": found}
)


def values_of(parameter: Content) -> st.SearchStrategy[Any]:
    """What a parameter can be."""
    if parameter["type"] == "categorical":
        return st.sampled_from(parameter["choices"])
    low, high, step = parameter["low"], parameter["high"], parameter.get("step")
    if step:
        return st.integers(0, round((high - low) / step)).map(lambda k: min(low + k * step, high))
    return st.integers(low, high) if parameter["type"] == "int" else st.floats(low, high)


def same(value: Any, other: Any) -> bool:
    """Equal, where 1, 1.0 and true are not."""
    return type(value) is type(other) and bool(value == other)


def shared(left: Mapping[str, list[Any]], right: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """Demands on other parameters that hold together: what each of them can still be."""
    two = {
        name: [v for v in left[name] if any(same(v, other) for other in right[name])]
        for name in left
        if name in right
    }
    return {**left, **right, **two}


@st.composite
def conditions(
    draw: st.DrawFn, before: Mapping[str, Content], needs: Mapping[str, Content]
) -> tuple[Content, Content]:
    """A `when` on parameters made up before that can be met, and all that it comes to."""
    when: Content = {}
    need: Content = {}
    for name in (
        name for name in before if before[name]["type"] != "float" and draw(st.integers(0, 3)) == 0
    ):
        values = draw(st.lists(values_of(before[name]), min_size=1, max_size=3))
        wanted = shared(shared(need, {name: values}), needs[name])
        if all(wanted.values()):
            when[name], need = values, wanted
    return when, need


@st.composite
def points(draw: st.DrawFn, parameters: Mapping[str, Content]) -> Content:
    """A point of the space, whose parameters are in an order in which conditions look back."""
    point: Content = {}
    for name, parameter in parameters.items():
        when = parameter.get("when", {})
        if all(
            other in point and any(same(point[other], value) for value in values)
            for other, values in when.items()
        ):
            point[name] = draw(values_of(parameter))
    return point


@st.composite
def searches(draw: st.DrawFn) -> Content:
    """How the search goes, without its first points."""
    metric, epochs = draw(st.sampled_from(METRICS)), draw(st.integers(1, 10**6))
    time = r"([1-9][0-9]{0,3}d)?([1-9][0-9]?(\.[0-9]{1,3})?[hH])?[1-9][0-9]?m([0-9]{1,2}s)?"
    stop = {
        "epochs": st.integers(1, MAX_INT),
        "time": st.from_regex(time, fullmatch=True),
        "gpu_hours": st.floats(0, 1e308, exclude_min=True),
        "target": st.floats(0, 1.0 if metric.endswith("acc") else 1e308, exclude_min=True),
        "plateau": st.integers(1, 10**6),
    }
    asha = {
        "type": st.sampled_from(["promotion", "stopping"]),
        "grace_epochs": st.integers(1, epochs),
        "reduction_factor": st.integers(2, 100),
    }
    parts = {
        "mode": st.just(mode_of(metric)),
        "trials": st.integers(1, 10**6),
        "sampler": st.sampled_from(["gp", "tpe", "random"]),
        "scheduler": st.sampled_from(["asha", "none"]),
        "asha": st.fixed_dictionaries({}, optional=asha),
        "stop": st.fixed_dictionaries({}, optional=stop),
        "seed": st.integers(0, 2**32 - 1),
    }
    return {"metric": metric, "max_epochs": epochs, "asha": {"grace_epochs": 1}} | draw(
        st.fixed_dictionaries({}, optional=parts)
    )


@st.composite
def contents(draw: st.DrawFn) -> Content:
    """What a valid space file says, in every way that the schema knows."""
    names = draw(st.lists(NAME, min_size=1, max_size=6, unique=True))
    parameters: dict[str, Content] = {}
    needs: dict[str, Content] = {}
    for name in names:
        when, needs[name] = draw(conditions(parameters, needs))
        parameters[name] = draw(st.one_of(ints(), floats(), CATEGORICAL)) | (
            {"when": when} if when else {}
        )
    fixed = draw(st.dictionaries(NAME.filter(lambda name: name not in names), NESTED, max_size=3))
    search = draw(searches())
    if starts := draw(
        st.lists(points(parameters), max_size=2, unique_by=lambda point: frozenset(point.items()))
    ):
        search["start_with"] = starts
    found = {
        "experiment": fixed,
        "space": {name: parameters[name] for name in draw(st.permutations(names))},
        "search": search,
    }
    return (
        found
        if fixed or draw(st.booleans())
        else {name: found[name] for name in ("space", "search")}
    )


PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
ESCAPES = {
    "\n": "\\n",
    "\t": "\\t",
    '"': '\\"',
    "\\": "\\\\",
    "\0": "\\0",
    "\x85": "\\N",
    "\u2028": "\\L",
    "\x1b": "\\e",
}


class Hand:
    """Writes values as YAML, here in one style and there in another."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)

    def often(self, share: float) -> bool:
        return self.random.random() < share

    def text(self, content: Content) -> str:
        """A whole file."""
        head = self.random.choice(
            ["", "", "# by hand\n", "%YAML 1.2\n---\n", "---\n", "\ufeff", "\n\n"]
        )
        body = f"{self.flow(content)}\n" if self.often(0.1) else "".join(self.lines(content, 0))
        text = head + body + self.random.choice(["", "", "...\n", "# end"])
        return text.replace("\n", "\r\n") if self.often(0.1) else text

    def lines(self, value: Any, indent: int) -> Iterator[str]:
        """In block style, as far as one likes."""
        blank = " " * indent
        marks = (
            [f"{self.scalar(key)}:" for key in value]
            if isinstance(value, dict)
            else ["-"] * len(value)
        )
        for mark, inner in zip(
            marks, value.values() if isinstance(value, dict) else value, strict=True
        ):
            if self.often(0.1):
                yield self.random.choice([f"{blank}# between: [{{\n", "\n", "  \n"])
            if isinstance(inner, dict | list) and inner and self.often(0.5):
                yield f"{blank}{mark}{self.comment()}\n"
                yield from self.lines(inner, indent + self.random.randint(1, 4))
            elif mark != "-" and self.often(0.05):
                yield f"{blank}? {mark[:-1]}{self.comment()}\n{blank}: {self.flow(inner)}\n"
            else:
                yield f"{blank}{mark} {self.flow(inner)}{self.comment()}\n"

    def comment(self) -> str:
        return self.random.choice(["", "", "", "", " # why", "   #: {", " #"])

    def flow(self, value: Any) -> str:
        """In flow style, on one line."""
        if not isinstance(value, dict | list):
            return self.scalar(value)
        begin, end = "{}" if isinstance(value, dict) else "[]"
        pairs = (
            ((f"{self.scalar(key)}: ", inner) for key, inner in value.items())
            if isinstance(value, dict)
            else (("", v) for v in value)
        )
        items = ", ".join(mark + self.flow(inner) for mark, inner in pairs)
        blank, comma = " " * self.random.randint(0, 1), "," if value and self.often(0.1) else ""
        return f"{begin}{blank}{items}{comma}{blank}{end}"

    def scalar(self, value: Any) -> str:
        """One value, in one of the ways in which it can be written."""
        ways: Sequence[str] = ["null", "~", "Null", "NULL"]
        if isinstance(value, bool):
            ways = [str(value), str(value).lower(), str(value).upper()]
        elif isinstance(value, int):
            ways = [str(value)] * 9 + ([f"+{value}"] if value >= 0 else [])
        elif isinstance(value, float):
            ways = [way for way in numbers(value) if same(scalar(way), value)]
        elif isinstance(value, str):
            ways = quotings(value)
        return self.random.choice(ways)


def numbers(value: float) -> list[str]:
    """`1e-05`, `1e-5`, `1E-5`, `.5`, `5.` and the like."""
    usual = repr(value)
    short = re.sub(r"e([-+])0*", r"e\1", usual)
    return [
        usual,
        short,
        short.upper(),
        re.sub(r"^(-?)0\.", r"\1.", usual),
        usual.removesuffix("0"),
        f"{value:.17e}",
    ]


def quotings(text: str) -> list[str]:
    """In double quotes with escapes, in single quotes where they can hold it, plain where it
    stays text.
    """
    found = [
        '"'
        + "".join(ESCAPES.get(c) or (c if c.isprintable() else f"\\U{ord(c):08x}") for c in text)
        + '"'
    ]
    if text.isprintable():
        found.append("'" + text.replace("'", "''") + "'")
    if PLAIN.fullmatch(text) and text.lower() not in WORDS:
        found += [text] * 3
    return found


FILES = st.builds(lambda content, seed: Hand(seed).text(content), contents(), st.integers(0, 2**32))
