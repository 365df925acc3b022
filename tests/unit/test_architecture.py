"""Rules of the house that no linter knows. `make check` holds the others: imports go down only,
strict types. `tests/security/test_code.py` checks that our code runs nothing that it reads.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path

import pytest

from tests.processes import heavy_imports

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(
    path
    for package in ("text_recognizer", "training", "tuning")
    for path in (ROOT / package).rglob("*.py")
)
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


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--space", "missing.yaml"],
        ["--space", "search_spaces/mlp.yaml", "--trials", "0"],
    ],
)
def test_help_and_refusals_import_neither_torch_nor_ray(arguments: list[str]) -> None:
    code, heavy, said = heavy_imports("tuning/search.py", *arguments)
    assert (code, heavy) == (0 if arguments == ["--help"] else 2, [])
    assert "Traceback" not in said
