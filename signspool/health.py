"""How the running tiers say they are, for `signspool check`; of a silent one, what its work looks like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx

from processor.census import Census
from processor.figures import figures
from processor.owed import MIRROR_LANE, destination_lane, provider_lane
from shared.db.session import Database
from shared.settings import Settings
from shared.spool import Folder, Spool

_TIMEOUT_SECONDS = 5.0
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  (what is listened on, and where that is asked)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a tier says on its private address: whether it is well, and in which words."""

    is_well: bool
    text: str


def ask(settings: Settings, port: int) -> Answer | None:
    """Ask a tier on this machine whether it is ready; None when nobody answers."""
    host = _EVERYWHERE.get(settings.metrics.host, settings.metrics.host)
    named = f"[{host}]" if ":" in host else host
    try:
        answer = httpx.get(f"http://{named}:{port}/readyz", timeout=_TIMEOUT_SECONDS, trust_env=False)
        said: dict[str, Any] = answer.json()
    except (httpx.HTTPError, ValueError):
        return None
    if answer.status_code != 200:
        return Answer(False, str(said.get("detail", f"status {answer.status_code}")))
    return Answer(True, _details(said))


def _details(said: dict[str, Any]) -> str:
    if "workers" in said:
        return f"ready, {said['workers']} working"
    if said.get("oldest") == "standby":
        return "stands by for another on this spool"
    return f"ready, the oldest thing to do is {said.get('oldest_seconds', 0):.0f} s old"


def oldest_undone(settings: Settings, spool: Spool, database: Database) -> tuple[str, float]:
    """What the processor should have done first, and since how many seconds; looked at without it.

    Raises:
        UnavailableError: spool or database are away.
    """
    now = spool.clock.now()
    oldest_at = Census(spool).take()[Folder.SPOOL].oldest_at
    late = {"spool/": 0.0 if oldest_at is None else now.timestamp() - oldest_at}
    lanes = [
        *map(provider_lane, settings.providers),
        *map(destination_lane, settings.destinations),
        MIRROR_LANE,
    ]
    with database.reading() as connection:
        found = figures(connection, lanes, spool_id=spool.id(), now=now)
    late |= {lane: (now - since).total_seconds() for lane, since in found.overdue_since.items()}
    about = max(late, key=late.__getitem__)
    return about, max(0.0, late[about])
