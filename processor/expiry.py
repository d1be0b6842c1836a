"""When what the settings name ends: our certificates, authorities that we trust, noted secrets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.x509.oid import NameOID

from processor.owed import destination_lane, provider_lane
from shared.clock import Clock
from shared.settings import Settings, build_providers

Kind = Literal["certificate", "authorities", "secret"]
DATABASE = "database"


@dataclass(frozen=True, slots=True)
class End:
    """Something of a peer that is valid until `at`, its last day being `on`; `peer` is a lane, or `database`.

    `is_replaced` is an authority beside which another one stands that is valid for longer.
    """

    at: datetime
    on: date
    peer: str
    kind: Kind
    what: str
    begins_at: datetime | None = None
    is_replaced: bool = False


def ends(settings: Settings, clock: Clock) -> list[End]:
    """All ends that are known, the first one first. Files that cannot be read have none."""
    providers = {provider_lane(name): section for name, section in settings.providers.items()}
    destinations = {destination_lane(name): section for name, section in settings.destinations.items()}
    found: list[End] = []
    for peer, section in {**providers, **destinations}.items():
        for name, day in section.expires.items():
            # It is valid on that day still.
            end = datetime.combine(day + timedelta(days=1), time(), clock.zone).astimezone(UTC)
            found.append(End(end, day, peer, "secret", f"its {name}"))
        ca_file = getattr(section, "ca_file", None)
        if ca_file is not None:
            found += _authorities(peer, _content(ca_file), str(ca_file))
    for name, provider in build_providers(settings).items():
        if (tls := provider.tls) is not None:
            found += _own(provider_lane(name), tls.certificate.encode(), "our certificate")
            found += _authorities(provider_lane(name), tls.authorities.encode(), "its authorities")
    query = settings.database_url.query
    if isinstance(path := query.get("sslcert"), str):
        found += _own(DATABASE, _content(path), path)
    if isinstance(path := query.get("sslrootcert"), str):
        found += _authorities(DATABASE, _content(path), path)
    return sorted(found, key=lambda end: (end.at, end.peer, end.what))


def first_ends(found: Iterable[End]) -> dict[tuple[str, str], datetime]:
    """By peer and kind, when the first of that ends which nothing replaces."""
    first: dict[tuple[str, str], datetime] = {}
    for end in found:
        if not end.is_replaced:
            key = (end.peer, end.kind)
            first[key] = min(end.at, first.get(key, end.at))
    return first


def _own(peer: str, pem: bytes, source: str) -> Iterator[End]:
    """The certificate by which a peer knows us, and those that stand with it up to its authority."""
    for certificate in _certificates(pem):
        yield _end(certificate, peer, "certificate", source)


def _authorities(peer: str, pem: bytes, source: str) -> Iterator[End]:
    found = sorted((_end(item, peer, "authorities", source) for item in _certificates(pem)), key=_at)
    for end in found[:-1]:
        yield replace(end, is_replaced=end.at < found[-1].at)
    yield from found[-1:]


def _at(end: End) -> datetime:
    return end.at


def _end(certificate: x509.Certificate, peer: str, kind: Kind, source: str) -> End:
    what = f"{source}, {_name(certificate)}"
    at = certificate.not_valid_after_utc
    return End(at, at.date(), peer, kind, what, certificate.not_valid_before_utc)


def _certificates(pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        # None in it, or damaged: whoever makes a connection with it says so.
        return []


def _content(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        # That too is told where it is needed.
        return b""


def _name(certificate: x509.Certificate) -> str:
    subject = certificate.subject
    for attribute in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME):
        for found in subject.get_attributes_for_oid(attribute):
            return str(found.value)
    return "a nameless certificate"
