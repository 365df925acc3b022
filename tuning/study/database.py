"""The address of a study's database: what is one, and no text of it has the password. Quick to
import: flags are judged by it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from text_recognizer.errors import Problem
from text_recognizer.text import shown

DRIVER = "postgresql+psycopg"
PORT = 5432  # where none is named
RULE = "postgresql://USER@HOST:PORT/DATABASE"
SECRETS = ("password", "sslpassword")  # what libpq also takes from a URL's query
# in a URL, in what was meant for one, and among its parameters; at least what SQLAlchemy takes for
# one
PASSWORDS = (
    re.compile(r"(://[^:/]*:).*(?=@)", re.DOTALL),
    re.compile(r"^(?!.*://)([^:/]*:).*(?=@)", re.DOTALL),
    re.compile(r"(password=)[^&]*", re.IGNORECASE),
)


@dataclass(frozen=True)
class StorageUrl:
    """Of a database, as the user gave it; a text of it has no password."""

    url: URL

    @classmethod
    def parse(cls, text: str) -> StorageUrl:
        """A PostgreSQL database. Raises `ValueError` with the rule."""
        try:
            url = make_url(re.sub(r"^postgres(ql)?(\+psycopg)?://", f"{DRIVER}://", text))
            if url.drivername != DRIVER or not url.database or not text.isprintable():
                raise ValueError
            url.render_as_string()
        except (ArgumentError, ValueError):
            raise ValueError(RULE) from None
        return cls(url)

    def __str__(self) -> str:
        """What may be written down: without secrets, and with a name of the driver that all
        tools know.
        """
        bare = URL.create(
            "postgresql",
            self.url.username,
            None,
            self.url.host,
            self.url.port,
            self.url.database,
            self.url.query,
        )
        return bare.difference_update_query(SECRETS).render_as_string()

    @property
    def server(self) -> tuple[str | None, int, str | None]:
        """Host, port and database: what makes two addresses the same one."""
        return self.url.host, self.url.port or PORT, self.url.database

    @property
    def has_secret(self) -> bool:
        return bool(self.url.password) or any(name in self.url.query for name in SECRETS)

    @property
    def engine_url(self) -> str:
        return self.url.render_as_string(hide_password=False)


def without_passwords(text: str) -> str:
    """A text that may hold a URL, as it may be written down."""
    for pattern in PASSWORDS:
        text = pattern.sub(r"\1***", text)
    return text


def storage_problem(text: str) -> Problem | None:
    """What keeps `text` from being a study's storage; it is shown without its password."""
    try:
        StorageUrl.parse(text)
    except ValueError as error:
        hint = "SQLite in the run's folder is the default: leave the flag out."
        return Problem("--storage", str(error), shown(without_passwords(text)), hint)
    return None


def sqlite_url(path: Path) -> str:
    """The address of a SQLite file, whatever characters its path has."""
    return URL.create("sqlite", database=str(path)).render_as_string()
