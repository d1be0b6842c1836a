"""The signed document package (ASiC-E) of Posten signering, and the body in which it is sent."""

from __future__ import annotations

import base64
import hashlib
import io
import secrets
import zipfile
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID
from lxml import etree

from shared.errors import WaitingError

_DS = "http://www.w3.org/2000/09/xmldsig#"
_XADES = "http://uri.etsi.org/01903/v1.3.2#"
_ASIC = "http://uri.etsi.org/2918/v1.2.1#"
_C14N = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
_SHA256 = "http://www.w3.org/2001/04/xmlenc#sha256"
_SHA1 = "http://www.w3.org/2000/09/xmldsig#sha1"
_RSA_SHA256 = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
_SIGNED_PROPERTIES = "http://uri.etsi.org/01903#SignedProperties"

MANIFEST_NAME = "manifest.xml"
SIGNATURES_NAME = "META-INF/signatures.xml"
# A zip without dates is the same bytes for the same content; this is the earliest that the format knows.
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
_NAMES_OF_ATTRIBUTES = {
    NameOID.ORGANIZATION_IDENTIFIER: "organizationIdentifier",
    NameOID.SERIAL_NUMBER: "serialNumber",
}


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The enterprise certificate with its key; `chain` begins with the leaf."""

    key: RSAPrivateKey
    chain: tuple[x509.Certificate, ...]

    def __repr__(self) -> str:
        return f"SigningKey({self.chain[0].subject.rfc4514_string()!r})"


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the package."""

    name: str
    media_type: str
    content: bytes


def load_signing_key(certificate_pem: bytes, key_pem: bytes, password: bytes | None = None) -> SigningKey:
    """The key and the certificates, which may stand in any order and in the same text.

    Raises:
        WaitingError: they cannot be read, or do not belong together; the message says what to do.
    """
    for pem in (certificate_pem, key_pem):
        if b"-----BEGIN" not in pem:
            raise WaitingError(
                "the certificate or its key is not in PEM: convert a PKCS#12 file with "
                "openssl pkcs12 -in FILE.p12 -nodes -out FILE.pem (-legacy if its ciphers are old)"
            )
    try:
        key = load_pem_private_key(key_pem, password)
        certificates = x509.load_pem_x509_certificates(certificate_pem)
    except (ValueError, TypeError):
        # The library's own words may quote what it read.
        raise WaitingError(
            "the certificate or its key cannot be read: see that both are PEM, and the password of the key"
        ) from None
    if not isinstance(key, RSAPrivateKey):
        raise WaitingError("the key of an enterprise certificate is an RSA key, this is none")
    leaves = [found for found in certificates if found.public_key() == key.public_key()]
    if not leaves:
        raise WaitingError("the key does not belong to the certificate: see that both are of the same pair")
    return SigningKey(key, (leaves[0], *(found for found in certificates if found != leaves[0])))


def package(entries: Sequence[Entry], signing: SigningKey, signed_at: datetime) -> bytes:
    """The package: a zip of the entries, the manifest among them, and of the signature over all of them.

    `signed_at` is aware; the service takes it when it is within 5 seconds of its own clock.
    """
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        files = [(entry.name, entry.content) for entry in entries]
        for name, content in (*files, (SIGNATURES_NAME, signatures(entries, signing, signed_at))):
            info = zipfile.ZipInfo(name, _ZIP_DATE)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return out.getvalue()


def signatures(entries: Sequence[Entry], signing: SigningKey, signed_at: datetime) -> bytes:
    """`META-INF/signatures.xml`: one XAdES signature over every entry and over its own properties."""
    root = etree.Element(f"{{{_ASIC}}}XAdESSignatures", nsmap={None: _ASIC})
    signature = etree.SubElement(root, f"{{{_DS}}}Signature", {"Id": "Signature"}, {None: _DS})
    info = _sub(signature, _DS, "SignedInfo")
    value = _sub(signature, _DS, "SignatureValue")
    certificates = _sub(_sub(signature, _DS, "KeyInfo"), _DS, "X509Data")
    for certificate in signing.chain:
        _sub(certificates, _DS, "X509Certificate", _base64(certificate.public_bytes(Encoding.DER)))
    properties = _add_properties(_sub(signature, _DS, "Object"), entries, signing.chain[0], signed_at)
    _fill_signed_info(info, entries, properties)
    value.text = _base64(signing.key.sign(canonical_in_place(info), padding.PKCS1v15(), hashes.SHA256()))
    return etree.tostring(root, encoding="UTF-8", xml_declaration=True, standalone=False)


def canonical_in_place(element: etree._Element) -> bytes:
    """Inclusive canonical XML 1.0 of an element where it stands, every namespace in scope declared on it.

    The library leaves out namespaces that the element's parents declare and the element itself does not use.
    """
    apex = etree.Element(element.tag, dict(element.attrib), nsmap=element.nsmap)
    apex.text = element.text
    apex.extend(deepcopy(child) for child in element)
    return etree.tostring(apex, method="c14n", exclusive=False, with_comments=False)


def multipart(request: bytes, container: bytes) -> tuple[str, bytes]:
    """Content-Type and body of a request for a new job: `multipart/mixed`, whose parts have no names."""
    boundary = f"signspool-{secrets.token_hex(16)}"
    body = b"".join(
        (
            f"--{boundary}\r\nContent-Type: application/xml\r\n\r\n".encode(),
            request,
            f"\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\n\r\n".encode(),
            container,
            f"\r\n--{boundary}--\r\n".encode(),
        )
    )
    return f"multipart/mixed; boundary={boundary}", body


# The signature's parts


def _add_properties(
    parent: etree._Element, entries: Sequence[Entry], leaf: x509.Certificate, signed_at: datetime
) -> etree._Element:
    # No other prefix may be in scope here: each one would go into the digest.
    qualifying = etree.SubElement(
        parent,
        f"{{{_XADES}}}QualifyingProperties",
        {"Target": "#Signature"},
        {None: _XADES, "ns2": _DS},
    )
    properties = _sub(qualifying, _XADES, "SignedProperties", Id="SignedProperties")
    of_signature = _sub(properties, _XADES, "SignedSignatureProperties")
    _sub(of_signature, _XADES, "SigningTime", signed_at.isoformat(timespec="milliseconds"))
    certificate = _sub(_sub(of_signature, _XADES, "SigningCertificate"), _XADES, "Cert")
    digest = _sub(certificate, _XADES, "CertDigest")
    _sub(digest, _DS, "DigestMethod", Algorithm=_SHA1)
    # The format of this service prescribes SHA-1 here; the signature itself does not rest on it.
    sha1 = hashlib.sha1(leaf.public_bytes(Encoding.DER), usedforsecurity=False)
    _sub(digest, _DS, "DigestValue", _base64(sha1.digest()))
    issuer = _sub(certificate, _XADES, "IssuerSerial")
    _sub(issuer, _DS, "X509IssuerName", leaf.issuer.rfc4514_string(_NAMES_OF_ATTRIBUTES))
    _sub(issuer, _DS, "X509SerialNumber", str(leaf.serial_number))
    of_data = _sub(properties, _XADES, "SignedDataObjectProperties")
    for place, entry in enumerate(entries):
        form = _sub(of_data, _XADES, "DataObjectFormat", ObjectReference=f"#ID_{place}")
        _sub(form, _XADES, "MimeType", entry.media_type)
    return properties


def _fill_signed_info(info: etree._Element, entries: Sequence[Entry], properties: etree._Element) -> None:
    _sub(info, _DS, "CanonicalizationMethod", Algorithm=_C14N)
    _sub(info, _DS, "SignatureMethod", Algorithm=_RSA_SHA256)
    for place, entry in enumerate(entries):
        reference = _sub(info, _DS, "Reference", Id=f"ID_{place}", URI=quote(entry.name))
        _add_digest(reference, entry.content)
    reference = _sub(info, _DS, "Reference", Type=_SIGNED_PROPERTIES, URI="#SignedProperties")
    _sub(_sub(reference, _DS, "Transforms"), _DS, "Transform", Algorithm=_C14N)
    _add_digest(reference, canonical_in_place(properties))


def _add_digest(reference: etree._Element, content: bytes) -> None:
    _sub(reference, _DS, "DigestMethod", Algorithm=_SHA256)
    _sub(reference, _DS, "DigestValue", _base64(hashlib.sha256(content).digest()))


def _sub(
    parent: etree._Element, namespace: str, name: str, text: str = "", **attributes: str
) -> etree._Element:
    element = etree.SubElement(parent, f"{{{namespace}}}{name}", attributes)
    if text:
        element.text = text
    return element


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
