"""Certificates as enterprises have them: roots, leaves without host names, and their keys."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Seid = Literal["1", "2", "none"]
"""Where the organisation number stands: in serialNumber, in organizationIdentifier, or nowhere."""


@cache
def _key(_name: str) -> rsa.RSAPrivateKey:
    # Making keys is what takes the time, so each name has one for the whole run.
    return rsa.generate_private_key(65537, 2048)


def pem_of(what: x509.Certificate | rsa.RSAPrivateKey) -> bytes:
    if isinstance(what, x509.Certificate):
        return what.public_bytes(Encoding.PEM)
    return what.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def subject(name: str, organisation: str = "", seid: Seid = "2") -> x509.Name:
    attributes = [
        x509.NameAttribute(NameOID.COUNTRY_NAME, "NO"),
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, name),
        x509.NameAttribute(NameOID.COMMON_NAME, name),
    ]
    if organisation and seid == "1":
        attributes.append(x509.NameAttribute(NameOID.SERIAL_NUMBER, organisation))
    if organisation and seid == "2":
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_IDENTIFIER, f"NTRNO-{organisation}"))
    return x509.Name(attributes)


class Authority:
    """A root, and what it issues."""

    def __init__(self, name: str, organisation: str = "") -> None:
        self._name = subject(name, organisation)
        self._key = _key(f"root {name}")
        now = datetime.now(UTC)
        self.certificate = (
            _builder(self._name, self._key, now - timedelta(days=365), now + timedelta(days=365))
            .issuer_name(self._name)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def issue(
        self, name: str, *, organisation: str = "", seid: Seid = "2", expired: bool = False
    ) -> tuple[x509.Certificate, rsa.RSAPrivateKey]:
        """A leaf for client and server, without any host name, and its key."""
        key = _key(f"leaf {name}")
        now = datetime.now(UTC)
        end = now + timedelta(days=-1 if expired else 30)
        certificate = (
            _builder(subject(name, organisation, seid), key, now - timedelta(days=60), end)
            .issuer_name(self._name)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        return certificate, key


def _builder(
    name: x509.Name, key: rsa.RSAPrivateKey, start: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=not signs_certificates,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def organisation_of(certificate: Mapping[str, Any]) -> str:
    """The organisation number in a peer's certificate as `SSLObject.getpeercert` gives it; empty for none."""
    for parts in certificate.get("subject", ()):
        for name, value in parts:
            if name in ("serialNumber", "organizationIdentifier"):
                return str(value).removeprefix("NTRNO-")
    return ""
