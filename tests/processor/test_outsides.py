"""What the settings of a provider make of the requests to it."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import aclosing
from pathlib import Path

import pytest
import trustme

from processor.outsides import outside_of
from shared.errors import NotSentError
from shared.settings import Settings
from tests.providers.conftest import make_provider


async def ask(server_tls: ssl.SSLContext, ca_file: Path | None) -> int:
    """The status that a provider with an installation of its own answers with."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            # A client that does not trust us leaves.
            return
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_tls)
    async with server:
        origin = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        settings = {} if ca_file is None else {"ca_file": str(ca_file)}
        provider = make_provider("restpki", base_url=origin, **settings)
        async with aclosing(outside_of(provider, Settings())) as outside:
            return (await outside.send("GET", origin)).status


def test_a_provider_with_a_private_authority_is_trusted_by_its_ca_file_alone(tmp_path: Path) -> None:
    authority = trustme.CA()
    trusted = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(trusted))
    server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server_tls)
    assert asyncio.run(ask(server_tls, trusted)) == 200
    with pytest.raises(NotSentError, match="ca_file"):
        asyncio.run(ask(server_tls, None))
