"""The door as a real process behind a real socket: weather that only a network brings."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from shared.spool import MARKER, Folder
from tests.callback_api.door import (
    BODY,
    DEADLINE_SECONDS,
    HEADERS,
    REPOSITORY,
    SECRET,
    URL,
    Process,
    make_config,
    make_settings,
    paths,
    read_all,
    records,
    request_head,
    running,
)
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("door")
    make_settings(folder, api='max_body = "12MiB"', spool='refused_max_bytes = "1KiB"')
    return folder


@pytest.fixture(scope="module")
def shared_door(shared_folder: Path) -> Iterator[Process]:
    """One door for the tests that leave it as they found it."""
    with running(shared_folder / "signspool.toml") as door:
        yield door


def small(door: Process) -> httpx.Response:
    """A callback that shows that the door is well."""
    return httpx.post(door.base_url + URL, content=BODY, headers=HEADERS, timeout=DEADLINE_SECONDS)


def memory_bytes(door: Process) -> int:
    """Resident memory of the process."""
    return int(Path(f"/proc/{door.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_content_length_above_the_limit_is_refused_before_the_body(shared_door: Process) -> None:
    """And the connection is closed, body or no body."""
    answer = shared_door.raw(request_head("Content-Length: 999999999999"))
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in answer.lower()


def test_the_sender_of_a_body_that_is_too_long_gets_to_read_the_answer(shared_door: Process) -> None:
    """It sends on for a while, as most clients do before they listen."""
    answer = shared_door.raw(request_head(f"Content-Length: {13 * 2**20}"), b"x" * (13 * 2**20))
    assert answer.startswith(b"HTTP/1.1 413")


def test_an_endless_chunked_body_is_cut_off_and_memory_stays_flat(shared_door: Process) -> None:
    """200 MiB are offered without any Content-Length."""
    small(shared_door)
    before = memory_bytes(shared_door)
    chunk = b"100000\r\n" + b"x" * 2**20 + b"\r\n"
    with socket.create_connection(("127.0.0.1", shared_door.port), timeout=DEADLINE_SECONDS) as connection:
        connection.sendall(request_head("Transfer-Encoding: chunked"))
        with pytest.raises(OSError):  # noqa: PT011  (reset or broken pipe, as the kernel likes)
            for _ in range(20_000):
                connection.sendall(chunk)
                time.sleep(0.001)
    assert memory_bytes(shared_door) - before < 80 * 2**20
    assert small(shared_door).status_code == 200


FRAMING = {
    "a trailer without end": (b"1\r\n{\r\n0\r\nX-1: ", b"a" * 2**16),
    "trailers without end": (b"1\r\n{\r\n0\r\n", b"X-1: %b\r\n" % (b"a" * 1000) * 60),
    "a trailer after a long body": (b"3d0900\r\n%b\r\n0\r\nX-1: " % (b" " * 4_000_000), b"a" * 2**16),
    "a chunk extension without end": (b"1;x=", b"a" * 2**16),
}


@pytest.mark.parametrize(("beginning", "rest"), FRAMING.values(), ids=FRAMING)
def test_a_chunked_body_that_is_all_framing_is_cut_off(
    shared_door: Process, beginning: bytes, rest: bytes
) -> None:
    """Within what the sockets hold, however long the body before it was; memory stays flat."""
    small(shared_door)
    before, sent_bytes = memory_bytes(shared_door), 0
    with socket.create_connection(("127.0.0.1", shared_door.port), timeout=DEADLINE_SECONDS) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**16)
        connection.sendall(request_head("Transfer-Encoding: chunked") + beginning)
        with pytest.raises(OSError):  # noqa: PT011  (reset or broken pipe, as the kernel likes)
            while sent_bytes < 64 * 2**20:
                connection.sendall(rest)
                sent_bytes += len(rest)
    assert sent_bytes < 16 * 2**20
    assert memory_bytes(shared_door) - before < 32 * 2**20
    assert small(shared_door).status_code == 200


def test_chunks_of_one_byte_and_short_trailers_are_read(shared_door: Process, shared_folder: Path) -> None:
    """The framing is five times the body and well above what is allowed beside a small one; a trailer is
    no header, not even of the next request."""
    body = BODY + b" " * (100_000 - len(BODY))
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
    head = request_head("Transfer-Encoding: chunked").replace(SECRET.encode(), b"wrong")
    trailers = f"0\r\nX-Callback-Secret: {SECRET}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", shared_door.port), timeout=DEADLINE_SECONDS) as connection:
        connection.sendall(request_head("Transfer-Encoding: chunked") + chunks + trailers)
        connection.sendall(
            head.replace(b"X-Callback-Secret: wrong", b"Connection: close") + chunks + trailers
        )
        answers = read_all(connection)
    assert answers.startswith(b"HTTP/1.1 200")
    assert answers.count(b"HTTP/1.1 ") == 2
    assert b"HTTP/1.1 401" in answers
    assert records(shared_folder / "data")[-1].payload == body


@pytest.mark.parametrize("framing", ["Content-Length: 1000", "Transfer-Encoding: chunked"])
def test_a_sender_that_hangs_up_in_the_middle_leaves_nothing(
    shared_door: Process, shared_folder: Path, framing: str
) -> None:
    """Even though the part that came would be a callback."""
    root = shared_folder / "data"
    before = [len(paths(root)), len(paths(root, Folder.REFUSED))]
    gone = [line["event"] for line in shared_door.log_lines()].count("callback.disconnected")
    body = BODY if "Length" in framing else b"%x\r\n%b\r\n" % (len(BODY), BODY)
    with socket.create_connection(("127.0.0.1", shared_door.port), timeout=DEADLINE_SECONDS) as connection:
        connection.sendall(request_head(framing) + body)
    wait_until(
        lambda: [line["event"] for line in shared_door.log_lines()].count("callback.disconnected") > gone,
        "the door to notice",
    )
    assert [len(paths(root)), len(paths(root, Folder.REFUSED))] == before


def test_a_content_length_that_is_too_small_does_not_lengthen_the_body(
    shared_door: Process, shared_folder: Path
) -> None:
    """What follows is another request, and none."""
    with socket.create_connection(("127.0.0.1", shared_door.port), timeout=DEADLINE_SECONDS) as connection:
        connection.sendall(request_head(f"Content-Length: {len(BODY)}") + BODY)
        first = b""
        while b"}" not in first:
            first += connection.recv(65536)
        connection.sendall(b"} more\r\n\r\n")
        rest = read_all(connection)
    assert first.startswith(b"HTTP/1.1 200")
    assert rest.startswith(b"HTTP/1.1 400")
    assert records(shared_folder / "data")[-1].payload == BODY


def test_a_slow_sender_holds_up_nobody(shared_door: Process, shared_folder: Path) -> None:
    """Its callback counts once the last byte is there."""
    with socket.create_connection(("127.0.0.1", shared_door.port), timeout=DEADLINE_SECONDS) as connection:
        connection.sendall(request_head(f"Content-Length: {len(BODY)}", "Connection: close"))
        for byte in BODY[:-1]:
            connection.sendall(bytes([byte]))
        assert small(shared_door).status_code == 200
        connection.sendall(BODY[-1:])
        assert read_all(connection).startswith(b"HTTP/1.1 200")


def test_an_endless_header_is_cut_off(shared_door: Process) -> None:
    with socket.create_connection(("127.0.0.1", shared_door.port), timeout=DEADLINE_SECONDS) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nX-Long: ")
        with pytest.raises(OSError):  # noqa: PT011  (reset or broken pipe, as the kernel likes)
            for _ in range(20_000):
                connection.sendall(b"x" * 65536)
                time.sleep(0.001)
    assert small(shared_door).status_code == 200


def test_a_header_that_is_too_long_is_a_problem(shared_door: Process) -> None:
    """Sent in two parts, so that the first can be judged alone."""
    with socket.create_connection(("127.0.0.1", shared_door.port), timeout=DEADLINE_SECONDS) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nX-Long: " + b"x" * 70_000)
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 431")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["status"] == 431


HUGE = {
    "ten million digits": (b'{"action": "A", "envelopeId": 1, "x": ' + b"7" * 10_000_000 + b"}", 200),
    "an endless id": (b'{"action": "A", "envelopeId": ' + b"7" * 10_000_000 + b"}", 422),
    "a million zeros": (b'{"envelopeId": 1, "action": "A", "x": [' + b"0," * 1_000_000 + b"0]}", 200),
    "deep nesting": (b'{"x": ' + b"[" * 5_000_000 + b"]" * 5_000_000 + b"}", 422),
    "an endless string": (b'{"x": "' + b"\\" * 10_000_001, 422),
}


@pytest.mark.parametrize(("body", "status"), HUGE.values(), ids=HUGE)
def test_other_requests_are_answered_while_a_huge_body_is_handled(
    shared_door: Process, shared_folder: Path, body: bytes, status: int
) -> None:
    """The small callback is sent after the last byte of the huge one, and is answered before it; not every
    time, where the disk lets it wait and the other one is refused without any."""

    async def exchange() -> tuple[list[str], list[int]]:
        order: list[str] = []
        statuses: list[int] = []
        reader, writer = await asyncio.open_connection("127.0.0.1", shared_door.port)
        other_reader, other_writer = await asyncio.open_connection("127.0.0.1", shared_door.port)
        writer.write(request_head(f"Content-Length: {len(body)}") + body)
        await writer.drain()
        other_writer.write(request_head(f"Content-Length: {len(BODY)}") + BODY)

        async def listen(name: str, source: asyncio.StreamReader) -> None:
            statuses.append(int((await source.readline()).split()[1]))
            order.append(name)

        await asyncio.gather(listen("huge", reader), listen("small", other_reader))
        writer.close()
        other_writer.close()
        return order, statuses

    tried = (asyncio.run(exchange()) for _ in range(5))
    assert any(found == (["small", "huge"], [200, status]) for found in tried)
    if status == 200:
        assert body in [record.payload for record in records(shared_folder / "data")]
    for path in paths(shared_folder / "data"):
        if path.stat().st_size > 2**20:
            path.unlink()


def test_two_hundred_callbacks_at_once_are_two_hundred_files(
    shared_door: Process, shared_folder: Path
) -> None:
    """Each answer names a file of its own, and each file holds its own body."""

    async def send() -> dict[str, int]:
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(base_url=shared_door.base_url, limits=limits, timeout=60) as client:

            async def one(number: int) -> str:
                body = b'{"envelopeId": %d, "action": "A"}' % number
                answer = await client.post(URL, content=body, headers=HEADERS)
                assert answer.status_code == 200
                return str(answer.json()["id"])

            ids = await asyncio.gather(*map(one, range(200)))
        return {receipt: number for number, receipt in enumerate(ids)}

    expected = asyncio.run(send())
    assert len(expected) == 200
    found = {
        record.receipt.id: int(record.document_id)
        for record in records(shared_folder / "data")
        if record.receipt is not None and record.receipt.id in expected
    }
    assert found == expected


def test_the_answer_does_not_say_what_software_this_is(shared_door: Process) -> None:
    answer = small(shared_door)
    assert "server" not in answer.headers
    assert "date" in answer.headers


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGTERM, 1), (signal.SIGINT, 2)])
def test_a_stop_under_load_loses_nothing_that_was_acknowledged(
    tmp_path: Path, number: int, workers: int
) -> None:
    """Every 2xx has its file, and the exit code is 0."""
    make_settings(tmp_path)
    acknowledged: list[str] = []
    enough = threading.Event()

    def load(door: Process) -> None:
        with httpx.Client(base_url=door.base_url, timeout=DEADLINE_SECONDS) as client:
            while True:
                try:
                    answer = client.post(URL, content=BODY, headers=HEADERS)
                except httpx.TransportError:
                    return
                if answer.status_code == 200:
                    acknowledged.append(answer.json()["id"])
                if len(acknowledged) >= 100:
                    enough.set()

    with running(tmp_path / "signspool.toml", workers=workers) as door:
        threads = [threading.Thread(target=load, args=[door]) for _ in range(8)]
        for thread in threads:
            thread.start()
        assert enough.wait(DEADLINE_SECONDS)
        assert door.stop(number) == 0
        for thread in threads:
            thread.join()
    stored = {path.name.rpartition("_")[2].removesuffix(".json") for path in paths(tmp_path / "data")}
    assert set(acknowledged) <= stored
    assert list((tmp_path / "data" / ".tmp").iterdir()) == []


def test_a_request_in_hand_is_finished_before_the_end(tmp_path: Path) -> None:
    make_settings(tmp_path)
    with running(tmp_path / "signspool.toml") as door:
        with socket.create_connection(("127.0.0.1", door.port), timeout=DEADLINE_SECONDS) as connection:
            connection.sendall(request_head(f"Content-Length: {len(BODY)}") + BODY[:5])
            small(door)
            door.process.send_signal(signal.SIGTERM)
            wait_until(lambda: "Shutting down" in door.log_path.read_text(), "the stop")
            connection.sendall(BODY[5:])
            assert read_all(connection).startswith(b"HTTP/1.1 200")
        assert door.stop() == 0
    assert len(paths(tmp_path / "data")) == 2


def test_a_sender_that_never_finishes_does_not_hold_up_the_end(tmp_path: Path) -> None:
    """After the grace time it is told to come again, and the exit code is still 0."""
    make_settings(tmp_path, api='grace = "1s"')
    with running(tmp_path / "signspool.toml") as door:
        with socket.create_connection(("127.0.0.1", door.port), timeout=DEADLINE_SECONDS) as connection:
            connection.sendall(request_head(f"Content-Length: {len(BODY)}") + BODY[:5])
            small(door)
            door.process.send_signal(signal.SIGTERM)
            assert read_all(connection).startswith(b"HTTP/1.1 503")
        assert door.stop() == 0
    assert len(paths(tmp_path / "data")) == 1


def test_a_forwarded_address_is_believed_from_trusted_proxies_only(tmp_path: Path) -> None:
    """Otherwise anybody could say where it comes from."""
    addresses = []
    for name, api in (("trusting", 'trusted_proxies = ["127.0.0.0/8"]'), ("wary", "")):
        folder = tmp_path / name
        folder.mkdir()
        make_settings(folder, api=api)
        with running(folder / "signspool.toml") as door:
            headers = {**HEADERS, "X-Forwarded-For": "203.0.113.9"}
            answer = httpx.post(door.base_url + URL, content=BODY, headers=headers, timeout=DEADLINE_SECONDS)
            assert answer.status_code == 200
        (record,) = records(folder / "data")
        assert record.receipt is not None
        addresses.append(record.receipt.remote_address)
    assert addresses == ["203.0.113.9", "127.0.0.1"]


def test_several_workers_are_not_started_with_wrong_settings(tmp_path: Path) -> None:
    """Their parent finds it out, and ends by the code after which systemd does not start it again."""
    make_settings(tmp_path)
    config = make_config(tmp_path, providers="[providers.ssign]\n")
    done = subprocess.run(
        [sys.executable, "-m", "signspool", "api", "--workers", "2", "--config", str(config)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "no secret is set" in done.stderr
    assert "Started parent process" not in done.stderr


def test_log_lines_are_json_and_hold_no_secret(tmp_path: Path) -> None:
    """Those of uvicorn too."""
    settings = make_settings(tmp_path)
    with running(tmp_path / "signspool.toml") as door:
        small(door)
        (settings.spool.root / MARKER).unlink()
        assert door.stop() == 0
        lines = door.log_lines()
    assert {"callback.accepted", "Shutting down"} <= {line["event"] for line in lines}
    assert all({"timestamp", "level"} <= line.keys() for line in lines)
    assert SECRET not in door.log_path.read_text()
