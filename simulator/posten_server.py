"""The simulated Posten signering behind mutual TLS, with certificates that it makes."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from starlette.routing import Mount
from starlette.types import ASGIApp

from simulator.app import controlled
from simulator.certificates import Authority, pem_of
from simulator.posten import POSTEN, SENDER
from simulator.posten_api import create_app
from simulator.server import SimulatorServer, TlsFactory
from simulator.wire import Wire
from simulator.world import World

_REASONS = (ssl.SSLWantReadError, ssl.SSLWantWriteError, ssl.SSLSyscallError)


@dataclass(frozen=True)
class Papers:
    """Certificates of the simulated world, as PEM files in a folder.

    `roots` is what issued both sides; `sender` and `sender_key` are for the client, `server` holds the
    server's certificate with its key.
    """

    roots: Path
    sender: Path
    sender_key: Path
    server: Path


def make_papers(folder: Path, *, sender: str = SENDER, server: str = POSTEN) -> Papers:
    """Make certificates that fit, for the organisations with these numbers."""
    authority = Authority("Simulated Enterprise Root")
    papers = Papers(folder / "roots.pem", folder / "sender.pem", folder / "sender.key", folder / "server.pem")
    certificate, key = authority.issue("SIMULATED SENDER AS", organisation=sender)
    own, own_key = authority.issue("SIMULATED POSTEN BRING AS", organisation=server)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    papers.roots.write_bytes(pem_of(authority.certificate))
    papers.sender.write_bytes(pem_of(certificate) + pem_of(authority.certificate))
    for path, content in ((papers.sender_key, pem_of(key)), (papers.server, pem_of(own) + pem_of(own_key))):
        path.touch(mode=0o600)
        path.write_bytes(content)
    return papers


def server_context(papers: Papers) -> ssl.SSLContext:
    """TLS 1.2 alone; asks every client for a certificate of the simulated root."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(papers.server)
    context.load_verify_locations(papers.roots)
    context.verify_mode = ssl.CERT_REQUIRED
    context.sslobject_class = _Telling
    return context


class _Telling(ssl.SSLObject):
    """A connection whose client hears why its certificate was refused.

    asyncio throws away what a failed handshake has to say. Asked for more input instead, it first sends that,
    and the client ends the connection.
    """

    _has_told = False

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except _REASONS:
            raise
        except ssl.SSLError as error:
            if self._has_told:
                raise
            self._has_told = True
            raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "the client is told") from error


class PostenServer(SimulatorServer):
    """Serves the Posten signering of a world, like `SimulatorServer`, to those with a certificate."""

    scheme = "https"

    def __init__(
        self, papers: Papers, world: World | None = None, *, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.papers = papers
        super().__init__(world, host=host, port=port)

    def application(self, world: World) -> ASGIApp:
        """The API and its control calls; every request is recorded, and the weather acts on it."""
        world.posten.base_url = self.url
        app = Wire(create_app(world.posten), "posten", world.weather, world.requests)
        return controlled(world, Mount("/", app=app))

    def tls(self) -> TlsFactory:
        """Mutual TLS."""
        return lambda _config, _default: server_context(self.papers)


def run_posten(host: str, port: int, folder: Path) -> None:
    """Serve Posten signering alone in the foreground, its certificates made in a folder.

    Raises:
        OSError: the address cannot be listened on, or the folder cannot be written.
    """
    server = PostenServer(make_papers(folder), host=host, port=port)
    print(guide(server), flush=True)
    server.run()


def guide(server: PostenServer) -> str:
    """Settings and commands to try, for a person who integrates."""
    papers = server.papers
    curl = f"curl -s -k --cert {papers.sender} --key {papers.sender_key}"
    return f"""\
Posten  {server.url}/api  over mutual TLS; the sender is {SENDER}, and an empty queue may be asked after 10 s

Settings:
  [providers.posten]
  base_url = "{server.url}/api"
  sender = "{SENDER}"
  certificate_file = "{papers.sender}"
  key_file = "{papers.sender_key}"
  authorities_file = "{papers.roots}"

Who am I, by the certificate:
  {curl} {server.url}/api/{SENDER}
Send a job with signspool documents send, then let its first signer sign, or reject it, or let it expire:
  {curl} -X POST '{server.url}/_jobs/12087/sign?signer=1'
  {curl} -X POST {server.url}/_jobs/12087/reject
  {curl} -X POST {server.url}/_jobs/12087/expire
What became of all jobs:
  {curl} {server.url}/_jobs
Hand out unconfirmed updates again at once, and have its next three answers fail:
  {curl} -X PATCH -d '{{"hide_seconds": 0}}' {server.url}/_switches/posten
  {curl} -d '{{"peer": "posten", "kind": "status", "status": 503, "times": 3}}' {server.url}/_weather

Ctrl-C ends it."""
