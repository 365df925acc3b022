"""Do the tests notice? Draws one-line mutants of the spine and of `tuning/study`, and tests each.

Each mutant is put into a copy of the last commit. The unit tests run first, and the tests of whole
searches if they notice nothing. A survivor may be an equivalent mutant, which cannot change what
the program does: that is for the reader to judge.

    python -m benchmarks.mutants --list
    python -m benchmarks.mutants --only 0..9
"""

import argparse
import ast
import os
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# The files that CONTRIBUTING.md names to be read first, and the record.
FILES = [
    *("text_recognizer/models/mlp.py", "text_recognizer/lit_models/base.py"),
    *("training/experiment.py", "tuning/space/search_space.py", "tuning/trials/trial.py"),
    *("tuning/tuner/start.py", "tuning/tuner/resume.py", "tuning/tuner/tuner.py"),
    *("tuning/ray_backend/tune_run.py", "tuning/ray_backend/searcher.py"),
    *("tuning/ray_backend/scheduler.py", "tuning/worker/trainable.py", "tuning/study/*.py"),
]
UNIT = ["tests/unit", "--numprocesses", "2"]
SEARCHES = [
    *("tests/integration/test_formula.py", "tests/faults/test_trials.py"),
    *("tests/faults/test_driver.py", "tests/integration/test_retrain.py"),
]
LIMIT_S = 900  # of one run of tests; a mutant may wait for ever
PAIRS: list[tuple[type, type]] = [
    *((ast.Lt, ast.LtE), (ast.Gt, ast.GtE), (ast.Eq, ast.NotEq), (ast.Is, ast.IsNot)),
    *((ast.In, ast.NotIn), (ast.Add, ast.Sub), (ast.Mult, ast.Div), (ast.And, ast.Or)),
]
SWAPS = dict(PAIRS) | {other: one for one, other in PAIRS} | {ast.FloorDiv: ast.Mult}


def changes(node: ast.AST) -> Iterator[tuple[ast.expr | ast.stmt, str]]:
    """Parts of a node, and what may stand in their place."""
    new: ast.AST = deepcopy(node)
    match node, new:
        case ast.Compare(ops=[op]), ast.Compare(ops=ops) if type(op) in SWAPS:
            ops[:] = [SWAPS[type(op)]()]
            yield node, ast.unparse(new)
        case ast.BinOp() | ast.BoolOp() | ast.AugAssign(), _ if type(node.op) in SWAPS:
            vars(new)["op"] = SWAPS[type(node.op)]()
            yield node, ast.unparse(new)
        case ast.UnaryOp(op=ast.Not(), operand=operand), _:
            yield node, ast.unparse(operand)
        case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test), _:
            yield test, f"not ({ast.unparse(test)})"
        case ast.Constant(value=bool() | int() | float() as value), _:
            yield node, repr(not value if isinstance(value, bool) else value + 1)
        case ast.Return(value=ast.expr()), _:
            yield node, "return None"
        case ast.Call(), ast.Call(args=args, keywords=named) if len(args) + len(named) > 1:
            (named or args).pop()
            yield node, ast.unparse(new)
        # A name without its assignment would be noticed by any test.
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]), _:
            yield node, "pass"
    if isinstance(node, ast.Expr | ast.AugAssign | ast.Raise | ast.Continue):
        yield node, "pass"


def running(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below that run: no type hints, docstrings, decorators, imports and messages."""
    match node:
        case ast.Expr(value=ast.Constant()) | ast.JoinedStr() | ast.Import() | ast.ImportFrom():
            return
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return
        case ast.Call(func=ast.Name(id=name)) if re.fullmatch(r"Problem|\w+Error", name):
            return
    yield node
    for field, value in ast.iter_fields(node):
        if field not in ("annotation", "returns", "decorator_list"):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from running(child)


def mutants_of(path: str, text: str) -> Iterator[tuple[str, str, str]]:
    """All mutants of a file: its path, its whole changed text, and the changed line in words."""
    lines = text.splitlines()
    for part, new in (change for node in running(ast.parse(text)) for change in changes(node)):
        at, line = part.lineno - 1, lines[part.lineno - 1].encode()  # a node's columns are bytes
        after = (line[: part.col_offset] + new.encode() + line[part.end_col_offset :]).decode()
        if part.lineno == part.end_lineno and after != lines[at]:
            words = f"{path}:{part.lineno}  {lines[at].strip()}  ->  {after.strip()}"
            yield path, "\n".join([*lines[:at], after, *lines[at + 1 :], ""]), words


def first_failure(copy: Path, tests: list[str]) -> str | None:
    """The first test that fails in the copy of the project, or None."""
    # The copy comes before the installed project in the path of every process.
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    python = ["timeout", f"{LIMIT_S}s", sys.executable, "-m", "pytest", "-xq"]
    ran = subprocess.run(
        [*python, *tests], cwd=copy, env=environment, capture_output=True, text=True, check=False
    )
    lines = (ran.stdout + ran.stderr).splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return [*failed, f"exit code {ran.returncode}"][0] if ran.returncode else None


def main() -> None:
    """Draw mutants, and print for each whether a test noticed it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--only", default="0..", help="a part of them, such as 0..9")
    parser.add_argument("--list", action="store_true", help="print them, test nothing")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "project"
        subprocess.run(["git", "clone", "--quiet", ROOT, copy], check=True)
        paths = [path for pattern in FILES for path in sorted(copy.glob(pattern))]
        texts = {str(path.relative_to(copy)): path.read_text(encoding="utf-8") for path in paths}
        possible = [mutant for path in texts for mutant in mutants_of(path, texts[path])]
        first, last = flags.only.split("..")
        drawn = list(enumerate(random.Random(flags.seed).sample(possible, flags.count)))
        drawn = drawn[int(first) : int(last or flags.count) + 1]
        if not flags.list and (
            broken := first_failure(copy, UNIT) or first_failure(copy, SEARCHES)
        ):
            sys.exit(f"without a mutant: {broken}")
        killed = 0
        for number, (path, text, words) in drawn:
            print(f"{number:2}  {words}", flush=True)
            if not flags.list:
                (copy / path).write_text(text, encoding="utf-8")
                noticed = first_failure(copy, UNIT) or first_failure(copy, SEARCHES)
                (copy / path).write_text(texts[path], encoding="utf-8")
                killed += noticed is not None
                print(f"    {noticed or 'SURVIVED'}", flush=True)
        result = "drawn" if flags.list else f"{killed} killed"
        print(f"{len(drawn)} of {len(possible)} possible, seed {flags.seed}: {result}")


if __name__ == "__main__":
    main()
