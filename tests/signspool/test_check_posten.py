"""`signspool check` of a provider that is asked over mutual TLS: what is missing or does not fit is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12

from simulator.certificates import Authority, pem_of
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
    said = place.here("check", "--json")
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
    said = place.here("check", "--json")
    assert said.code == 2
    assert "openssl pkcs12 -in FILE -nodes -out FILE.pem" in said.err
