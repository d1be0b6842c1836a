"""A server that asks for certificates, and tells which bytes of a request ever came through."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from simulator.certificates import pem_of
from tests.waiting import PATIENCE_SECONDS

END = b"the end of a request"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


class TlsServer:
    """Answers one request a connection, which has to end with `END`.

    `heard` is what came through each connection, `errors` is what broke some.
    """

    def __init__(
        self,
        folder: Path,
        certificate: tuple[x509.Certificate, RSAPrivateKey],
        *,
        clients: x509.Certificate | None = None,
        newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    ) -> None:
        self.heard: list[bytes] = []
        self.errors: list[OSError] = []
        self.closed = threading.Event()
        pair = folder / "server.pem"
        pair.write_bytes(pem_of(certificate[0]) + pem_of(certificate[1]))
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pair)
        self._context.maximum_version = newest
        if clients is not None:
            self._context.load_verify_locations(cadata=pem_of(clients).decode())
            self._context.verify_mode = ssl.CERT_REQUIRED
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listening.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Closing alone would not end a call that waits.
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE_SECONDS)
        self._listening.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            connection.settimeout(PATIENCE_SECONDS)
            with connection:
                self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        heard = b""
        try:
            # Unlike asyncio's, these connections tell the other side why they end.
            with self._context.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            ) as encrypted:
                try:
                    encrypted.do_handshake()
                    while not heard.endswith(END) and (chunk := encrypted.recv(65536)):
                        heard += chunk
                    if heard:
                        encrypted.sendall(ANSWER)
                finally:
                    self._linger(encrypted)
        except OSError as error:
            self.errors.append(error)
        self.heard.append(heard)
        self.closed.set()

    @staticmethod
    def _linger(encrypted: ssl.SSLSocket) -> None:
        """Let the other side end the connection, so that it is sure to hear the last words."""
        with socket.socket(fileno=encrypted.detach()) as connection:
            connection.settimeout(PATIENCE_SECONDS)
            while connection.recv(65536):
                continue
