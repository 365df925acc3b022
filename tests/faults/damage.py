"""What becomes of a space file that was damaged, or tampered with: bytes, tokens, lines or all
of it changed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random

from hypothesis import strategies as st

from tests.faults.made_up import FILES

NUMBERS = "1e999 -1e999 1e-999 .nan .NaN .inf -.inf 0x10 1_0 -0 -0.0 1e-4 5e-324 0 -1 1 2 1.5 9007199254740993"
WORDS = "null ~ true # { } [ ] , : ! & @ ` ' \" int float categorical type low high log step choices when fc1 asha stop space search"
HOSTILE = (
    *(
        "!!python/object/apply:os.system [touch owned]",
        "!!map {}",
        "!x",
        "&a",
        "&a [*a]",
        "*a",
        "*",
        "<<: {a: 1}",
        "<<: *a",
    ),
    *(
        "? [a]\n: b\n",
        "? a",
        "? ",
        ": ",
        "- ",
        "\t",
        "\n\t",
        "\0",
        "\ufeff",
        "\ud800",
        "\\ud83d",
        '"\\ud83d\\ude00"',
        '"\\ud83d"',
    ),
    *(
        '"\\UFFFFFFFF"',
        '"\\U00110000"',
        '"\\x1b[31m"',
        "\x1b[31m",
        "\x85",
        "\u2028",
        "\u202e",
        "\r",
        "\x07",
        "\x7f",
        "\ufffe",
    ),
    *(
        "\U0010ffff",
        "é",
        "е",
        "\u0661",
        "\uff11",
        "𝟙",
        "e\u0301",
        "%YAML 1.1\n---\n",
        "%TAG ! tag:x,1:\n---\n",
        "---\n",
        "...\n",
    ),
    *(
        "[" * 30,
        "{a: " * 25,
        "]" * 3,
        "}" * 3,
        "- " * 25,
        "[" * 2000,
        "?" * 50,
        "|",
        ">-\n",
        "|9\n",
        "x" * 3000,
        "? " + "y" * 3000,
    ),
    *(
        "%YAML 1." + "9" * 5000 + "\n---\n",
        "9" * 320,
        "9" * 5000,
        "'1e-4'",
        "[[1]]",
        "{x}",
        "%s",
        "{0}",
        "{}",
        "[]",
        "time: 3m",
    ),
    *NUMBERS.split(),
    *WORDS.split(),
    *(
        "low: 5",
        "step: 1",
        "when: {fc1: 64}",
        "when: {optimizer: SGD}",
        "when: {lr: 1}",
        "max_epochs: 1",
        "mode: min",
    ),
    *(
        "start_with: [{}]",
        "stop: {target: .5}",
        "asha: {grace_epochs: 99}",
        "choices: [1, true]",
        "log: true",
    ),
)
TOKEN = re.compile(rb"[\w.+-]+|[\[\]{},:#?-]")
Damage = Callable[[bytes, Random], bytes]


def encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def cut(data: bytes, random: Random) -> tuple[int, int]:
    """A place, and one at or a little behind it."""
    begin = random.randint(0, len(data))
    return begin, min(len(data), begin + random.choice([0, 1, 1, 2, 5, 30]))


def other_bytes(data: bytes, random: Random) -> bytes:
    begin, end = cut(data, random)
    return data[:begin] + random.randbytes(random.choice([0, 1, 1, 2])) + data[end:]


def flipped(data: bytes, random: Random) -> bytes:
    changed = bytearray(data or b" ")
    changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def spliced(data: bytes, random: Random) -> bytes:
    begin, end = cut(data, random)
    return data[:begin] + encoded(random.choice(HOSTILE)) + data[random.choice([begin, end]) :]


def other_token(data: bytes, random: Random) -> bytes:
    tokens = list(TOKEN.finditer(data))
    if not tokens:
        return data
    one, two = random.choice(tokens), random.choice(tokens)
    new = random.choice(
        [
            two.group(),
            b"",
            one.group() * 2,
            encoded(random.choice(HOSTILE)),
            encoded(random.choice(HOSTILE)),
        ]
    )
    return data[: one.start()] + new + data[one.end() :]


def other_lines(data: bytes, random: Random) -> bytes:
    lines = data.splitlines(keepends=True) or [b""]
    a, b = random.randrange(len(lines)), random.randrange(len(lines))
    match random.randrange(8):
        case 0:
            lines.insert(b, lines[a])
        case 1:
            del lines[a]
        case 2:
            lines[a], lines[b] = lines[b], lines[a]
        case 3:
            lines[a] = b" " * random.randint(1, 4) + lines[a]
        case 4:
            lines[a] = lines[a].lstrip(b" ")
        case 5:
            lines[a] = lines[a][1:]
        case 6:
            lines[a] = lines[a].rstrip(b"\r\n")
        case 7:
            lines.insert(a, encoded(random.choice(HOSTILE)) + b"\n")
    return b"".join(lines)


WHOLE: tuple[Damage, ...] = (
    lambda data, _: data.replace(b"\n", b"\r\n"),
    lambda data, _: data.replace(b"\n", b"\r"),
    lambda data, _: data.replace(b"  ", b"\t"),
    lambda data, _: b"\xef\xbb\xbf" + data,
    lambda data, _: data + data,
    lambda data, random: data[: random.randint(0, len(data))],
    lambda data, _: data.decode("utf-8", "replace").encode("utf-16"),
    lambda data, _: data.upper(),
    lambda data, _: b"[" + data + b"]",
    lambda data, _: data.replace(b": ", b":"),
)


def all_of_it(data: bytes, random: Random) -> bytes:
    """What an editor, a careless copy or another system does to a file."""
    return random.choice(WHOLE)(data, random)


FREQUENT: tuple[Damage, ...] = (
    spliced,
    spliced,
    other_token,
    other_token,
    other_token,
    other_lines,
    other_lines,
)
DAMAGES = st.tuples(
    st.sampled_from((*FREQUENT, other_bytes, flipped, all_of_it)), st.integers(0, 2**32)
)


def damaged(text: str, damages: Sequence[tuple[Damage, int]]) -> bytes:
    """A file, after all that."""
    data = encoded(text)
    for damage, seed in damages:
        data = damage(data, Random(seed))
    return data


def damaged_files(*texts: str) -> st.SearchStrategy[bytes]:
    """One of the texts, or a made up file, damaged a little or much."""
    return st.builds(
        damaged, st.sampled_from(texts) | FILES, st.lists(DAMAGES, min_size=1, max_size=5)
    )
