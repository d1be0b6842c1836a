"""What `signspool check` finds in the folders: how much lies there, for how long, and what needs a person."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from processor.census import SEEN, Census, Count
from shared.errors import UnavailableError
from shared.settings import CheckSettings
from shared.settings.units import format_duration
from shared.spool import Folder, Spool
from signspool.finding import Finding, fail, ok, warn
from signspool.output import age_text, count_text, shortened
from signspool.strays import strays


def waiting(spool: Spool, limits: CheckSettings) -> Iterator[Finding]:
    """Look into the folders, and judge what waits there."""
    try:
        counts = Census(spool).take()
        count_of_strays, named = strays(spool)
    except UnavailableError as error:
        yield fail("entries", str(error))
        return
    now = spool.clock.now().timestamp()
    yield _entries(counts, now)
    if count_of_strays:
        yield _strays(count_of_strays, named)
    yield from _too_old(Folder.SPOOL, counts[Folder.SPOOL].oldest_at, limits.spool_age, now)
    owed = counts[Folder.DEFERRED]
    for told in _too_old(Folder.DEFERRED, owed.oldest_unseen_at, limits.deferred_age, now):
        yield fail(told.about, told.text, f"{told.what_to_do}; {_known_by(spool, Folder.DEFERRED)}")
    if counts[Folder.QUARANTINE].entries:
        yield _quarantine(spool, counts[Folder.QUARANTINE], limits.quarantined, now)


def _entries(counts: Mapping[Folder, Count], now: float) -> Finding:
    text = ", ".join(f"{count.entries} in {folder}/" for folder, count in counts.items())
    oldest_at = counts[Folder.SPOOL].oldest_at
    if oldest_at is not None:
        text += f", the oldest in spool/ for {age_text(now - oldest_at)}"
    return ok("entries", text)


def _strays(count: int, named: list[str]) -> Finding:
    more = f" and {count - len(named)} more" if count > len(named) else ""
    return warn(
        "strays",
        f"nobody reads {', '.join(map(shortened, named))}{more}",
        "a callback lies right in spool/ or in a day folder, as a file whose name ends in .json: put it "
        "there, and take away what is none",
    )


def _too_old(folder: Folder, oldest_at: float | None, limit_seconds: float, now: float) -> Iterator[Finding]:
    if not limit_seconds or oldest_at is None or now - oldest_at <= limit_seconds:
        return
    limit = format_duration(limit_seconds)
    yield fail(
        f"oldest in {folder}",
        f"an entry has waited there for {age_text(now - oldest_at)}, longer than {limit}",
        f"signspool spool ls {folder} --older-than {limit}",
    )


def _quarantine(spool: Spool, count: Count, limit: int, now: float) -> Finding:
    text = f"{count_text(count.entries, 'entry')} waiting for a person"
    look = "signspool spool ls quarantine"
    if not count.unseen:
        return warn("quarantine", f"{text}, all of them known", look)
    if count.unseen < count.entries:
        text += f", {count.unseen} of them new"
    if count.oldest_unseen_at is not None:
        text += f", for {age_text(max(0.0, now - count.oldest_unseen_at))}"
    if not limit or count.unseen < limit:
        return warn("quarantine", text, look)
    return fail("quarantine", text, f"{look}; {_known_by(spool, Folder.QUARANTINE)}")


def _known_by(spool: Spool, folder: Folder) -> str:
    return f"when that is known: touch {spool.folder(folder).absolute() / SEEN}"
