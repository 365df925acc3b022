"""A search seen from outside while it runs: its token, its sockets, the permissions of its files,
its secrets.
"""

from __future__ import annotations

import stat

import grpc
import psutil

from tests.security.conftest import SECRETS, Watched, contents, on_loopback


def test_the_search_ended_well(watched: Watched) -> None:
    assert watched.code == 0, watched.said


def test_a_job_is_taken_from_nobody_without_the_token(watched: Watched) -> None:
    """The environment has an empty `RAY_AUTH_MODE`. Ray takes that for no authentication."""
    assert watched.dashboard["the token"] == 200
    assert watched.dashboard["nothing"] == 401
    assert watched.dashboard["another"] in (401, 403)
    assert [
        status for answers in watched.ports.values() for status in answers if 200 <= status < 300
    ] == []
    assert sum(401 in answers for answers in watched.ports.values()) >= 2, (
        "the dashboard and its agent were asked"
    )


def test_rays_own_ports_refuse_calls_without_the_token(watched: Watched) -> None:
    refusals = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNIMPLEMENTED}
    # of those that do not speak it
    silent = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
    assert [port for port, codes in watched.calls.items() if codes - refusals - silent] == []
    assert sum(grpc.StatusCode.UNAUTHENTICATED in codes for codes in watched.calls.values()) >= 3, (
        "GCS, raylet, driver"
    )


def test_the_token_is_its_owners_alone_and_is_told_to_nobody(watched: Watched) -> None:
    assert (watched.home / ".ray/auth_token").read_text() == watched.token, "the user's own is used"
    assert stat.S_IMODE((watched.home / ".ray/auth_token").stat().st_mode) == 0o600, "it was 0644"
    assert watched.token not in watched.said
    places = contents(watched.folder.path) | watched.running | contents(watched.session)
    assert [path for path, content in places.items() if watched.token.encode() in content] == []


def test_everything_listens_on_this_machine_only(watched: Watched) -> None:
    listening = [
        one
        for one in watched.sockets
        if one.state == psutil.CONN_LISTEN or one.kind == "SOCK_DGRAM"
    ]
    names = " ".join(one.process for one in listening)
    assert all(
        name in names for name in ("gcs_server", "raylet", "DashboardAgent", "ray::space", "python")
    ), "all were seen"
    assert [one for one in listening if not on_loopback(one.local)] == []


def test_nobody_calls_home(watched: Watched) -> None:
    assert [one for one in watched.sockets if one.remote and not on_loopback(one.remote)] == []
    told = {
        name: {one.get("RAY_USAGE_STATS_ENABLED") for one in each}
        for name, each in watched.environments.items()
    }
    assert told["raylet"] == told["gcs_server"] == {"0"}, "though the user's environment says 1"


def test_a_run_is_its_owners_alone(watched: Watched) -> None:
    """During the search and after it, with umask 0."""
    for modes in (watched.modes_running, watched.modes):
        assert modes[watched.folder.path] == 0o700
        assert [(path, oct(mode)) for path, mode in modes.items() if mode & 0o077] == []
    assert {path.parent.name for path in watched.modes_running} > {
        "seen",
        "trials",
        "tensorboard",
    }, "there was something"


def test_rays_own_folder_can_be_entered_by_its_owner_alone(watched: Watched) -> None:
    """Ray makes its folder 0777. Its sockets and logs would let another user into the search."""
    parents = [watched.session, *watched.session.parents]
    assert any(stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 for path in parents), [
        oct(path.stat().st_mode) for path in parents
    ]


def test_no_secret_of_the_environment_is_in_a_file_or_was_said(watched: Watched) -> None:
    places = contents(watched.folder.path) | watched.running
    assert len(places) > 20
    for secret in SECRETS.values():
        assert secret not in watched.said
        assert [path for path, content in places.items() if secret.encode() in content] == []
