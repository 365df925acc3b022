"""The documentation names tests, files and headings that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
PACKAGES = ("text_recognizer", "training", "tuning", "tests", "search_spaces", "benchmarks", "docs")


def anchors(page: Path) -> set[str]:
    """The headings of a page, as GitHub names them in links."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(
        r"src(?:set)?=\"([^\"]+)\"", text
    ):
        path, _, anchor = link.partition("#")
        if path.startswith("http"):
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("name", ["faults.md", "security.md"])
def test_every_row_names_a_test_that_exists(name: str) -> None:
    folder = {"faults.md": ROOT / "tests", "security.md": ROOT / "tests/security"}[name]
    found = re.findall(
        r"`([\w/]*test_\w+\.py)`", (ROOT / "docs" / name).read_text(encoding="utf-8")
    )
    assert len(found) > 20
    assert [
        one
        for one in found
        if not any((place / one).exists() for place in (folder, ROOT / "tests", ROOT))
    ] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_module_that_is_named_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = re.findall(rf"`((?:{'|'.join(PACKAGES)})/[\w/]+\.(?:py|md|yaml|json))`", text)
    assert [name for name in named if not (ROOT / name).exists()] == []
