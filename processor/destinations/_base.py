"""The contract of a destination, and the values that are handed to one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from shared.events import DocumentStatus
from shared.providers._base import FileKind

Sending = Callable[[], Awaitable[None]]
"""Awaited right before the one request, or rename, that has the effect. It writes down that the effect may
have happened from now on; everything before it (login, templates, reading) is repeated freely."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The document that a delivery or a workflow step is about.

    `references` are the provider's, `dms` the document management system's, both as registered.
    """

    provider: str
    document_id: str
    status: DocumentStatus
    references: Mapping[str, str]
    dms: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Parcel:
    """One signed file to be pushed.

    `name` is a file name without any path, fit for the other side to store. The idempotency key is
    `provider:document:sha256`.
    """

    subject: Subject
    kind: FileKind
    name: str
    media_type: str
    path: Path
    size_bytes: int
    sha256: str
    idempotency_key: str


@dataclass(frozen=True, slots=True)
class Step:
    """One workflow step to be taken for a document."""

    subject: Subject
    idempotency_key: str


class Destination(ABC):
    """Where signed files go. One object lives as long as the daemon."""

    name: str
    """The name in the settings."""

    repeatable: bool
    """Whether an upload whose outcome is unknown may be sent again without doing harm."""

    kinds: frozenset[FileKind]
    """Kinds of files that are delivered here."""

    @abstractmethod
    def why_unusable(self) -> str | None:
        """Why nothing can be delivered with these settings, or None."""

    @abstractmethod
    async def deliver(self, parcel: Parcel, sending: Sending) -> str:
        """Push one file; returns the other side's reference, or an empty text.

        Raises:
            WaitingError: the document lacks something that has to be registered first.
            PermanentError: the other side will never take it.
            TransientError: it may take it later; `NoAnswerError` when it may have taken it already.
        """

    def advances(self, status: DocumentStatus) -> bool:
        """Whether a workflow step follows when a document has come to this status."""
        return False

    async def advance(self, step: Step, sending: Sending) -> str:
        """Take the workflow step; errors as in `deliver`."""
        raise NotImplementedError(f"{self.name} has no workflow")

    async def aclose(self) -> None:  # noqa: B027  (most destinations hold nothing)
        """Let go of connections."""
