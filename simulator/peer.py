"""What all peers share: files they keep, how they read a request, and how they refuse one."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

from starlette.requests import Request
from starlette.responses import Response


class PeerError(Exception):
    """A peer refuses, with an HTTP status and a sentence; each peer puts it into its own form."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class NotReady(StrEnum):
    """How a provider answers a request for a signed file that is not there yet."""

    NOT_FOUND = "not_found"
    """404."""
    CONFLICT = "conflict"
    """409."""
    EMPTY = "empty"
    """200 with an empty body, or with `bytes` null."""


@dataclass(frozen=True)
class StoredFile:
    """A file that a peer keeps."""

    name: str
    media_type: str
    content: bytes = field(repr=False)

    @cached_property
    def sha256(self) -> str:
        """Digest of the content, in hex."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def summary(self) -> dict[str, Any]:
        """The file without its content."""
        return {"name": self.name, "sizeBytes": len(self.content), "sha256": self.sha256}


def refusing(form: Callable[[str, int], Response]) -> Mapping[Any, Callable[..., Awaitable[Response]]]:
    """Exception handlers that put a refusal's sentence and status into a peer's own form."""

    async def refuse(_request: Request, error: PeerError) -> Response:
        return form(str(error), error.status)

    return {PeerError: refuse}


async def json_object(request: Request) -> dict[str, Any]:
    """The JSON object in a request's body.

    Raises:
        PeerError: 400, it is none.
    """
    try:
        value = json.loads(await request.body())
    except ValueError as error:
        raise PeerError(400, f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise PeerError(400, "the body must be a JSON object")
    return value


def need(mapping: dict[str, Any], *names: str) -> None:
    """Return when every name has a value that is neither null nor empty.

    Raises:
        PeerError: 400, naming the first that has none.
    """
    for name in names:
        if mapping.get(name) in (None, "", [], {}):
            raise PeerError(400, f"{name} is missing")


def whole_number(value: object, name: str) -> int:
    """A whole number, given as such or as text.

    Raises:
        PeerError: 400, it is none.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        return int(value)
    raise PeerError(400, f"{name} must be a whole number")


def content_of(value: object, name: str) -> bytes:
    """File content that came in JSON, as base64 text or as a list of integers.

    Raises:
        PeerError: 400, it is neither.
    """
    try:
        if isinstance(value, str):
            return base64.b64decode(value, validate=True)
        if isinstance(value, list):
            return bytes(value)
    except (binascii.Error, TypeError, ValueError):
        raise PeerError(400, f"{name} is neither base64 nor a list of integers from 0 to 255") from None
    raise PeerError(400, f"{name} must be base64 or a list of integers")
