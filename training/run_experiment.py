"""Train one model, as in lab 1: python training/run_experiment.py --model_class=MLP --max_epochs=5

Flags are the settings below: arguments of the chosen classes and of `pl.Trainer`. `-` and `_` in a
name are the same, and a switch needs no value. Besides:

  --config=FILE            read settings from a file; flags override it
  --load_checkpoint=FILE   start from the weights in this file
  --test=false             do not read the test set at the end
  --print_config           print all settings and exit
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__":  # the code beside this script runs, wherever the environment points
    sys.path.insert(1, str(Path(__file__).resolve().parents[1]))

from text_recognizer.command import exit_code_of, leave
from text_recognizer.errors import InputError, ensure
from text_recognizer.text import shown

if TYPE_CHECKING:
    from training.experiment import ExperimentResult
    from training.settings import Settings

LOG_ROOT = Path("training/logs")
# The command's own flags, for suggestions.
OWN_FLAGS = dict.fromkeys(("config", "load_checkpoint", "print_config", "test"), "")


def main(argv: list[str] | None = None) -> None:
    """Parse the flags, train, and print the result."""
    # Here, not at the top: without the project's environment the command can say so.
    import yaml

    from training.experiment import quiet_lightning, run
    from training.settings import checked, chosen_classes, settings_parser

    given = read_flags(sys.argv[1:] if argv is None else argv)
    if "config" in given:
        given = read_config(Path(str(given.pop("config")))) | given
    wants_help, wants_config = given.pop("help", False), given.pop("print_config", False)
    checkpoint = given.pop("load_checkpoint", None)
    test = given.pop("test", True)
    ensure("test", "test is true or false", test, test in (True, False, "true", "false"))
    # Which flags there are depends on the model and the data set, so these are looked up first.
    parser = settings_parser(*chosen_classes(given))
    if wants_help:
        # The parser knows only the settings; the docstring describes the command's own flags.
        print(__doc__)
        parser.print_help()
        return
    settings, defaults = checked(given, OWN_FLAGS), parser.get_defaults().as_dict()
    if wants_config:
        print(yaml.safe_dump(defaults | settings, sort_keys=False), end="")
        return
    # A config printed by `--print_config` names `accelerator: auto` and other defaults. If they
    # counted as given, `--gpus=1` would contradict them.
    settings = {name: value for name, value in settings.items() if value != defaults[name]}
    settings = on_working_device(settings)
    quiet_lightning()
    load = Path(str(checkpoint)) if checkpoint else None
    print_result(run(settings, LOG_ROOT, load_checkpoint=load, test=test in (True, "true")))


def on_working_device(settings: Settings) -> Settings:
    """The settings, for the CPU if a GPU is asked for or counted and none works; says so.

    Raises:
        InputError: `accelerator` names GPUs that do not work.
    """
    from text_recognizer.devices import hide_gpus, try_gpus

    gpus, accelerator = settings.get("gpus"), settings.get("accelerator")
    if gpus == 0 or accelerator == "cpu":
        hide_gpus()  # Lightning would ask each GPU for the state of its random numbers
        return settings
    found = try_gpus()
    if found.names:
        if found.problem:
            print(f"note: not all GPUs can be used: {found.problem}")
        return settings
    why = f"no GPU here can be used: {found.problem}" if found.problem else "there is no GPU here"
    if accelerator in ("gpu", "cuda") and found.problem:
        raise InputError(f"accelerator: {why}. Leave it out to train on the CPU.")
    if gpus or found.problem:
        print(f"note: {why}; training on the CPU")
    return settings | ({"gpus": 0} if gpus == 1 else {})


def read_flags(words: list[str]) -> Settings:
    """Read `--max-epochs=5`, `--max_epochs 5` and `--augment`. The last is True, the others text.

    Raises:
        InputError: a word is neither a flag nor the value of one.
    """
    flags: Settings = {}
    name = ""
    for word in words:
        if word == "-h":
            flags["help"] = True
        elif word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            name = name.replace("-", "_")
            flags[name] = value if equals else True
        elif flags.get(name) is True:  # the flag before this word has no value yet
            flags[name] = word
        else:
            raise InputError(f"{shown(word)} is not a flag; flags begin with `--`.")
    return flags


def read_config(path: Path) -> Settings:
    """Read a file of settings. Raises `InputError`."""
    import yaml

    try:
        # `safe_load` refuses tags, which would make objects of any class.
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise InputError(f"{path}: not a readable YAML file in UTF-8: {error}") from None
    ensure(str(path), "a mapping of settings to values", content, isinstance(content, dict))
    return {str(name): value for name, value in content.items()}


def print_result(result: ExperimentResult) -> None:
    """Print the metrics, and where the files are."""
    where = f"epoch {result.best_epoch}" if result.best_epoch else "the last epoch"
    for part, metrics in (("validation", result.validation), ("test", result.test)):
        if metrics:
            values = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
            print(f"{part}, {where}: {values}")
    if result.checkpoint:
        print(f"best checkpoint: {result.checkpoint}")
    print(f"curves: tensorboard --logdir {result.log_dir}")


if __name__ == "__main__":
    leave(exit_code_of(main))
