"""The process that brings what a door took to disk, many files at a time: `python -m` with the spool's root.

It has a socket to its door as standard input, takes orders from it (`callback_api.orders`), and ends when the
door closes it or dies; the door sees to it that signals to stop do not reach it, which a service manager, or
Ctrl-C, sends to every process of a service. Orders that arrive while a group is being synced make up the next
group; a lone one waits for nobody. The door is told when the whole of a group is safe.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from pathlib import Path
from time import perf_counter

from callback_api.orders import Order, OrderReader, packed_answer
from shared.clock import Clock
from shared.commit import GroupCommit, remove_leftovers
from shared.spool import Spool

MAX_ARRIVED_BYTES = 8 * 1024 * 1024
"""What has arrived and makes up one group, beyond which no more is read before it is on disk."""

_READ_BYTES = 1024 * 1024


def serve(root: Path, door: socket.socket) -> None:
    """Bring to disk what the door orders, until it closes the connection."""
    spool = Spool(root, Clock())
    remove_leftovers(spool.temporary)
    commit = GroupCommit(spool)
    with contextlib.closing(commit):
        reader = OrderReader()
        while orders := _take(door, reader):
            files = [file for order in orders for file in order.files]
            began = perf_counter()
            commit.commit(files)
            # A door that died hears nothing, and what it ordered is safe all the same.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                door.sendall(packed_answer(orders, perf_counter() - began))


def _take(door: socket.socket, reader: OrderReader) -> list[Order]:
    """Every order that has come by now, at least one; empty when the door is gone."""
    orders: list[Order] = []
    while not orders:
        data = _received(door)
        if not data:
            return []
        reader.feed(data)
        with contextlib.suppress(BlockingIOError):
            while reader.arrived_bytes < MAX_ARRIVED_BYTES and (more := _received(door, socket.MSG_DONTWAIT)):
                reader.feed(more)
        orders = reader.orders()
    return orders


def _received(door: socket.socket, flags: int = 0) -> bytes:
    """What has come; nothing once the door is gone."""
    try:
        return door.recv(_READ_BYTES, flags)
    except ConnectionResetError:
        # It died without reading an answer, which is said only after all that it had sent was received.
        return b""


def main() -> None:
    """Serve the door that is at the other end of standard input."""
    with socket.socket(fileno=sys.stdin.fileno()) as door:
        serve(Path(sys.argv[1]), door)


if __name__ == "__main__":
    main()
