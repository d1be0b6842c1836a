"""Bad weather on request: what goes wrong with which requests, and how often."""

from __future__ import annotations

import threading
from dataclasses import MISSING, fields, replace
from enum import StrEnum
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

Peer = Literal["arqsign", "ssign", "certisign", "restpki", "posten", "smartshare", "dms", "s3"]
"""Who a request is sent to."""


class StormKind(StrEnum):
    """What goes wrong."""

    DELAY = "delay"
    """Waits `seconds`, then acts and answers as usual; it acts even if the caller has hung up by then."""
    STATUS = "status"
    """Answers `status` (503), with Retry-After if `retry_after_seconds` is given."""
    SILENCE = "silence"
    """Sends nothing for `seconds`, then closes the connection without an answer."""
    RESET = "reset"
    """Resets the connection."""
    TRUNCATED = "truncated"
    """Acts; announces the whole answer, sends half of its body and closes."""
    DRIP = "drip"
    """Acts; sends the body in pieces of `chunk_bytes`, with `seconds` before each."""
    ENDLESS = "endless"
    """Acts; goes on sending after the body until the caller hangs up."""
    REDIRECT = "redirect"
    """Answers `status` (302) with `location`."""
    HTML = "html"
    """Answers 200 with a page for people, as a careless proxy does."""
    ERROR_IN_200 = "error_in_200"
    """Answers 200 with `{"erro": message}`."""
    WRONG_TOKEN = "wrong_token"  # noqa: S105  (a kind of storm, no secret)
    """Answers as if the caller had sent a wrong token."""


_USED: dict[StormKind, frozenset[str]] = {
    StormKind.DELAY: frozenset({"seconds"}),
    StormKind.STATUS: frozenset({"status", "retry_after_seconds", "after_acting"}),
    StormKind.SILENCE: frozenset({"seconds", "after_acting"}),
    StormKind.RESET: frozenset({"after_acting"}),
    StormKind.TRUNCATED: frozenset(),
    StormKind.DRIP: frozenset({"seconds", "chunk_bytes"}),
    StormKind.ENDLESS: frozenset(),
    StormKind.REDIRECT: frozenset({"status", "location", "after_acting"}),
    StormKind.HTML: frozenset({"after_acting"}),
    StormKind.ERROR_IN_200: frozenset({"message", "after_acting"}),
    StormKind.WRONG_TOKEN: frozenset(),
}
_ALWAYS_USED = frozenset({"peer", "kind", "path", "times"})


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Storm:
    """One kind of trouble for one peer.

    `path` limits it to requests whose path or query contains this text. `times` is how many requests it
    strikes, None for every one. `after_acting` does what was asked for first, so that the caller cannot know.
    A field that means nothing to the kind is refused.
    """

    peer: Peer
    kind: StormKind
    path: str = ""
    times: int | None = Field(default=1, ge=1)
    seconds: float = Field(default=0.0, ge=0, le=3600)
    after_acting: bool = False
    status: int | None = Field(default=None, ge=200, le=599)
    retry_after_seconds: int | None = Field(default=None, ge=0)
    location: str = Field(default="http://elsewhere.invalid/", pattern=r"^[!-~]+$")
    message: str = "o banco de dados não respondeu"
    chunk_bytes: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _no_field_in_vain(self) -> Self:
        for name in _DEFAULTS.keys() - _USED[self.kind] - _ALWAYS_USED:
            if getattr(self, name) != _DEFAULTS[name]:
                used = ", ".join(sorted(_USED[self.kind])) or "no further key"
                raise ValueError(f"{name} means nothing to {self.kind}, which takes {used}")
        return self


def _default_of(default: Any) -> Any:
    # Before pydantic has seen a dataclass, a default may be wrapped in its Field.
    return default.default if hasattr(default, "default") else default


_DEFAULTS = {
    field.name: _default_of(field.default) for field in fields(Storm) if field.default is not MISSING
}
_STORMS = TypeAdapter(list[Storm])


def storms_from(value: object) -> list[Storm]:
    """The storms that decoded JSON describes: one object, or a list of them.

    Raises:
        ValueError: it does not; the message names the wrong key.
    """
    try:
        return _STORMS.validate_python(value if isinstance(value, list) else [value])
    except ValidationError as error:
        raise ValueError("; ".join(map(_complaint, error.errors()))) from None


def _complaint(error: Any) -> str:
    place, *keys = error["loc"] or (0,)
    where = f"storm {int(place) + 1}" + "".join(f", key {key!r}" for key in keys)
    if error["type"] == "unexpected_keyword_argument":
        return f"{where}: not known; known are {', '.join(field.name for field in fields(Storm))}"
    return f"{where}: {error['msg'].removeprefix('Value error, ')}"


class Weather:
    """The storms that wait for requests. Safe to change from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._storms: list[Storm] = []

    @property
    def storms(self) -> list[Storm]:
        """What still waits, in order; `times` counts what is left."""
        with self._lock:
            return list(self._storms)

    def add(self, *storms: Storm) -> None:
        """Let these wait behind the ones already there."""
        with self._lock:
            self._storms.extend(storms)

    def clear(self) -> None:
        """Fair weather from now on; requests already struck stay struck."""
        with self._lock:
            self._storms.clear()

    def next(self, peer: Peer, path: str) -> Storm | None:
        """The first storm for a request, used up by one; None in fair weather.

        `path` is the path and, after a question mark, the query as it was sent.
        """
        with self._lock:
            for place, storm in enumerate(self._storms):
                if storm.peer != peer or storm.path not in path:
                    continue
                if storm.times == 1:
                    del self._storms[place]
                elif storm.times is not None:
                    self._storms[place] = replace(storm, times=storm.times - 1)
                return storm
        return None
