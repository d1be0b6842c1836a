"""Too much at once, and senders that take their time: a real door, real sockets."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.callback_api.door import (
    BODY,
    DEADLINE_SECONDS,
    HEADERS,
    URL,
    Process,
    make_settings,
    paths,
    read_all,
    request_head,
    running,
)

LIMITS = """
max_requests = 3
max_connections = 6
retry_after = "7s"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("overload")


@pytest.fixture(scope="module")
def door(folder: Path) -> Iterator[Process]:
    """A door with so much patience that whoever has to go does so for want of room."""
    make_settings(folder, api=f'{LIMITS}head_timeout = "10m"\nbody_timeout = "10m"\n')
    with running(folder / "signspool.toml") as process:
        yield process


@contextlib.contextmanager
def impatient(folder: Path, what: str) -> Iterator[Process]:
    """A door that hardly waits for heads, or bodies, and has all patience with the other: on a busy machine
    that one comes late, too."""
    patience = {"head": "10m", "body": "10m", what: "300ms"}
    limits = "".join(f'{part}_timeout = "{limit}"\n' for part, limit in patience.items())
    make_settings(folder, api=LIMITS + limits)
    # Not asked whether it is there: it might not wait for the question either.
    process = Process(folder / "signspool.toml")
    try:
        yield process
    finally:
        process.process.kill()


def connect(door: Process) -> socket.socket:
    return socket.create_connection(("127.0.0.1", door.port), timeout=DEADLINE_SECONDS)


def begin(door: Process, stack: contextlib.ExitStack) -> socket.socket:
    """A callback whose last byte does not come."""
    connection = stack.enter_context(connect(door))
    connection.sendall(request_head(f"Content-Length: {len(BODY)}") + BODY[:-1])
    return connection


def post(door: Process) -> httpx.Response:
    return httpx.post(door.base_url + URL, content=BODY, headers=HEADERS, timeout=DEADLINE_SECONDS)


def test_slow_senders_cannot_hold_the_door(door: Process, folder: Path) -> None:
    """They have all the places there are; honest callbacks are taken at once, and the slowest is told 503."""
    before = len(paths(folder / "data"))
    with contextlib.ExitStack() as stack:
        slow = [begin(door, stack) for _ in range(3)]
        assert [post(door).status_code for _ in range(3)] == [200, 200, 200]
        answer = read_all(slow[0])
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"\r\nretry-after: 7\r\n" in answer
        problem = json.loads(answer.partition(b"\r\n\r\n")[2])
        assert problem["type"] == "/problems/busy"
    assert len(paths(folder / "data")) == before + 3


def test_a_body_of_one_byte_a_second_ends_with_408(tmp_path: Path) -> None:
    with impatient(tmp_path, "body") as door, contextlib.ExitStack() as stack:
        assert read_all(begin(door, stack)).startswith(b"HTTP/1.1 408")


def test_silent_connections_give_way_to_those_that_speak(door: Process) -> None:
    """As many as there may be are open and say nothing, or only half a head."""
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(connect(door)) for _ in range(6)]
        silent[1].sendall(b"POST /api/callback HTTP/1.1\r\nHo")
        assert post(door).status_code == 200
        assert read_all(silent[0]) == b""


def test_a_head_that_does_not_come_is_not_waited_for(tmp_path: Path) -> None:
    with impatient(tmp_path, "head") as door, connect(door) as connection:
        # It may be closed before that is sent.
        with contextlib.suppress(OSError):
            connection.sendall(b"POST /api/callback HTTP/1.1\r\nHo")
        with contextlib.suppress(ConnectionResetError):
            assert read_all(connection) == b""


def test_connections_that_are_all_at_work_are_not_closed_for_a_newcomer(door: Process) -> None:
    """The newcomer is told 503, and when to come again."""
    with contextlib.ExitStack() as stack:
        # Answered already and closing, but each still sends: five with a refused body, one with a good one.
        busy = [stack.enter_context(connect(door)) for _ in range(6)]
        for connection in busy:
            connection.sendall(request_head("Content-Length: 100", url="/api/callback?provider=none"))
        for connection in busy:
            assert connection.recv(12) == b"HTTP/1.1 400"
        with connect(door) as newcomer:
            answer = read_all(newcomer)
    assert answer.startswith(b"HTTP/1.1 503")
    assert b"\r\nretry-after: 7\r\n" in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["type"] == "/problems/busy"
