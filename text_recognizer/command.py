"""Runs a command: prints an expected error as text, a bug with its traceback; sets an exit code.

What a command prints decides nothing: a closed pipe or terminal ends its output and not its work.
"""

from __future__ import annotations

import atexit
import errno
import io
import os
import shlex
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from text_recognizer.errors import BUG, InputError, RecogniserError, StorageError
from text_recognizer.text import printable_lines, reason_of, shown_path

INTERRUPTED = 130  # 128 + SIGINT, as a shell says it
AROUND = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)  # no bug of ours
NOBODY_READS = (errno.EPIPE, errno.EIO)  # the reader of a pipe has ended; the terminal was closed
OLDEST_PYTHON = (3, 11)
PROJECT = Path(__file__).resolve().parents[1]


class Output:
    """A text stream whose errors end nothing. `error` is the first one; from then on, what is
    written goes nowhere.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = stream or io.StringIO()  # None: it was closed at the start
        self.error: OSError | None = None
        with suppress(AttributeError):  # a name of a file may have characters that it cannot show
            stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        self._try(lambda: self.stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._try(self.stream.flush)

    def _try(self, step: Callable[[], Any]) -> None:
        try:
            step()
        except OSError as error:
            self.error = self.error or error
            # Python flushes what is still in the buffer at its end, and would complain.
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.stream.fileno())
            os.close(null)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def exit_code_of(main: Callable[[], int | None], *, output_is_result: bool = False) -> int:
    """Run a command and return its exit code. Errors are printed to stderr.

    Args:
        main: the command; None means 0. It may raise `RecogniserError` and `KeyboardInterrupt`.
        output_is_result: whether output that cannot be written is an error of the command.
    """
    with safe_output() as stdout, signals_raise():
        code = code_of(main)
        stdout.flush()
        if stdout.error and stdout.error.errno not in NOBODY_READS:
            print(f"error: the output cannot be written: {stdout.error.strerror}", file=sys.stderr)
            code = code or (StorageError.exit_code if output_is_result else 0)
    return code


def code_of(main: Callable[[], int | None]) -> int:
    """Run a command, print its error, and return its exit code."""
    if sys.version_info[:2] < OLDEST_PYTHON:
        print(f"error: {no_environment('Python 3.11 or newer')}", file=sys.stderr)
        return InputError.exit_code
    try:
        return main() or 0
    except RecogniserError as error:
        # The text may hold the name of a stranger's file, and that name control characters.
        print(printable_lines(f"error: {error}"), file=sys.stderr)
        return error.exit_code
    except (ImportError, OSError) as error:
        reason = surroundings(error)
        if reason is None:
            return bug()
        print(printable_lines(f"error: {reason}"), file=sys.stderr)
        return InputError.exit_code if isinstance(error, ImportError) else StorageError.exit_code
    except (KeyboardInterrupt, SystemExit) as end:
        if isinstance(end, SystemExit):
            if end.code == signal.SIGTERM:  # Ray's handler exits with the signal's number
                return 128 + signal.SIGTERM
            if isinstance(end.code, int) and end.code > 128:  # another signal, as a shell says it
                return end.code
            # Lightning turns Ctrl-C into an exit with 1. `--help` and the like exit without one.
            if not isinstance(end.__context__, KeyboardInterrupt):
                raise
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception:
        return bug()


def surroundings(error: ImportError | OSError) -> str | None:
    """What is wrong around the project: a package or a file system. None if it is the code."""
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{reason_of(error)}" if error.errno in AROUND else None
    if error.name and (PROJECT / error.name.partition(".")[0]).is_dir():
        return None
    if isinstance(error, ModuleNotFoundError):
        return no_environment(f"package {error.name!r}")
    reason: BaseException = error
    while cause := reason.__cause__ or reason.__context__:  # packages wrap it in advice
        reason = cause
    return f"a package cannot be loaded: {reason}"


def bug() -> int:
    """Print the exception that is being handled. Returns the exit code of a bug."""
    traceback.print_exc()
    print("error: this is a bug of ours; the lines above say where", file=sys.stderr)
    return BUG


def no_environment(missing: str) -> str:
    """What to do where something is missing: the wrong Python runs the command."""
    place, activate = PROJECT / ".venv", PROJECT / ".venv/bin/activate"
    # What is active, but lacks a package, is to be mended, not to be entered; so is one that was
    # made elsewhere, whose programs have that path in them.
    is_whole = False
    with suppress(OSError, UnicodeError):
        is_whole = Path(sys.prefix) != place and str(place) in activate.read_text("utf-8")
    make = "" if is_whole else f"make -C {shlex.quote(shown_path(PROJECT))} setup && "
    return (
        f"{sys.executable} has no {missing}. Use the project's environment: "
        f"{make}source {shlex.quote(shown_path(activate))}"
    )


@contextmanager
def safe_output() -> Iterator[Output]:
    """Within the block no error of stdout or stderr is raised. Yields stdout."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # it is closed: the next file to be opened would get all output
            os.open(os.devnull, os.O_RDWR)
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = stdout, stderr = Output(before[0]), Output(before[1])
    try:
        yield stdout
    finally:
        stdout.flush()
        stderr.flush()
        sys.stdout, sys.stderr = before


@contextmanager
def signals_raise() -> Iterator[None]:
    """Within the block SIGTERM and SIGHUP raise `SystemExit`, so that the command cleans up.

    SIGHUP stays ignored if it was ignored at the start (nohup).
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old = {
        number: signal.signal(number, raise_exit)
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) == signal.SIG_DFL
    }
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def raise_exit(number: int, frame: FrameType | None) -> NoReturn:
    """Exit with the code that shells have for a signal."""
    raise SystemExit(128 + number)


def leave(code: int) -> NoReturn:
    """End the process like `sys.exit`, without freeing memory: torch's modules take two seconds."""
    # `os._exit` skips these: the exit handlers (Ray stops its processes in one) and the flush.
    with safe_output():
        atexit._run_exitfuncs()
    os._exit(code)
