"""What the scenes of single providers have in common: an account, what is sent out, and what follows."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from shared.events import DocumentStatus
from signspool.demo.hand import Hand
from signspool.demo.values import Call, Look, Name

if TYPE_CHECKING:
    from simulator.weather import Peer
    from simulator.world import World


@dataclass(frozen=True, slots=True)
class Followed:
    """One document that an act sent out, and what has to become of it.

    `course` is its statuses from the first change to the end; `called` is the actions of the callbacks about
    it, in order, and `asked` those that have to be learned by asking, None when either
    may come first. `workflow` is SmartShare's, `subject` what is asked about if not the document itself.
    """

    name: Name
    workflow: str
    course: tuple[DocumentStatus, ...]
    called: tuple[str, ...] = ()
    asked: tuple[str, ...] | None = ()
    files: int = 1
    subject: str = ""

    @property
    def status(self) -> DocumentStatus:
        """Where it ends."""
        return self.course[-1]

    @property
    def is_delivered(self) -> bool:
        """Whether its signed files have to arrive, and its workflow has to be advanced."""
        return self.status is DocumentStatus.COMPLETED


class Act(ABC):
    """One provider's scene, which is played once."""

    provider: Peer
    private: tuple[str, ...] = ()
    """Personal numbers, which stand in no log."""
    calls_per_month: int | None = None
    """What the account may do, where calls are counted."""

    def __init__(self, world: World, first_workflow: int) -> None:
        self.world = world
        self.followed: list[Followed] = []
        self.calls: list[Call] = []
        self.secrets: list[str] = []
        self._workflow = first_workflow

    def open(self, stack: ExitStack, secrets: Path) -> None:  # noqa: B027  (most need nothing)
        """Start what the provider needs besides the common simulator; keys go into the folder for secrets."""

    @abstractmethod
    def settings(self, secrets: Path, simulator_url: str) -> str:
        """The provider's table in TOML; its secrets are written into the folder."""

    @abstractmethod
    async def play(self, hand: Hand) -> None:
        """Let everything happen, up to the end of all documents."""

    @abstractmethod
    def served(self, document_id: str) -> list[str]:
        """The digests of the signed files that the provider gives out for a document."""

    def confirmed(self) -> Iterator[tuple[str, str, datetime, bool]]:
        """What was confirmed to the provider: document id, status, when, and whether that ends with files."""
        return iter(())

    async def call(self, hand: Hand, call: Call) -> None:
        """Send a callback, which counts among those that were to be sent."""
        self.calls.append(call)
        await hand.call(call)

    def next_dms(self) -> dict[str, str]:
        """The references of a new workflow in SmartShare."""
        self._workflow += 1
        return dms_of(self._workflow)


def dms_of(workflow: int) -> dict[str, str]:
    """What SmartShare has to be told with a document of a workflow."""
    return {
        "cdFluxo": str(workflow),
        "cdTarefa": "31",
        "cdTipoAnexo": "2",
        "dsEmailExecutor": "fluxo@example.com",
    }


def keep(secrets: Path, name: str, secret: str) -> str:
    """Write a secret into the folder for them; returns the file's path as TOML takes it."""
    (secrets / name).write_text(secret)
    return quoted(secrets / name)


def quoted(text: str | Path) -> str:
    """A text as TOML takes it; JSON's form of a text is one of TOML's."""
    return json.dumps(str(text), ensure_ascii=False)


def are(followed: Sequence[Followed]) -> Callable[[Look], bool]:
    """Whether all these documents are where they end, and nobody is asked any more about those of which that
    is the only source; of the others, the next question finds that it is over, and may be far away."""

    def is_so(look: Look) -> bool:
        known = {document.name: document for document in look.documents}
        return all(
            item.name in known
            and known[item.name].status == item.status
            and len(known[item.name].told("poll")) >= len(item.asked or ())
            for item in followed
        ) and not look.asked_about & {
            (item.name[0], item.subject or item.name[1]) for item in followed if item.asked is not None
        }

    return is_so
