"""How a command ends: expected errors as text, bugs with their traceback, and an exit code for
each.
"""

from __future__ import annotations

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

INTERRUPTED = 130


def exit_code_of(main: Callable[[], int | None]) -> int:
    """Run a command; print an expected error as text, a bug with its traceback; return the exit
    code.
    """
    try:
        return main() or 0
    except RecogniserError as error:
        print(printable_lines(f"error: {error}"), file=sys.stderr)  # a path in it may hold anything
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        # or Python complains when it flushes at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SystemExit as end:
        if end.code == signal.SIGTERM:  # so Ray's handler ends a process, and ours
            return 128 + signal.SIGTERM
        if not isinstance(end.__context__, KeyboardInterrupt):
            raise
        print("interrupted", file=sys.stderr)  # Lightning turns Ctrl-C into an exit with 1
        return INTERRUPTED
    except Exception:
        traceback.print_exc()
        print("error: this is a bug of ours; the lines above say where", file=sys.stderr)
        return BUG


def leave(code: int) -> NoReturn:
    """End the process as `sys.exit` does, but leave its memory to the system: taking torch's
    modules apart takes two seconds.
    """
    atexit._run_exitfuncs()
    with suppress(BrokenPipeError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
