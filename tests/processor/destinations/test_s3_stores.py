"""Files put into stores that check signatures themselves: the simulated one, and that of moto."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from moto.server import ThreadedMotoServer

from processor.destinations._sigv4 import NOTHING_SHA256, Account, signed
from processor.destinations.s3 import S3Destination
from shared.clock import Clock
from shared.errors import AccessError, TransientError
from shared.settings.s3 import S3Settings
from simulator.server import SimulatorServer
from simulator.weather import Storm, StormKind
from simulator.world import World

pytestmark = pytest.mark.anyio

Make = Callable[..., S3Destination]
VERSIONED = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
ODD = "ação + ~'(1)*&=\U0001f600.pdf"


@pytest.fixture(scope="module")
def simulator() -> Iterator[SimulatorServer]:
    with SimulatorServer() as running:
        yield running


@pytest.fixture
def world(simulator: SimulatorServer) -> World:
    return simulator.renew()


@pytest.fixture
def make(simulator: SimulatorServer, world: World, make_outside: Any) -> Make:
    def make(clock: Clock | None = None, **changes: Any) -> S3Destination:
        given = {
            "kind": "s3",
            "endpoint": simulator.url,
            "bucket": world.s3.bucket,
            "region": world.s3.region,
            "access_key": world.s3.access_key,
            "secret_key": world.s3.secret_key,
        }
        settings = S3Settings.model_validate({**given, **changes})
        outside = make_outside("archive", origins=settings.origins)
        return S3Destination("archive", settings, outside, clock or Clock())

    return make


async def test_a_file_arrives_whole_under_its_key(
    world: World, make: Make, make_parcel: Any, mark: Any
) -> None:
    parcel = make_parcel(b"%PDF signed", name=ODD)
    reference = await make().deliver(parcel, mark)
    (held,) = world.s3.objects
    assert held.file.name == reference == "ssign/155/ação + %7E%27(1)%2A%26=%F0%9F%98%80.pdf"
    assert held.file.content == b"%PDF signed"
    assert held.headers["x-amz-meta-sha256"] == parcel.sha256
    assert held.headers["x-amz-meta-idempotency-key"] == parcel.idempotency_key


@pytest.mark.parametrize("content", [b"", b"x" * 700_000])
async def test_empty_and_larger_files_arrive(
    world: World, make: Make, make_parcel: Any, mark: Any, content: bytes
) -> None:
    await make().deliver(make_parcel(content), mark)
    assert world.s3.objects[0].file.content == content


async def test_a_session_token_is_signed_too(world: World, make: Make, make_parcel: Any, mark: Any) -> None:
    world.s3.session_token = "a-token"
    await make(session_token="a-token").deliver(make_parcel(), mark)
    with pytest.raises(AccessError, match="InvalidToken"):
        await make().deliver(make_parcel(), mark)


async def test_the_same_file_again_is_delivered_already(
    world: World, make: Make, make_parcel: Any, mark: Any
) -> None:
    """As after a kill between the upload and the note of it."""
    world.s3.versioning = True
    references = {await make().deliver(make_parcel(), mark) for _ in range(3)}
    assert references == {"ssign/155/contrato.pdf?versionId=v1"}
    assert world.s3.puts == 1


async def test_other_content_for_the_same_key_is_stored_beside_it_once(
    world: World, make: Make, make_parcel: Any, mark: Any
) -> None:
    """As where a document has two files of the same name."""
    await make().deliver(make_parcel(b"first"), mark)
    beside = make_parcel(b"other")
    references = {await make().deliver(beside, mark) for _ in range(2)}
    assert references == {f"ssign/155/contrato.{beside.sha256[:16]}.pdf"}
    assert [held.file.content for held in world.s3.objects] == [b"first", b"other"]
    assert world.s3.puts == 2


async def test_with_overwrite_the_last_one_wins(
    world: World, make: Make, make_parcel: Any, mark: Any
) -> None:
    for content in (b"first", b"first", b"other"):
        await make(overwrite=True).deliver(make_parcel(content), mark)
    (held,) = world.s3.objects
    assert (held.file.content, world.s3.puts) == (b"other", 3)


async def test_a_file_that_was_damaged_on_its_way_is_refused_and_sent_again(
    world: World, make: Make, make_parcel: Any, mark: Any
) -> None:
    world.s3.damaged = 1
    with pytest.raises(TransientError, match="damaged on its way"):
        await make().deliver(make_parcel(), mark)
    assert world.s3.objects == []
    await make().deliver(make_parcel(), mark)
    assert len(world.s3.objects) == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"access_key": "OTHER"}, "InvalidAccessKeyId: correct access_key"),
        ({"secret_key": "other"}, "SignatureDoesNotMatch: correct secret_key"),
        ({"region": "sa-east-1"}, "the bucket is in the region us-east-1: correct region"),
        ({"clock": Clock(now=lambda: datetime.now(UTC) - timedelta(hours=1))}, "set the clock"),
    ],
)
async def test_what_is_wrong_for_every_file_is_our_own_fault(
    world: World, make: Make, make_parcel: Any, mark: Any, *, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(AccessError, match=words):
        await make(**changes).deliver(make_parcel(), mark)
    assert world.s3.objects == []


async def test_an_answer_that_is_lost_does_no_harm(
    world: World, make: Make, make_parcel: Any, mark: Any
) -> None:
    world.weather.add(Storm(peer="s3", kind=StormKind.RESET, after_acting=True))
    with pytest.raises(TransientError):
        await make().deliver(make_parcel(), mark)
    assert await make().deliver(make_parcel(), mark) == "ssign/155/contrato.pdf"
    assert world.s3.puts == 1


@pytest.fixture(scope="module")
def moto_url() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


async def test_moto_stores_what_was_sent_and_knows_it_again(
    moto_url: str, make: Make, make_parcel: Any, make_outside: Any, mark: Any
) -> None:
    """A store that others wrote; it reads keys, types, metadata and conditions in its own way."""
    async with httpx.AsyncClient(base_url=moto_url, verify=False) as client:
        assert (await client.put("/contracts")).status_code == 200
        assert (await client.put("/contracts?versioning", content=VERSIONED)).status_code == 200
        destination = make(endpoint=moto_url, bucket="contracts", storage_class="STANDARD_IA")
        parcel = make_parcel(b"%PDF signed", name=ODD)
        reference = await destination.deliver(parcel, mark)
        assert await destination.deliver(parcel, mark) == reference
        key, _, version = reference.partition("?versionId=")
        url = f"{moto_url}/contracts/{quote(key)}?versionId={version}"
        # Objects are private; who asks is not looked at.
        account = Account("k", "s", "", "us-east-1")
        headers = await signed(account, "GET", url, {}, sha256=NOTHING_SHA256, now=Clock().now)
        got = await client.get(url, headers=headers)
        assert (got.status_code, got.content) == (200, b"%PDF signed")
        assert got.headers["content-type"] == "application/pdf"
        assert got.headers["x-amz-meta-sha256"] == parcel.sha256
        assert got.headers["x-amz-storage-class"] == "STANDARD_IA"
        with pytest.raises(AccessError, match="NoSuchBucket: make the bucket"):
            await make(endpoint=moto_url, bucket="nowhere").deliver(parcel, mark)
        other = make_parcel(b"other", name=ODD)
        assert other.sha256[:16] in await destination.deliver(other, mark)
