"""What `signspool check` finds of what ends on a day: our certificates, authorities, and noted secrets."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

from processor.expiry import End, ends
from shared.clock import Clock
from shared.settings import CheckSettings, Settings
from signspool.finding import Finding, fail, ok, warn
from signspool.output import printable

_ADVICE = {
    "certificate": "order a new one now, since that takes days; when it is in its place: systemctl restart "
    "signspool-processor",
    "authorities": "put the new one beside it, then: systemctl restart signspool-processor",
    "secret": "have a new one issued, put it into its place, and its day into expires",
}


def expiring(settings: Settings, clock: Clock) -> Iterator[Finding]:
    """Look at the certificates that the settings name, and at the days that they note in `expires`."""
    found = ends(settings, clock)
    told = [finding for end in found if (finding := _told(end, settings.check, clock))]
    yield from told
    if found and not told:
        yield ok("expiry", f"next, on {found[0].on}: {_peer(found[0])}, {printable(found[0].what)}")


def _told(end: End, limits: CheckSettings, clock: Clock) -> Finding | None:
    about, what, advice = f"expiry of {_peer(end)}", printable(end.what), _ADVICE[end.kind]
    if end.begins_at is not None and end.begins_at > clock.now():
        return fail(
            about, f"{what} is valid from {end.begins_at.date()} only", "use the one before until then"
        )
    left = end.at - clock.now()
    text = f"{what} {ending_text(left, end.on)}"
    is_soon = left <= timedelta(seconds=limits.expiry_warn)
    if end.is_replaced and (is_soon or left <= timedelta()):
        return warn(about, f"{text}; another one beside it is valid for longer", "take it away then")
    if left <= timedelta(seconds=limits.expiry_fail):
        return fail(about, text, advice)
    return warn(about, text, advice) if is_soon else None


def ending_text(left: timedelta, on: date) -> str:
    """How it is said that something was valid, or is for so long still, with its last day."""
    return f"has expired on {on}" if left <= timedelta() else f"expires on {on}, in {left.days} days"


def _peer(end: End) -> str:
    return end.peer.replace(":", " ")
