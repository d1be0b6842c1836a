"""The simulated world: every peer's state, the weather, and the record of all requests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, get_args

from simulator.arqsign import ArqSign
from simulator.callbacks import Body
from simulator.certisign import Certisign
from simulator.dms import Dms
from simulator.peer import PeerError, whole_number
from simulator.posten import Posten
from simulator.restpki import RestPki
from simulator.s3 import S3
from simulator.smartshare import SmartShare
from simulator.ssign import SSign
from simulator.weather import Peer, Weather
from simulator.wire import RecordedRequest


@dataclass
class World:
    """All state of one simulator. It only grows; make a new one for a new beginning.

    It may be read and changed from any thread while the simulator serves.
    """

    arqsign: ArqSign = field(default_factory=ArqSign)
    ssign: SSign = field(default_factory=SSign)
    certisign: Certisign = field(default_factory=Certisign)
    restpki: RestPki = field(default_factory=RestPki)
    posten: Posten = field(default_factory=Posten)
    smartshare: SmartShare = field(default_factory=SmartShare)
    dms: Dms = field(default_factory=Dms)
    s3: S3 = field(default_factory=S3)
    weather: Weather = field(default_factory=Weather)
    requests: list[RecordedRequest] = field(default_factory=list)

    def requests_to(self, peer: Peer, path: str = "") -> list[RecordedRequest]:
        """The requests that a peer was sent, if given only those whose path contains `path`."""
        return [r for r in list(self.requests) if r.peer == peer and path in r.path]

    def served_at(self, url: str) -> None:
        """Learn the address of the simulator, which some providers put into callbacks and links."""
        self.certisign.base_url = f"{url.rstrip('/')}/certisign"
        self.restpki.base_url = f"{url.rstrip('/')}/restpki"

    def peer(self, name: str) -> Any:
        """The state of a peer.

        Raises:
            PeerError: 404, there is none of this name.
        """
        if name not in get_args(Peer):
            raise PeerError(404, f"there is no peer {name!r}; there are {', '.join(get_args(Peer))}")
        return getattr(self, name)

    def happen(self, provider: str, document_id: int | str, action: str) -> Body:
        """Let something happen to an envelope; returns the callback body that the provider sends.

        Of ArqSign, the action is the number of a trigger.

        Raises:
            PeerError: 404 or 422, no such provider or envelope; 400, no such action; 409, it cannot happen
                any more.
        """
        if provider == "ssign":
            return self.ssign.happen(whole_number(document_id, "the envelope"), action)
        if provider == "certisign":
            return self.certisign.happen(whole_number(document_id, "the document"), action)
        if provider == "restpki":
            return self.restpki.happen(str(document_id), action)
        if provider == "arqsign":
            return self.arqsign.happen(str(document_id), action)
        raise PeerError(404, f"there is no provider {provider!r}; say ssign, certisign, restpki or arqsign")

    def proof(self, provider: str, body: bytes) -> dict[str, str]:
        """The headers by which a provider of itself proves a callback; most have none."""
        return self.arqsign.proof(body) if provider == "arqsign" else {}

    @property
    def summary(self) -> dict[str, Any]:
        """The state as JSON, without file contents and without headers."""
        return {
            "arqsign": self.arqsign.summary,
            "ssign": self.ssign.summary,
            "certisign": self.certisign.summary,
            "restpki": self.restpki.summary,
            "posten": self.posten.summary,
            "smartshare": self.smartshare.summary,
            "dms": self.dms.summary,
            "s3": self.s3.summary,
            "requests": [
                {
                    "peer": r.peer,
                    "method": r.method,
                    "path": r.path,
                    "sizeBytes": r.size_bytes,
                    "storm": r.storm,
                    "status": r.status,
                }
                for r in list(self.requests)
            ],
        }
