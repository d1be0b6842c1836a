"""The simulator behind a real socket: in a thread for tests and the demo, or in the foreground."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from types import TracebackType
from typing import Any, Self

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from simulator import restpki_guide
from simulator.app import create_simulator
from simulator.arqsign_api import example_process
from simulator.connection import EXTENSION, Connection
from simulator.ssign import example_envelope, example_upload
from simulator.weather import Peer
from simulator.world import World


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
    def __init__(self, app: ASGIApp) -> None:
        super().__init__(
            uvicorn.Config(
                app,
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

    Port 0 takes a free one. Requests are taken from the moment the object exists to the end of the block.
    """

    def __init__(self, world: World | None = None, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._socket = _listen(host, port)
        self.url = _url_of(self._socket)
        self.renew(world)
        self._server = _Server(self._serve)
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name="simulator", daemon=True
        )

    def renew(self, world: World | None = None) -> World:
        """Serve another world, a new one if none is given, at the same address; returns it.

        Requests already taken end in the world in which they began.
        """
        self.world = world or World()
        self.world.served_at(self.url)
        self._app = create_simulator(self.world)
        return self.world

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
    world = world or World()
    listening = _listen(host, port)
    url = _url_of(listening)
    world.served_at(url)
    print(restpki_guide.guide(world.restpki, url) if only == "restpki" else guide(world, url), flush=True)
    try:
        _Server(create_simulator(world, only)).run([listening])
    except KeyboardInterrupt:
        # uvicorn has shut down in order and raises the signal once more for those who want it.
        return
    finally:
        listening.close()


def guide(world: World, url: str) -> str:
    """Addresses, tokens and commands to try, for a person who integrates."""
    smartshare, arqsign = world.smartshare, world.arqsign
    upload = json.dumps(example_upload())
    envelope = json.dumps(example_envelope("Contrato 2026-0042", 9001), ensure_ascii=False)
    process = json.dumps(example_process(), ensure_ascii=False)
    keys = f"-H 'AppKey: {arqsign.app_key}' -H 'SubscriptionKey: {arqsign.subscription_key}'"
    auth = f"-H 'Authorization: Custom {world.ssign.token}'"
    return f"""\
S-SIGN      {url}/ssign/rest                    Authorization: Custom {world.ssign.token}
Certisign   {url}/certisign                     Token: {world.certisign.token}
Rest PKI    {url}/restpki                       X-Api-Key: {world.restpki.token}
ArqSign     {url}/arqsign                       AppKey: {arqsign.app_key}
            SubscriptionKey: {arqsign.subscription_key}  secret of its callbacks: {arqsign.secret}
SmartShare  {url}/smartshare/SmartShareAPI/api  dsCliente: {smartshare.client}
            dsChaveAutenticacao: {smartshare.client_key}
            dsUsuario: {smartshare.user}  dsSenha: {smartshare.password}
DMS         {url}/dms/files                     Authorization: Bearer {world.dms.token}
Control     {url}/_state  {url}/_weather

Upload a file to S-SIGN and put it into an envelope:
  curl -s {auth} -d '{upload}' {url}/ssign/rest/signer/IntegrationEnvelopeDocument
  curl -s {auth} -d '{envelope}' {url}/ssign/rest/signer/IntegrationEnvelope
Let everybody sign, and send the callback to the door:
  curl -s -X POST {url}/_events/ssign/155/COMPLETED \\
  | curl -s -H 'Content-Type: application/json' -H 'X-Callback-Secret: YOUR-SECRET' --data-binary @- \\
    'http://127.0.0.1:8080/api/callback?provider=ssign'
Make the next three calls of S-SIGN fail:
  curl -s -d '{{"peer": "ssign", "kind": "status", "status": 503, "times": 3}}' {url}/_weather
Send a process with ArqSign, let everybody sign (trigger 8); the HMAC goes with the body to the door:
  curl -s {keys} -d '{process}' {url}/arqsign/api/v2/processo/enviar-documento-para-assinar
  curl -si -X POST {url}/_events/arqsign/{arqsign.next_id}/8

Ctrl-C ends it."""


def _listen(host: str, port: int) -> socket.socket:
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    return socket.create_server((host, port), family=family)


def _url_of(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    # An address that stands for all of them is not one to connect to.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
