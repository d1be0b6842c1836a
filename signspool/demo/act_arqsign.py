"""ArqSign in the demo: a process that is refused, resent and concluded by callbacks, and one of which none
comes."""

from __future__ import annotations

import json
import secrets as random
from pathlib import Path
from typing import Any

from shared.events import DocumentStatus
from signspool.demo.acts import Act, Followed, are, keep
from signspool.demo.hand import Hand
from signspool.demo.values import Call, short
from signspool.outgoing import Wish
from simulator.arqsign import Trigger

_SETTINGS = """
[providers.arqsign]
base_url = "{url}/arqsign"
secret_file = {secret}
app_key_file = {app_key}
subscription_key_file = {subscription_key}
responsible_id = "0c1d2e3f"
folder_id = "5e6f7a8b"
poll = true
plan = "custom"
calls_per_hour = 400
calls_per_month = {calls}
not_ready_wait_seconds = 0
# ArqSign asks for no less than a day.
poll_more_often = true
poll_interval_seconds = 1
"""

_NOTES = {
    Trigger.SENT: "sent",
    Trigger.REFUSED: "refused",
    Trigger.RESENT: "resent",
    Trigger.CONCLUDED: "concluded",
}
_STORY = tuple(_NOTES)


class ArqSignAct(Act):
    """Processes, told by callbacks with an HMAC, and learned by asking within a quota."""

    provider = "arqsign"
    calls_per_month = 3000

    def settings(self, secrets: Path, simulator_url: str) -> str:
        """With both keys and the secret of the HMAC."""
        arqsign = self.world.arqsign
        kept = {}
        for name in ("secret", "app_key", "subscription_key"):
            self.secrets.append(random.token_hex(16))
            setattr(arqsign, name, self.secrets[-1])
            kept[name] = keep(secrets, f"arqsign_{name}", self.secrets[-1])
        return _SETTINGS.format(url=simulator_url, calls=self.calls_per_month, **kept)

    async def play(self, hand: Hand) -> None:
        """One is told of to the end, the other is concluded in silence."""
        concluded = DocumentStatus.COMPLETED
        actions = tuple(f"idEvento:{trigger:d}" for trigger in _STORY)
        course = (DocumentStatus.DECLINED, DocumentStatus.PENDING, concluded)
        # Asking may be faster than a callback, and then it tells the same.
        told = await self._send(hand, "Consórcio", course, called=actions, asked=None)
        silent = await self._send(hand, "Comodato", (concluded,), asked=("status:Concluído",))
        self.world.arqsign.conclude(silent)
        hand.said(f"{short((self.provider, silent))}: concluded, and no callback comes")
        for trigger, action in zip(_STORY, actions, strict=True):
            content = json.dumps(self.world.arqsign.happen(told, trigger), ensure_ascii=False).encode()
            proof = self.world.arqsign.proof(content)
            await self.call(hand, Call(self.provider, told, action, content, proof, note=_NOTES[trigger]))
        await hand.until(are(self.followed))

    async def _send(self, hand: Hand, title: str, course: tuple[DocumentStatus, ...], **expected: Any) -> str:
        """A process that is followed; returns its id."""
        dms = self.next_dms()
        signers = [{"name": "Maria Exemplo", "email": "maria@example.com"}]
        sending = await hand.send_out(Wish(self.provider, reference=title, signers=signers, dms=dms))
        name = (self.provider, sending.envelope_id)
        self.followed.append(Followed(name, dms["cdFluxo"], course, files=2, **expected))
        return sending.envelope_id

    def served(self, document_id: str) -> list[str]:
        """The signed file and its signature record."""
        process = self.world.arqsign.process(document_id)
        return [file.sha256 for file in (*process.signed, *process.records)]
