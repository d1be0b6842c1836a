"""A whole installation for end-to-end tests: settings in a file, both tiers as real processes, real HTTP."""

from __future__ import annotations

import atexit
import json
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import URL

from processor import documents
from shared.clock import Clock
from shared.db.session import Database
from shared.spool import Folder, Spool
from tests.nursery import Fault, Nursery, Process, of_this_run
from tests.waiting import PATIENCE_SECONDS, wait_until

DEADLINE_SECONDS = PATIENCE_SECONDS
SECRET = "a-secret-of-the-test"


class Installation:
    """Settings, spool and database of one test, and the processes that it started.

    `peers` is the address of a simulator; `url` is the door's. The processes come from the run's nursery
    unless another one is given.
    """

    def __init__(
        self,
        home: Path,
        peers: str,
        database_url: URL,
        settings: str = "",
        *,
        nursery: Nursery | None = None,
    ) -> None:
        self.home = home
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.config = home / "signspool.toml"
        self.config.write_text(_settings(home, self.port, peers, database_url) + settings)
        self.spool = Spool(home / "root", Clock())
        # A tier that stands still may hold SQLite's lock for longer than a tier itself would wait.
        self.database = Database(database_url, busy_timeout_seconds=PATIENCE_SECONDS)
        self._nursery = nursery or of_this_run()
        self._lives: dict[str, Process] = {}
        self._commands = 0
        self.spool.initialise()
        self.database.upgrade()

    # Processes

    def run(self, *arguments: str, check: bool = False) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        self._commands += 1
        said, complained = (self.home / f"command-{self._commands}.{kind}" for kind in ("out", "err"))
        command = [*arguments, "--config", str(self.config)]
        code = self._nursery.start(command, said, errors=complained).exit_code(2 * PATIENCE_SECONDS)
        done = subprocess.CompletedProcess(command, code, said.read_text(), complained.read_text())
        if check:
            done.check_returncode()
        return done

    def start(self, *tiers: str) -> None:
        """Start tiers (`api`, `processor`), and wait until the door answers."""
        for tier in tiers:
            self._lives[tier] = self.bear(tier)
        if "api" in tiers:
            self.wait(self.is_ready, "the door to be ready")

    def bear(self, tier: str, *, fault: Fault | None = None, stopped: bool = False) -> Process:
        """Start a tier that is not among those that `stop`, `kill` and `close` know."""
        arguments = [tier, "--config", str(self.config)]
        return self._nursery.start(arguments, self.home / f"{tier}.log", fault=fault, stopped=stopped)

    def adopt(self, tier: str, process: Process) -> None:
        """From now on this process is the tier."""
        self._lives[tier] = process

    def pid(self, tier: str) -> int:
        return self._lives[tier].pid

    def kill(self, tier: str, *, alone: bool = False) -> None:
        """End a tier as a power switch would, or its first process `alone`."""
        self._lives.pop(tier).kill(alone=alone)

    def stop(self, tier: str) -> int:
        """Ask a tier to end; returns its exit code."""
        process = self._lives.pop(tier)
        process.send_signal(signal.SIGTERM)
        return process.exit_code(2 * PATIENCE_SECONDS)

    @contextmanager
    def hanging(self, tier: str) -> Iterator[None]:
        """A tier stands still inside the block, with all that it holds, and goes on behind it."""
        process = self._lives[tier]
        process.send_signal(signal.SIGSTOP)
        wait_until(lambda: process.state() == "T", "it to stand still")
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End what is still running."""
        for tier in list(self._lives):
            self.kill(tier)
        self.database.close()

    def log(self, tier: str) -> str:
        """What a tier has written so far, in whole lines."""
        path = self.home / f"{tier}.log"
        written, newline, _ = path.read_text().rpartition("\n") if path.exists() else ("", "", "")
        return written + newline

    # The door

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=PATIENCE_SECONDS, verify=False).status_code == 200
        except httpx.TransportError:
            return False

    def post(self, provider: str, body: Mapping[str, Any] | bytes, **headers: str) -> httpx.Response:
        """Send a callback as a provider does, with the right secret unless told otherwise."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return httpx.post(
            f"{self.url}/api/callback",
            params={"provider": provider},
            content=content,
            headers={"content-type": "application/json", "x-callback-secret": SECRET, **headers},
            timeout=PATIENCE_SECONDS,
            verify=False,  # Loading certificates, which are not needed here, takes longer than the request.
        )

    # What became of it

    def register(self, provider: str, document_id: object, dms: Mapping[str, str], **refs: str) -> None:
        """Tell of a document, as `signspool documents register` does."""
        registration = documents.Registration(provider, str(document_id), refs, dms)
        with self.database.transaction() as connection:
            documents.register(connection, registration, self.spool.clock.now())

    def knows(self, provider: str, document_id: str) -> bool:
        with self.database.reading() as connection:
            return documents.show(connection, provider, document_id) is not None

    def show(self, provider: str, document_id: str) -> dict[str, Any]:
        """Everything about a document, as `signspool documents show --json` prints it."""
        with self.database.reading() as connection:
            found = documents.show(connection, provider, document_id)
        assert found is not None, f"{provider} {document_id} is not known"
        return found

    def count(self, folder: Folder) -> int:
        return sum(1 for _ in self.spool.entries(folder))

    def counts(self) -> dict[str, int]:
        return {str(folder): self.count(folder) for folder in Folder}

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = DEADLINE_SECONDS) -> None:
        """Look until something is so; on time-out say what did not happen, and what the logs say."""

        def found() -> str:
            logs = "".join(
                f"\n--- {path.name}\n{path.read_text()[-3000:]}" for path in self.home.glob("*.log")
            )
            return f"{what}: {self.counts()}{logs}"

        wait_until(condition, found, seconds)

    def wait_until_settled(self, seconds: float = DEADLINE_SECONDS) -> None:
        """Wait until nothing lies in `spool/` or `deferred/`."""
        self.wait(
            lambda: self.count(Folder.SPOOL) == 0 and self.count(Folder.DEFERRED) == 0,
            "every entry to be settled",
            seconds,
        )


def free_port() -> int:
    """A port that is for whoever asks for it by number, as a tier does.

    It stays bound here, without anybody listening, until the end of the run: so the kernel gives it to nobody
    who takes any port.
    """
    kept = socket.socket()
    atexit.register(kept.close)
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept.bind(("127.0.0.1", 0))
    port: int = kept.getsockname()[1]
    return port


def _settings(home: Path, port: int, peers: str, database_url: URL) -> str:
    return f"""
[spool]
root = "{home / "root"}"

[api]
port = {port}

[database]
url = "{database_url.render_as_string(hide_password=False).replace("+psycopg", "")}"

[processor]
sweep = "500ms"
look_outbox = "50ms"
backoff_base = "100ms"
backoff_cap = "500ms"
breaker_pause = "200ms"
connect_timeout = "30s"
read_timeout = "30s"

[providers.ssign]
base_url = "{peers}/ssign/rest"
token = "simulated-ssign-token"
secret = "{SECRET}"

[providers.certisign]
base_url = "{peers}/certisign"
token = "simulated-certisign-token"
secret = "{SECRET}"

[providers.restpki]
base_url = "{peers}/restpki"
token = "simulated|restpki-api-key"
authentication = "basic"
secrets = {{ "2026-10" = "lacuna:an-older-secret", "2026-11" = "lacuna:{SECRET}" }}

[destinations.smartshare]
kind = "smartshare"
base_url = "{peers}/smartshare/SmartShareAPI/api"
client = "simulated-client"
client_key = "simulated-client-key"
user = "integracao"
password = "simulated-password"

[destinations.archive]
kind = "folder"
path = "{home / "archive"}"
"""
