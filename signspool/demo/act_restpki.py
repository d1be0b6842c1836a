"""Rest PKI Core in the demo: a session that a browser signs, and one whose user gives up without a word."""

from __future__ import annotations

import json
import secrets as random
from pathlib import Path

from shared.events import DocumentStatus
from signspool.demo.acts import Act, Followed, are, keep
from signspool.demo.hand import Hand
from signspool.demo.values import Call, short
from signspool.outgoing import Wish
from simulator.restpki_store import COMPLETED

_SETTINGS = """
[providers.restpki]
base_url = "{url}/restpki"
token_file = {token}
authentication = "bearer"
secret_file = {secret}
return_page = "http://application.invalid/signed"
session_pause_seconds = 0.5
session_longest_pause_seconds = 0.5
"""


class RestPkiAct(Act):
    """Sessions, one signed and one cancelled."""

    provider = "restpki"

    def settings(self, secrets: Path, simulator_url: str) -> str:
        """With the API key and the secret of callbacks."""
        restpki = self.world.restpki
        restpki.authentication = "bearer"
        restpki.token, restpki.webhook_secret = f"demo|{random.token_hex(16)}", random.token_hex(16)
        self.secrets += [restpki.token, restpki.webhook_secret]
        token = keep(secrets, "restpki_token", restpki.token)
        secret = keep(secrets, "restpki_secret", restpki.webhook_secret)
        return _SETTINGS.format(url=simulator_url, token=token, secret=secret)

    async def play(self, hand: Hand) -> None:
        """Browser and callback tell of the first session; of the second one nobody tells."""
        restpki = self.world.restpki
        document_id, session_id, page, workflow = await self._send(hand, "Procuração")
        signed = Followed(
            (self.provider, document_id),
            workflow,
            (DocumentStatus.COMPLETED,),
            called=(COMPLETED,),
            asked=(COMPLETED,),
            subject=session_id,
        )
        self.followed.append(signed)
        await hand.browse(signed.name, page, "sign")
        content = json.dumps(restpki.callback(restpki.documents[document_id])).encode()
        await self.call(hand, Call(*signed.name, COMPLETED, content, restpki.webhook_headers))

        document_id, session_id, page, workflow = await self._send(hand, "Recibo")
        left = Followed(
            (self.provider, document_id),
            workflow,
            (DocumentStatus.CANCELLED,),
            asked=("session:UserCancelled",),
            subject=session_id,
        )
        self.followed.append(left)
        restpki.cancel(session_id)
        hand.said(f"{short(left.name)}: its user gives up, and nobody calls")
        await hand.until(are(self.followed))

    async def _send(self, hand: Hand, title: str) -> tuple[str, str, str, str]:
        """A session of one document: that one's id, its own, the address of its page, and the workflow."""
        dms = self.next_dms()
        return_url = f"{hand.url}/api/return?provider={self.provider}"
        sending = await hand.send_out(Wish(self.provider, reference=title, return_url=return_url, dms=dms))
        # Who has the address can sign, so it stands nowhere.
        self.secrets.append(sending.redirect_url.rpartition("/")[2])
        document_id = sending.documents[0]["document_id"]
        return document_id, sending.envelope_id, sending.redirect_url, dms["cdFluxo"]

    def served(self, document_id: str) -> list[str]:
        """The one signed file."""
        return [self.world.restpki.documents[document_id].files["signed-file"].sha256]
