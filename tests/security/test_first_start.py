"""The token of a Ray that is started for the first time in a home. In `test_running.py` the home
has a token that everybody can read.
"""

from __future__ import annotations

import re
import secrets
import stat
from pathlib import Path

from tests.conftest import FirstStart
from tests.security.conftest import contents


def test_a_new_token_is_its_owners_alone(first_start: FirstStart) -> None:
    folder, ran = first_start.home / ".ray", first_start.ran
    assert "a call without the token StatusCode.UNAUTHENTICATED" in ran.output
    assert "mode 0o600" in ran.output
    assert stat.S_IMODE(folder.stat().st_mode) & 0o022 == 0, "nobody else puts another in its place"
    token = (folder / "auth_token").read_text()
    assert len(token) == len(secrets.token_hex(32))
    assert token not in ran.output + ran.errors
    session = re.search(r"^session (.+)$", ran.output, re.MULTILINE)
    assert session
    places = contents(Path(session[1]))
    assert places, "there is something to look at"
    assert [path for path, content in places.items() if token.encode() in content] == []
