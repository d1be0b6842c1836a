"""Disks that fail, fill up and dawdle under both tiers: 503 or waiting, then recovery without a restart."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from shared.clock import Clock
from shared.spool import Folder
from simulator.server import SimulatorServer
from tests.callback_api.door import (
    BODY,
    DEADLINE_SECONDS,
    HEADERS,
    URL,
    Process,
    in_process,
    make_settings,
    paths,
    running,
)
from tests.conftest import make_database
from tests.faults import held_up, injected, needs_strace, thread_that_calls
from tests.installation import Installation
from tests.waiting import wait_until

SYNCS = "fdatasync,syncfs,fsync"
AT_ONCE = 16

FAULTS = {
    "no room for another file": "openat:error=ENOSPC",
    "no file handle left": "openat:error=EMFILE",
    "rights taken away": "openat:error=EACCES",
    "a file system that turned read-only": "openat:error=EROFS",
    "data that cannot be synced": "fdatasync,syncfs:error=EIO",
    "a rename that fails": "renameat:error=EIO",
    "no room in the day folder": "renameat:error=ENOSPC",
    "a folder that cannot be synced": "fsync:error=EIO",
}


class Door:
    """A running door and what it answered: receipt ids of every 200."""

    def __init__(self, process: Process, root: Path) -> None:
        self.process = process
        self.root = root
        self.pid = process.process.pid
        self._client = httpx.Client(base_url=process.base_url, headers=HEADERS, timeout=DEADLINE_SECONDS)
        self.acknowledged: set[str] = set()
        self.writer = thread_that_calls(self.pid, SYNCS, self.post, root.parent)

    def close(self) -> None:
        self._client.close()

    def post(self) -> int:
        """Send one callback; returns the status, 503 only if it says when to come again."""
        answer = self._client.post(URL, content=BODY)
        if answer.status_code == 200:
            self.acknowledged.add(answer.json()["id"])
        else:
            assert answer.json()["type"] == "/problems/not-stored"
            assert int(answer.headers["retry-after"]) > 0
        return answer.status_code

    def post_at_once(self, number: int = AT_ONCE) -> set[int]:
        """Send many callbacks at the same time; returns the statuses that there were."""
        with ThreadPoolExecutor(number) as pool:
            return set(pool.map(lambda _: self.post(), range(number)))

    def kept(self) -> set[str]:
        """Receipt ids of the files that anybody can see."""
        return {path.name.rpartition("_")[2].removesuffix(".json") for path in paths(self.root)}

    def leftovers(self) -> list[Path]:
        return [path for path in (self.root / ".tmp").rglob("*") if path.is_file()]

    def recovers(self) -> None:
        """Every 200 has its file, nothing else is there, and the next callback is taken."""
        assert self.kept() == self.acknowledged
        assert self.leftovers() == []
        wait_until(lambda: self._client.get("/readyz").status_code == 200, "the door to be ready again")
        assert self.post() == 200
        assert self.kept() == self.acknowledged


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """One process that lives through all the faults, one after the other."""
    folder = tmp_path_factory.mktemp("sick")
    settings = make_settings(folder, api="max_connections = 400")
    with running(folder / "signspool.toml") as process:
        made = Door(process, settings.spool.root)
        yield made
        made.close()


@needs_strace
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_failing_system_call_is_503_and_leaves_nothing(door: Door, fault: str) -> None:
    """For one callback alone and for a group; the kernel itself reports the failure."""
    with injected(door.writer, fault):
        assert door.post() == 503
        assert door.post_at_once() == {503}
    door.recovers()


@pytest.mark.parametrize("size_bytes", [0, 10], ids=["a write that fails", "a write that is short"])
def test_a_failing_write_is_503_and_leaves_nothing(door: Door, size_bytes: int) -> None:
    """The kernel refuses files above a size, log lines among them, which are then nobody's trouble."""
    with limited(resource.RLIMIT_FSIZE, {door.pid: size_bytes, door.writer: size_bytes}):
        assert door.post() == 503
        assert door.post_at_once() == {503}
    door.recovers()


@needs_strace
@pytest.mark.parametrize("calls", ["fdatasync,syncfs", "fsync", "renameat", "openat"])
def test_a_disk_that_fails_now_and_then(door: Door, calls: str) -> None:
    """Whatever the mixture, a 200 has its file and a 503 has none."""
    with injected(door.writer, f"{calls}:error=EIO:when=2+3"):
        statuses = {status for _ in range(8) for status in door.post_at_once(8)}
    assert statuses == {200, 503}
    door.recovers()


@needs_strace
@pytest.mark.parametrize(
    ("calls", "begun"),
    [("fdatasync,syncfs", Door.leftovers), ("fsync", Door.kept)],
    ids=["its data", "its folder"],
)
def test_nobody_is_answered_before_the_disk_has_it_and_health_is_answered_meanwhile(
    door: Door, calls: str, begun: Callable[[Door], Collection[object]]
) -> None:
    """Written but not synced, then renamed but not synced."""
    before = len(begun(door))
    with ThreadPoolExecutor(1) as pool, httpx.Client(base_url=door.process.base_url) as probe:
        with held_up(door.writer, calls):
            pending = pool.submit(door.post)
            wait_until(lambda: len(begun(door)) > before, "the callback to be on its way to the disk")
            for _ in range(3):
                assert probe.get("/healthz", timeout=DEADLINE_SECONDS).status_code == 200
                assert probe.get("/readyz", timeout=DEADLINE_SECONDS).status_code == 200
            # For an answer that is on its way although it should not be.
            wait([pending], timeout=0.3)
            assert not pending.done()
        assert pending.result() == 200
    door.recovers()


@needs_strace
def test_health_is_answered_while_the_writer_hangs_and_more_callbacks_come(door: Door) -> None:
    with (
        ThreadPoolExecutor(AT_ONCE) as pool,
        httpx.Client(base_url=door.process.base_url, timeout=DEADLINE_SECONDS) as probe,
    ):
        with held_up(door.writer, "renameat"):
            posted = [pool.submit(door.post)]
            wait_until(lambda: door.leftovers() != [], "the callback to be on its way to the disk")
            posted += [pool.submit(door.post) for _ in range(AT_ONCE - 1)]
            for _ in range(2 * AT_ONCE):
                assert probe.get("/healthz").status_code == 200
            assert not any(future.done() for future in posted)
        assert {future.result() for future in posted} == {200}
    door.recovers()


def test_no_file_handles_left(door: Door) -> None:
    """Connections wait or are closed; a callback on an open one is told to come again."""
    limits = {pid: len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in (door.pid, door.writer)}
    with limited(resource.RLIMIT_NOFILE, limits), ExitStack() as stack:
        for _ in range(20):
            connection = socket.create_connection(("127.0.0.1", door.process.port), timeout=DEADLINE_SECONDS)
            stack.enter_context(connection)
        assert door.post() == 503
    door.recovers()
    assert httpx.get(f"{door.process.base_url}/healthz", timeout=DEADLINE_SECONDS).status_code == 200


def test_a_writer_that_dies_while_no_file_handle_is_left_is_started_again_when_there_is_one(
    tmp_path: Path,
) -> None:
    settings = make_settings(tmp_path)
    with running(tmp_path / "signspool.toml") as process:
        door = Door(process, settings.spool.root)
        opened = len(list(Path(f"/proc/{door.pid}/fd").iterdir()))
        with limited(resource.RLIMIT_NOFILE, {door.pid: opened - 1}):
            os.kill(door.writer, signal.SIGKILL)
            wait_until(lambda: "writer.not_started" in process.log_path.read_text(), "a start in vain")
            assert door.post() == 503
        door.recovers()
        door.close()


@contextmanager
def limited(resource_number: int, limits: Mapping[int, int]) -> Iterator[None]:
    """Give processes other limits, by process id, until the block ends."""
    before = {pid: resource.prlimit(pid, resource_number) for pid in limits}
    for pid, limit in limits.items():
        resource.prlimit(pid, resource_number, (limit, before[pid][1]))
    try:
        yield
    finally:
        for pid, limits_before in before.items():
            resource.prlimit(pid, resource_number, limits_before)


def test_a_clock_that_jumps_over_midnight_and_back(tmp_path: Path) -> None:
    """Each file lies in the day that its time says, and the folder of the other day is as good afterwards."""
    now = datetime(2041, 11, 21, 23, 59, 59, tzinfo=UTC)
    settings = make_settings(tmp_path)
    days = []
    with in_process(settings, clock=Clock(UTC, lambda: now)) as door:
        for jump in (timedelta(), timedelta(days=1), timedelta(days=-2), timedelta(days=1)):
            now += jump
            answer = door.ask()
            assert answer.status_code == 200
            (path,) = settings.spool.root.glob(f"spool/*/*{answer.json()['id']}.json")
            assert json.loads(path.read_bytes())["timestamp"].startswith(path.parent.name)
            days.append(path.parent.name)
    assert days == ["2041-11-21", "2041-11-22", "2041-11-20", "2041-11-21"]


# The processor


@pytest.fixture
def installation(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Installation]:
    with SimulatorServer() as server, make_database("sqlite", tmp_path, request) as url:
        (tmp_path / "archive").mkdir()
        made = Installation(tmp_path, server.url, url)
        yield made
        made.close()


def unavailable_lines(installation: Installation) -> list[str]:
    lines = (json.loads(line) for line in installation.log("processor").splitlines())
    events = [str(line["event"]) for line in lines]
    return [event for event in events if event in ("processor.unavailable", "processor.available")]


@needs_strace
def test_the_processor_waits_while_the_spool_is_sick_and_goes_on_by_itself(
    installation: Installation,
) -> None:
    """Renames fail, then a file is in the folder's place: nothing is lost or doubled, and the log has
    one line each way."""
    spool = installation.spool
    installation.start("api", "processor")
    sent = 0

    def send(number: int) -> None:
        nonlocal sent
        for _ in range(number):
            sent += 1
            answer = installation.post("ssign", {"envelopeId": sent, "action": "EXPIRED"})
            assert answer.status_code == 200

    def expect(*events: str) -> None:
        installation.wait(lambda: unavailable_lines(installation) == list(events), f"{events} in the log")

    trouble = ["processor.unavailable", "processor.available"]
    send(3)
    installation.wait_until_settled()
    with injected(installation.pid("processor"), "rename,renameat,renameat2:error=EIO", follow=True):
        send(3)
        expect(*trouble[:1])
    expect(*trouble)
    installation.wait_until_settled()
    folder, away = spool.folder(Folder.SPOOL), installation.home / "away"
    send(3)
    # It would make a folder again that is gone for as long as a sweep takes.
    with installation.hanging("processor"):
        folder.rename(away)
        folder.write_text("in the way")
    expect(*trouble, trouble[0])
    with installation.hanging("processor"):
        folder.unlink()
        away.rename(folder)
    expect(*trouble * 2)
    installation.wait_until_settled()
    assert installation.counts() == {"spool": 0, "deferred": 0, "done": sent, "quarantine": 0, "refused": 0}
    for number in range(1, sent + 1):
        shown = installation.show("ssign", str(number))
        assert shown["status"] == "expired"
        assert len(shown["events"]) == 1
    assert installation.stop("processor") == 0
