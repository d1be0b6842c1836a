"""A real door under strace, and the load that it is given."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from sqlalchemy import select

from processor.assemble import daemon
from shared.clock import Clock
from shared.db.models import EventRow
from shared.settings import load_settings
from shared.spool import Spool
from tests.forgetful import Disk, Operation, State, snapshot
from tests.installation import SECRET, free_port
from tests.nursery import Nursery
from tests.tracing import need_strace, read_operations, traced
from tests.waiting import PATIENCE_SECONDS, wait_until

REQUESTS = int(os.environ.get("SIGNSPOOL_TEST_REQUESTS", "120"))
ALONE, CONNECTIONS = 20, 32
"""How many are sent in all, how many of them one after the other, and by how many connections the others."""

BODIES = {
    "ssign": {"envelopeId": 155, "action": "COMPLETED"},
    "certisign": {"documentId": 7, "action": "FLOW", "name": "Signatária"},
}


@dataclass(slots=True)
class TracedDoor:
    """What is left of a door that has ended: its trace, and what the senders heard."""

    root: Path
    trace: Path
    before: State
    acknowledged: dict[str, str] = field(default_factory=dict)
    """Receipt id to provider, for every 200."""

    def operations(self) -> list[Operation]:
        return read_operations(self.trace.read_text(), self.root)

    def disk(self, operations: list[Operation]) -> Disk:
        """The disk as the model has it; a day folder that was there before was made by another process."""
        days = [path for path, content in self.before.items() if content is None and "/20" in path]
        return Disk(self.root, operations, self.before, unsynced=days)


def make_config(home: Path, *, durability: str = "full", root: Path | None = None) -> tuple[Path, str]:
    """Settings in `home` for both tiers; returns their file and the door's address.

    The spool is there too unless `root` says otherwise. No signed file is fetched: what comes in is recorded,
    and that is all.
    """
    port = free_port()
    config = home / "signspool.toml"
    config.write_text(
        f'[spool]\nroot = "{root or home / "root"}"\ndurability = "{durability}"\nmin_free = "1MiB"\n'
        f"[api]\nport = {port}\n"
        f'[database]\nurl = "sqlite:///{home / "signspool.db"}"\n'
        f'[providers.ssign]\nsecret = "{SECRET}"\nfetch_files = false\n'
        f'[providers.certisign]\nsecret = "{SECRET}"\nfetch_files = false\n'
    )
    return config, f"http://127.0.0.1:{port}"


def work_off(config: Path) -> tuple[list[str], Spool]:
    """Let the real daemon work off a spool in this process; returns the receipt ids that the database has
    then."""

    async def work() -> tuple[list[str], Spool]:
        async with daemon(load_settings(config, environ={})) as running:
            await running.run_once()
            with running.database.reading() as connection:
                return list(connection.scalars(select(EventRow.receipt_id))), running.spool

    return asyncio.run(work())


@contextmanager
def traced_door(
    nursery: Nursery,
    home: Path,
    *,
    durability: str = "full",
    alone: int = ALONE,
    requests: int = REQUESTS,
    days_made: bool = False,
) -> Iterator[TracedDoor]:
    """Run the door under strace, load it, end it; `days_made` is whether the daemon made today's folder."""
    need_strace()
    config, url = make_config(home, durability=durability)
    spool = Spool(home / "root", Clock())
    spool.initialise()
    if days_made:
        spool.make_day_folders()
    made = TracedDoor(spool.root, home / "trace", snapshot(spool.root))
    process = nursery.start(["api", "--config", str(config)], home / "api.log", stopped=True)
    with traced(process, made.trace):
        until_ready(url)
        asyncio.run(_load(url, alone, requests, made.acknowledged))
        process.send_signal(signal.SIGTERM)
    yield made


async def _load(url: str, alone: int, requests: int, acknowledged: dict[str, str]) -> None:
    limits = httpx.Limits(max_connections=CONNECTIONS)
    async with httpx.AsyncClient(
        base_url=url, timeout=PATIENCE_SECONDS, limits=limits, verify=False
    ) as client:

        async def post(number: int) -> None:
            provider = ("ssign", "certisign")[number % 2]
            answer = await client.post(
                "/api/callback",
                params={"provider": provider},
                content=json.dumps(BODIES[provider], ensure_ascii=False).encode(),
                headers={"content-type": "application/json", "x-callback-secret": SECRET},
            )
            assert answer.status_code == 200, answer.text
            acknowledged[answer.json()["id"]] = provider

        for number in range(alone):
            await post(number)
        await asyncio.gather(*map(post, range(alone, requests)))


def until_ready(url: str) -> None:
    """Wait until the door would take a callback."""

    def is_ready() -> bool:
        try:
            return httpx.get(f"{url}/readyz", verify=False, timeout=PATIENCE_SECONDS).status_code == 200
        except httpx.TransportError:
            return False

    wait_until(is_ready, "the door to open")
