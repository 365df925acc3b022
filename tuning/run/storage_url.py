"""The URL of a study's database. It is checked before Optuna is imported."""

from __future__ import annotations

import re
from dataclasses import dataclass

from text_recognizer.errors import InputError, Problem
from text_recognizer.text import shown

FORM = re.compile(
    r"postgres(?:ql)?(?:\+psycopg)?://((?:[^:/@?#\s]*@)?(\[[\da-fA-F:]+\]|[^:/@?#\s\[\]]*)"
    r"(?::([0-9]{1,5}))?/([^/@?#\s]+)(?:\?[^#\s]*)?)"
)
PASSWORD = re.compile(r"://[^/@]*:.*@|password=", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class StorageUrl:
    """The URL of a PostgreSQL database; it has no password.

    Args:
        rest: the URL after `postgresql://`.
        server: host, port and database; two URLs with the same ones are the same database.
    """

    rest: str
    server: tuple[str, str, str]

    @classmethod
    def parse(cls, text: str) -> StorageUrl:
        """Read `postgresql://USER@HOST:PORT/DATABASE`; user, host and port may be missing.

        Raises:
            InputError: it is another text, or has a password. The password is not shown.
        """
        if PASSWORD.search(text):
            raise InputError(
                "--storage: a password in the URL is refused; set PGPASSWORD, or use ~/.pgpass."
            )
        found = FORM.fullmatch(text)
        if not found:
            hint = "Without the flag the study is an SQLite file in the run's folder."
            rule = "postgresql://USER@HOST:PORT/DATABASE"
            # a password may stand before an @, even in a text that is no URL
            got = re.sub(".*@", "…@", text, flags=re.DOTALL)
            raise InputError(Problem("--storage", rule, shown(got), hint))
        rest, host, port, database = found.groups()
        return cls(rest, (host, port or "5432", database))  # PostgreSQL's default port

    def __str__(self) -> str:
        """The URL as all tools know it."""
        return f"postgresql://{self.rest}"

    @property
    def engine_url(self) -> str:
        """The URL as SQLAlchemy takes it, with the name of the driver."""
        return f"postgresql+psycopg://{self.rest}"
