"""Ray's files of this user, readable for nobody else: its folder, its token, a home for both."""

import os
import pwd
import secrets
import shutil
import tempfile
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

import psutil

from text_recognizer.errors import ClusterError, InputError, Problem
from text_recognizer.text import reason_of

KEEP_SESSIONS_S = 7 * 24 * 3600.0  # Ray's logs of a search may be asked for later
LONGEST_SOCKET = 107  # bytes of a socket's path
LONGEST_PATH = LONGEST_SOCKET - len(
    "/ray/session_2026-11-27_12-00-00_000000_4194304/sockets/plasma_store"
)
LONGEST_TMPDIR = LONGEST_SOCKET - len("/pymp-00000000/listener-00000000")  # of Ray's dashboard


def ensure_home() -> None:
    """Give this process and its children a home if it has none: a user id without a password entry.

    Ray writes its token there, and cannot even be imported without one. Paths for Ray in the
    environment become absolute: Ray is started in another folder.
    """
    for name in ("RAY_TMPDIR", "RAY_AUTH_TOKEN_PATH"):
        if path := os.environ.get(name):
            os.environ[name] = str(Path(path).absolute())
    try:
        Path.home()
    except RuntimeError:
        home = private_folder()
        os.environ["HOME"] = str(home)
        os.environ.setdefault("RAY_AUTH_TOKEN_PATH", str(home / "auth_token"))
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        os.environ.setdefault("USER", str(os.getuid()))  # libraries ask for the name, and some fail


def shorten_tmpdir() -> None:
    """Name another folder of temporary files to Ray's processes if this one does not suit."""
    try:
        usable = len(os.fsencode(tempfile.gettempdir())) <= LONGEST_TMPDIR
    except FileNotFoundError:  # none can be written
        usable = False
    if not usable:
        os.environ["TMPDIR"] = str(private_folder())


def private_folder() -> Path:
    """A folder for Ray's sockets and logs that only this user can reach.

    Raises:
        InputError: its path is too long.
        ClusterError: it cannot be made.
    """
    return make_private(os.environ.get("RAY_TMPDIR") or "/tmp")


@cache  # one folder for a process, also where it gets a name of its own
def make_private(parent: str) -> Path:
    """The folder in `parent`; see `private_folder`."""
    # Ray makes its folder 0777 (ray-project/ray#4593), so it lies inside a private one.
    path = Path(parent) / f"ray-{os.getuid()}"
    if len(os.fsencode(path)) > LONGEST_PATH:
        rule = f"a folder whose path has at most {LONGEST_PATH - len(path.name) - 1} bytes"
        raise InputError(Problem("RAY_TMPDIR", rule, parent, "The system's sockets allow no more."))
    try:
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        # Another user may have made a folder or a link of this name first.
        if path.lstat().st_uid != os.getuid():
            path = Path(tempfile.mkdtemp(prefix="ray-", dir=parent))
        path.chmod(0o700)
    except OSError as error:
        raise ClusterError(
            f"Ray cannot start: {path}: {reason_of(error)}. Set RAY_TMPDIR to a folder that can be "
            "written, such as /dev/shm."
        ) from None
    return path


def swept_folder() -> Path:
    """Ray's own folder, without what it left there a week ago or earlier: it never deletes that."""
    folder = private_folder() / "ray"
    for session in folder.glob("session_2*"):
        pid = session.name.rpartition("_")[2]
        with suppress(OSError):
            old = session.lstat().st_mtime < time.time() - KEEP_SESSIONS_S
            if old and pid.isdecimal() and not psutil.pid_exists(int(pid)):
                shutil.rmtree(session, ignore_errors=True)
    return folder


def keep_the_token_private() -> None:
    """Make Ray's token file readable for its owner only, and create it if it is missing."""
    # Who has the token can run code in the cluster. Ray creates the file readable for all users.
    if os.environ.get("RAY_AUTH_TOKEN"):
        return
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    try:
        make_token(Path(named) if named else Path.home() / ".ray" / "auth_token")
    except OSError as error:
        if named:
            raise ClusterError(
                f"Ray cannot start: RAY_AUTH_TOKEN_PATH: {named}: {reason_of(error)}. Name a file "
                "that can be written, or leave it out."
            ) from None
        # a home that cannot be written, as containers have it
        path = private_folder() / "auth_token"
        make_token(path)
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(path)


def make_token(path: Path) -> None:
    """Create a file with a token that only its owner can read, if there is none."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        # The file appears when it is whole: a process that starts now must not read half a token.
        with (
            suppress(FileExistsError),
            tempfile.NamedTemporaryFile("w", dir=path.parent) as file,  # mode 0600
        ):
            file.write(secrets.token_hex(32))
            file.flush()
            os.link(file.name, path)
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)
