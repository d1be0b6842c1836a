"""Networks for machines that are only processes: namespaces joined by a bridge, or the loopback address.

Every machine reaches the database through a gate of its own, which can be closed: what is on the way then
stays there, and nobody is told, as when a cable is pulled.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Self

import shared.clock
from tests.waiting import PATIENCE_SECONDS

_CLONE_NEWNET = 0x40000000
_PIECE_BYTES = 65_536


# What a machine's process does before it runs, in the child of the nursery.


def enter(namespace: str) -> None:
    """Move this process, which has one thread yet, into a network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path(f"/run/netns/{namespace}").open("rb") as file:
        if libc.setns(file.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "this process cannot enter the namespace")


def set_clock_ahead(seconds: float) -> None:
    """Let this process see a machine's clock that is wrong; negative is behind."""
    ahead = timedelta(seconds=seconds)

    class WrongClock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) + ahead

    vars(shared.clock)["datetime"] = WrongClock


# Networks


class Link:
    """One machine's connection to the others. `address` is where its door listens."""

    def __init__(self, address: str, namespace: str = "", device: str = "") -> None:
        """Without a namespace there is no device either, and nothing to cut."""
        self.address = address
        self.namespace = namespace
        self._device = device

    def cut(self) -> None:
        """From now on nothing goes in or out, and no connection is closed."""
        if self._device:
            _ip("link", "set", self._device, "down")

    def join(self) -> None:
        """As before."""
        if self._device:
            _ip("link", "set", self._device, "up")


class Loopback:
    """All machines at one address: only their gates tell them apart."""

    address = "127.0.0.1"

    def link(self, _number: int) -> Link:
        """The connection of a machine."""
        return Link(self.address)


class Bridge:
    """A bridge of this process's own, with a namespace for each machine."""

    def __init__(self) -> None:
        self._name = f"sgn{os.getpid() % 10_000_000}"
        # 198.18.0.0/15 is for tests of networks; each process takes eight addresses of it.
        first = os.getpid() % 16_384 * 8
        self._net = [
            f"198.{18 + (first + host) // 65_536}.{(first + host) // 256 % 256}.{(first + host) % 256}"
            for host in range(8)
        ]
        self.address = self._net[1]
        self._namespaces: list[str] = []
        self._devices: list[str] = []
        self._is_there = False

    def open(self) -> None:
        """Make the bridge.

        Raises:
            subprocess.CalledProcessError: that is not allowed here.
        """
        _ip("link", "add", self._name, "type", "bridge")
        self._is_there = True
        _ip("address", "add", f"{self.address}/29", "dev", self._name)
        _ip("link", "set", self._name, "up")

    def link(self, number: int) -> Link:
        """A new namespace with a link to the bridge; the number is from 1 to 5."""
        namespace, device, address = f"{self._name}-{number}", f"{self._name}v{number}", self._net[1 + number]
        _ip("netns", "add", namespace)
        self._namespaces.append(namespace)
        _ip("link", "add", device, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        self._devices.append(device)
        _ip("link", "set", device, "master", self._name, "up")
        _ip("-n", namespace, "address", "add", f"{address}/29", "dev", "eth0")
        for inner in ("eth0", "lo"):
            _ip("-n", namespace, "link", "set", inner, "up")
        return Link(address, namespace, device)

    def close(self) -> None:
        """Take everything away; what still runs in a namespace keeps it, unseen, until it ends."""
        # Its device would go with a namespace, but some time later, and until then its name is taken.
        for device in self._devices:
            _ip("link", "delete", device)
        for namespace in self._namespaces:
            _ip("netns", "delete", namespace)
        if self._is_there:
            _ip("link", "delete", self._name)


@contextmanager
def network(*, with_namespaces: bool) -> Iterator[Bridge | Loopback]:
    """A network, gone at the end."""
    if not with_namespaces:
        yield Loopback()
        return
    bridge = Bridge()
    try:
        bridge.open()
        yield bridge
    finally:
        bridge.close()


def why_no_namespaces() -> str:
    """Why namespaces cannot be had here; empty when they can."""
    if os.geteuid():
        return "network namespaces take root"
    if shutil.which("ip") is None:
        return "network namespaces take the program ip, of the package iproute2"
    try:
        with network(with_namespaces=True) as bridge:
            bridge.link(1)
    except subprocess.CalledProcessError as error:
        return f"network namespaces are not allowed here: {error.stderr.strip()}"
    return ""


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=PATIENCE_SECONDS)


# The way to the database


class Gate:
    """A TCP port that leads to the socket of a PostgreSQL server, and can be closed without a word."""

    def __init__(self, address: str, database_socket: str) -> None:
        self.address = address
        self._socket = database_socket
        self._loop = asyncio.new_event_loop()
        self._open = asyncio.Event()
        self._open.set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._server = self._loop.run_until_complete(asyncio.start_server(self._serve, address, 0))
        self.port: int = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever, name="gate", daemon=True)
        self._thread.start()

    def shut(self) -> None:
        """Let nothing pass from now on; connections stay as they are."""
        self._loop.call_soon_threadsafe(self._open.clear)

    def unbar(self) -> None:
        """Let pass what was held up, and all that comes."""
        self._loop.call_soon_threadsafe(self._open.set)

    def close(self) -> None:
        """End it, and every connection that it holds."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_SECONDS)
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _serve(self, near: asyncio.StreamReader, to_near: asyncio.StreamWriter) -> None:
        far, to_far = await asyncio.open_unix_connection(self._socket)
        for reader, writer in ((near, to_far), (far, to_near)):
            pump = self._loop.create_task(self._pump(reader, writer))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            # A connection that was reset ends for the other side as well.
            with contextlib.suppress(ConnectionError):
                while piece := await reader.read(_PIECE_BYTES):
                    await self._open.wait()
                    writer.write(piece)
                    await writer.drain()
                await self._open.wait()
        finally:
            writer.close()
