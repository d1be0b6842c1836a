"""The simulator behind a real socket: in a thread for tests and the demo, or in the foreground."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from simulator.app import create_simulator
from simulator.connection import EXTENSION, Connection
from simulator.guide import guide
from simulator.weather import Peer
from simulator.world import World

TlsFactory = Callable[[uvicorn.Config, Callable[[], ssl.SSLContext]], ssl.SSLContext]
"""What uvicorn asks for the TLS of its connections."""


class _State(ServerState):
    """What the server's connections share, and an event that ends storms when the server stops."""

    def __init__(self) -> None:
        super().__init__()
        self.stopping = asyncio.Event()


class _Protocol(HttpToolsProtocol):
    """Hands the connection itself to the application, which ASGI alone does not."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: _State,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._stopping = server_state.stopping
        self._inner: ASGIApp = self.app
        self.app = self._with_connection

    async def _with_connection(self, scope: Scope, receive: Receive, send: Send) -> None:
        extensions = {**scope.get("extensions", {}), EXTENSION: Connection(self.transport, self._stopping)}
        await self._inner({**scope, "extensions": extensions}, receive, send)


class _Server(uvicorn.Server):
    def __init__(self, app: ASGIApp, tls: TlsFactory | None = None) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                ssl_context_factory=tls,
                # A peer whose own clock matters says the time itself.
                date_header=tls is None,
                interface="asgi3",
                http=_Protocol,
                ws="none",
                lifespan="off",
                loop="asyncio",
                log_config=None,
                access_log=False,
            )
        )
        self._state = _State()
        self.server_state = self._state

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # A storm may last an hour, and an endless body has no end: neither is waited for.
        self._state.stopping.set()
        for connection in list(self._state.connections):
            if connection.transport is not None:
                connection.transport.abort()
        await super().shutdown(sockets)


class SimulatorServer:
    """Serves a world from a thread: `with SimulatorServer(world) as server: server.url`.

    Port 0 takes a free one; with `only`, nothing but that peer is simulated. Requests are taken from the
    moment the object exists to the end of the block.
    """

    scheme = "http"

    def __init__(
        self,
        world: World | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        only: Peer | None = None,
    ) -> None:
        self._only = only
        self._socket = _listen(host, port)
        self.url = _url_of(self._socket, self.scheme)
        self.renew(world)
        self._server = _Server(self._serve, self.tls())
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name="simulator", daemon=True
        )

    def renew(self, world: World | None = None) -> World:
        """Serve another world, a new one if none is given, at the same address; returns it.

        Requests already taken end in the world in which they began.
        """
        self.world = world or World()
        self._app = self.application(self.world)
        return self.world

    def application(self, world: World) -> ASGIApp:
        """What is served of a world, which learns the address."""
        world.served_at(self.url)
        return create_simulator(world, self._only)

    def tls(self) -> TlsFactory | None:
        """How connections are encrypted, if they are."""
        return None

    def run(self) -> None:
        """Serve in the foreground until Ctrl-C or SIGTERM."""
        try:
            self._server.run([self._socket])
        except KeyboardInterrupt:
            # uvicorn has shut down in order and raises the signal once more for those who want it.
            return
        finally:
            self._socket.close()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Cut every connection and end the thread.

        Raises:
            RuntimeError: it has not ended within 10 seconds.
        """
        self._server.should_exit = True
        self._thread.join(timeout=10)
        self._socket.close()
        if self._thread.is_alive():
            raise RuntimeError("the simulator's thread did not end within 10 seconds")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def run(host: str, port: int, world: World | None = None, *, only: Peer | None = None) -> None:
    """Serve in the foreground until Ctrl-C or SIGTERM, after printing how to use it. Port 0 takes a free one.

    With `only`, nothing but that peer is simulated.

    Raises:
        OSError: the address cannot be listened on.
    """
    server = SimulatorServer(world, host=host, port=port, only=only)
    print(guide(server.world, server.url, only), flush=True)
    server.run()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    return socket.create_server((host, port), family=family)


def _url_of(listening: socket.socket, scheme: str) -> str:
    host, port = listening.getsockname()[:2]
    # An address that stands for all of them is not one to connect to.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
