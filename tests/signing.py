"""Really signed files for tests: authorities and signers with fresh keys, PDFs and CMS made by pyHanko."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

from asn1crypto import cms
from asn1crypto import keys as asn1_keys
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.sign.fields import SigFieldSpec, SigSeedSubFilter
from pyhanko.sign.signers import PdfSignatureMetadata, PdfSigner, PdfTimeStamper, SimpleSigner
from pyhanko.sign.signers.pdf_cms import PdfCMSSignedAttributes
from pyhanko.sign.timestamps.dummy_client import DummyTimeStamper
from pyhanko.sign.validation.dss import DocumentSecurityStore
from pyhanko_certvalidator.registry import SimpleCertificateStore

from simulator.files import make_pdf

PERSON = "MARIA EXEMPLO:12345678909"
"""The name in every signer's certificate, with a number as Brazilian ones have it."""
SIGNED_AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
_YEARS = timedelta(days=3650)


class Authority:
    """A certificate authority with a key of its own."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        self._certificate = (
            _builder(self._name, self._name, self._key.public_key(), SIGNED_AT - _YEARS, SIGNED_AT + _YEARS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
            .sign(self._key, SHA256())
        )
        self.pem = self._certificate.public_bytes(Encoding.PEM)

    def signer(
        self,
        *,
        begins_at: datetime = SIGNED_AT - timedelta(days=100),
        ends_at: datetime = SIGNED_AT + _YEARS,
        purpose: str = "content_commitment",
        serial: int | None = None,
    ) -> SimpleSigner:
        """Somebody with a certificate of this authority."""
        return self._holder(begins_at, ends_at, _usage(**{purpose: True}), [], serial)

    def time_stamper(self) -> DummyTimeStamper:
        """A time stamping service; its stamps say `SIGNED_AT`."""
        holder = self._holder(
            SIGNED_AT - timedelta(days=100),
            SIGNED_AT + _YEARS,
            _usage(digital_signature=True),
            [ExtendedKeyUsageOID.TIME_STAMPING],
        )
        return DummyTimeStamper(
            holder.signing_cert, holder.signing_key, holder.cert_registry, fixed_dt=SIGNED_AT
        )

    def _holder(
        self,
        begins_at: datetime,
        ends_at: datetime,
        usage: x509.KeyUsage,
        extended: Sequence[Any],
        serial: int | None = None,
    ) -> SimpleSigner:
        # The library's time stamper knows RSA alone.
        key = rsa.generate_private_key(65537, 2048) if extended else ec.generate_private_key(ec.SECP256R1())
        builder = _builder(
            _name(PERSON), self._name, key.public_key(), begins_at, ends_at, serial
        ).add_extension(usage, critical=True)
        if extended:
            builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=True)
        store = SimpleCertificateStore()
        store.register(_asn1(self._certificate))
        der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        return SimpleSigner(
            signing_cert=_asn1(builder.sign(self._key, SHA256())),
            signing_key=asn1_keys.PrivateKeyInfo.load(der),
            cert_registry=store,
        )


@dataclass(frozen=True)
class Signing:
    """The authorities of a run of tests, and people who sign.

    `authorities` is the file that names the trusted one; `stranger` has a certificate of another.
    """

    trusted: Authority
    authorities: Path
    signer: SimpleSigner
    stranger: SimpleSigner

    @classmethod
    def begin(cls, folder: Path) -> Signing:
        """New keys; the file of authorities is written into the folder."""
        trusted = Authority("Autoridade de Teste")
        path = folder / "authorities.pem"
        path.write_bytes(trusted.pem)
        return cls(trusted, path, trusted.signer(), Authority("Outra Autoridade").signer())

    def pdf(self, text: str = "Contrato 2026-0042", **options: Any) -> bytes:
        """A PDF that is signed once; the options are those of `sign_pdf`."""
        return sign_pdf(make_pdf(text), options.pop("signer", self.signer), **options)


def sign_pdf(
    data: bytes,
    signer: SimpleSigner,
    field: str = "Signature1",
    *,
    at: datetime = SIGNED_AT,
    timestamper: DummyTimeStamper | None = None,
    **metadata: Any,
) -> bytes:
    """Sign a PDF once more, by an update behind its end."""
    named = PdfSignatureMetadata(**{"field_name": field, "subfilter": SigSeedSubFilter.PADES, **metadata})
    signing = _PdfSigner(named, signer, timestamper=timestamper, new_field_spec=SigFieldSpec(field))
    signing.at = at
    writer = IncrementalPdfFileWriter(io.BytesIO(data), strict=False)
    return bytes(signing.sign_pdf(writer).getvalue())


def stamp_pdf(data: bytes, stamper: DummyTimeStamper) -> bytes:
    """Add a document time stamp."""
    writer = IncrementalPdfFileWriter(io.BytesIO(data))
    return bytes(PdfTimeStamper(stamper).timestamp_pdf(writer, "sha256").getvalue())


def store_certificates(data: bytes, *certificates: asn1_x509.Certificate) -> bytes:
    """Add a document security store that holds certificates."""
    file = io.BytesIO(data)
    DocumentSecurityStore.add_dss(file, None, certs=list(certificates))
    return file.getvalue()


def sign_cms(
    content: bytes | BinaryIO,
    *signers: SimpleSigner,
    detached: bool = False,
    at: datetime = SIGNED_AT,
    timestamper: DummyTimeStamper | None = None,
    digest: str = "sha256",
) -> bytes:
    """A CMS signature by one or more people, with the content inside unless it is detached."""
    settings = PdfCMSSignedAttributes(signing_time=at)
    made = [
        asyncio.run(
            signer.async_sign_general_data(
                content, digest, detached=detached, timestamper=timestamper, signed_attr_settings=settings
            )
        )
        for signer in signers
    ]
    whole = made[0]["content"]
    for other in made[1:]:
        whole["signer_infos"].append(other["content"]["signer_infos"][0])
        for certificate in other["content"]["certificates"]:
            whole["certificates"].append(certificate)
    return bytes(cms.ContentInfo({"content_type": "signed_data", "content": whole}).dump())


class _PdfSigner(PdfSigner):
    """Signs at a time of the test's choice, and what was certified as final, too."""

    at: datetime

    def init_signing_session(self, *arguments: Any, **options: Any) -> Any:
        session = super().init_signing_session(*arguments, **options)
        session.system_time = self.at
        return session

    def _enforce_certification_constraints(self, reader: Any) -> None:
        pass


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: Any,
    begins_at: datetime,
    ends_at: datetime,
    serial: int | None = None,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(begins_at)
        .not_valid_after(ends_at)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _usage(**granted: bool) -> x509.KeyUsage:
    names = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{name: granted.get(name, False) for name in names})


def _asn1(certificate: x509.Certificate) -> asn1_x509.Certificate:
    return asn1_x509.Certificate.load(certificate.public_bytes(Encoding.DER))
