"""Posten signering in the demo: over mutual TLS, a job that two people sign, and one that is rejected."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from shared.events import DocumentStatus
from signspool.demo.acts import Act, Followed, are, quoted
from signspool.demo.hand import Hand
from signspool.outgoing import Wish
from simulator.posten import SENDER, Posten
from simulator.posten_jobs import Job
from simulator.posten_server import PostenServer, make_papers
from simulator.world import World

ANNE = {"personal_number": "01013300001", "email": "anne@example.com"}
BO = {"email": "bo@example.com"}

_SIGNED = "COMPLETED_SUCCESSFULLY"
_SETTINGS = """
[providers.posten]
base_url = "{url}/api"
sender = "{sender}"
certificate_file = {certificate}
key_file = {key}
authorities_file = {roots}
"""


@dataclass
class TimedPosten(Posten):
    """Notes when each update was confirmed."""

    confirmed: list[tuple[int, str, datetime]] = field(default_factory=list)
    """Job, the status that was confirmed, and the time."""

    def confirm(self, job: Job) -> None:
        """Confirm, and note it."""
        came_at = self.now()
        super().confirm(job)
        self.confirmed.append((job.id, job.confirmations[-1], came_at))


class PostenAct(Act):
    """Jobs, learned of by asking a queue."""

    provider = "posten"
    private = (ANNE["personal_number"],)

    def __init__(self, world: World, first_workflow: int) -> None:
        super().__init__(world, first_workflow)
        # It allows a question every ten seconds, and tells so; the demo has no time for that.
        self.posten = world.posten = TimedPosten(wait_seconds=0.5)

    def open(self, stack: ExitStack, secrets: Path) -> None:
        """A server of its own, since it asks for a certificate."""
        papers = make_papers(secrets / self.provider)
        self.secrets.append(papers.sender_key.read_text().splitlines()[1])
        self._server = stack.enter_context(PostenServer(papers, self.world))

    def settings(self, secrets: Path, simulator_url: str) -> str:
        """With the certificates that the simulated world has made."""
        papers = self._server.papers
        return _SETTINGS.format(
            url=self._server.url,
            sender=SENDER,
            certificate=quoted(papers.sender),
            key=quoted(papers.sender_key),
            roots=quoted(papers.roots),
        )

    async def play(self, hand: Hand) -> None:
        """The second signer signs when the first signature was confirmed."""
        signed = await self._send(hand, "Leieavtale", DocumentStatus.COMPLETED, ANNE, BO)
        rejected = await self._send(hand, "Tilbud", DocumentStatus.DECLINED, ANNE)
        self.posten.act(signed, "SIGNED", 0)
        hand.said(f"posten {signed}: the first of two has signed")
        await hand.until(lambda _: "IN_PROGRESS" in self.posten.jobs[signed].confirmations)
        self.posten.act(signed, "SIGNED", 1)
        self.posten.act(rejected, "REJECTED")
        hand.said(f"posten {signed}: the second has signed; posten {rejected}: rejected")
        await hand.until(are(self.followed))

    async def _send(self, hand: Hand, title: str, end: DocumentStatus, *signers: dict[str, str]) -> int:
        dms = self.next_dms()
        wish = Wish(self.provider, reference=title, signers=signers, dms=dms)
        job_id = (await hand.send_out(wish)).envelope_id
        asked = ("FAILED",) if end is DocumentStatus.DECLINED else ("IN_PROGRESS", _SIGNED)
        self.followed.append(Followed((self.provider, job_id), dms["cdFluxo"], (end,), asked=asked))
        return int(job_id)

    def confirmed(self) -> Iterator[tuple[str, str, datetime, bool]]:
        """Every confirmation."""
        for job_id, status, came_at in self.posten.confirmed:
            yield str(job_id), status, came_at, status == _SIGNED

    def served(self, document_id: str) -> list[str]:
        """The signed PDF, also of a job that is gone."""
        return [sha256(self.posten.pades(self.posten.jobs[int(document_id)])).hexdigest()]
