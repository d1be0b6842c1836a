"""The `signspool` command: where it begins, and where errors end."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence

WRONG, MISUSED, INTERRUPTED = 1, 2, 130

try:
    from shared.errors import SettingsError, SignspoolError, UsageError
    from signspool.application import app
    from signspool.output import complain
except KeyboardInterrupt:
    # They take so long that people change their minds meanwhile.
    raise SystemExit(INTERRUPTED) from None

__all__ = ["app", "main", "run"]


def run(arguments: Sequence[str]) -> int:
    """Run one command; returns its exit code. Every deliberate error becomes a line on standard error."""
    try:
        app(list(arguments), prog_name="signspool")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except (SettingsError, UsageError) as error:
        complain(str(error))
        return MISUSED
    except (SignspoolError, OSError) as error:
        complain(str(error))
        return WRONG
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def main() -> None:
    """Run the command that the arguments of this process name, and end the process."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a letter still shows the rest.
            stream.reconfigure(errors="backslashreplace")
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has enough; the interpreter must not try to flush it again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = code or WRONG
    sys.exit(code)
