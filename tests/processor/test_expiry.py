"""When certificates, authorities and secrets of the settings end."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509

from processor.expiry import End, ends, first_ends
from shared.clock import Clock
from shared.settings import Settings
from simulator.certificates import Authority, pem_of

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def of_days(days: int) -> bytes:
    """An authority that ends so many days from now, made by one of the tests' library."""
    made = trustme.CA().issue_cert("a.example", not_after=NOW + timedelta(days=days))
    return made.cert_chain_pems[0].bytes()


def found(settings: dict[str, Any], zone: str | None = "UTC") -> list[End]:
    return ends(Settings.model_validate(settings), Clock.in_zone(zone))


def posten(**more: Any) -> dict[str, Any]:
    return {"providers": {"posten": {"sender": "123456789", **more}}}


def test_without_any_there_is_no_end() -> None:
    assert found({"providers": {"ssign": {"secret": "x"}}}) == []


def test_our_own_certificate_ends_as_it_says() -> None:
    """Of those that stand with it, up to its authority, each."""
    authority = Authority("Rot")
    own, _ = authority.issue("AVSENDER AS", organisation="123456789")
    pem = (pem_of(own) + pem_of(authority.certificate)).decode()
    first, second = found(posten(certificate=pem))
    assert (first.at, first.on) == (own.not_valid_after_utc, own.not_valid_after_utc.date())
    assert (first.peer, first.kind, first.what) == (
        "provider:posten",
        "certificate",
        "our certificate, AVSENDER AS",
    )
    assert first.begins_at == own.not_valid_before_utc
    assert second.at == authority.certificate.not_valid_after_utc
    assert not first.is_replaced


def test_of_several_authorities_the_last_one_counts() -> None:
    """Old and new stand side by side while one takes the place of the other."""
    both = (of_days(300) + of_days(5)).decode()
    old, new = found(posten(authorities=both))
    assert (old.at, old.is_replaced) == (NOW + timedelta(days=5), True)
    assert (new.at, new.is_replaced) == (NOW + timedelta(days=300), False)
    assert first_ends([old, new]) == {("provider:posten", "authorities"): new.at}


def test_a_secret_is_valid_on_its_last_day_still() -> None:
    """By the clock of the place."""
    settings = {"providers": {"ssign": {"secret": "x", "expires": {"secret": date(2027, 1, 31)}}}}
    [end] = found(settings, "America/Sao_Paulo")
    assert (end.at, end.on) == (datetime(2027, 2, 1, 3, tzinfo=UTC), date(2027, 1, 31))
    assert (end.kind, end.what) == ("secret", "its secret")


def test_certificates_of_the_database_are_looked_at_where_its_address_names_them(tmp_path: Path) -> None:
    (tmp_path / "own.pem").write_bytes(of_days(5))
    (tmp_path / "root.pem").write_bytes(of_days(9))
    url = f"postgresql://u:p@h/n?sslcert={tmp_path}/own.pem&sslrootcert={tmp_path}/root.pem"
    assert [(end.peer, end.kind) for end in found({"database": {"url": url}})] == [
        ("database", "certificate"),
        ("database", "authorities"),
    ]


@pytest.mark.parametrize("content", [None, b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_a_file_that_is_none_has_no_end(tmp_path: Path, content: bytes | None) -> None:
    """That it cannot be used is told where it is used."""
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    assert found({"providers": {"ssign": {"secret": "x", "ca_file": str(path)}}}) == []


def test_the_first_end_of_each_kind_is_what_counts() -> None:
    certificates = [x509.load_pem_x509_certificate(of_days(days)) for days in (9, 3)]
    pem = b"".join(pem_of(item) for item in certificates).decode()
    expires = {"certificate": date(2026, 12, 24)}
    assert first_ends(found(posten(certificate=pem, expires=expires))) == {
        ("provider:posten", "certificate"): NOW + timedelta(days=3),
        ("provider:posten", "secret"): datetime(2026, 12, 25, tzinfo=UTC),
    }
