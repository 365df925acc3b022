"""Rules of the house that no linter knows. `make check` holds the others: imports go down only,
strict types. `tests/security/test_code.py` checks that our code runs nothing that it reads.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(
    path
    for package in ("text_recognizer", "training", "tuning")
    for path in (ROOT / package).rglob("*.py")
)
MOST_LINES, MOST_ARGUMENTS = 45, 6
SCRIPTS = {"training": ["run_experiment"], "tuning": ["search", "retrain", "report", "runs"]}


@pytest.mark.parametrize("folder", SCRIPTS)
def test_no_module_or_package_beside_a_script_hides_another(folder: str) -> None:
    """A script's folder is first in `sys.path`: `tuning/queue.py` would hide Python's own `queue`."""
    modules = {path.stem for path in (ROOT / folder).glob("*.py")} - {"__init__"}
    packages = {path.parent.name for path in (ROOT / folder).glob("*/__init__.py")}
    for name in modules | packages:
        assert name not in sys.stdlib_module_names
        found = importlib.util.find_spec(name)
        # A mere folder, such as `runs/` after the first search, has no origin and hides nothing.
        if found and found.origin:
            assert str(ROOT) in found.origin, f"{name} is an installed module, too"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_says_what_it_owns_and_does_nothing_at_import(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    calls = [
        node.value.func
        for node in tree.body
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ]
    assert {ast.unparse(call) for call in calls} <= {
        "claim",
        "ensure_home",
        "os.environ.update",
        "optuna.logging.set_verbosity",
    }


def test_prints_are_for_commands() -> None:
    commands = {
        *("command.py", "base_data_module.py", "predict.py", "run_experiment.py"),
        *("retrain.py", "report.py", "runs.py", "trainable.py"),
        "run_tables.py",  # what runs.py prints
    }
    printing = {
        path.name
        for path in MODULES
        if any(called(node, "print") for node in ast.walk(ast.parse(path.read_text())))
    }
    assert printing <= commands


def called(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name


def test_a_function_fits_a_screen_and_takes_few_arguments() -> None:
    wrong = [
        f"{path.name}:{function.lineno} {function.name}"
        for path in MODULES
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        if function.end_lineno - function.lineno >= MOST_LINES
        # The model's hyperparameters are arguments, so that Lightning saves them.
        or (len(arguments_of(function)) > MOST_ARGUMENTS and path.name != "base.py")
    ]
    assert wrong == []


def arguments_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    given = function.args
    names = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return [name for name in names if name not in ("self", "cls")]


def test_a_name_means_one_thing() -> None:
    """No two modules define a function, class or constant of the same name."""
    owners = defaultdict(list)
    for path in MODULES:
        for node in ast.parse(path.read_text()).body:
            match node:
                case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                    owners[name].append(path.name)
                case ast.Assign(targets=[ast.Name(id=name)]):
                    owners[name].append(path.name)
                case ast.AnnAssign(target=ast.Name(id=name)):
                    owners[name].append(path.name)
    twice = {name for name, paths in owners.items() if len(paths) > 1}
    assert twice - {"main", "parser"} == set(), "each command has those two"


def test_a_package_is_entered_by_its_face() -> None:
    """Others import a package's names from its `__init__.py`, or from a module that it names."""
    wrong = []
    for path in MODULES:
        package = path.parent.name
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.ImportFrom(module=str(module)) if module.count(".") == 2:
                    top, entered, inner = module.split(".")
                    if top != "tuning" or entered == package:
                        continue
                    face = ROOT / "tuning" / entered / "__init__.py"
                    named = f"`{inner}`" in (ast.get_docstring(ast.parse(face.read_text())) or "")
                    if not named:
                        wrong.append(f"{path.name} imports {module}")
    assert wrong == []
