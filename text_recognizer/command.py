"""Ends a command: prints an expected error as text, a bug with its traceback; sets an exit code."""

import atexit
import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from text_recognizer.errors import BUG, RecogniserError
from text_recognizer.text import printable_lines

INTERRUPTED = 130  # 128 + SIGINT, as a shell says it


def exit_code_of(main: Callable[[], int | None]) -> int:
    """Run a command and return its exit code. Errors are printed to stderr.

    Args:
        main: the command; None means 0. It may raise `RecogniserError` and `KeyboardInterrupt`.
    """
    try:
        return main() or 0
    except RecogniserError as error:
        # The text may hold the name of a stranger's file, and that name control characters.
        print(printable_lines(f"error: {error}"), file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # The reader of our output (`head`, say) has closed it. Python flushes stdout once more at
        # its end, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (KeyboardInterrupt, SystemExit) as end:
        if isinstance(end, SystemExit):
            if end.code == signal.SIGTERM:  # Ray's handler, and ours, exit with the signal's number
                return 128 + signal.SIGTERM
            if isinstance(end.code, int) and end.code > 128:  # another signal, as a shell says it
                return end.code
            # Lightning turns Ctrl-C into an exit with 1. `--help` and the like exit without one.
            if not isinstance(end.__context__, KeyboardInterrupt):
                raise
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception:
        traceback.print_exc()
        print("error: this is a bug of ours; the lines above say where", file=sys.stderr)
        return BUG


def leave(code: int) -> NoReturn:
    """End the process like `sys.exit`, without freeing memory: torch's modules take two seconds."""
    # `os._exit` skips these: the exit handlers (Ray stops its processes in one) and the flush.
    atexit._run_exitfuncs()
    with suppress(BrokenPipeError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
