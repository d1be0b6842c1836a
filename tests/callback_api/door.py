"""The door under test: in this process through ASGI, or as a real process behind a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from callback_api.app import create_app
from shared.clock import Clock
from shared.record import SpoolRecord, parse_record
from shared.settings import Settings, load_settings
from shared.spool import Folder, Spool
from tests.nursery import LISTENING, of_this_run
from tests.waiting import wait_until

REPOSITORY = Path(__file__).parents[2]
SECRET = "correct-horse-7f3a"  # An invented one.
URL = "/api/callback?provider=ssign"
HEADERS = {"X-Callback-Secret": SECRET}
BODY = b'{"envelopeId": 155, "action": "COMPLETED"}'
DEADLINE_SECONDS = 60.0
_OF_THE_MANAGER = ("NOTIFY_SOCKET", "WATCHDOG_USEC")
"""What a service manager tells a process by its environment."""


def make_config(
    folder: Path, *, spool: str = "", api: str = "", providers: str = "", root: Path | None = None
) -> Path:
    """A settings file for a spool in the folder; S-SIGN takes a secret header."""
    providers = providers or f'[providers.ssign]\nsecret = "{SECRET}"\n'
    path = folder / "signspool.toml"
    path.write_text(
        f'[spool]\nroot = "{root or folder / "data"}"\ntimezone = "America/Sao_Paulo"\n'
        f'min_free = "1KiB"\n{spool}\n'
        f'[api]\nhost = "127.0.0.1"\nport = 0\n{api}\n{providers}\n[log]\nformat = "json"\n'
    )
    return path


def make_settings(folder: Path, **sections: Any) -> Settings:
    """Settings with a spool that exists."""
    settings = load_settings(make_config(folder, **sections), environ={})
    spool_of(settings).initialise()
    return settings


def spool_of(settings: Settings) -> Spool:
    """The spool that settings name."""
    return Spool(settings.spool.root, Clock.in_zone(settings.spool.timezone))


def contents(root: Path, folder: Folder = Folder.SPOOL) -> list[bytes]:
    """The content of every file of a folder, oldest name first."""
    return [path.read_bytes() for path in paths(root, folder)]


def paths(root: Path, folder: Folder = Folder.SPOOL) -> list[Path]:
    """Every file of a folder."""
    return sorted((root / folder).glob("*/*"), key=lambda path: path.name.rpartition("_")[2])


def records(root: Path, folder: Folder = Folder.SPOOL) -> list[SpoolRecord]:
    """Every file of a folder, read."""
    return [parse_record(content) for content in contents(root, folder)]


class InProcess:
    """A started application that is asked through ASGI."""

    def __init__(self, app: FastAPI, runner: asyncio.Runner) -> None:
        self.app = app
        self._runner = runner

    def ask(self, method: str = "POST", url: str = URL, **options: Any) -> httpx.Response:
        """One request."""
        if method == "POST":
            options = {"content": BODY, "headers": HEADERS, **options}

        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, client=("192.0.2.7", 4711))
            async with httpx.AsyncClient(transport=transport, base_url="http://door") as client:
                return await client.request(method, url, **options)

        return self._runner.run(send())

    def wait_for(self, status: int, url: str = "/readyz") -> httpx.Response:
        """Ask until the answer has a status; the door's own background work goes on meanwhile."""
        answers: list[httpx.Response] = []

        def is_so() -> bool:
            self._runner.run(asyncio.sleep(0))
            answers.append(self.ask("GET", url))
            return answers[-1].status_code == status

        wait_until(is_so, lambda: f"{status}: still {answers[-1].status_code}: {answers[-1].text}")
        return answers[-1]


@contextlib.contextmanager
def in_process(settings: Settings, **options: Any) -> Iterator[InProcess]:
    """The door, started and stopped within this process."""
    with asyncio.Runner() as runner:
        app = create_app(settings, **options)
        lifespan = app.router.lifespan_context(app)
        runner.run(lifespan.__aenter__())
        try:
            yield InProcess(app, runner)
        finally:
            runner.run(lifespan.__aexit__(None, None, None))


class Process:
    """The door as a process of its own. Its socket is handed over, so that it can be asked at once."""

    def __init__(self, config: Path, *, workers: int = 1) -> None:
        self.log_path = config.with_name("log")
        self.log_path.unlink(missing_ok=True)
        arguments = ["api", "--workers", str(workers), "--fd", str(LISTENING), "--config", str(config)]
        with socket.create_server(("127.0.0.1", 0), backlog=512) as listening:
            self.port: int = listening.getsockname()[1]
            self.process = of_this_run().start(
                arguments,
                self.log_path,
                listening=listening,
                environment={name: os.environ[name] for name in _OF_THE_MANAGER if name in os.environ},
            )
        self.base_url = f"http://127.0.0.1:{self.port}"

    def log_lines(self) -> list[dict[str, Any]]:
        """What it has logged so far, but for a line that is being written."""
        whole, _, _ = self.log_path.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def raw(self, *pieces: bytes) -> bytes:
        """Send bytes on a connection of their own, then read until it is closed."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE_SECONDS) as connection:
            for piece in pieces:
                connection.sendall(piece)
            return read_all(connection)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it by a signal; returns its exit code."""
        self.process.send_signal(number)
        return self.process.exit_code(DEADLINE_SECONDS * 2)


def read_all(connection: socket.socket) -> bytes:
    """Everything up to the end of a connection."""
    received = bytearray()
    while piece := connection.recv(65536):
        received += piece
    return bytes(received)


@contextlib.contextmanager
def running(config: Path, **options: Any) -> Iterator[Process]:
    """A real process, ended at the end whatever happens."""
    door = Process(config, **options)
    try:
        httpx.get(f"{door.base_url}/healthz", timeout=DEADLINE_SECONDS)
        yield door
    finally:
        door.process.kill()


def request_head(*headers: str, url: str = URL) -> bytes:
    """The head of a POST with the right secret."""
    lines = [f"POST {url} HTTP/1.1", "Host: door", f"X-Callback-Secret: {SECRET}", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def problem(answer: object) -> dict[str, object]:
    """The problem details of an answer, checked for their form."""
    assert answer.headers["content-type"] == "application/problem+json"  # type: ignore[attr-defined]
    value: dict[str, object] = answer.json()  # type: ignore[attr-defined]
    assert value["status"] == answer.status_code  # type: ignore[attr-defined]
    assert str(value["type"]).startswith("/problems/")
    assert str(value["detail"]).isprintable()
    assert len(str(value["detail"])) <= 300
    return value
