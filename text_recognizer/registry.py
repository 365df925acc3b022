"""Closed tables of classes by name, and the hyperparameters their constructors take.

A hyperparameter is a keyword-only argument with a default: it exists in the constructor's signature
and nowhere else, and its name belongs to one kind of class only, so that a flat file of settings is
never ambiguous.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from text_recognizer.errors import InputError, Problem
from text_recognizer.text import did_you_mean, shown

T = TypeVar("T")

_owners: dict[str, str] = {}  # hyperparameter name -> the kind of class it belongs to


def hyperparameters(cls: type) -> dict[str, Any]:
    """Name -> default of every hyperparameter of `cls`, in the signature's order, those of its
    bases included.
    """
    found: dict[str, Any] = {}
    for base in cls.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
        for parameter in parameters:
            if parameter.kind is parameter.KEYWORD_ONLY:
                found.setdefault(parameter.name, parameter.default)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            break  # this constructor takes nothing more, so what its bases take cannot be passed
    return found


def claim(kind: str, names: Iterable[str], owner: str) -> None:
    """Reserve `names` for one `kind` of class.

    Raises:
        InputError: a name belongs to another kind already.
    """
    clashes = [name for name in names if _owners.get(name, kind) != kind]
    if clashes:
        raise InputError(
            *(
                Problem(
                    owner,
                    "a name belongs to one constructor only",
                    f"{name!r}, a name of the {_owners[name]}",
                    "Rename it.",
                )
                for name in clashes
            )
        )
    _owners.update(dict.fromkeys(names, kind))


class Registry(Mapping[str, type[T]], Generic[T]):
    """The classes of one kind that files and flags may name."""

    def __init__(self, kind: str, *classes: type[T]) -> None:
        self.kind = kind
        self._classes: dict[str, type[T]] = {}
        for cls in classes:
            self.register(cls)

    def register(self, cls: type[T]) -> type[T]:
        """Add a class under its own name (usable as a decorator).

        Raises:
            InputError: one of its hyperparameters has the name of another kind's.
        """
        claim(self.kind, list(hyperparameters(cls)), f"{self.kind} {cls.__name__}")
        self._classes[cls.__name__] = cls
        return cls

    def __getitem__(self, name: str) -> type[T]:
        """The class called `name`. Raises `InputError` with a suggestion where there is none."""
        try:
            return self._classes[name]
        except (KeyError, TypeError):
            rule = f"the {self.kind} is a known one"
            raise InputError(
                Problem(self.kind, rule, shown(name), did_you_mean(str(name), self._classes))
            ) from None

    def __contains__(self, name: object) -> bool:
        return name in self._classes

    def __iter__(self) -> Iterator[str]:
        return iter(self._classes)

    def __len__(self) -> int:
        return len(self._classes)
