"""What the door and its writer's process say to each other, over a pair of connected sockets.

The door sends numbered orders: a head in JSON that names the files, and their contents behind it. The process
answers once for each group, with a line of JSON: which orders it was, how long it took, and what went wrong.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import orjson

from shared.commit import NewFile
from shared.spool import Entry, Folder

_LENGTHS = struct.Struct("<QII")
"""The number of an order, how many bytes its head has, and how many its contents."""


class Order(NamedTuple):
    """Files to be brought to disk; without any it is a question whether anybody is there."""

    number: int
    files: list[NewFile]


class GroupAnswer(NamedTuple):
    """What became of a group: the numbers of its orders, how many seconds it took, and the reasons of what
    went wrong by the place of a file among all files of the group."""

    numbers: Sequence[int]
    seconds: float
    errors: Mapping[int, str]


def packed_order(number: int, files: Sequence[NewFile]) -> bytes:
    """An order, to be sent.

    Raises:
        TypeError: a name cannot be encoded.
    """
    head = orjson.dumps(
        [(file.folder, file.entry.day, file.entry.name, file.durable, len(file.data)) for file in files]
    )
    contents = [file.data for file in files]
    return b"".join((_LENGTHS.pack(number, len(head), sum(map(len, contents))), head, *contents))


class OrderReader:
    """Puts orders together out of what has arrived."""

    def __init__(self) -> None:
        self._arrived = bytearray()

    @property
    def arrived_bytes(self) -> int:
        """What has arrived and was not read out yet."""
        return len(self._arrived)

    def feed(self, data: bytes) -> None:
        """Take what arrived next."""
        self._arrived += data

    def orders(self) -> list[Order]:
        """Every order that is complete, once."""
        found = []
        start = 0
        arrived = memoryview(self._arrived)
        while len(arrived) - start >= _LENGTHS.size:
            number, head_bytes, content_bytes = _LENGTHS.unpack_from(arrived, start)
            head_at = start + _LENGTHS.size
            end = head_at + head_bytes + content_bytes
            if end > len(arrived):
                break
            found.append(Order(number, list(_files(arrived[head_at:end], head_bytes))))
            start = end
        arrived.release()
        del self._arrived[:start]
        return found


def _files(order: memoryview, head_bytes: int) -> Iterator[NewFile]:
    place = head_bytes
    for folder, day, name, durable, size_bytes in orjson.loads(order[:head_bytes]):
        data = bytes(order[place : place + size_bytes])
        yield NewFile(Folder(folder), Entry(day, name), data, durable)
        place += size_bytes


def packed_answer(orders: Sequence[Order], seconds: float) -> bytes:
    """What became of the files of a group, one line."""
    files = [file for order in orders for file in order.files]
    errors = {str(place): str(file.error) for place, file in enumerate(files) if file.error is not None}
    return orjson.dumps(([order.number for order in orders], seconds, errors)) + b"\n"


def read_answer(line: bytes) -> GroupAnswer:
    """The answer that a line is."""
    numbers, seconds, errors = orjson.loads(line)
    return GroupAnswer(numbers, seconds, {int(place): reason for place, reason in errors.items()})
