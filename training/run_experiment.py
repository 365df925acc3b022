"""Train one model: `python training/run_experiment.py --model_class=MLP --data_class=MNIST
--max_epochs=5 --gpus=1`.

Flags are the arguments of the chosen constructors and of `pl.Trainer`; `-` and `_` in them are the
same.
"""

from __future__ import annotations

import argparse
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonargparse
import torch
import yaml

from text_recognizer.command import exit_code_of, leave
from text_recognizer.errors import InputError, Problem
from training.experiment import Outcome, device_flags, quiet_lightning, run
from training.settings import RUN_DEFAULTS, add_settings, checked, known_settings

LOG_ROOT = Path("training/logs")
OF_THE_COMMAND = ("config", "print_config", "load_checkpoint", "test")  # flags that are no settings


def main(argv: list[str] | None = None) -> None:
    """Parse, train, print what came of it."""
    parser, parsed = parse(with_underscores(sys.argv[1:] if argv is None else argv))
    defaults = parser.get_defaults()
    settings = {
        name: value
        for name, value in parsed.items()
        if name not in OF_THE_COMMAND and value != defaults[name]
    }
    device_flags(settings)
    if settings.get("gpus") and not torch.cuda.is_available():
        print("note: there is no GPU here; training on the CPU")
    quiet_lightning()
    load = Path(parsed.load_checkpoint) if parsed.load_checkpoint else None
    print_outcome(run(settings, LOG_ROOT, load_checkpoint=load, test=parsed.test))


def with_underscores(arguments: list[str]) -> list[str]:
    """`--max-epochs=5` as `--max_epochs=5`; values stay as they are."""
    result = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        result.append(
            "--" + name[2:].replace("-", "_") + equals + value
            if name.startswith("--")
            else argument
        )
    return result


def with_true(arguments: list[str], switches: set[str]) -> list[str]:
    """`--augment` alone as `--augment=true`."""
    followed = [*arguments[1:], "--"]
    return [
        f"{argument}=true"
        if argument[2:] in switches and argument.startswith("--") and after.startswith("--")
        else argument
        for argument, after in zip(arguments, followed, strict=True)
    ]


def parse(arguments: list[str]) -> tuple[jsonargparse.ArgumentParser, jsonargparse.Namespace]:
    """All flags, the chosen classes' among them. Raises `InputError`; `--help` and
    `--print_config` print and exit.
    """
    parser = jsonargparse.ArgumentParser(
        prog="run_experiment.py", description=__doc__, exit_on_error=False
    )
    parser.add_argument(
        "--config", action="config", help="a file of settings; flags behind it override it"
    )
    parser.add_argument(
        "--load_checkpoint",
        type=str | None,
        default=None,
        help="start from the weights in this file",
    )
    parser.add_argument(
        "--test", type=bool, default=True, help="read the test set once, at the end"
    )
    add_settings(parser, *chosen_classes(arguments))
    switches = {"test"} | {
        name for name, kind in known_settings(*chosen_classes(arguments)).items() if "bool" in kind
    }
    try:
        return parser, parser.parse_args(with_true(arguments, switches))
    except UnicodeError as error:
        raise InputError(Problem("config", "a text file in UTF-8", str(error))) from None
    except (argparse.ArgumentError, jsonargparse.ArgumentError, OverflowError) as error:
        check_one_by_one(arguments)
        raise InputError(" ".join(str(error).split())) from None


def check_one_by_one(arguments: list[str]) -> None:
    """Say all that is wrong with the flags: the parser stops at the first. Raises `InputError`
    if anything is.
    """
    words = [
        word
        for argument in arguments
        for word in (argument.split("=", 1) if argument.startswith("--") else [argument])
    ]
    pairs = [
        (name[2:], value)
        for name, value in pairwise(words)
        if name.startswith("--") and not value.startswith("--")
    ]
    model_class, data_class = chosen_classes(arguments)
    given = {name: value for name, value in pairs if name not in OF_THE_COMMAND}
    checked(given | {"model_class": model_class, "data_class": data_class})


def chosen_classes(arguments: list[str]) -> tuple[str, str]:
    """Model and data class, which decide what other flags there are: from the flags, else the
    file, else the defaults.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for flag in ("--config", "--model_class", "--data_class"):
        first.add_argument(flag)
    flags, _ = first.parse_known_args(arguments)
    named = read_names(Path(flags.config)) if flags.config else {}
    named |= {
        name: value for name in ("model_class", "data_class") if (value := getattr(flags, name))
    }
    chosen = RUN_DEFAULTS | named
    return str(chosen["model_class"]), str(chosen["data_class"])


def read_names(config: Path) -> dict[str, Any]:
    """The settings in a file, unchecked; nothing where it cannot be read, which the real parser
    then says.
    """
    try:
        content = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def print_outcome(outcome: Outcome) -> None:
    """Validation, test, and where the files are."""
    where = f"epoch {outcome.best_epoch}" if outcome.best_epoch else "the last epoch"
    print(
        f"validation, {where}: "
        + "  ".join(f"{name} {value:.4f}" for name, value in outcome.validation.items())
    )
    if outcome.test:
        print(
            f"test, {where}: "
            + "  ".join(f"{name} {value:.4f}" for name, value in outcome.test.items())
        )
    if outcome.checkpoint:
        print(f"best checkpoint: {outcome.checkpoint}")
    print(f"curves: tensorboard --logdir {outcome.log_dir}")


if __name__ == "__main__":
    leave(exit_code_of(main))
