"""The caller's connection, which ASGI hides and storms mistreat."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Mapping
from typing import Any

EXTENSION = "simulator.connection"
"""Name of the ASGI extension that holds a `Connection`."""


class Connection:
    """The caller's connection, for storms that mistreat it."""

    def __init__(self, transport: asyncio.Transport, stopping: asyncio.Event) -> None:
        self._transport = transport
        self._stopping = stopping

    @property
    def is_closing(self) -> bool:
        """Whether either side has ended it."""
        return self._transport.is_closing()

    @property
    def peer_certificate(self) -> Mapping[str, Any]:
        """The certificate that the caller has shown, in the form of `SSLObject.getpeercert`; else empty."""
        encrypted = self._transport.get_extra_info("ssl_object")
        return {} if encrypted is None else encrypted.getpeercert() or {}

    async def sleep(self, seconds: float) -> bool:
        """Wait; returns False when the simulator stops before the time has passed."""
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return True
        return False

    def close(self) -> None:
        """End it in order, after what was already written."""
        self._transport.close()

    def reset(self) -> None:
        """End it with a TCP reset: closing with a linger time of zero is the way to send one."""
        connection = self._transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()
