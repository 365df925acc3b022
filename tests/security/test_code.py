"""Our code must not run anything that it reads."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(
    path
    for package in ("text_recognizer", "training", "tuning")
    for path in (ROOT / package).rglob("*.py")
)
# Modules and functions that run what they read, or read Tune's own state, which is pickles.
READERS = {
    *(
        "pickle",
        "cPickle",
        "_pickle",
        "cloudpickle",
        "ray.cloudpickle",
        "dill",
        "marshal",
        "shelve",
        "jsonpickle",
        "joblib.load",
    ),
    *("pandas.read_pickle", "torch.jit.load", "torch.hub"),
    *("ray.tune.Tuner.restore", "ray.tune.ExperimentAnalysis", "ray.tune.analysis"),
    *(
        f"yaml.{what}"
        for what in (
            "load",
            "load_all",
            "unsafe_load",
            "unsafe_load_all",
            "full_load",
            "full_load_all",
        )
    ),
    *(
        f"yaml.{what}"
        for what in (
            "Loader",
            "UnsafeLoader",
            "FullLoader",
            "CLoader",
            "CUnsafeLoader",
            "CFullLoader",
        )
    ),
}
CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "os.system",
    "os.popen",
    "subprocess.getoutput",
    "subprocess.getstatusoutput",
}
OF_LIGHTNING = (".fit", ".validate", ".test", ".predict", ".load_from_checkpoint")


def broken_rules(tree: ast.AST) -> Iterator[str]:
    """The forbidden things that a module does, with their lines."""
    names = imported(tree)
    for node in ast.walk(tree):
        said: list[str] = []
        if isinstance(node, ast.Import):
            said = [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            said = [f"{node.module}.{alias.name}" for alias in node.names]
        if isinstance(node, ast.Attribute | ast.Name):
            said = [full_name(node, names)]
        yield from (f"{node.lineno}: {name}" for name in said if is_reader(name))
        if isinstance(node, ast.Call):
            yield from (
                f"{node.lineno}: {problem}"
                for problem in broken_in_call(node, full_name(node.func, names))
            )


def is_reader(name: str) -> bool:
    return any(name == reader or name.startswith(f"{reader}.") for reader in READERS)


def broken_in_call(call: ast.Call, name: str) -> Iterator[str]:
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    if name in CALLS:
        yield name
    if name == "torch.load" and given.get("weights_only") != "True":
        yield "torch.load without weights_only=True"
    reads = "ckpt_path" in given or name.endswith(".load_from_checkpoint")
    if name.endswith(OF_LIGHTNING) and reads and given.get("weights_only") != "True":
        yield f"{name} of a checkpoint without weights_only=True"
    if name in ("numpy.load", "np.load") and given.get("allow_pickle", "False") != "False":
        yield "numpy.load with pickles"
    if given.get("shell", "False") != "False":
        yield f"{name} with a shell"
    if name == "ray.tune.run" and {"resume", "restore", "resume_config"} & given.keys():
        yield "Tune's own resume"


def imported(tree: ast.AST) -> dict[str, str]:
    """Local name -> full name of everything that a module imports."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.asname: alias.name for alias in node.names if alias.asname}
        if isinstance(node, ast.ImportFrom):
            found |= {
                alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names
            }
    return found


def full_name(node: ast.AST, names: dict[str, str]) -> str:
    """`np.load` as `numpy.load`."""
    text = ast.unparse(node)
    first, dot, rest = text.partition(".")
    return names.get(first, first) + dot + rest


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_that_is_read_is_run(path: Path) -> None:
    assert list(broken_rules(ast.parse(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from ray import cloudpickle as p",
        "import joblib\njoblib.load('a')",
        "from joblib import load",
        "import numpy as np\nnp.load('a', allow_pickle=True)",
        "import torch\ntorch.load('a')",
        "import torch\ntorch.load('a', weights_only=False)",
        "from torch import load\nload('a')",
        "import torch\ntorch.jit.load('a')",
        "import yaml\nyaml.load('a', yaml.SafeLoader)",
        "import yaml\nyaml.unsafe_load('a')",
        "from yaml import FullLoader",
        "from yaml import Loader as L\nL",
        "eval('1')",
        "import subprocess\nsubprocess.run('a', shell=True)",
        "import os\nos.system('a')",
        "from os import system as s\ns('a')",
        "from ray import tune\ntune.Tuner.restore('a')",
        "from ray.tune import ExperimentAnalysis",
        "trainer.fit(model, ckpt_path='a')",
        "trainer.fit(model, ckpt_path='a', weights_only=False)",
        "from ray import tune\ntune.run(f, resume=True)",
        "import marshal, dill, shelve",
    ],
)
def test_each_way_to_run_what_is_read_is_known(code: str) -> None:
    assert list(broken_rules(ast.parse(code)))
