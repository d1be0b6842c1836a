"""Each storm as a client on a real socket meets it."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from simulator.app import create_simulator
from simulator.server import SimulatorServer
from simulator.weather import Peer, Storm, StormKind
from simulator.world import World
from tests.waiting import PATIENCE_SECONDS, wait_until

FILE = b"%PDF-1.4 a file of some length"


def post(client: httpx.Client, world: World) -> httpx.Response:
    return client.post("/dms/files", content=FILE, headers={"Authorization": f"Bearer {world.dms.token}"})


def strike(world: World, kind: StormKind, **more: Any) -> None:
    world.weather.add(Storm("dms", kind, **more))


@pytest.fixture
def raw(server: SimulatorServer) -> Iterator[socket.socket]:
    """A plain connection, to see what really goes over the wire."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_SECONDS) as opened:
        yield opened


def test_fair_weather_answers_and_is_recorded(client: httpx.Client, world: World) -> None:
    assert post(client, world).status_code == 201
    (record,) = world.requests_to("dms")
    assert (record.method, record.path, record.size_bytes) == ("POST", "/dms/files", len(FILE))
    assert (record.status, record.storm) == (201, None)
    assert record.headers["authorization"] == f"Bearer {world.dms.token}"


def test_delay_acts_and_answers_later(client: httpx.Client, world: World) -> None:
    strike(world, StormKind.DELAY, seconds=0.2)
    began = time.monotonic()
    assert post(client, world).status_code == 201
    assert time.monotonic() - began >= 0.2
    assert post(client, world).status_code == 201


def test_status_does_not_act_and_says_when_to_come_back(client: httpx.Client, world: World) -> None:
    strike(world, StormKind.STATUS, status=429, retry_after_seconds=7)
    answer = post(client, world)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "7")
    assert world.dms.received == []
    assert world.requests_to("dms")[0].storm is StormKind.STATUS
    assert world.requests_to("dms")[0].status == 429


def test_status_is_503_unless_told_otherwise(client: httpx.Client, world: World) -> None:
    strike(world, StormKind.STATUS)
    answer = post(client, world)
    assert answer.status_code == 503
    assert "Retry-After" not in answer.headers


def test_status_after_acting_has_done_the_work(client: httpx.Client, world: World) -> None:
    strike(world, StormKind.STATUS, status=500, after_acting=True)
    assert post(client, world).status_code == 500
    assert len(world.dms.received) == 1


def test_silence_after_acting_outlasts_the_caller(client: httpx.Client, world: World) -> None:
    strike(world, StormKind.SILENCE, seconds=60, after_acting=True)
    with pytest.raises(httpx.ReadTimeout):
        client.post(
            "/dms/files", content=FILE, headers={"Authorization": f"Bearer {world.dms.token}"}, timeout=0.3
        )
    wait_until(lambda: len(world.dms.received) == 1, "the file to arrive")
    assert world.requests_to("dms")[0].status is None


def test_silence_of_no_length_closes_without_an_answer(client: httpx.Client, world: World) -> None:
    strike(world, StormKind.SILENCE)
    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        post(client, world)
    assert world.dms.received == []


@pytest.mark.parametrize("after_acting", [False, True])
def test_reset_is_a_reset_and_not_a_plain_close(
    client: httpx.Client, world: World, after_acting: bool
) -> None:
    strike(world, StormKind.RESET, after_acting=after_acting)
    with pytest.raises(httpx.ReadError) as caught:
        post(client, world)
    cause: BaseException | None = caught.value
    while cause is not None and not isinstance(cause, ConnectionResetError):
        cause = cause.__cause__ or cause.__context__
    assert cause is not None
    assert len(world.dms.received) == int(after_acting)


def test_truncated_sends_less_than_it_announces(
    client: httpx.Client, world: World, raw: socket.socket
) -> None:
    strike(world, StormKind.TRUNCATED, times=2)
    with pytest.raises(httpx.RemoteProtocolError, match="received 4 bytes, expected 8"):
        post(client, world)
    raw.sendall(
        b"POST /dms/files HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n"
        b"Authorization: Bearer simulated-dms-token\r\n\r\nx"
    )
    head, _, body = read_all(raw).partition(b"\r\n\r\n")
    assert b"content-length: 8" in head.lower()
    assert body == b'{"id'
    assert len(world.dms.received) == 2


def test_drip_sends_the_whole_body_piece_by_piece(client: httpx.Client, world: World) -> None:
    strike(world, StormKind.DRIP, seconds=0.02, chunk_bytes=2)
    began = time.monotonic()
    answer = post(client, world)
    assert answer.json() == {"id": 1}
    assert answer.headers["Content-Length"] == str(len(answer.content))
    assert time.monotonic() - began >= 0.02 * len(answer.content) / 2


def test_endless_goes_on_until_the_caller_hangs_up(client: httpx.Client, world: World) -> None:
    strike(world, StormKind.ENDLESS)
    headers = {"Authorization": f"Bearer {world.dms.token}"}
    read_bytes = 0
    with client.stream("POST", "/dms/files", content=FILE, headers=headers) as answer:
        assert "Content-Length" not in answer.headers
        for chunk in answer.iter_bytes():
            read_bytes += len(chunk)
            if read_bytes > 2_000_000:
                break
    assert read_bytes > 2_000_000
    assert post(client, world).status_code == 201


def test_redirect_points_to_another_host_and_does_not_act(client: httpx.Client, world: World) -> None:
    strike(world, StormKind.REDIRECT, location="http://127.0.0.2:9/steal")
    answer = post(client, world)
    assert (answer.status_code, answer.headers["Location"]) == (302, "http://127.0.0.2:9/steal")
    assert world.dms.received == []


def test_html_is_a_success_with_a_page_for_people(client: httpx.Client, world: World) -> None:
    strike(world, StormKind.HTML)
    answer = post(client, world)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "<h1>" in answer.text
    assert world.dms.received == []


def test_error_in_200_says_so_in_the_body_only(client: httpx.Client, world: World) -> None:
    strike(world, StormKind.ERROR_IN_200, message="fora do ar")
    answer = post(client, world)
    assert (answer.status_code, answer.json()) == (200, {"erro": "fora do ar"})
    assert world.dms.received == []


@pytest.mark.parametrize(
    ("peer", "path", "headers"),
    [
        (
            "ssign",
            "/ssign/rest/signer/IntegrationEnvelopeFile",
            {"Authorization": "Custom simulated-ssign-token"},
        ),
        ("certisign", "/certisign/api/v2/document/package", {"Token": "simulated-certisign-token"}),
    ],
)
def test_wrong_token_is_refused_by_the_peer_itself(
    client: httpx.Client, world: World, peer: Peer, path: str, headers: dict[str, str]
) -> None:
    world.weather.add(Storm(peer, StormKind.WRONG_TOKEN))
    assert client.get(path, headers=headers).status_code == 401
    assert client.get(path, headers=headers).status_code in (400, 404)
    # What the caller really sent stays in the record.
    assert set(headers.values()) <= set(world.requests_to(peer)[0].headers.values())


def test_stopping_does_not_wait_for_a_storm(world: World) -> None:
    world.weather.add(Storm("dms", StormKind.SILENCE, seconds=3600), Storm("dms", StormKind.ENDLESS))
    failures: list[httpx.HTTPError] = []

    def call() -> None:
        with httpx.Client(base_url=second.url, timeout=PATIENCE_SECONDS) as client:
            try:
                post(client, world)
            except httpx.HTTPError as error:
                failures.append(error)

    with SimulatorServer(world) as second:
        callers = [threading.Thread(target=call, daemon=True) for _ in range(2)]
        for caller in callers:
            caller.start()
        wait_until(lambda: not world.weather.storms, "both calls to have come")
        began = time.monotonic()
    # Far from the hour of the storm, and from what a busy machine takes.
    assert time.monotonic() - began < 60
    for caller in callers:
        caller.join(timeout=60)
    assert len(failures) == 2


def test_a_storm_on_the_connection_says_that_it_needs_one() -> None:
    asyncio.run(_reset_without_connection())


async def _reset_without_connection() -> None:
    world = World()
    strike(world, StormKind.RESET)
    transport = httpx.ASGITransport(app=create_simulator(world))
    async with httpx.AsyncClient(transport=transport, base_url="http://simulator") as client:
        with pytest.raises(RuntimeError, match="SimulatorServer"):
            await client.post("/dms/files", content=FILE)


def read_all(connection: socket.socket) -> bytes:
    chunks = []
    while chunk := connection.recv(65_536):
        chunks.append(chunk)
    return b"".join(chunks)
