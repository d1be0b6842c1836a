"""What `signspool check` finds of what ends on a day: noted secrets, and certificates of authorities."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

from shared.clock import Clock
from shared.settings import Settings
from signspool.finding import Finding, fail, ok, warn
from signspool.output import shortened

SOON_DAYS = 30
"""Long enough to have a new one issued."""


def expiring(settings: Settings, clock: Clock) -> Iterator[Finding]:
    """Look at the days that the settings note in `expires`, and at the certificates in `ca_file`."""
    sections = [
        *((f"provider {name}", section) for name, section in settings.providers.items()),
        *((f"destination {name}", section) for name, section in settings.destinations.items()),
    ]
    ends = []
    for about, section in sections:
        for name, day in section.expires.items():
            # It is valid on that day still.
            end = datetime.combine(day + timedelta(days=1), time(), clock.zone).astimezone(UTC)
            ends.append((end, about, f"its {name}"))
        ca_file = getattr(section, "ca_file", None)
        if ca_file is not None:
            ends += [(end, about, f"{ca_file}, {whom}") for end, whom in _authorities(ca_file)]
    told = [found for end, about, what in sorted(ends) if (found := ending(about, what, end, clock))]
    yield from told
    if ends and not told:
        end, about, what = min(ends)
        yield ok("expiry", f"next, on {end.date()}: {about}, {what}")


def ending(about: str, what: str, end: datetime, clock: Clock) -> Finding | None:
    """What is to be said of something that is valid until an instant; None when that is far away."""
    left = end - clock.now()
    if left <= timedelta():
        return fail(about, f"{what} has expired on {end.date()}", "put a new one into its place")
    if left <= timedelta(days=SOON_DAYS):
        return warn(about, f"{what} expires on {end.date()}", "have a new one issued")
    return None


def _authorities(path: Path) -> Iterator[tuple[datetime, str]]:
    """When each certificate in a file of authorities ends, and whose it is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(path)
    except OSError:
        # What cannot be read is told where the destination is looked at.
        return
    for certificate in context.get_ca_certs():
        end = str(certificate["notAfter"])
        yield (
            datetime.fromtimestamp(ssl.cert_time_to_seconds(end), UTC),
            shortened(name_of(certificate.get("subject", ()))),
        )


def name_of(subject: object) -> str:
    """The name in a certificate's subject, as Python gives it: pairs within parts."""
    parts = subject if isinstance(subject, tuple) else ()
    names = {key: value for part in parts for key, value in part}
    return str(names.get("commonName") or names.get("organizationName") or "a nameless certificate")
