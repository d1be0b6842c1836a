"""The log of both tiers: structlog, one line an event, on standard error."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, Literal, TextIO, cast

import orjson
import structlog
from structlog.processors import format_exc_info
from structlog.typing import Processor

from shared.masking import learn_secrets, mask_all

Format = Literal["auto", "json", "console"]

# The lines of the first two carry whole addresses, in which secrets may stand; those of the others say at
# every start, or at every file, what nobody needs to know.
_TALKATIVE = ("httpx", "httpcore", "alembic", "watchfiles")
# Their own handlers would write every line twice, and in another form.
_OWN_HANDLERS = ("uvicorn", "uvicorn.error", "uvicorn.access", "sqlalchemy", "alembic")


def configure(form: Format = "auto", level: str = "info", *, secrets: Iterable[str] = ()) -> None:
    """Send the program's lines and those of the libraries through one renderer to standard error.

    `auto` is `console` on a terminal and `json` elsewhere. No line holds one of the `secrets`, or a number of
    a person. To be called once, at the start of a process.

    Raises:
        KeyError: there is no such level.
    """
    global _write_frequent  # noqa: PLW0603  (as structlog's own settings, it is the process' alone)
    learn_secrets(secrets)
    threshold = logging.getLevelNamesMapping()[level.upper()]
    as_json = form == "json" or (form == "auto" and not sys.stderr.isatty())
    stamp = _Stamp()
    shared: list[Processor] = [stamp]
    rendering = _json_rendering() if as_json else _console_rendering()
    if as_json and is_journal(sys.stderr):
        rendering.append(_with_priority)
    lines = GroupedLines(sys.stderr)
    output = cast("TextIO", lines)
    # The name of an event of ours is written in the program, and needs no look.
    blot = _Blot(_OURS | {"event"})
    structlog.configure(
        processors=[*shared, format_exc_info, blot, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(output),
        cache_logger_on_first_use=True,
    )
    if as_json:
        mark = _with_priority(None, "info", "") if is_journal(sys.stderr) else ""

        def write(line: dict[str, Any]) -> None:
            if threshold <= logging.INFO:
                stamp(None, "info", line)
                lines.write(f"{mark}{_as_json(blot(None, 'info', line), str)}\n")
                lines.flush()

        _write_frequent = write
    _route_libraries(shared, rendering, threshold, output)


def _write_by_structlog(line: dict[str, Any]) -> None:
    structlog.get_logger().info(**line)


_write_frequent: Callable[[dict[str, Any]], None] = _write_by_structlog


def frequent(event: str, **fields: Any) -> None:
    """An `info` line about what happens all the time: structlog's own, in a third of the time."""
    fields["event"] = event
    _write_frequent(fields)


class _Stamp:
    """Adds level and time to a line, the time in UTC with microseconds.

    A line is written for every callback, and this takes a quarter of the time of the library's own two steps:
    the second is put into words once for all of its lines.
    """

    def __init__(self) -> None:
        self._known: tuple[int, str] = (0, "")

    def __call__(self, _logger: object, level: str, line: MutableMapping[str, Any]) -> Mapping[str, Any]:
        nanoseconds = time.time_ns()
        second, rest = divmod(nanoseconds, 10**9)
        known, words = self._known
        if known != second:
            words = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
            self._known = (second, words)
        line["level"] = _level_of(level)
        line["timestamp"] = f"{words}.{rest // 1000:06}Z"
        return line


def _level_of(method: str) -> str:
    """The level of a line, by the method that was called for it."""
    return "warning" if method == "warn" else "error" if method == "exception" else method


# Fields whose values we made ourselves, or that are numbers.
_OURS = frozenset(
    {
        "level",
        "timestamp",
        "logger",
        "provider",
        "receipt",
        "bytes",
        "duration_ms",
        "status",
        "delivery",
        "attempt",
    }
)


class _Blot:
    """Blots out secrets and numbers of persons in every field but those that are trusted."""

    def __init__(self, trusted: frozenset[str]) -> None:
        self._trusted = trusted

    def __call__(
        self, _logger: object, _level: str, line: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        # The line of an accepted callback, of which there are many, needs no closer look.
        if not self._trusted.issuperset(line):
            for name in line.keys() - self._trusted:
                line[name] = mask_all(line[name])
        return line


_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}


def is_journal(stream: TextIO) -> bool:
    """Whether a stream goes to systemd's journal, which then says so in the environment."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _with_priority(_logger: object, level: str, line: Any) -> str:
    """A rendered line, marked for the journal, which takes the mark off: `journalctl -p warning` finds it."""
    return f"<{_PRIORITIES.get(_level_of(level), 6)}>{line}"


class GroupedLines:
    """A text stream that writes the lines of one turn of an event loop together.

    Outside of an event loop every `flush` writes. Lines that cannot be written are dropped: a full disk or a
    closed pipe behind the log is no reason to refuse a callback, and there is nobody else to tell.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines: deque[str] = deque()
        self._writing = threading.Lock()
        self._is_due = False
        atexit.register(self._write_out)

    def write(self, text: str) -> int:
        """Take a text; `flush` has to follow."""
        self._lines.append(text)
        return len(text)

    def flush(self) -> None:
        """See to it that what was taken is written."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._write_out()
            return
        if not self._is_due:
            self._is_due = True
            loop.call_soon(self._write_out)

    def _write_out(self) -> None:
        # What is laid down after the mark is taken away is written by whoever laid it down.
        self._is_due = False
        with self._writing:
            text = "".join([self._lines.popleft() for _ in range(len(self._lines))])
            if text:
                with contextlib.suppress(OSError, ValueError):
                    self._stream.write(text)
                    self._stream.flush()


def _as_json(line: Mapping[str, Any], default: Callable[[Any], Any]) -> str:
    try:
        return orjson.dumps(line, default=default).decode()
    except TypeError:
        # Half a surrogate pair, or a number beyond 64 bits, is nothing that it writes.
        return json.dumps(line, default=default)


def _json_rendering() -> list[Processor]:
    return [structlog.processors.JSONRenderer(serializer=_as_json)]


def _console_rendering() -> list[Processor]:
    # Tracebacks without the values of variables: those may hold a secret.
    return [
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    ]


def _route_libraries(
    shared: list[Processor], rendering: list[Processor], threshold: int, output: TextIO
) -> None:
    """Give lines of the standard library's loggers the same form."""
    handler = logging.StreamHandler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name, structlog.stdlib.ExtraAdder(())],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                format_exc_info,
                _Blot(_OURS),
                *rendering,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(threshold)
    for name in _OWN_HANDLERS:
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(threshold, logging.WARNING))
