"""What the service manager is told, over a socket as it opens one."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import structlog

from shared.notify import Notifier

WATCH_SECONDS = 30.0


class Manager:
    """The service manager's end."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.setblocking(False)

    def heard(self) -> list[str]:
        """Everything told since the last call."""
        told = []
        while True:
            try:
                told.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return told

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["a path", "an abstract address"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "notify") if request.param == "a path" else f"@signspool-test-{os.getpid()}"


@pytest.fixture
def manager(address: str) -> Iterator[Manager]:
    opened = Manager(address)
    yield opened
    opened.close()


def environment(address: str, **more: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": str(int(WATCH_SECONDS * 1e6)), **more}


def test_each_word_arrives(manager: Manager, address: str) -> None:
    notifier = Notifier.from_environment(environment(address))
    notifier.ready()
    notifier.status("taking\ncallbacks")
    notifier.alive()
    notifier.reloading()
    notifier.stopping()
    ready, status, alive, reloading, stopping = manager.heard()
    assert [ready, status, alive, stopping] == [
        "READY=1",
        "STATUS=taking callbacks",
        "WATCHDOG=1",
        "STOPPING=1",
    ]
    # A reload has to say when it began, or systemd takes an old `READY=1` for its end.
    first, second = reloading.splitlines()
    assert first == "RELOADING=1"
    assert int(second.removeprefix("MONOTONIC_USEC=")) > 0


def test_a_status_that_is_no_news_is_not_repeated(manager: Manager, address: str) -> None:
    notifier = Notifier.from_environment(environment(address))
    for status in ("well", "well", "ill", "well"):
        notifier.status(status)
    assert manager.heard() == ["STATUS=well", "STATUS=ill", "STATUS=well"]


def test_signs_of_life_are_as_many_as_needed_and_not_more(manager: Manager, address: str) -> None:
    """However often they are given: at least three in the time that systemd waits."""
    now = 0.0
    notifier = Notifier(address, watchdog_seconds=WATCH_SECONDS, monotonic=lambda: now)
    arrived = []
    for second in range(300):
        now = float(second)
        notifier.alive()
        arrived += [now for _ in manager.heard()]
    gaps = [after - before for before, after in pairwise(arrived)]
    assert max(gaps) <= WATCH_SECONDS / 3
    assert len(arrived) < 150


@pytest.mark.parametrize(
    "watch",
    [{"WATCHDOG_USEC": ""}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_PID": "1"}],
    ids=["no time", "never", "no number", "another process"],
)
def test_nobody_gives_signs_of_life_who_is_not_asked_to(
    manager: Manager, address: str, watch: dict[str, str]
) -> None:
    notifier = Notifier.from_environment(environment(address, **watch))
    notifier.alive()
    assert notifier.beat_seconds is None
    assert manager.heard() == []


def test_without_a_service_manager_nothing_happens() -> None:
    for environ in ({}, {"NOTIFY_SOCKET": "vsock:2:1234"}):
        notifier = Notifier.from_environment(environ)
        notifier.ready()
        notifier.status("well")
        notifier.alive()
        notifier.stopping()
        assert notifier.beat_seconds is None


def test_a_service_manager_that_is_gone_is_told_of_once_and_harms_nobody(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as lines:
        notifier = Notifier(str(tmp_path / "nobody"))
        notifier.ready()
        notifier.stopping()
    assert [line["event"] for line in lines] == ["notify.failed"]


def test_a_service_manager_that_does_not_read_holds_up_nobody(tmp_path: Path) -> None:
    manager = Manager(str(tmp_path / "notify"))
    with structlog.testing.capture_logs() as lines:
        notifier = Notifier(str(tmp_path / "notify"))
        for number in range(5_000):
            notifier.status(str(number))
    manager.close()
    assert [line["event"] for line in lines] == ["notify.failed"]
