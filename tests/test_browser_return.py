"""A real browser signs on the provider's page and comes back through the door to the application's page."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from shared.spool import Folder
from simulator.server import SimulatorServer
from tests.conftest import make_database
from tests.nursery import Nursery
from tests.test_walk_restpki import RestPkiStory, mortal

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

# Presses the button as soon as it is loaded, since nobody sits before a browser without a screen.
START = """<!doctype html><form method="post" enctype="multipart/form-data" action="{page}">
<input name="action" value="sign"></form><script>document.forms[0].submit()</script>"""


class Application(BaseHTTPRequestHandler):
    """The company's application: a page that leads to the provider, and the page for those who come back."""

    signing_page: str
    visits: list[tuple[dict[str, str], str | None]]

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path == "/start":
            body = START.format(page=escape(self.signing_page)).encode()
        else:
            if parts.path == "/signed":
                self.visits.append((dict(parse_qsl(parts.query)), self.headers.get("Referer")))
            body = b"<!doctype html><p>Obrigado.</p>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the name of the base)
        """Say nothing."""


@pytest.fixture
def application() -> Iterator[tuple[type[Application], str]]:
    made: type[Application] = type("Made", (Application,), {"signing_page": "", "visits": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), made)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def browse(address: str, profile: Path) -> str:
    """What a browser shows in the end."""
    assert CHROMIUM is not None
    done = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--no-proxy-server",
            f"--user-data-dir={profile}",
            "--virtual-time-budget=20000",
            "--dump-dom",
            address,
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here: apt-get install chromium")
@pytest.mark.timeout(180)
def test_a_browser_that_signed_arrives_at_the_applications_page_and_its_return_is_in_the_spool(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    nursery: Nursery,
    application: tuple[type[Application], str],
) -> None:
    app, app_url = application
    with SimulatorServer() as server, make_database("sqlite", tmp_path, request) as url:
        made = mortal(tmp_path, server.url, url, nursery)
        made.config.write_text(
            made.config.read_text().replace("http://app.invalid/signed", f"{app_url}/signed")
        )
        story = RestPkiStory(made, server.world)
        made.start("api")
        session = story.session(("contrato.pdf",))
        app.signing_page = f"{story.restpki.base_url}/sign/{session.token}"
        shown = browse(f"{app_url}/start", tmp_path / "profile")
        made.wait(lambda: made.count(Folder.SPOOL) > 0, "the return to be spooled")
        made.close()
    assert "Obrigado." in shown
    [(query, referrer)] = app.visits
    assert query == {"tenant": "7", "order": "77", "signatureSessionId": session.id}
    # Neither the signing page, whose address is a credential, nor the door is told of.
    assert session.token not in (referrer or "")
    assert "signatureSessionId" not in (referrer or "")
    assert str(story.restpki.status_of(session)) == "Completed"
