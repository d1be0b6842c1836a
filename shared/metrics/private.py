"""The private address of a tier: figures for Prometheus, and health for whoever asks.

Served by threads of the standard library, since nothing of it may wait for the loop that it tells of.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

_CLIENT_SECONDS = 5.0
"""Time that a client may take for each step of a request."""
_MOST_AT_ONCE = 8

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Health:
    """Whether something is well, why not, and what else there is to say of it."""

    reason: str | None = None
    """None when all is well."""
    details: Mapping[str, Any] = field(default_factory=dict)


Ask = Callable[[], Health]


class PrivateAddress:
    """Serves `/metrics`, `/healthz` and `/readyz` while the `with` block lasts.

    An address that cannot be had is no reason not to take callbacks: it is said, and tried again.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        registry: CollectorRegistry,
        alive: Ask,
        ready: Ask,
        retry_seconds: float = 5.0,
    ) -> None:
        self._host = host
        self._port = port
        self._registry = registry
        self._retry_seconds = retry_seconds
        self._asks = {"/healthz": ("alive", alive), "/readyz": ("ready", ready)}
        self._closing = threading.Event()
        self._server: _Server | None = None
        self._thread = threading.Thread(target=self._run, name="private-address", daemon=True)

    def __enter__(self) -> Self:
        self._open()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._thread.join(_CLIENT_SECONDS)

    def _run(self) -> None:
        while self._server is None:
            if self._closing.wait(self._retry_seconds):
                return
            self._open()
        with self._server:
            while not self._closing.is_set():
                self._server.handle_request()

    def _open(self) -> None:
        try:
            self._server = _Server(self._host, self._port, self._answer)
        except OSError as error:
            _log.error(
                "metrics.not_served",
                host=self._host,
                port=self._port,
                reason=f"{error.strerror}: free the port, or set another under [metrics]; it is tried again",
            )
        else:
            _log.info("metrics.served", host=self._host, port=self._port)

    def _answer(self, path: str, accept: str) -> tuple[int, str, bytes]:
        """Status, media type and body for one request."""
        if path == "/metrics":
            encode, media_type = choose_encoder(accept)
            return 200, media_type, encode(self._registry)
        if path not in self._asks:
            return _problem(404, "Not found", "served here are /metrics, /healthz and /readyz")
        word, ask = self._asks[path]
        health = ask()
        if health.reason is not None:
            return _problem(503, f"Not {word}", health.reason, health.details)
        return 200, "application/json", json.dumps({"status": word, **health.details}).encode()


def _problem(
    status: int, title: str, detail: str, details: Mapping[str, Any] | None = None
) -> tuple[int, str, bytes]:
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, **(details or {})}
    return status, "application/problem+json", json.dumps(body).encode()


class _Server(ThreadingHTTPServer):
    timeout = 0.2
    """Seconds after which a wait for requests is interrupted to see whether it is time to end."""
    daemon_threads = True
    block_on_close = False

    def __init__(self, host: str, port: int, answer: Callable[[str, str], tuple[int, str, bytes]]) -> None:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        self.address_family = found[0][0]
        self.answer = answer
        self._places = threading.BoundedSemaphore(_MOST_AT_ONCE)
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Bind, without the look-up of the host's name that the base class makes."""
        socket.socket.setsockopt(self.socket, socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        """Take a connection, unless so many are in hand already that somebody must be playing."""
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:
            # There can be no more threads now, so that nobody else gives the place back.
            self._places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """One connection, on its own thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say what went wrong, unless the client simply left."""
        _log.warning("metrics.failed", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    timeout = _CLIENT_SECONDS
    server: _Server

    def do_GET(self) -> None:
        """Answer."""
        try:
            status, media_type, body = self.server.answer(
                urlsplit(self.path).path, self.headers.get("Accept", "")
            )
        except Exception:  # noqa: BLE001  (whoever asks shall hear that it failed)
            _log.warning("metrics.failed", exc_info=True)
            status, media_type, body = _problem(500, "Failed", "the log says why: look for metrics.failed")
        self._send(status, media_type, body)

    def do_HEAD(self) -> None:
        """The same, without the body."""
        self.do_GET()

    def _send(self, status: int, media_type: str, body: bytes) -> None:
        try:
            self.send_response_only(status)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Connection", "close")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
        except (ConnectionError, TimeoutError):
            self.close_connection = True  # Whoever asked is gone.

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the name in the base class)
        """Nothing: a scrape every few seconds is no news, and a stranger's request line no log line."""
