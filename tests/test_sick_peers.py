"""Every way in which a peer can be ill, met by real sockets: what becomes of the work, and of nothing else.

Each illness strikes the download call of both providers and the upload call of every kind of HTTP
destination. Then the peer is well again, and the work goes on, or does not, without being doubled.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import structlog
import trustme
from sqlalchemy import select

from processor.access import Access
from processor.breaker import Breaker
from processor.destinations import build_destinations
from processor.lanes import Lane, LaneSettings
from processor.means import Means
from processor.metrics import ProcessorMetrics
from processor.outside import Outside
from processor.owed import Policy
from processor.work import Worker
from shared.db.models import Document, OutboxRow, Task
from shared.db.session import Database
from shared.settings.destinations import HttpSettings, SmartshareSettings
from shared.settings.s3 import S3Settings
from shared.spool import Spool
from tests import misbehaving as ill
from tests.conftest import make_database
from tests.doubles import FakeTime, HurriedLoop
from tests.illnesses import (
    DONE,
    FETCHES,
    HELD,
    ILLNESSES,
    NEVER,
    NO_STORE_HERE,
    PDF,
    RETRY,
    UPLOADS,
    Illness,
    moved,
)
from tests.misbehaving import Behaviour, Call, answering, serving, unreachable
from tests.processor.conftest import Workshop

SECRET = "a-very-secret-token"
SESSION = "what-a-login-gives"
PACKAGE = ill.json_body({"name": "a.pdf", "bytes": base64.b64encode(PDF).decode()})
UPLOADED = ill.json_body({"id": "7"})
NO_STORE = "not as an object store does"
"""What is said of a success that tells nothing of an object."""
MAX_FILE_BYTES = 100_000


@dataclass
class Peer:
    """All peers of one test: well, or as ill as it is told to be in the calls that matter."""

    illness: Behaviour | None = None
    calls: Counter[str] = field(default_factory=Counter)
    """How often each role's own call was made."""

    async def __call__(self, call: Call) -> None:
        role = call.target.split("/")[1].partition("?")[0]
        if "ValidarLogin" in call.target:
            call.say(200, ill.json_body({"tokenUsuario": SESSION}))
            return
        self.calls[role] += 1
        if self.illness is not None:
            await self.illness(call)
        else:
            call.say(200, {"ssign": PDF, "certisign": PACKAGE}.get(role, UPLOADED), etag='"1"')


@dataclass
class Scene:
    """One document of each provider, whose files are owed to every destination."""

    workshop: Workshop
    worker: Worker
    lanes: dict[str, Lane]

    async def work(self, *roles: str) -> None:
        """Do once what these lanes have due."""
        lanes = [self.lanes[role] for role in roles or self.lanes]
        for lane in lanes:
            await lane.take()
        await asyncio.gather(*(lane.drain(NEVER) for lane in lanes))

    def rows(self) -> dict[str, Any]:
        """What is owed by each role to the document whose turn it is."""
        with self.workshop.database.reading() as connection:
            rows = connection.execute(
                select(OutboxRow, Document.document_id).join(Document, Document.id == OutboxRow.document_fk)
            ).all()
        return {
            row.lane.partition(":")[2]: row
            for row in rows
            if (row.task == Task.DELIVER) == (row.document_id == "well")
        }


@pytest.fixture
def workshop(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Workshop]:
    with make_database("sqlite", tmp_path, request) as url:
        time, database = FakeTime(), Database(url)
        spool = Spool(tmp_path / "root", time.clock())
        yield Workshop(spool, spool.initialise(), database, time)
        database.close()


@asynccontextmanager
async def scene(
    workshop: Workshop,
    origin: str,
    ca_file: Path | None = None,
    *,
    silence_seconds: float = 20.0,
    total_seconds: float = 40.0,
    connect_seconds: float = 20.0,
) -> AsyncIterator[Scene]:
    """Lanes to peers at an origin, as a new process would have them."""

    def make_outside(peer: str, *, origins: frozenset[str], ca_file: Path | None = ca_file) -> Outside:
        return Outside(
            peer,
            origins=origins,
            connect_timeout_seconds=connect_seconds,
            read_timeout_seconds=silence_seconds,
            total_timeout_seconds=total_seconds,
            ca_file=ca_file,
        )

    providers = {name: workshop.provider(name, base_url=f"{origin}/{name}", token=SECRET) for name in FETCHES}
    destinations = build_destinations(
        {
            "repeatable": _http(origin, "repeatable", repeatable=True, body="raw", ca_file=ca_file),
            "once": _http(origin, "once", repeatable=False, ca_file=ca_file),
            "smartshare": _smartshare(origin, ca_file),
            "bucket": _bucket(origin, ca_file),
        },
        outside_factory=make_outside,
        clock=workshop.clock,
    )
    outsides = {name: make_outside(name, origins=made.origins) for name, made in providers.items()}
    worker = Worker(
        spool=workshop.spool,
        spool_id=workshop.spool_id,
        database=workshop.database,
        providers=providers,
        outsides=outsides,
        destinations=destinations,
        mirror=None,
        policy=Policy(destinations, False),
        max_file_bytes=MAX_FILE_BYTES,
    )
    # In this order, so that what is fetched in a round is not delivered in the same.
    lanes = {name: _lane(workshop, worker, f"destination:{name}") for name in UPLOADS}
    lanes |= {name: _lane(workshop, worker, f"provider:{name}") for name in FETCHES}
    try:
        yield Scene(workshop, worker, lanes)
    finally:
        for outside in outsides.values():
            await outside.aclose()
        for destination in destinations.values():
            await destination.aclose()


def _http(origin: str, name: str, **changes: Any) -> HttpSettings:
    return HttpSettings(kind="http", url=f"{origin}/{name}/", token=SECRET, **changes)


def _smartshare(origin: str, ca_file: Path | None) -> SmartshareSettings:
    return SmartshareSettings(
        kind="smartshare",
        base_url=f"{origin}/smartshare",
        client="client",
        client_key=SECRET,
        user="user",
        password=SECRET,
        advance_on={},
        ca_file=ca_file,
    )


def _bucket(origin: str, ca_file: Path | None) -> S3Settings:
    return S3Settings(
        kind="s3",
        endpoint=origin,
        bucket="bucket",
        region="us-east-1",
        access_key=SECRET,
        secret_key=SECRET,
        ca_file=ca_file,
    )


def _lane(workshop: Workshop, worker: Worker, name: str) -> Lane:
    return Lane(
        name,
        database=workshop.database,
        worker=worker,
        settler=workshop.settler(),
        breaker=Breaker(failures=3, pause_seconds=30, monotonic=workshop.clock.monotonic),
        access=Access(name, pause_seconds=30, monotonic=workshop.clock.monotonic),
        settings=LaneSettings(
            concurrency=4,
            look_seconds=1,
            lease_seconds=300,
            attempts=5,
            backoff_base_seconds=30,
            backoff_cap_seconds=3600,
        ),
        means=Means(),
        metrics=ProcessorMetrics((), ()),
        wake_all=lambda: None,
        now=workshop.clock.now,
    )


async def prepare(stage: Scene) -> None:
    """Owe the uploads of a document that was fetched while all was well, and the fetches of two others."""
    workshop, policy = stage.workshop, stage.worker.policy
    dms = {"cdFluxo": "1", "cdTarefa": "5", "cdTipoAnexo": "3"}
    workshop.register("well", {"file_ids": "901"}, dms=dms)
    workshop.put({"envelopeId": "well", "action": "COMPLETED"})
    workshop.work(policy=policy)
    await stage.work("ssign")
    workshop.register("ill", {"file_ids": "901"})
    workshop.register("ill", {"chave": "A1"}, provider="certisign")
    workshop.put({"envelopeId": "ill", "action": "COMPLETED"})
    workshop.put({"documentId": "ill", "action": "FLOW"}, provider="certisign")
    workshop.work(policy=policy)


def states(stage: Scene) -> dict[str, str]:
    return {role: row.state for role, row in stage.rows().items()}


@pytest.mark.parametrize("illness", ILLNESSES, ids=lambda illness: illness.name)
def test_each_illness_has_its_verdict_and_nothing_is_doubled(workshop: Workshop, illness: Illness) -> None:
    """What was refused for good, or is unknown where a repeat does harm, is not tried again by itself."""

    async def scenario() -> None:
        peer = Peer()
        async with serving(peer) as origin:
            async with scene(workshop, origin) as stage:
                await prepare(stage)
            await fall_ill(peer, origin)
            peer.illness = None
            peer.calls.clear()
            workshop.time.pass_seconds(4000)
            async with scene(workshop, origin) as stage:
                await get_well(peer, stage)

    async def fall_ill(peer: Peer, origin: str) -> None:
        peer.illness = illness.behave
        peer.calls.clear()
        async with scene(
            workshop, origin, silence_seconds=illness.silence_seconds, total_seconds=illness.total_seconds
        ) as stage:
            with structlog.testing.capture_logs() as logs:
                working = asyncio.create_task(stage.work())
                if illness.outlasts:
                    await outlast(working, peer, len(illness.expected()))
                await working
            assert states(stage) == illness.expected()
            for role, row in stage.rows().items():
                check(illness, role, row, workshop)
        tries = {role: 2 if (role, illness.name) in RELOGIN else 1 for role in illness.expected()}
        assert peer.calls == tries
        assert SECRET not in repr(logs)
        assert SESSION not in repr(logs)

    async def get_well(peer: Peer, stage: Scene) -> None:
        await stage.work(*UPLOADS)
        await stage.work(*FETCHES)
        expected = illness.expected()
        assert peer.calls == {role: 1 for role, state in expected.items() if state == RETRY}
        after = {role: DONE if state == RETRY else state for role, state in expected.items()}
        assert states(stage) == after

    with asyncio.Runner(loop_factory=HurriedLoop) as runner:
        runner.run(scenario())


async def outlast(working: asyncio.Task[None], peer: Peer, calls: int) -> None:
    """Once every call has reached its peer, let time pass until nothing waits for an answer any more."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, HurriedLoop)
    while not working.done():
        await asyncio.sleep(0.01)
        if peer.calls.total() >= calls:
            loop.pass_seconds(10)


RELOGIN = {("smartshare", "401")}
"""Where one try makes two calls: SmartShare's token may just have expired."""


REFUSED_KEY = {"401", "403"}
"""What a provider or an object store answers to every document alike, so that nothing is charged for it."""


def check(illness: Illness, role: str, row: Any, workshop: Workshop) -> None:
    """That a row says what happened, to people and to whoever takes it next."""
    assert SECRET not in row.last_error
    assert SESSION not in row.last_error
    assert row.lease_until is None
    is_free = (role in (*FETCHES, "bucket") and illness.name in REFUSED_KEY) or (
        role == "bucket" and illness.name in NO_STORE_HERE
    )
    assert row.attempts == (0 if is_free else 1), role
    assert (row.sent_at is not None) == (role in ("once", "smartshare") and row.state in (HELD, DONE)), role
    if row.state != DONE:
        reason = NO_STORE if role == "bucket" and DONE in illness.uploads else illness.reason
        assert re.search(reason, row.last_error), f"{role}: {row.last_error}"
    if row.state == RETRY:
        wait_seconds = (row.next_attempt_at - workshop.clock.now()).total_seconds()
        assert wait_seconds >= max(illness.waits_seconds, 27), role


# Peers to whom no connection comes about


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("refused", "refused"),
        ("no such host", "cannot be resolved"),
        ("a full backlog", "no connection in time"),
        ("plain behind https", "no TLS connection"),
        ("silent in the handshake", "no connection in time"),
        ("untrusted", "certificate is not accepted .* ca_file"),
        ("expired", "certificate has expired"),
        ("wrong host", "certificate is not valid for '127.0.0.1'"),
    ],
)
def test_what_was_never_sent_is_tried_again_by_everyone(
    workshop: Workshop, authority: trustme.CA, tmp_path: Path, name: str, reason: str
) -> None:
    """Neither held nor waiting, since no upload can have arrived."""
    trusted = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(trusted))
    peer = Peer()

    async def scenario() -> None:
        async with serving(peer) as origin, scene(workshop, origin) as stage:
            await prepare(stage)
        peer.calls.clear()
        async with unreachable(name, authority, peer) as origin:
            ca_file = None if name == "untrusted" else trusted
            # Short only for what is about time, so that a busy machine ends nothing else by it.
            connect_seconds = 0.5 if reason == "no connection in time" else 20.0
            async with scene(workshop, origin, ca_file, connect_seconds=connect_seconds) as stage:
                await stage.work()
                rows = stage.rows()
                assert {role: row.state for role, row in rows.items()} == dict.fromkeys(rows, RETRY)
                assert all(row.sent_at is None and row.attempts == 1 for row in rows.values())
                assert all(re.search(reason, row.last_error) for row in rows.values()), rows
        assert not peer.calls

    asyncio.run(scenario())


# The peer as a whole


def test_a_redirect_leads_no_secret_anywhere(workshop: Workshop) -> None:
    """Not even a request goes to the other host, and none a second time to the same one."""
    strangers: list[str] = []

    async def stranger(call: Call) -> None:
        strangers.append(call.target)
        call.say(200, PDF)

    async def scenario() -> None:
        peer = Peer()
        async with (
            serving(stranger) as elsewhere,
            serving(peer) as origin,
            scene(workshop, origin) as stage,
        ):
            await prepare(stage)
            peer.calls.clear()
            peer.illness = moved(307, f"{elsewhere}/steal")
            await stage.work()
            assert peer.calls == dict.fromkeys((*FETCHES, *UPLOADS), 1)
        assert strangers == []

    asyncio.run(scenario())


def test_a_peer_that_stays_ill_is_left_alone_with_one_word_each_way(workshop: Workshop) -> None:
    """Its documents wait; others' do not; when it is well one trial finds out, and the rest follows."""

    async def scenario() -> None:
        peer = Peer()
        async with serving(peer) as origin, scene(workshop, origin) as stage:
            for number in range(8):
                workshop.register(str(number), {"file_ids": "901"})
                workshop.put({"envelopeId": str(number), "action": "COMPLETED"})
            workshop.work(policy=Policy({}, False))
            peer.illness = answering(429, retry_after="500")
            lane = stage.lanes["ssign"]
            with structlog.testing.capture_logs() as logs:
                await stage.work("ssign")
                assert peer.calls["ssign"] == 4, "no more at once than a lane may do"
                await stage.work("ssign")
                # It asked for 500 seconds, and the others are not sent after the first meanwhile.
                workshop.time.pass_seconds(490)
                await stage.work("ssign")
                assert peer.calls["ssign"] == 4
                workshop.time.pass_seconds(20)
                await stage.work("ssign")
                assert peer.calls["ssign"] == 5, "the one trial"
                assert lane.breaker.is_open
                peer.illness = None
                workshop.time.pass_seconds(510)
                await stage.work("ssign")
                assert peer.calls["ssign"] == 6, "the one trial"
                assert lane.breaker.allowance(4) == 4
                await stage.work("ssign")
                await stage.work("ssign")
            assert peer.calls["ssign"] == 5 + 8
            words = Counter(line["event"] for line in logs)
            assert (words["lane.broken"], words["lane.mended"], words["delivery.done"]) == (1, 1, 8)

    asyncio.run(scenario())
