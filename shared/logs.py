"""The log of both tiers: structlog, one line an event, on standard error."""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog
from structlog.typing import Processor

Format = Literal["auto", "json", "console"]

# The lines of the first two carry whole addresses, in which secrets may stand; those of the others say at
# every start, or at every file, what nobody needs to know.
_TALKATIVE = ("httpx", "httpcore", "alembic", "watchfiles")
# Their own handlers would write every line twice, and in another form.
_OWN_HANDLERS = ("uvicorn", "uvicorn.error", "uvicorn.access", "sqlalchemy", "alembic")


def configure(form: Format = "auto", level: str = "info") -> None:
    """Send the program's lines and those of the libraries through one renderer to standard error.

    `auto` is `console` on a terminal and `json` elsewhere. To be called once, at the start of a process.

    Raises:
        KeyError: there is no such level.
    """
    threshold = logging.getLevelNamesMapping()[level.upper()]
    as_json = form == "json" or (form == "auto" and not sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendering = _json_rendering() if as_json else _console_rendering()
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    _route_libraries(shared, rendering, threshold)


def _json_rendering() -> list[Processor]:
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]


def _console_rendering() -> list[Processor]:
    # Tracebacks without the values of variables: those may hold a secret.
    return [
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    ]


def _route_libraries(shared: list[Processor], rendering: list[Processor], threshold: int) -> None:
    """Give lines of the standard library's loggers the same form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name, structlog.stdlib.ExtraAdder(())],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
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
