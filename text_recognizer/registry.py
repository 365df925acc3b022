"""Closed tables of classes by name, and the hyperparameters of their constructors.

A hyperparameter is a keyword-only argument with a default. It is declared in the constructor's
signature and nowhere else. Its name belongs to one kind of class, so a flat file of settings is
never ambiguous.
"""

import inspect
from collections.abc import Iterable
from typing import Any, TypeVar

from text_recognizer.errors import InputError, Problem, unknown

T = TypeVar("T")

_owners: dict[str, str] = {}  # hyperparameter name -> the kind of class it belongs to


def keyword_arguments(cls: type) -> dict[str, inspect.Parameter]:
    """Name -> keyword-only argument of a constructor, in the signature's order, bases included."""
    found: dict[str, inspect.Parameter] = {}
    for base in cls.__mro__:
        if "__init__" not in vars(base):
            continue
        # eval_str: annotations are text under `from __future__ import annotations`
        arguments = inspect.signature(vars(base)["__init__"], eval_str=True).parameters
        own = {name: value for name, value in arguments.items() if value.kind is value.KEYWORD_ONLY}
        found |= own | found  # the subclass's own argument counts where both have it
        if all(value.kind is not value.VAR_KEYWORD for value in arguments.values()):
            break  # this constructor hands nothing on to its bases
    return found


def hyperparameters(cls: type) -> dict[str, Any]:
    """Name -> default of every hyperparameter of `cls`, in the signature's order."""
    return {name: argument.default for name, argument in keyword_arguments(cls).items()}


def claim(kind: str, names: Iterable[str], owner: str) -> None:
    """Reserve `names` for one `kind` of class.

    Args:
        owner: the class whose names they are, for the message.

    Raises:
        InputError: a name belongs to another kind already.
    """
    rule = "a name belongs to one constructor only"
    problems = [
        Problem(owner, rule, f"{name!r}, a name of the {_owners[name]}", "Rename it.")
        for name in names
        if _owners.get(name, kind) != kind
    ]
    if problems:
        raise InputError(*problems)
    # A name has an owner only if all names of its class are free.
    _owners.update(dict.fromkeys(names, kind))


class Registry(dict[str, type[T]]):
    """The classes of one kind that files and flags may name.

    `registry[name]` raises `InputError` with a suggestion if there is no such class.
    """

    def __init__(self, kind: str, *classes: type[T]) -> None:
        super().__init__()
        self.kind = kind
        for cls in classes:
            self.register(cls)

    def register(self, cls: type[T]) -> type[T]:
        """Add a class under its own name. Can be used as a decorator.

        Raises:
            InputError: one of its hyperparameters has a name that another kind of class owns.
        """
        claim(self.kind, hyperparameters(cls), f"{self.kind} {cls.__name__}")
        # Only after the claim: a refused class must not be in the table.
        self[cls.__name__] = cls
        return cls

    def __missing__(self, name: str) -> type[T]:
        raise unknown(self.kind, name, self)
