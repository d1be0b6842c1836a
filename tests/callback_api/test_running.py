"""The door while it runs: other settings without a lost request, and its signs of life."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from callback_api.running import RunningDoor
from shared.notify import Notifier
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

RESTPKI = (
    '[providers.restpki]\nauthentication = "basic"\nsecret = "lacuna:invented"\nreturn_page = "{page}"\n'
)
OTHER = "another-secret-9c1e"  # An invented one.


def provider(secret: str) -> str:
    return f'[providers.ssign]\nsecret = "{secret}"\n'


def reload(door: Process, word: str) -> dict[str, Any]:
    """Have the settings read again; returns the line that says what came of it."""

    def said() -> list[dict[str, Any]]:
        return [line for line in door.log_lines() if line["event"] == word]

    count = len(said())
    door.process.send_signal(signal.SIGHUP)
    wait_until(lambda: len(said()) > count, word)
    return said()[-1]


def status_with(door: Process, secret: str) -> int:
    answer = httpx.post(
        door.base_url + URL, content=BODY, headers={"X-Callback-Secret": secret}, timeout=DEADLINE_SECONDS
    )
    return answer.status_code


def test_returns_follow_the_settings(door: Process, home: Path) -> None:
    """A provider that came sends browsers back at once, to the page of the settings of now."""
    address = f"{door.base_url}/api/return?provider=restpki&signatureSessionId={uuid.uuid4()}"
    assert httpx.get(address, timeout=DEADLINE_SECONDS).status_code == 400
    for page in ("https://app.test/one", "https://app.test/two"):
        make_config(home, providers=provider(SECRET) + RESTPKI.format(page=page))
        reload(door, "settings.reloaded")
        answer = httpx.get(address, timeout=DEADLINE_SECONDS)
        assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (303, page)


def test_no_line_of_the_log_has_a_secret_of_now_or_before(door: Process, home: Path) -> None:
    make_config(home, providers=provider(OTHER))
    reload(door, "settings.reloaded")
    make_config(home, providers=provider(OTHER), api=f'"{SECRET}/{OTHER}" = 1')
    assert "***/***" in reload(door, "settings.refused")["reason"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("door")
    # So long that a shorter one is known to be another.
    make_settings(folder, api='head_timeout = "10m"')
    return folder


@pytest.fixture(scope="module")
def shared_door(home: Path) -> Iterator[Process]:
    with running(home / "signspool.toml") as started:
        yield started


@pytest.fixture
def door(shared_door: Process, home: Path) -> Iterator[Process]:
    """A door whose settings are put back at the end."""
    yield shared_door
    make_config(home)
    reload(shared_door, "settings.reloaded")


@contextlib.contextmanager
def load(door: Process, secrets: list[str]) -> Iterator[list[object]]:
    """Callbacks without a pause inside the block, each sent with every secret; yields what failed."""
    failed: list[object] = []
    enough, stop = threading.Semaphore(0), threading.Event()

    def send(kept: httpx.Client) -> None:
        while not stop.is_set():
            try:
                statuses = [
                    kept.post(URL, content=BODY, headers={"X-Callback-Secret": secret}).status_code
                    for secret in secrets
                ]
            except httpx.TransportError as error:
                failed.append(error)
                return
            if 200 not in statuses:
                failed.append(statuses)
            enough.release()

    with contextlib.ExitStack() as clients:
        threads = []
        for _ in range(4):
            kept = clients.enter_context(httpx.Client(base_url=door.base_url, timeout=DEADLINE_SECONDS))
            threads.append(threading.Thread(target=send, args=[kept]))
        for thread in threads:
            thread.start()
        try:
            for _ in range(20):
                assert enough.acquire(timeout=DEADLINE_SECONDS)
            yield failed
            for _ in range(20):
                assert enough.acquire(timeout=DEADLINE_SECONDS)
        finally:
            stop.set()
            for thread in threads:
                thread.join()


def test_a_new_secret_counts_at_once_and_no_request_is_lost(door: Process, home: Path) -> None:
    """Every callback comes with both secrets, one after the other, on kept connections."""
    with load(door, [SECRET, OTHER]) as failed:
        make_config(home, providers=provider(OTHER))
        line = reload(door, "settings.reloaded")
        assert line["changed"] == ["providers.ssign.secret"]
        assert (status_with(door, SECRET), status_with(door, OTHER)) == (401, 200)
    assert failed == []
    assert OTHER not in door.log_path.read_text()


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"api": "nonsense = 1"}, "nonsense"),
        ({"providers": "[providers.ssign]\n"}, "no secret is set"),
        ({"root": Path("/nowhere/at/all")}, "nothing could be stored"),
    ],
    ids=["an unknown key", "a provider without a secret", "a root that is no spool"],
)
def test_wrong_settings_are_refused_and_the_old_ones_stay(
    door: Process, home: Path, wrong: dict[str, Any], reason: str
) -> None:
    make_config(home, **wrong)
    line = reload(door, "settings.refused")
    assert reason in line["reason"]
    assert status_with(door, SECRET) == 200
    assert httpx.get(f"{door.base_url}/readyz", timeout=DEADLINE_SECONDS).status_code == 200


def test_a_callback_that_began_before_ends_with_the_settings_it_began_with(door: Process, home: Path) -> None:
    """Half of its body comes later, when its secret counts no more for others."""
    with socket.create_connection(("127.0.0.1", door.port), timeout=DEADLINE_SECONDS) as connection:
        connection.sendall(request_head(f"Content-Length: {len(BODY)}", "Connection: close") + BODY[:5])
        status_with(door, SECRET)
        make_config(home, providers=provider(OTHER))
        reload(door, "settings.reloaded")
        assert status_with(door, SECRET) == 401
        connection.sendall(BODY[5:])
        assert read_all(connection).startswith(b"HTTP/1.1 200")


def _post(door: Process, body: bytes, **headers: str) -> int:
    answer = httpx.post(
        door.base_url + URL, content=body, headers={**HEADERS, **headers}, timeout=DEADLINE_SECONDS
    )
    return answer.status_code


def test_limits_and_trusted_proxies_follow_the_settings(door: Process, home: Path) -> None:
    """What uvicorn keeps of them, too: here, for how long a head may be on its way."""
    make_config(home, api='trusted_proxies = ["127.0.0.1"]\nmax_body = "64B"')
    reload(door, "settings.reloaded")
    assert _post(door, BODY, **{"X-Forwarded-For": "203.0.113.9"}) == 200
    receipt = records(home / "data")[-1].receipt
    assert receipt is not None
    assert receipt.remote_address == "203.0.113.9"
    assert _post(door, BODY * 9) == 413
    # Not before: on a busy machine the heads of the others would be later than that.
    make_config(home, api='head_timeout = "200ms"')
    reload(door, "settings.reloaded")
    with socket.create_connection(("127.0.0.1", door.port), timeout=DEADLINE_SECONDS) as connection:
        assert connection.recv(1) == b""


def test_what_waits_for_a_restart_is_named(door: Process, home: Path) -> None:
    config = make_config(home, api="max_requests = 99")
    config.write_text(config.read_text().replace("port = 0", "port = 1"))
    assert reload(door, "settings.need_restart")["keys"] == ["api.port"]


def test_another_root_takes_over(door: Process, home: Path) -> None:
    elsewhere = home / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    root = make_settings(elsewhere).spool.root
    make_config(home, root=root)
    reload(door, "settings.reloaded")
    assert status_with(door, SECRET) == 200
    assert len(paths(root)) == 1


def started(door: Process) -> list[dict[str, Any]]:
    return [line for line in door.log_lines() if "Application startup complete" in line["event"]]


def said(door: Process, word: str) -> int:
    return sum(line["event"] == word for line in door.log_lines())


class Manager:
    """The service manager's end of the socket; it always listens."""

    def __init__(self, path: Path) -> None:
        self.address = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._told: list[str] = []
        self._seen = 0
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def next(self, word: str, seconds: float = DEADLINE_SECONDS) -> bool:
        """Whether a word that begins so comes within a time, after the one that was waited for last."""

        def has_come() -> bool:
            while self._seen < len(self._told):
                self._seen += 1
                if self._told[self._seen - 1].startswith(word):
                    return True
            return False

        with self._changed:
            return self._changed.wait_for(has_come, seconds)

    def _listen(self) -> None:
        while told := self._socket.recv(4096).decode():
            with self._changed:
                self._told.append(told)
                self._changed.notify()

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(b"", self.address)
        self._thread.join()
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    opened = Manager(tmp_path / "notify")
    yield opened
    opened.close()


def test_the_service_manager_hears_the_whole_life_of_a_door(
    tmp_path: Path, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ready when it listens, alive while it works, reloading, stopping."""
    make_settings(tmp_path)
    monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
    monkeypatch.setenv("WATCHDOG_USEC", "900000")
    with started_door(tmp_path) as door:
        assert manager.next("READY=1")
        assert httpx.get(f"{door.base_url}/readyz", timeout=DEADLINE_SECONDS).status_code == 200
        assert manager.next("STATUS=taking callbacks")
        assert manager.next("WATCHDOG=1")
        assert manager.next("WATCHDOG=1")
        door.process.send_signal(signal.SIGHUP)
        assert manager.next("RELOADING=1")
        assert manager.next("READY=1")
        assert door.stop() == 0
        assert manager.next("STOPPING=1")


@contextlib.contextmanager
def started_door(folder: Path, workers: int = 1) -> Iterator[Process]:
    """A door that was only started, and may not listen yet."""
    door = Process(folder / "signspool.toml", workers=workers)
    try:
        yield door
    finally:
        door.process.kill()
        door.process.wait()


@contextlib.contextmanager
def alive(folder: Path, notifier: Notifier) -> Iterator[tuple[RunningDoor, asyncio.Runner]]:
    """A running door within this process, whose loop goes round while `runner.run` is called."""
    settings = make_settings(folder)
    with asyncio.Runner() as runner:
        door = RunningDoor(settings, read_settings=lambda: settings, notifier=notifier)
        inbox: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        outbox: asyncio.Queue[Any] = asyncio.Queue()

        async def start() -> asyncio.Future[None]:
            life = asyncio.ensure_future(door({"type": "lifespan"}, inbox.get, outbox.put))
            await inbox.put({"type": "lifespan.startup"})
            assert (await outbox.get())["type"] == "lifespan.startup.complete"
            return life

        async def stop() -> None:
            await inbox.put({"type": "lifespan.shutdown"})
            await life

        life = runner.run(start())
        yield door, runner
        runner.run(stop())


def test_a_writer_that_stands_still_ends_the_signs_of_life(tmp_path: Path, manager: Manager) -> None:
    """Although the event loop goes on; they come again when it goes on."""
    with alive(tmp_path, Notifier(manager.address, watchdog_seconds=0.3)) as (door, runner):

        async def hears(seconds: float) -> bool:
            return await asyncio.to_thread(manager.next, "WATCHDOG=1", seconds)

        assert runner.run(hears(DEADLINE_SECONDS))
        os.kill(door._opened.door.writer.process_id, signal.SIGSTOP)
        # What had been said already may still lie in the socket.
        wait_until(lambda: not runner.run(hears(0.6)), "silence")
        os.kill(door._opened.door.writer.process_id, signal.SIGCONT)
        assert runner.run(hears(DEADLINE_SECONDS))


def test_a_writer_that_cannot_be_started_again_is_said_and_ends_the_signs_of_life(
    tmp_path: Path, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And all is well again as soon as it can be."""
    with alive(tmp_path, Notifier(manager.address, watchdog_seconds=0.3)) as (door, runner):

        def hears(what: str, seconds: float = DEADLINE_SECONDS) -> bool:
            return runner.run(asyncio.to_thread(manager.next, what, seconds))

        assert hears("WATCHDOG=1")
        with monkeypatch.context() as patch:
            patch.setattr(sys, "executable", "/nowhere/python")
            os.kill(door._opened.door.writer.process_id, signal.SIGKILL)
            assert hears("STATUS=refusing callbacks: the writer's process cannot be started")
            wait_until(lambda: not hears("WATCHDOG=1", 0.6), "silence")
        assert hears("STATUS=taking callbacks")
        assert hears("WATCHDOG=1")


def test_after_a_writer_that_died_while_it_was_asked_the_signs_of_life_go_on(
    tmp_path: Path, manager: Manager
) -> None:
    """Else the service manager would end a door that has long been well again."""
    with alive(tmp_path, Notifier(manager.address, watchdog_seconds=0.3)) as (door, runner):

        async def hears(seconds: float) -> bool:
            return await asyncio.to_thread(manager.next, "WATCHDOG=1", seconds)

        first = door._opened.door.writer.process_id
        os.kill(first, signal.SIGSTOP)
        wait_until(lambda: not runner.run(hears(0.6)), "silence")
        os.kill(first, signal.SIGKILL)
        assert runner.run(hears(DEADLINE_SECONDS))
        assert door._opened.door.writer.process_id not in (0, first)


def test_a_door_that_cannot_store_says_why(tmp_path: Path, manager: Manager) -> None:
    with alive(tmp_path, Notifier(manager.address, watchdog_seconds=0.3)) as (_, runner):
        (tmp_path / "data" / ".signspool").unlink()
        assert runner.run(asyncio.to_thread(manager.next, "STATUS=refusing callbacks: the spool's marker"))


_HANGING = """
import asyncio, sys, time
from pathlib import Path
from callback_api.running import RunningDoor
from shared.notify import Notifier
from shared.settings import load_settings

settings = load_settings(Path(sys.argv[1]), environ={})
door = RunningDoor(settings, read_settings=lambda: settings, notifier=Notifier(), silence_seconds=1)

async def main():
    told = asyncio.Queue()
    await told.put({"type": "lifespan.startup"})
    life = asyncio.ensure_future(door({"type": "lifespan"}, told.get, print_it))
    await started.wait()
    # The first beat comes in the same turn of the loop at the latest.
    await asyncio.sleep(0)
    time.sleep(600)

started = asyncio.Event()

async def print_it(message):
    print(message["type"], flush=True)
    started.set()

asyncio.run(main())
"""


def test_a_worker_whose_loop_hangs_ends_itself_and_says_where(tmp_path: Path) -> None:
    """No thread of Python's has to run for that."""
    make_settings(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", _HANGING, str(tmp_path / "signspool.toml")],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=2 * DEADLINE_SECONDS,
        check=False,
    )
    assert "lifespan.startup.complete" in done.stdout
    assert done.returncode == 1
    assert "Timeout" in done.stderr
    assert "in main" in done.stderr


def test_a_request_that_comes_on_a_silent_connection_during_the_stop_is_answered(tmp_path: Path) -> None:
    """And the answer says that it was the last one. A connection that stays silent is closed soon."""
    make_settings(tmp_path)
    with running(tmp_path / "signspool.toml") as door:
        silent, speaking = (
            socket.create_connection(("127.0.0.1", door.port), timeout=DEADLINE_SECONDS) for _ in range(2)
        )
        with silent, speaking:
            status_with(door, SECRET)
            door.process.send_signal(signal.SIGTERM)
            wait_until(lambda: "Shutting down" in door.log_path.read_text(), "the stop")
            speaking.sendall(request_head(f"Content-Length: {len(BODY)}") + BODY)
            answer = read_all(speaking)
            assert answer.startswith(b"HTTP/1.1 200")
            assert b"connection: close" in answer.lower()
            assert read_all(silent) == b""
        assert door.stop() == 0
