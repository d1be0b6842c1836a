"""What `signspool check` finds behind the addresses of the settings: who answers, how, and at what time.

Nothing is asked of anybody but `HEAD /`, without a secret.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from processor.tls import expect_organisation, make_context, why_refused
from shared.clock import Clock
from shared.errors import NotSentError
from shared.providers._base import PeerTls
from shared.settings import Settings, build_providers
from signspool.expiry import ending_text
from signspool.finding import Finding, fail, ok, warn
from signspool.recorded import SKEW_WARN_SECONDS, skew

_LONGEST_SECONDS = 5.0
# Finding an address has no time limit of its own.
_DEADLINE_SECONDS = 8.0


@dataclass(slots=True)
class Peer:
    """One origin, and what was found there."""

    about: str
    origin: str
    ca_file: Path | None
    tls: PeerTls | None = None
    trouble: str = ""
    is_refused: bool = False
    """Whether its certificate is not accepted, which no waiting mends."""
    certificate_ends_at: datetime | None = None
    ahead_seconds: float | None = None
    done: threading.Event = field(default_factory=threading.Event)


def peers(settings: Settings, clock: Clock) -> Iterator[Finding]:
    """Connect to every provider and destination, all at once."""
    found = _peers(settings)
    timeout_seconds = min(settings.processor.connect_timeout, _LONGEST_SECONDS)
    for peer in found:
        # A thread that hangs in the name service must not keep the command from ending.
        threading.Thread(target=_look, args=(peer, clock, timeout_seconds), daemon=True).start()
    deadline = clock.monotonic() + _DEADLINE_SECONDS
    for peer in found:
        if not peer.done.wait(max(0.0, deadline - clock.monotonic())):
            peer = Peer(peer.about, peer.origin, None, trouble="no answer in time")  # noqa: PLW2901  (the thread may go on writing into the other)
        yield from _told(peer, clock, settings.check.expiry_warn)


def _peers(settings: Settings) -> list[Peer]:
    found = [
        Peer(
            f"reaching provider {name}",
            origin,
            getattr(settings.providers[name], "ca_file", None),
            provider.tls,
        )
        for name, provider in build_providers(settings).items()
        if provider.settings.fetch_files
        for origin in sorted(provider.origins)
    ]
    return found + [
        Peer(f"reaching destination {name}", origin, getattr(section, "ca_file", None))
        for name, section in settings.destinations.items()
        for origin in sorted(getattr(section, "origins", ()))
    ]


def _told(peer: Peer, clock: Clock, expiry_warn_seconds: float) -> Iterator[Finding]:
    if peer.trouble:
        kind = fail if peer.is_refused else warn
        yield kind(
            peer.about, f"{peer.origin}: {peer.trouble}", "check the address in the settings, and the network"
        )
        return
    yield ok(peer.about, f"{peer.origin} answers")
    if peer.certificate_ends_at is not None:
        left = peer.certificate_ends_at - clock.now()
        text = f"the certificate of {peer.origin} {ending_text(left, peer.certificate_ends_at.date())}"
        # An expired one is not accepted. It is for them to renew theirs, which some do a few days ahead.
        if left <= timedelta(seconds=expiry_warn_seconds):
            yield warn(peer.about, text, "ask them to renew it")
    if peer.ahead_seconds is not None and abs(peer.ahead_seconds) >= SKEW_WARN_SECONDS:
        # Perhaps it is theirs that is wrong.
        yield skew(peer.about.replace("reaching", "clock of"), peer.ahead_seconds, may_fail=False)


def _look(peer: Peer, clock: Clock, timeout_seconds: float) -> None:
    try:
        _ask(peer, clock, timeout_seconds)
    except ssl.SSLCertVerificationError as error:
        peer.trouble, peer.is_refused = f"its certificate is not accepted: {error.verify_message}", True
    except NotSentError as error:
        peer.trouble = str(error)
    except ssl.SSLError as error:
        peer.is_refused = why_refused(error) is not None
        peer.trouble = why_refused(error) or f"no TLS connection: {error.reason or 'no reason given'}"
    except socket.gaierror:
        peer.trouble = "its host name cannot be resolved"
    except TimeoutError:
        peer.trouble = f"no connection within {timeout_seconds:g} s"
    except OSError as error:
        peer.trouble = error.strerror or "no connection"
    finally:
        peer.done.set()


def _ask(peer: Peer, clock: Clock, timeout_seconds: float) -> None:
    parts = urlsplit(peer.origin)
    assert parts.hostname is not None
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = _trusting(peer)
        connection = http.client.HTTPSConnection(
            parts.hostname, parts.port, timeout=timeout_seconds, context=context
        )
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_seconds)
    try:
        connection.connect()
        if isinstance(connection.sock, ssl.SSLSocket):
            certificate = connection.sock.getpeercert() or {}
            end = certificate.get("notAfter")
            peer.certificate_ends_at = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(end)), UTC)
            if peer.tls is not None and peer.tls.organisation:
                expect_organisation(certificate, peer.tls.organisation)
        _compare_clocks(peer, connection, clock)
    finally:
        connection.close()


def _compare_clocks(peer: Peer, connection: http.client.HTTPConnection, clock: Clock) -> None:
    """It can be reached; what it says to HEAD, if anything, is of use for its Date alone.

    Raises:
        ssl.SSLError: it refuses our certificate, which may be said only now.
    """
    try:
        before = clock.now()
        connection.request("HEAD", "/", headers={"User-Agent": "signspool check"})
        answer = connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        if why_refused(error) is not None:
            raise
        return
    between = before + (clock.now() - before) / 2
    with suppress(ValueError, TypeError):
        theirs = parsedate_to_datetime(answer.headers.get("Date", ""))
        peer.ahead_seconds = (theirs - between).total_seconds()


def _trusting(peer: Peer) -> ssl.SSLContext:
    """What trusts the same authorities as the processor does, and shows the same certificate.

    Raises:
        NotSentError: the settings hold none that can be used.
    """
    if peer.tls is not None:
        return make_context(peer.tls)
    if peer.ca_file is not None:
        return ssl.create_default_context(cafile=str(peer.ca_file))
    return httpx.create_ssl_context(trust_env=False)
