"""Bad search space files and bad flags through the real command: refused with exit code 2, one line
a problem, and nothing begun.

What is wrong with form and values is refused by a process that never imports torch or Ray. What
takes the constructors to know is refused before Ray starts. In an expected line `…` stands for
anything.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from text_recognizer.command import exit_code_of
from tuning import search
from tuning.space.reader import read_space
from tuning.space.strict_yaml import MAX_SPACE_BYTES

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 120
LONGEST_LINE = 500

GOOD = "space:\n  fc1: {type: int, low: 8, high: 64}\n"
CONDITIONAL = """space:
  optimizer: {type: categorical, choices: [Adam, SGD]}
  momentum: {type: float, low: 0, high: 0.9, CONDITION}
"""

# Runs each command line of a JSON list through `main`, in one process, and says what became of it.
RUNNER = """
import contextlib, io, json, sys
from text_recognizer.command import exit_code_of
from tuning import search

def run(argv):
    said, complained = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
        try:
            code = exit_code_of(lambda: search.main(argv))
        except SystemExit as end:  # argparse
            code = end.code
    heavy = sorted({"torch", "ray", "optuna", "pytorch_lightning"} & set(sys.modules))
    return {"code": code, "said": said.getvalue(), "complained": complained.getvalue(), "heavy": heavy}

json.dump([run(argv) for argv in json.load(sys.stdin)], sys.stdout)
"""


def parameter(text: str) -> str:
    return f"space:\n  fc1: {{{text}}}\n"


def setting(text: str) -> str:
    return f"{GOOD}search: {{{text}}}\n"


def fixed(text: str) -> str:
    return f"experiment: {{{text}}}\n{GOOD}"


def conditional(text: str) -> str:
    return CONDITIONAL.replace("CONDITION", text)


# name -> the file, and the beginning of each line that refuses it, after the file's path
FORM: dict[str, tuple[str | bytes, *tuple[str, ...]]] = {
    "empty": ("", ": empty, or no mapping of names to values. Give the path"),
    "binary": (bytes(range(256)) * 4, ":2: not text in UTF-8: invalid start byte"),
    "a comment in Latin-1": (
        GOOD.encode() + b"# gr\xf6\xdfer\n",
        ":3: not text in UTF-8: invalid start byte",
    ),
    "a bell": (
        GOOD + "search: \a\n",
        ":3: invalid YAML: the character '\\x07'; write it as an escape in double quotes",
    ),
    "a character beyond Unicode": (
        fixed('a: "\\U00110000"'),
        ":1: invalid YAML: an impossible character",
    ),
    "a version of 5,000 digits": (
        f"%YAML 1.{'9' * 5000}\n---\n{GOOD}",
        ":1: invalid YAML: an impossible",
    ),
    "a tag of 900 letters": (
        f"a: !{'x' * 900}!y 1\n",
        ":1: invalid YAML: …undefined tag handle '!xxx",
    ),
    "one byte too many": ("#" * (MAX_SPACE_BYTES + 1), ": 100,001 bytes, but the limit is 100,000"),
    "two documents": (f"{GOOD}---\n{GOOD}", ":3: invalid YAML: …single document"),
    "tab indent": ("space:\n\tfc1: 1\n", ":2: invalid YAML: …'\\t'"),
    "unclosed flow": ("space: {fc1: {type: int\n", ":2: invalid YAML: "),
    "undefined alias": (
        "space: *nothing\n",
        ":1: invalid YAML: anchors and aliases are not allowed ('nothing')",
    ),
    "an object of Python's": (
        "space: !!python/object/apply:os.system [touch owned]\n",
        ":1: invalid YAML: tags are not allowed (",
    ),
    "alias bomb": (
        "a: &a [x, x]\n"
        + "".join(f"{c}: &{c} [*{p}, *{p}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True)),
        ":1: invalid YAML: anchors and aliases are not allowed ('a'); write the value out",
    ),
    "5,000 levels in brackets": ("[" * 5000 + "]" * 5000, ":1: invalid YAML: more than 20 levels"),
    "300 levels by indentation": (
        "\n".join(" " * i + "a:" for i in range(300)),
        ":21: invalid YAML: more than 20 levels",
    ),
    "top-level list": ("- space\n", ": empty, or no mapping of names to values. Give the path"),
    "a document of a later version": (f"%YAML 9.1\n---\n{GOOD}", ":1: invalid YAML: …incompatible"),
    "duplicate key": (
        parameter("type: int, low: 1, low: 2, high: 8"),
        ":2 space.fc1.low: `each key is given once` must hold, but got 'low'",
    ),
    "a list as a key": (
        "? [space]\n: 1\n",
        ":1: a key is a list or a mapping; only words can be keys",
    ),
    "unknown section": (
        f"{GOOD}results: 1\n",
        ":3 results: `a known section`…Known: experiment, search, space.",
    ),
    "misspelt section": (
        GOOD.replace("space", "spcae"),
        ":1 spcae: `a known section`…Did you mean 'space'?",
    ),
    "a merge key": (f"{GOOD}search:\n  <<: {{trials: 3}}\n", ":4 search.<<: `a known key`"),
    "misspelt key": (
        setting("max_epoch: 3"),
        ":3 search.max_epoch: `a known key`…Did you mean 'max_epochs'?",
    ),
    "keys of other tools": (
        f"{GOOD}search:\n  n_trials: 3\n  maximize: true\n  grace_period: 1\n  algo: tpe\n"
        "  pruner: none\n  epochs: 3\n  timeout: 3h\n",
        ":4 search.n_trials: `a known key`…Did you mean 'trials'?",
        ":5 search.maximize: `a known key`…Did you mean 'mode'?",
        ":6 search.grace_period: `a known key`…Did you mean 'asha.grace_epochs'?",
        ":7 search.algo: `a known key`…Did you mean 'sampler'?",
        ":8 search.pruner: `a known key`…Did you mean 'scheduler'?",
        ":9 search.epochs: `a known key`…Did you mean 'max_epochs'?",
        ":10 search.timeout: `a known key`…Did you mean 'stop.time'?",
    ),
    "a key of search beside the sections": (
        f"{GOOD}num_samples: 3\n",
        ":3 num_samples: `a known section`…Did you mean 'search.trials'?",
    ),
    "words of other tools": (
        "space:\n  fc1: {type: integer, low: 8, high: 64}\n  fc2: {type: int, min: 8, high: 64}\n"
        "search: {metric: accuracy, mode: maximize, sampler: Bayes}\n",
        ":2 space.fc1: `type is int, float or categorical`…Did you mean 'int'?",
        ":3 space.fc2.low: `low is given`",
        ":3 space.fc2.min: `a known key`…Did you mean 'low'?",
        ":4 search.metric: `…`…'accuracy'. Did you mean 'val_acc'?",
        ":4 search.mode: `…`…'maximize'. Did you mean 'max'?",
        ":4 search.sampler: `…`…'Bayes'. Did you mean 'gp'?",
    ),
    "misspelt key of ASHA": (
        setting("asha: {grace: 1}"),
        ":3 search.asha.grace: `a known key`…Known: grace_epochs,",
    ),
    "misspelt key of a parameter": (
        parameter("type: int, lo: 1, low: 1, high: 8"),
        ":2 space.fc1.lo: `a known…Did you mean 'low'?",
    ),
    "choices of an int": (
        parameter("type: int, choices: [1, 2]"),
        ":2 space.fc1.low: `low is given`",
        ":2 space.fc1.high: `high is given`",
        ":2 space.fc1.choices: `a known key`…Known: high, log, low, step, type, when.",
    ),
    "no parameter": ("search: {trials: 3}\n", ":1 space: `one parameter or more to search`"),
    "fixed and searched": (
        fixed("fc1: 8"),
        ":3 space.fc1: `a parameter is either fixed or searched`",
    ),
    "a key with /": (GOOD.replace("fc1", "a/b"), ":2 space.a/b: `a name of letters"),
    "an empty key": (GOOD.replace("fc1", "''"), ":2 space.: `a name of letters"),
    "a letter that only looks like c": (
        GOOD.replace("fc1", "f\u04411"),
        ":2 space.f\u04411: `a name…a to z…'f\\u04411'",
    ),
    "a key of 50,000 letters": (
        f"space:\n  ? {'k' * 50_000}\n  : 1\n",
        ":2 space.kkk…: `a name of letters",
    ),
    "half a character in a key": (
        fixed('"\\ud83d": 1'),
        ":1 experiment.\\ud83d: `text of whole characters` must hold, but got the key '\\ud83d'",
    ),
    "half a character under experiment": (
        fixed('a: "\\ud83d"'),
        ":1 experiment.a: `text of whole characters`…'\\ud83d'",
    ),
    "half a character as a path": (
        fixed('data_dir: "\\ud83d"'),
        ":1 experiment.data_dir: `text of whole characters`",
    ),
    "half a character as a choice": (
        'space:\n  optimizer: {type: categorical, choices: [a, "\\ud83d"]}\n',
        ":2 space.optimizer.choices.1: `text of whole characters` must hold, but got '\\ud83d'",
    ),
    "a key that colours the terminal": (
        GOOD.replace("fc1", '"\\e[31mfc1"'),
        ":2 space.\\x1b[31mfc1: `a name of letters",
    ),
    "a section that turns text around": (
        f'{GOOD}"\\u202espace": 1\n',
        ":3 \\u202espace: `a known section`",
    ),
    "a section that is a list": (
        "space: [fc1]\n",
        ":1 space: `a mapping of names to values` must hold, but got ['fc1']",
    ),
    "search: []": (
        f"{GOOD}search: []\n",
        ":3 search: `a mapping of names to values` must hold, but got []",
    ),
    "a parameter that is a word": (
        "space:\n  fc1: int\n",
        ":2 space.fc1: `a mapping of names to values`…'int'",
    ),
    "asha that is a word": (
        setting("asha: true"),
        ":3 search.asha: `a mapping of names to values`…True",
    ),
    "asha off by a word that is none": (
        setting("scheduler: false"),
        ":3 search.scheduler: `'asha' or 'none'`…False",
    ),
    "no type": (parameter("low: 1, high: 8"), ":2 space.fc1: `type is int, float or categorical`"),
    "type in capitals": (
        parameter("type: INT, low: 1, high: 8"),
        ":2 space.fc1: `type is int, float or categorical`…{'type': 'INT'",
    ),
    "no high": (parameter("type: int, low: 1"), ":2 space.fc1.high: `high is given`"),
    "low > high": (
        parameter("type: int, low: 9, high: 8"),
        ":2 space.fc1: `low < high` must hold, but got (low=9, high=8)",
    ),
    "log from 0": (
        parameter("type: float, low: 0, high: 1, log: true"),
        ":2 space.fc1: `low > 0 if log is on`",
    ),
    "log: yes": (
        parameter("type: int, low: 1, high: 8, log: yes"),
        ":2 space.fc1.log: `true or false` must hold, but got 'yes'",
    ),
    "int from 1.5": (
        parameter("type: int, low: 1.5, high: 8"),
        ":2 space.fc1.low: `a whole number` must hold, but got 1.5",
    ),
    "a huge int": (
        parameter("type: int, low: 1, high: 1" + "0" * 20),
        ":2 space.fc1.high: `a whole number from -9007199254740992 to 9007199254740992`",
    ),
    "5,000 digits": (
        parameter("type: int, low: 1, high: " + "9" * 5000),
        ":2 space.fc1.high: `a finite number`…inf",
    ),
    "NaN": (
        parameter("type: float, low: .nan, high: 1"),
        ":2 space.fc1.low: `a finite number` must hold, but got nan",
    ),
    "inf": (
        parameter("type: float, low: 0, high: .inf"),
        ":2 space.fc1.high: `a finite number` must hold, but got inf",
    ),
    "low: true": (
        parameter("type: int, low: true, high: 8"),
        ":2 space.fc1.low: `a whole number` must hold, but got True",
    ),
    "1_000": (
        parameter("type: int, low: 1, high: 1_000"),
        ":2 space.fc1.high: `a whole number` must hold, but got '1_000'",
    ),
    "a quoted number": (
        parameter('type: float, low: "1e-4", high: 1'),
        ":2 space.fc1.low: `a number` must hold, but got '1e-4'. Write it without quotes.",
    ),
    "wider than a number can be": (
        parameter("type: float, low: -1e308, high: 1e308"),
        ":2 space.fc1: `high - low is a finite",
    ),
    "a step beyond the range": (
        parameter("type: int, low: 1, high: 8, step: 9"),
        ":2 space.fc1: `0 < step <= high - low`",
    ),
    "a step that misses high": (
        parameter("type: int, low: 1, high: 8, step: 3"),
        ":2 space.fc1: `high is reached by whole steps",
    ),
    "half a step": (
        parameter("type: int, low: 1, high: 8, step: 0.5"),
        ":2 space.fc1.step: `a whole number`",
    ),
    "too fine a step": (
        parameter("type: float, low: 0, high: 1, step: 1e-300"),
        ":2 space.fc1: `at most 9007199254740992 steps",
    ),
    "log with step": (
        parameter("type: int, low: 1, high: 8, log: true, step: 1"),
        ":2 space.fc1: `either log or step`",
    ),
    "no choices": (parameter("type: categorical"), ":2 space.fc1.choices: `choices is given`"),
    "one choice": (
        parameter("type: categorical, choices: [SGD]"),
        ":2 space.fc1.choices: `at least 2 of them` must hold, but got ['SGD']",
    ),
    "a word as choices": (
        parameter("type: categorical, choices: SGD"),
        ":2 space.fc1.choices: `a list` must hold, but got 'SGD'",
    ),
    "nested choices": (
        parameter("type: categorical, choices: [[1, 2], [3]]"),
        ":2 space.fc1.choices.0: `a single value` must hold, but got [1, 2]",
        ":2 space.fc1.choices.1: `a single value` must hold, but got [3]",
    ),
    "NaN as a choice": (
        "space:\n  lr: {type: categorical, choices: [.nan, 1]}\n",
        ":2 space.lr.choices.0: `a finite number`",
    ),
    "duplicate choices": (
        parameter("type: categorical, choices: [1, 2, 1]"),
        ":2 space.fc1: `each choice is listed once`…1 again",
    ),
    "choices that Optuna takes for one": (
        parameter("type: categorical, choices: [true, 1]"),
        ":2 space.fc1: `each choice is listed",
    ),
    "when on an unknown parameter": (
        conditional("when: {optimiser: SGD}"),
        ":3 space.momentum.when.optimiser…'optimizer'?",
    ),
    "when on a fixed setting": (
        "experiment: {optimizer: SGD}\n"
        + parameter("type: int, low: 1, high: 8, when: {optimizer: SGD}"),
        ":3 space.fc1.when.optimizer: `a searched parameter` must hold, but got 'optimizer'",
    ),
    "when on a parameter that is refused itself": (
        conditional("when: {optimizer: SGD}").replace("Adam, SGD", "SGD"),
        ":2 space.optimizer.choices: `at least 2 of them`",
    ),
    "when in a circle": (
        "space:\n  fc1: {type: int, low: 1, high: 3, when: {fc2: 1}}\n  fc2: {type: int, low: 1, high: 3, when: {fc1: 1}}\n",
        ":2 space.fc1.when: `conditions form no circle` must hold, but got fc1 depends on fc2 depends on fc1.",
    ),
    "too many parameters": (
        "space:\n" + "".join(f"  p{i}: {{type: int, low: 1, high: 3}}\n" for i in range(201)),
        ":1 space: `at most 200 parameters` must hold, but got 201",
    ),
    "too many choices": (
        parameter(f"type: categorical, choices: {list(range(201))}"),
        ":2 space.fc1.choices: `at most 200 of them, not 201`",
    ),
    "too many corners": (
        "space:\n"
        + "".join(
            f"  {name}: {{type: categorical, choices: {list(range(1, 201))}}}\n"
            for name in ("fc1", "fc2")
        )
        + "  lr: {type: float, low: 0.1, high: 1}\n",
        ":1 space: `at most 400 ends and choices in all` must hold, but got 402",
    ),
    "more problems than anybody reads": (
        setting(", ".join(f"key_{i}: 1" for i in range(150))),
        *(f":3 search.key_{i}: `a known key`" for i in range(100)),
    ),
    "too many points": (
        setting(f"start_with: [{'{}, ' * 1001}]"),
        ":3 search.start_with: `at most 1000 of them, not 1001`",
    ),
    "when on a value that is no choice": (
        conditional("when: {optimizer: Sgd}"),
        ":3 space…optimizer can be one of…'Sgd'",
    ),
    "when on no value": (
        conditional("when: {optimizer: []}"),
        ":3 space.momentum.when.optimizer: `at least 1 of them`",
    ),
    "when on nothing": (
        conditional("when: {}"),
        ":3 space.momentum.when: `at least 1 of them` must hold, but got {}",
    ),
    "when: null": (
        conditional("when: null"),
        ":3 space.momentum.when: `a mapping of names to values`",
    ),
    "when on a number of 320 digits": (
        f"{GOOD}  fc2: {{type: int, low: 1, high: 8, when: {{fc1: {'9' * 320}}}}}\n",
        ":3 space.fc2.when.fc1: `a whole number from -9007199254740992 to 9007199254740992` must hold, but got 999",
        ":3 space.fc2.when.fc1.0: `fc1 can be 8 <= value <= 64` must hold, but got 999",
    ),
    "when on a float": (
        "space:\n  dropout: {type: float, low: 0, high: 1, step: 0.1}\n  fc1: {type: int, low: 1, high: 8, when: {dropout: 0}}",
        ":3 space.fc1.when.dropout: `a parameter of whole numbers or choices`…hardly ever exactly",
    ),
    "when that is never met": (
        "space:\n  fc1: {type: int, low: 1, high: 3}\n  fc2: {type: int, low: 1, high: 3, when: {fc1: 1}}\n"
        "  batch_size: {type: int, low: 1, high: 3, when: {fc2: 1, fc1: [2, 3]}}\n",
        ":4 space.batch_size.when: `a condition that can be met` must hold, but got {'fc2': [1], 'fc1': [2, 3]}. No value of fc1 meets it",
    ),
    "trials 0": (setting("trials: 0"), ":3 search.trials: `trials >= 1` must hold, but got 0"),
    "trials true": (
        setting("trials: true"),
        ":3 search.trials: `a whole number` must hold, but got True",
    ),
    "a billion trials": (setting("trials: 1000000000"), ":3 search.trials: `trials <= 1000000`"),
    "trials as text": (
        setting("trials: '3'"),
        ":3 search.trials: `a whole number` must hold, but got '3'",
    ),
    "seed -1": (setting("seed: -1"), ":3 search.seed: `seed >= 0` must hold, but got -1"),
    "seed 2**32": (setting("seed: 4294967296"), ":3 search.seed: `seed < 4294967296`"),
    "max_epochs below grace": (
        setting("max_epochs: 2, asha: {grace_epochs: 3}"),
        ":3 search: `asha.grace_epochs <= max_epochs`",
    ),
    "a budget of no epoch": (setting("stop: {epochs: 0}"), ":3 search.stop.epochs: `epochs >= 1`"),
    "a budget without a unit": (
        setting("stop: {time: 30}"),
        ":3 search.stop.time: `a duration above 0…30",
    ),
    "a budget in Arabic digits": (
        setting("stop: {time: ٣m}"),
        ":3 search.stop.time: `a duration above 0…'٣m'",
    ),
    "a budget without an end": (
        setting(f"stop: {{time: {'9' * 400}d}}"),
        ":3 search.stop.time: `a duration of at most 36500d`",
    ),
    "no GPU-hours": (
        setting("stop: {gpu_hours: 0}"),
        ":3 search.stop.gpu_hours: `gpu_hours > 0.0`",
    ),
    "an accuracy in per cent": (
        setting("stop: {target: 98.5}"),
        ":3 search: `stop.target is a val_acc that can be reached`",
    ),
    "a target that is no number": (
        setting("stop: {target: .nan}"),
        ":3 search.stop.target: `a finite number`",
    ),
    "a misspelt limit": (
        setting("stop: {plateu: 3}"),
        ":3 search.stop.plateu: `a known key`…Did you mean 'plateau'?",
    ),
    "a point twice": (
        setting("start_with: [{fc1: 9}, {fc1: 9}]"),
        ":3 search.start_with.1: `each point is listed once`",
    ),
    "reduction_factor 1": (
        setting("asha: {reduction_factor: 1}"),
        ":3 search.asha.reduction_factor: `reduction_factor >= 2`",
    ),
    "unknown metric": (
        setting("metric: accuracy"),
        ":3 search.metric: `'train_loss', 'train_acc', 'val_loss' or 'val_acc'`",
    ),
    "a metric of the test set": (setting("metric: test_acc"), ":3 search.metric: `'train_loss', "),
    "a metric of 10,000 letters": (
        setting("metric: " + "x" * 10_000),
        ":3 search.metric: `'train_loss', ",
    ),
    "unknown mode": (
        setting("mode: best"),
        ":3 search.mode: `'max' or 'min'` must hold, but got 'best'",
    ),
    "mode against the metric": (setting("mode: min"), ":3 search: `mode is max for val_acc`"),
    "unknown sampler": (
        setting("sampler: TPE"),
        ":3 search.sampler: `'gp', 'tpe' or 'random'` must hold, but got 'TPE'",
    ),
    "start_with outside the range": (
        setting("start_with: [{fc1: 65}]"),
        ":3 search.start_with.0.fc1: `8 <= value <= 64`",
    ),
    "start_with incomplete": (
        setting("start_with: [{}]"),
        ":3 search.start_with.0.fc1: `a value for every parameter that applies`…Add one.",
    ),
    "start_with of a misspelt name": (
        setting("start_with: [{fc1: 8}, {fc1: 9, fcl: 8}]"),
        ":3 search.start_with.1.fcl: `a searched parameter`…Did you mean 'fc1'?",
    ),
    "start_with of NaN": (
        setting("start_with: [{fc1: .nan}]"),
        ":3 search.start_with.0.fc1: `a finite number`",
    ),
    "start_with that is no list": (
        setting("start_with: {fc1: 8}"),
        ":3 search.start_with: `a list`",
    ),
    "start_with of words": (
        setting("start_with: [fc1]"),
        ":3 search.start_with.0: `a mapping of names to values`",
    ),
    "320 digits under experiment": (
        fixed(f"dropout: {'9' * 320}"),
        ":1 experiment.dropout: `a whole number from -9007199254740992 to 9007199254740992` must hold, but got 999",
    ),
    "a key twice and a misspelt key": (
        setting("trials: 1, trials: 2, sampel: tpe"),
        ":3 search.trials: `each key is given once`",
        ":3 search.sampel: `a known key`…'sampler'?",
    ),
    "max_epochs under experiment": (
        fixed("max_epochs: 3"),
        ":1 experiment.max_epochs…Set it under search.",
    ),
    "a searched model": (
        GOOD.replace("fc1", "model_class"),
        ":2 space.model_class: `a setting that is allowed here`",
    ),
    "after a byte order mark": ("\ufeff" + setting("trials: 0"), ":3 search.trials: `trials >= 1`"),
    "in lines of Windows": (
        setting("trials: 0").replace("\n", "\r\n"),
        ":3 search.trials: `trials >= 1`",
    ),
    "behind a very long line": (
        "#" + "x" * 90_000 + "\n" + setting("trials: 0"),
        ":4 search.trials: `trials >= 1`",
    ),
    "eight mistakes": (
        "experiment:\n  lr: .inf\n  gpus: 1\nspace:\n  fc1: {type: int, low: 9, high: 8}\n  fc2: {type: flaot, low: 1, high: 2}\n"
        "  lr: {type: float, low: 1, high: 2}\n  dropout: {type: float, low: 0, high: 0.5, when: {fc3: 1}}\n"
        "search:\n  trials: 0\n  metric: val_ac\n",
        ":2 experiment.lr: `a finite number`",
        ":3 experiment.gpus: `a setting that is allowed here`…--gpus-per-trial",
        ":5 space.fc1: `low < high`",
        ":6 space.fc2: `type is int, float or categorical`…'flaot'",
        ":7 space.lr: `a parameter is either fixed or searched`",
        ":11 search.metric: `'train_loss'…'val_ac'",
        ":10 search.trials: `trials >= 1`",
        ":8 space.dropout.when.fc3: `a searched parameter`",
    ),
}

# name -> the arguments beside a good file, and the beginning of each line; None for what argparse
# says in its own way
FLAGS: dict[str, tuple[list[str], tuple[str, ...] | None]] = {
    "gpus nan": (
        ["--gpus-per-trial", "nan"],
        ("--gpus-per-trial: `0 or 0.01 <= gpus-per-trial <= 1` must hold, but got nan",),
    ),
    "gpus 0.00001": (
        ["--gpus-per-trial", "0.00001"],
        ("--gpus-per-trial: `0 or 0.01 <= gpus-per-trial <= 1`",),
    ),
    "trials 0": (["--trials", "0"], ("--trials: `trials >= 1` must hold, but got 0",)),
    "stall limit without an end": (
        ["--stall-limit", "9" * 400 + "d"],
        ("--stall-limit: `a duration of at most 36500d`…'999",),
    ),
    "metric of half a character": (
        ["--metric", "\ud83d"],
        ("--metric: `text of whole characters`…'\\ud83d'",),
    ),
    "concurrent 0": (
        ["--max-concurrent", "0"],
        ("--max-concurrent: `max-concurrent >= 1` must hold, but got 0",),
    ),
    "cpus 0": (
        ["--cpus-per-trial", "0"],
        ("--cpus-per-trial: `cpus-per-trial >= 1` must hold, but got 0",),
    ),
    "retries -1": (["--retries", "-1"], ("--retries: `retries >= 0`",)),
    "keep 0": (["--keep", "0"], ("--keep: `keep >= 1`",)),
    "max_epochs 0": (["--max_epochs=0"], ("--max-epochs: `max_epochs >= 1` must hold, but got 0",)),
    "misspelt metric": (["--metric", "val_ac"], ("--metric: `'train_loss'…'val_ac'",)),
    "mode": (["--mode", "MIN"], ("--mode: `'max' or 'min'` must hold, but got 'MIN'",)),
    "a name that leaves the folder": (
        ["--name", "../x"],
        ("--name: `letters, digits…but got '../x'",),
    ),
    "an empty name": (["--name", ""], ("--name: `letters, digits…but got ''",)),
    "a name of 300 characters": (["--name", "x" * 300], ("--name: `letters, digits…but got 'xxx",)),
    "the name of the link to the newest": (
        ["--name", "latest"],
        ("--name: `letters, digits…but got 'latest'",),
    ),
    "time budget": (
        ["--time-budget", "30"],
        ("--time-budget: `a duration above 0 such as 90s, 30m, 2h or 1h30m`…'30'",),
    ),
    "stall limit": (["--stall-limit=-5m"], ("--stall-limit: `a duration above 0…'-5m'",)),
    "file and flags at once": (
        ["--keep", "0", "--trials", "0"],
        ("--keep: `keep >= 1`", "--trials: `trials >= 1`"),
    ),
    "20 digits": (["--trials", "9" * 20], ("--trials: `trials <= 1000000`",)),
    "5,000 digits": (["--trials", "9" * 5000], None),
    "a double dash": (["--keep=--"], None),
    "resume and space": (["--resume", "runs/x"], None),
    "an address without a port": (
        ["--address", "head"],
        ("--address: `auto or HOST:PORT` must hold, but got 'head'",),
    ),
    "an address of the dashboard": (
        ["--address", "http://h:8265"],
        ("--address: `auto or HOST:PORT…but got 'http://h:8265'",),
    ),
    "an address of Ray Client": (
        ["--address", "ray://h:10001"],
        ("--address: `auto or HOST:PORT…but got 'ray://h:10001'…`ray job submit`…",),
    ),
    "a cluster of others, kept alive": (
        ["--address", "auto", "--keep-alive"],
        ("--keep-alive: …it beside --address",),
    ),
    "a cluster of others, checked": (
        ["--address", "auto", "--check"],
        ("--check: …it beside --address",),
    ),
    "another database": (
        ["--storage", "mysql://a@h/x"],
        ("--storage: `postgresql://…but got '…@h/x'",),
    ),
    "a password": (
        ["--storage", "postgresql://a:pw@h/x"],
        ("--storage: a password in the URL is refused; set PGPASSWORD, or use ~/.pgpass.",),
    ),
    "trials many": (["--trials", "many"], None),
    "gpus half": (["--gpus-per-trial", "half"], None),
    "unknown": (["--gpu", "1"], None),
    "half a name": (["--trial", "3"], None),
    "a word": (["runs"], None),
}


def beginning(expected: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in expected.split("…")))


def assert_refused(code: int, complained: str, expected: tuple[str, ...], where: str = "") -> None:
    """One line a problem, each as expected, and no trace of a crash."""
    assert code == 2, complained
    assert complained.startswith("error: ")
    lines = complained.removeprefix("error: ").splitlines()
    assert len(lines) == len(expected), complained
    for line, text in zip(lines, expected, strict=True):
        assert beginning(where + text).match(line), f"{line}\nis not: {where}{text}"
        assert line.isprintable()
        assert len(line) < LONGEST_LINE + len(where)
    for leaked in (
        "Traceback",
        "Input should be",
        "a dictionary",
        "instance of Asha",
        "pydantic",
        "Known: .",
    ):
        assert leaked not in complained


# name -> a path that is no search space, and the rule it breaks; `files` makes what there must be
PATHS: dict[str, tuple[str, str]] = {
    "missing": ("missing.yaml", "missing.yaml: no such file or directory…search_spaces/mlp.yaml"),
    "a directory": ("folder", "folder: not a regular file"),
    "below a file": ("good.yaml/x", "good.yaml/x: not a directory"),
    "a pipe that nobody writes to": ("fifo", "fifo: not a regular file"),
    "a device without an end": ("/dev/zero", "/dev/zero: not a regular file"),
    "a link to itself": ("loop", "loop: too many levels of symbolic links"),
    "a name of 300 letters": ("x" * 300, f"{'x' * 300}: file name too long"),
    "a NUL in the path": ("a\0b", "a\\x00b: …embedded null"),
    "a path of two lines": ("a\nb", "a\\nb: no such file"),
    "nothing": ("", ".: not a regular file"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every file that the cases name."""
    path = tmp_path_factory.mktemp("bad")
    (path / "good.yaml").write_text(GOOD)
    for number, (content, *_) in enumerate(FORM.values()):
        (path / f"{number}.yaml").write_bytes(
            content.encode() if isinstance(content, str) else content
        )
    (path / "folder").mkdir()
    os.mkfifo(path / "fifo")
    (path / "loop").symlink_to("loop")
    (path / "dangling").symlink_to("nowhere")
    return path


@pytest.fixture(scope="module")
def refusals(folder: Path) -> dict[str, dict[str, Any]]:
    """What one process, which runs all cases one after another, said to each."""
    commands = {f"form {name}": ["--space", f"{number}.yaml"] for number, name in enumerate(FORM)}
    commands |= {f"path {name}": ["--space", path] for name, (path, _) in PATHS.items()}
    commands |= {
        f"flags {name}": ["--space", "good.yaml", *flags] for name, (flags, _) in FLAGS.items()
    }
    done = subprocess.run(
        [sys.executable, "-c", RUNNER],
        cwd=folder,
        input=json.dumps(list(commands.values())),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=True,
    )
    return dict(zip(commands, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("name", FORM)
def test_a_bad_file_is_refused_line_by_line(name: str, refusals: dict[str, dict[str, Any]]) -> None:
    found = refusals[f"form {name}"]
    assert_refused(
        found["code"], found["complained"], FORM[name][1:], f"{list(FORM).index(name)}.yaml"
    )
    assert found["said"] == ""


@pytest.mark.parametrize("name", PATHS)
def test_what_is_no_file_is_refused(name: str, refusals: dict[str, dict[str, Any]]) -> None:
    found = refusals[f"path {name}"]
    assert_refused(found["code"], found["complained"], (PATHS[name][1],))


@pytest.mark.parametrize("name", FLAGS)
def test_a_bad_flag_is_refused_by_its_name(name: str, refusals: dict[str, dict[str, Any]]) -> None:
    found, (flags, expected) = refusals[f"flags {name}"], FLAGS[name]
    if expected:
        return assert_refused(found["code"], found["complained"], expected)
    assert found["code"] == 2
    assert found["complained"].splitlines()[-1].startswith("search.py: error: ")
    assert any(part.split("=")[0] in found["complained"].splitlines()[-1] for part in flags)
    return None


def test_form_values_and_flags_are_refused_without_torch_and_ray(
    refusals: dict[str, dict[str, Any]], folder: Path
) -> None:
    assert {name: found["heavy"] for name, found in refusals.items() if found["heavy"]} == {}
    assert not (folder / "runs").exists()
    assert not (folder / "owned").exists(), "a tag ran a command"


def test_the_script_itself_refuses(folder: Path) -> None:
    command = [sys.executable, str(ROOT / "tuning" / "search.py"), "--space"]
    for path, code in (
        ("fifo", 2),
        (f"{list(FORM).index('eight mistakes')}.yaml", 2),
        ("/dev/zero", 2),
    ):
        done = subprocess.run(
            [*command, path],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert done.returncode == code
        assert done.stderr.startswith(f"error: {path}")
        assert "Traceback" not in done.stderr
        assert done.stdout == ""


ACCEPTED = {
    "a byte order mark": "\ufeff" + GOOD,
    "lines of Windows": GOOD.replace("\n", "\r\n"),
    "a frame": f"%YAML 1.2\n---\n{GOOD}...\n",
    "quoted names": GOOD.replace("fc1", '"fc1"').replace("type", "'type'"),
    "empty sections": f"experiment:\n{GOOD}search: {{}}\n",
    "a very long comment": f"# {'x' * 90_000}\n{GOOD}",
    "signs": GOOD.replace("low: 8", "low: +8"),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_only_looks_odd_is_read_like_the_plain_file(name: str, tmp_path: Path) -> None:
    (tmp_path / "odd.yaml").write_bytes(ACCEPTED[name].encode())
    (tmp_path / "plain.yaml").write_text(GOOD)
    assert (
        read_space(tmp_path / "odd.yaml").as_plain()
        == read_space(tmp_path / "plain.yaml").as_plain()
    )


def test_1e_4_is_a_number_whatever_yaml_says(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "space:\n  lr: {type: float, low: 1e-4, high: 1E-1, log: true}\n"
    )
    assert read_space(tmp_path / "a.yaml").parameters["lr"].corner_values() == [0.0001, 0.1]


# What the constructors know. name -> experiment and space, and the beginnings of the lines
NAMES: dict[str, tuple[str, ...]] = {
    "a misspelt parameter": (
        "space:\n  fc3: {type: int, low: 8, high: 64}\n",
        ":4 space.fc3: `an argument of MLP…'fc2'?",
    ),
    "a name in capitals": (
        "space:\n  LR: {type: float, low: 0.1, high: 1}\n",
        ":4 space.LR: `an argument of MLP…'lr'?",
    ),
    "a parameter that nothing has": (
        "space:\n  zzzz: {type: int, low: 8, high: 64}\n",
        ":4 space.zzzz: `an argument of MLP, Digits, BaseLitModel or pl.Trainer`…Known: augment, batch_size, data_dir, dropout, fc1, fc2, lr, mom",
    ),
    "names of other tools": (
        "  epochs: 5\n  net: CNN\n  trials: 3\n  patiense: 3\n  precison: 32\nspace:\n"
        "  learning_rate: {type: float, low: 0.1, high: 1}\n  hidden: {type: int, low: 8, high: 64}\n"
        "  wd: {type: float, low: 0.1, high: 1}\n  dataset: {type: int, low: 8, high: 64}\n",
        ":3 experiment.epochs: `an argument…'epochs'. Did you mean 'max_epochs'? Set it under search.",
        ":4 experiment.net: `an argument…Did you mean 'model_class'?",
        ":5 experiment.trials: `an argument…but got 'trials'. Set it under search.",
        ":6 experiment.patiense: `an arg…Did you mean 'patience'? The scheduler stops trials; leave",
        ":7 experiment.precison: `an argument…Did you mean 'precision'?",
        ":9 space.learning_rate: `an argument…Did you mean 'lr'?",
        ":10 space.hidden: `an argument…Did you mean 'fc1'?",
        ":11 space.wd: `an argument…Did you mean 'weight_decay'?",
        ":12 space.dataset: `an argument…Did you mean 'data_class'? It is the same for all trials",
    ),
    "mistakes of form, of names and of types in one round": (
        "  model_class: MPL\n  fc2: [1, {b: .nan}]\n  one_cycle: 'on'\nspace:\n  fcc1: {type: int, low: 9, high: 8}\n"
        "  lr: {type: categorical, choices: [fast, 1]}\nsearch:\n  n_trials: 3\n  start_with: [{lr: 2}]\n",
        ":4 experiment.fc2.1.b: `a finite number`",
        ":7 space.fcc1: `low < high`",
        ":10 search.n_trials: `a known key`",
        ":3 experiment.model_class: unknown model 'MPL'. Did you mean 'MLP'?",
        ":4 experiment.fc2: `fc2 is int` must hold, but got [1,",
        ":5 experiment.one_cycle: `one_cycle is bool`…the text 'on'. In YAML 1.2 it is text; write true",
        ":7 space.fcc1: `an argument of MLP, Digits…Did you mean 'fc1'?",
        ":8 space.lr: `lr is float` must hold, but got 'fast'",
    ),
    "a point outside beside another mistake": (
        f"{GOOD}search: {{trials: 0, start_with: [{{fc1: 7}}]}}\n",
        ":5 search.trials: `trials >= 1`",
        ":5 search.start_with.0.fc1: `8 <= value <= 64`",
    ),
    "another model's parameter": (
        "  model_class: CNN\nspace:\n  fc2: {type: int, low: 8, high: 64}\n",
        ":5 space.fc2: `an argument of CNN, Digits",
    ),
    "a misspelt setting and a misspelt parameter": (
        "  drop_out: 0.1\nspace:\n  fcc1: {type: int, low: 8, high: 64}\n",
        ":3 experiment.drop_out: `an argument…'dropout'?",
        ":5 space.fcc1: `an argument…'fc1'?",
    ),
    "an argument that an experiment passes itself": (
        f"  input_dims: 3\n{GOOD}",
        ":3 experiment.input_dims: `an argument of",
    ),
    "an unknown model": (
        f"  model_class: MPL\n{GOOD}",
        ":3 experiment.model_class: unknown model 'MPL'. Did you mean 'MLP'?",
    ),
    "a list of models": (
        f"  model_class: [MLP]\n{GOOD}",
        ":3 experiment.model_class: unknown model",
    ),
    "no model": (
        f"  model_class: null\n{GOOD}",
        ":3 experiment.model_class: unknown model 'None'. Known: CNN, MLP.",
    ),
    "a width of 0": (
        "space:\n  fc1: {type: int, low: 0, high: 8}\n",
        ":4 space.fc1: `fc1 >= 1` must hold, but got 0",
    ),
    "a width of -8": (
        "space:\n  fc1: {type: int, low: -8, high: 8}\n",
        ":4 space.fc1: `fc1 >= 1` must hold, but got -8",
    ),
    "a quoted learning rate": (
        f"  lr: '1e-3'\n{GOOD}",
        ":3 experiment.lr: `lr is float`…the text '1e-3'. Write it without",
    ),
    "a learning rate in words": (
        f"  lr: fast\n{GOOD}",
        ":3 experiment.lr: `lr is float` must hold, but got 'fast'",
    ),
    "no learning rate": (
        f"  lr: null\n{GOOD}",
        ":3 experiment.lr: `lr is float` must hold, but got nothing",
    ),
    "a learning rate of 1e-400": (
        "space:\n  lr: {type: float, low: 1e-400, high: 1}\n",
        ":4 space.lr: `0 < lr < inf`",
    ),
    "quoted choices": (
        "space:\n  fc1: {type: categorical, choices: ['8', 16]}\n",
        ":4 space.fc1: `fc1 is int` must hold, but got the text '8'",
    ),
    "a width of 8.0": (
        f"  fc2: 8.0\n{GOOD}",
        ":3 experiment.fc2: `fc2 is int` must hold, but got 8.0",
    ),
    "a width that is true": (
        f"  fc2: true\n{GOOD}",
        ":3 experiment.fc2: `fc2 is int` must hold, but got True",
    ),
    "yes for true": (
        f"  one_cycle: yes\n{GOOD}",
        ":3 experiment.one_cycle: `one_cycle is bool`…the text 'yes'. In YAML 1.2 it is text; write true.",
    ),
    "momentum for Adam": (
        f"  momentum: 0.9\n{GOOD}",
        ":3 experiment.momentum: `momentum is an argument of Adam`",
    ),
    "momentum for the wrong choice": (
        "space:\n  optimizer: {type: categorical, choices: [SGD, Adam]}\n  momentum: {type: float, low: 0, high: 0.9}\n",
        ":5 space.momentum: `momentum is an argument of Adam` must hold, but got 0.9",
        ":5 space.momentum: `momentum is an argument of Adam` must hold, but got 0.0",
    ),
    "a batch beyond the data": (
        "space:\n  batch_size: {type: int, low: 8, high: 70000}\n",
        ":4 space.batch_size: `1 <= batch_size <= 1077, the training examples of Digits` must hold, but got 70000",
    ),
    "a batch of none": (
        "space:\n  batch_size: {type: int, low: 0, high: 8}\n",
        ":4 space.batch_size: `1 <= batch_size",
    ),
    "a layer that no machine holds": (
        "space:\n  fc1: {type: int, low: 8, high: 9007199254740992}\n",
        ":3 space: `every corner of the space can be built`…9007199254740992",
    ),
    "a Trainer that cannot be built": (
        f"  strategy: warp\n{GOOD}",
        ":3 experiment.strategy: `a setting that can be built`",
    ),
    "a strategy for several devices": (
        f"  strategy: ddp_spawn\n{GOOD}",
        ":3 experiment.strategy: `a strategy for one device` must hold, but got 'ddp_spawn'",
    ),
    "a precision whose package is missing": (
        f"  precision: transformer-engine\n{GOOD}",
        ":3 experiment.precision: `a setting that can be built`…transformer_engine",
    ),
    "a fraction above 1": (
        f"  limit_train_batches: 5.5\n{GOOD}",
        ":3 experiment.limit_train_batches: `a setting that can be",
    ),
    "steps of no batch": (
        f"  accumulate_grad_batches: 0\n{GOOD}",
        ":3 experiment.accumulate_grad_batches: `accum",
    ),
    # What only a batch shows. Lightning refuses the first two; the others measure nothing.
    "less than a batch": (
        f"  limit_train_batches: 0.01\n{GOOD}",
        ":3 experiment.limit_train_batches: `a trial can train and validate one batch` must hold, but got 0.01. Trainer: ",
    ),
    "less than a batch of the largest, and a validation every no step": (
        "  val_check_interval: 0\nspace:\n  limit_train_batches: {type: float, low: 0.2, high: 1}\n"
        "  batch_size: {type: categorical, choices: [32, 64, 1024]}\n",
        ":3 experiment.val_check_interval: `a trial can…but got 0. ",
        ":5 space.limit_train_batches: `a trial can…0.2. Trainer: ",
    ),
    "no batch": (
        f"  limit_train_batches: 0\n{GOOD}",
        ":3 experiment.limit_train_batches: `a trial can train…but got 0.0. val_acc is not measured",
    ),
    "a validation after an hour": (
        f"  val_check_interval: '00:01:00:00'\n{GOOD}search: {{metric: val_loss}}\n",
        ":3 experiment.val_check_interval: `a trial can…val_loss is not measured",
    ),
}

# Flags that take the constructors, or the folder of runs, to judge.
LATE_FLAGS: dict[str, tuple[list[str], str]] = {
    "an unknown data set": (
        ["--data-class", "MNITS"],
        "--data-class: unknown data set …Did you mean 'MNIST'?",
    ),
    "a name that is taken": (["--name", "taken"], "--name: the name 'taken' is taken…--resume"),
}


@pytest.fixture
def refuse(
    no_ray: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., None]:
    """Run the command in this process; see that it refuses, starts no Ray and makes no run."""
    monkeypatch.chdir(tmp_path)

    def command(arguments: list[str], expected: tuple[str, ...]) -> None:
        before = sorted(tmp_path.rglob("*"))
        mask = os.umask(0o022)  # the command sets its own
        try:
            code = exit_code_of(lambda: search.main(arguments))
        finally:
            os.umask(mask)
        assert_refused(code, capsys.readouterr().err, expected)
        assert [
            path
            for path in sorted(tmp_path.rglob("*"))
            if path not in before and path.name != "runs"
        ] == []

    return command


@pytest.mark.parametrize("name", NAMES)
def test_what_no_constructor_takes_is_refused_before_ray(
    name: str, refuse: Callable[..., None]
) -> None:
    text, *expected = NAMES[name]
    Path("names.yaml").write_text(f"experiment:\n  data_class: Digits\n{text}")
    refuse(["--space", "names.yaml"], tuple(f"names.yaml{line}" for line in expected))


@pytest.mark.parametrize("name", LATE_FLAGS)
def test_a_flag_that_takes_longer_to_judge_is_refused_before_ray(
    name: str, refuse: Callable[..., None]
) -> None:
    flags, expected = LATE_FLAGS[name]
    Path("good.yaml").write_text(GOOD)
    Path("runs/taken").mkdir(parents=True)
    refuse(["--space", "good.yaml", "--data-class", "Digits", *flags], (expected,))
