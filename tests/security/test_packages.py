"""The lock file: one version and hashes for each package, no hosts, no malicious releases."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MALICIOUS = ("2.6.2", "2.6.3")


def locked() -> dict[str, tuple[Requirement, list[str]]]:
    """Each requirement of the lock with its hashes."""
    entries = [entry.split(" \\\n") for entry in re.split(r"\n(?! )", LOCK.strip())]
    found = [(Requirement(first), [line.strip() for line in rest]) for first, *rest in entries]
    return {str(canonicalize_name(one.name)): (one, rest) for one, rest in found}


def test_every_requirement_is_one_version_with_its_hashes() -> None:
    found = locked()
    assert len(found) > 100
    assert {
        name
        for name, (one, _) in found.items()
        if [spec.operator for spec in one.specifier] != ["=="]
    } == set()
    pattern = re.compile("--hash=sha256:[0-9a-f]{64}")
    assert {
        name
        for name, (_, sums) in found.items()
        if not sums or not all(map(pattern.fullmatch, sums))
    } == set()


def test_it_names_no_host_and_no_file() -> None:
    """The installer decides where packages come from. A lock file must not."""
    assert (
        re.findall(
            r"https?:|git\+|file:| @ |--(?:index|extra-index|find-links|trusted-host)\S*|^-[^-]\S*",
            LOCK,
            re.MULTILINE,
        )
        == []
    )


@pytest.mark.parametrize("version", MALICIOUS)
def test_malicious_releases_are_excluded_here_and_there(version: str) -> None:
    wanted = next(
        Requirement(text)
        for text in PROJECT["dependencies"]
        if text.startswith("pytorch-lightning")
    )
    assert not wanted.specifier.contains(version)
    assert wanted.specifier.contains("2.6.6")
    assert not locked()["pytorch-lightning"][0].specifier.contains(version)


def test_there_is_one_lightning() -> None:
    """If both are installed, Ray's own callback takes `lightning`."""
    extras = [text for texts in PROJECT["optional-dependencies"].values() for text in texts]
    named = {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"] + extras}
    installed = {canonicalize_name(one.metadata["Name"]) for one in distributions()}
    for names in (named, locked(), installed):
        assert "lightning" not in names
        assert "pytorch-lightning" in names


def test_nothing_that_sends_reports_of_its_own_is_installed() -> None:
    """Lightning's logger for its vendor's site, and the usual telemetry packages."""
    installed = {canonicalize_name(one.metadata["Name"]) for one in distributions()}
    assert (
        installed
        & {"litlogger", "lightning-sdk", "sentry-sdk", "posthog", "analytics-python", "wandb"}
        == set()
    )
