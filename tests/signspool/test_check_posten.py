"""`signspool check` of a provider that is asked over mutual TLS: what is missing or does not fit is said."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12

from simulator.certificates import Authority, pem_of
from simulator.posten import SENDER
from simulator.posten_server import Papers, PostenServer, make_papers
from tests.processor.tls_server import TlsServer
from tests.signspool.conftest import MakePlace, Place

SECTION = """
[providers.posten]
sender = "123456789"
certificate_file = "{folder}/own.pem"
key_file = "{folder}/own.key"
authorities_file = "{folder}/roots.pem"
"""


@pytest.fixture
def place(make_place: MakePlace, tmp_path: Path) -> Place:
    made = make_place()
    authority = Authority("Rot")
    certificate, key = authority.issue("AVSENDER AS", organisation="123456789")
    (tmp_path / "own.pem").write_bytes(pem_of(certificate))
    (tmp_path / "own.key").write_bytes(pem_of(key))
    (tmp_path / "roots.pem").write_bytes(pem_of(authority.certificate))
    packed = pkcs12.serialize_key_and_certificates(
        b"own", key, certificate, None, BestAvailableEncryption(b"x")
    )
    (tmp_path / "own.p12").write_bytes(packed)
    made.config.write_text(made.config.read_text() + SECTION.format(folder=tmp_path))
    return made


def finding(place: Place) -> dict[str, Any]:
    said = place.here("check", "--offline", "--json")
    [found] = [row for row in said.json if row["about"] == "provider posten"]
    assert isinstance(found, dict)
    return found


def test_with_all_that_it_takes_it_is_all_right(place: Place) -> None:
    assert finding(place)["level"] == "ok"


def test_what_is_missing_is_named(place: Place) -> None:
    text = place.config.read_text()
    place.config.write_text(text.replace('sender = "123456789"', ""))
    assert (finding(place)["level"], "set sender" in finding(place)["finding"]) == ("fail", True)


def test_a_key_of_another_certificate_fails(place: Place, tmp_path: Path) -> None:
    _, key = Authority("Rot").issue("EN ANNEN AS", organisation="111111111")
    (tmp_path / "own.key").write_bytes(pem_of(key))
    assert "do not belong together" in finding(place)["finding"]


def test_a_pkcs12_file_is_refused_with_the_command_that_converts_it(place: Place) -> None:
    place.config.write_text(place.config.read_text().replace("own.pem", "own.p12"))
    said = place.here("check", "--offline", "--json")
    assert said.code == 2
    assert "openssl pkcs12 -in FILE -nodes -out FILE.pem" in said.err


def test_our_certificate_is_told_of_before_it_ends(place: Place) -> None:
    """First as a warning, then as a fault; the limits are settings."""

    def told(limits: str) -> tuple[int, str, str]:
        text = place.config.read_text().partition("\n[check]")[0]
        place.config.write_text(f"{text}\n[check]\n{limits}\n")
        said = place.here("check", "--offline", "--json")
        by_about = {row["about"]: row for row in said.json}
        found = by_about.get("expiry of provider posten") or by_about["expiry"]
        return said.code, found["level"], found["finding"]

    # The simulated authority gives its leaves thirty days.
    code, level, words = told('expiry_warn = "31d"')
    assert (code, level) == (0, "warn")
    assert words.startswith("our certificate, AVSENDER AS expires on ")
    assert words.endswith("in 29 days")
    assert told('expiry_warn = "40d"\nexpiry_fail = "31d"')[:2] == (1, "fail")
    assert told('expiry_warn = "29d"')[:2] == (0, "ok")
    assert told("expiry_warn = 0\nexpiry_fail = 0")[:2] == (0, "ok")


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return make_papers(tmp_path_factory.mktemp("papers"))


@pytest.fixture(scope="module")
def server(papers: Papers) -> Iterator[PostenServer]:
    with PostenServer(papers) as running:
        yield running


def reaching(made: Place, url: str, papers: Papers, more: str = "") -> dict[str, Any]:
    """What is found behind the address, as the papers let us in."""
    text = (
        made.config.read_text().partition("\n[providers.posten]")[0].partition("\n[providers.certisign]")[0]
    )
    made.config.write_text(
        f'{text}\n[providers.posten]\nsender = "{SENDER}"\nbase_url = "{url}/api"\n'
        f'certificate_file = "{papers.sender}"\nkey_file = "{papers.sender_key}"\n'
        f'authorities_file = "{papers.roots}"\n{more}'
    )
    said = made.here("check", "--json")
    [found] = [
        row for row in said.json if row["about"] == "reaching provider posten" and row["level"] != "warn"
    ]
    assert isinstance(found, dict)
    return found


def test_a_service_that_is_known_by_its_organisation_is_reached_with_our_certificate(
    make_place: MakePlace, server: PostenServer, papers: Papers
) -> None:
    """Its own certificate has no host name, so that the usual check would refuse it."""
    found = reaching(make_place(), server.url, papers)
    assert (found["level"], found["finding"]) == ("ok", f"{server.url} answers")


def test_another_organisation_in_its_place_fails(
    make_place: MakePlace, server: PostenServer, papers: Papers
) -> None:
    found = reaching(make_place(), server.url, papers, 'organisation = "999999999"\n')
    assert found["level"] == "fail"
    assert "it is not of organisation 999999999" in found["finding"]


def test_a_certificate_of_ours_that_is_refused_fails(
    make_place: MakePlace, server: PostenServer, papers: Papers, tmp_path: Path
) -> None:
    """Both sides know the roots that they know."""
    strange = make_papers(tmp_path / "strange")
    other = Authority("Another Root")
    certificate, key = other.issue("SIMULATED SENDER AS", organisation=SENDER)
    strange.sender.write_bytes(pem_of(certificate))
    strange.sender_key.write_bytes(pem_of(key))
    strange.roots.write_bytes(papers.roots.read_bytes())
    found = reaching(make_place(), server.url, strange)
    assert (found["level"], "it refused our certificate" in found["finding"]) == ("fail", True)


def test_a_refusal_that_comes_only_after_the_handshake_fails_too(
    make_place: MakePlace, papers: Papers, tmp_path: Path
) -> None:
    """As with TLS 1.3, where the client is done before the server has looked at its certificate."""
    authority = Authority("Rot")
    (tmp_path / "roots.pem").write_bytes(pem_of(authority.certificate))
    ours = replace(papers, roots=tmp_path / "roots.pem")
    own = authority.issue("POSTEN BRING AS", organisation="984661185")
    with TlsServer(tmp_path, own, clients=authority.certificate) as server:
        found = reaching(make_place(), server.url, ours)
    assert (found["level"], "it refused our certificate" in found["finding"]) == ("fail", True)
