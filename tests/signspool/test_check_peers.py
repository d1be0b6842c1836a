"""`signspool check` on what lies outside: who answers, how certified, at what time; what ends soon."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import trustme

from tests.installation import free_port
from tests.signspool.conftest import MakePlace, Place


@contextmanager
def peer(*, ahead: timedelta = timedelta(), certificate: trustme.LeafCert | None = None) -> Iterator[str]:
    """A server that answers HEAD, its clock so far ahead; yields its origin."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            asked.append(f"{self.command} {self.path} {self.headers.get('Authorization')}")
            self.send_response(404)
            self.end_headers()

        def date_time_string(self, timestamp: float | None = None) -> str:
            return format_datetime(datetime.now(UTC) + ahead, usegmt=True)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the base's own name)
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """A peer that breaks the handshake off is expected."""

    server = Server(("127.0.0.1", 0), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}"
        assert asked in ([], ["HEAD / None"])
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def check(place: Place, origin: str, more: str = "") -> dict[str, Any]:
    """The findings by what they are about, with one HTTP destination."""
    text = place.config.read_text().partition("[destinations")[0]
    place.config.write_text(
        f'{text}\n[destinations.dms]\nkind = "http"\nurl = "{origin}/files"\ntoken = "t-5512"\n{more}'
    )
    said = place.here("check", "--json")
    return {"code": said.code, **{finding["about"]: finding for finding in said.json}}


@pytest.fixture
def place(make_place: MakePlace) -> Place:
    """An installation whose only peer is the destination."""
    place = make_place()
    text = place.config.read_text().partition("[providers.certisign]")[0]
    place.config.write_text(text)
    return place


def test_a_destination_that_answers_is_told_and_one_that_does_not_is_a_warning(place: Place) -> None:
    """It may be back soon, and deliveries wait for it."""
    with peer() as origin:
        found = check(place, origin)
    assert found["reaching destination dms"]["finding"] == f"{origin} answers"
    assert "clock of destination dms" not in found
    found = check(place, f"http://127.0.0.1:{free_port()}")
    assert (found["code"], found["reaching destination dms"]["level"]) == (0, "warn")
    assert "refused" in found["reaching destination dms"]["finding"]
    found = check(place, "http://no-such-host.invalid")
    assert "cannot be resolved" in found["reaching destination dms"]["finding"]


def test_offline_connects_to_nobody(place: Place) -> None:
    check(place, "http://no-such-host.invalid")
    abouts = [item["about"] for item in place.here("check", "--json", "--offline").json]
    assert [about for about in abouts if about.startswith("reaching")] == []


@pytest.mark.parametrize(("hours", "words"), [(2, "ahead of"), (-2, "behind")])
def test_a_clock_that_differs_is_told(place: Place, hours: int, words: str) -> None:
    with peer(ahead=timedelta(hours=hours)) as origin:
        found = check(place, origin)
    clock = found["clock of destination dms"]
    assert (found["code"], clock["level"], words in clock["finding"]) == (0, "warn", True)


@pytest.mark.parametrize(
    ("days", "level", "words"),
    [(90, None, ""), (10, "warn", "expires on"), (-1, "fail", "certificate has expired")],
)
def test_a_certificate_that_ends_soon_warns_and_one_that_has_ended_fails(
    place: Place, tmp_path: Path, days: int, level: str | None, words: str
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    end = datetime.now(UTC) + timedelta(days=days)
    leaf = authority.issue_cert("127.0.0.1", not_before=end - timedelta(days=100), not_after=end)
    with peer(certificate=leaf) as origin:
        found = check(place, origin, f'ca_file = "{tmp_path / "ca.pem"}"\n')
    told = found["reaching destination dms"]
    assert told["level"] == (level or "ok")
    assert words in told["finding"]
    assert found["code"] == (1 if level == "fail" else 0)


def test_a_certificate_of_an_unknown_authority_fails(place: Place) -> None:
    with peer(certificate=trustme.CA().issue_cert("127.0.0.1")) as origin:
        found = check(place, origin)
    assert (found["code"], found["reaching destination dms"]["level"]) == (1, "fail")
    assert "not accepted" in found["reaching destination dms"]["finding"]


@pytest.mark.parametrize(
    ("days", "level"), [(-1, "fail"), (0, "fail"), (12, "fail"), (15, "warn"), (29, "warn"), (31, None)]
)
def test_the_day_of_a_secret_is_told_in_time(place: Place, days: int, level: str | None) -> None:
    """On its last day it is valid still."""
    day = datetime.now(ZoneInfo("America/Sao_Paulo")).date() + timedelta(days=days)
    found = check(place, "http://127.0.0.1:9", f"expires = {{ token = {day} }}\n")
    told = found["expiry"] if level is None else found["expiry of destination dms"]
    assert told["level"] == (level or "ok")
    assert "token" in told["finding"]
    assert found["code"] == (1 if level == "fail" else 0)


def test_a_day_for_a_secret_that_is_not_set_is_a_wrong_setting(place: Place) -> None:
    text = place.config.read_text()
    day = date(2027, 1, 31)
    place.config.write_text(
        f'{text}\nexpires = {{ tokn = {day} }}\nsecrets = {{ "2026-10" = "another-1" }}\n'
    )
    said = place.here("check")
    assert said.code == 2
    assert "expires names tokn, and no such secret is set; set are: secret, secrets.2026-10" in said.err
    place.config.write_text(place.config.read_text().replace("tokn", '"secrets.2026-10"'))
    assert place.here("check", "--offline").code == 0


def test_an_authority_in_ca_file_that_has_expired_fails(place: Place, tmp_path: Path) -> None:
    (tmp_path / "old.pem").write_text(EXPIRED_AUTHORITY)
    found = check(place, "https://127.0.0.1:9", f'ca_file = "{tmp_path / "old.pem"}"\n')
    assert (found["code"], found["expiry of destination dms"]["level"]) == (1, "fail")
    assert "A Test Authority has expired on 2020-01-02" in found["expiry of destination dms"]["finding"]


EXPIRED_AUTHORITY = """\
-----BEGIN CERTIFICATE-----
MIIBNzCB3qADAgECAgEBMAoGCCqGSM49BAMCMBsxGTAXBgNVBAMMEEEgVGVzdCBB
dXRob3JpdHkwHhcNMTAwMTAxMDAwMDAwWhcNMjAwMTAyMDAwMDAwWjAbMRkwFwYD
VQQDDBBBIFRlc3QgQXV0aG9yaXR5MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE
9HFp/dztIHWfAd8L+v3ahMIgey+jlo0BdPqYNL9RFlZCHM1CW0ZZ0E0GJkoBsjQ5
q2Fm8Ks4TaGkp1LE8ugi7qMTMBEwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQD
AgNIADBFAiEAvscZwueTRDgn/mbqAQ1nD44uYMeyBm85cHB+KI0aYjYCIEBPaMDM
AAE15v++h7lELarVJ/4sS6m50eBrsu+YoJq5
-----END CERTIFICATE-----
"""
