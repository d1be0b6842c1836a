"""The document package: every byte that is signed, checked by tools that are not ours."""

from __future__ import annotations

import base64
import email.policy
import hashlib
import io
import shutil
import subprocess
import zipfile
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID
from lxml import etree

from shared.errors import WaitingError
from shared.providers._posten_asice import (
    SIGNATURES_NAME,
    Entry,
    SigningKey,
    canonical_in_place,
    load_signing_key,
    multipart,
    package,
    signatures,
)
from simulator.certificates import Authority, pem_of
from simulator.files import make_pdf
from tests.providers.posten_facts import EXAMPLES, example, needs_facts, signature_schema
from tests.waiting import PATIENCE_SECONDS

DS = "{http://www.w3.org/2000/09/xmldsig#}"
XADES = "{http://uri.etsi.org/01903/v1.3.2#}"
AT = datetime(2026, 11, 22, 9, 0, 0, 250_000, tzinfo=UTC)
ENTRIES = (
    Entry("0000_avtale.pdf", "application/pdf", make_pdf("Avtale")),
    Entry("0001_med rom & æ.pdf", "application/pdf", make_pdf("Vedlegg")),
    Entry("manifest.xml", "application/xml", b"<manifest>\r\n</manifest>"),
)

needs_xmlsec1 = pytest.mark.skipif(shutil.which("xmlsec1") is None, reason="xmlsec1 is not installed")


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("Test Root")


@pytest.fixture(scope="module")
def signing(authority: Authority) -> SigningKey:
    certificate, key = authority.issue("AVSENDER AS", organisation="123456789")
    return load_signing_key(pem_of(authority.certificate) + pem_of(certificate), pem_of(key))


def verified(folder: Path, signatures_xml: bytes, trusted: Path) -> subprocess.CompletedProcess[str]:
    """Let xmlsec1 verify signatures.xml, with the package's files beside it."""
    file = folder / "signatures.xml"
    file.write_bytes(signatures_xml)
    ids = ["--id-attr:Id", "http://uri.etsi.org/01903/v1.3.2#:SignedProperties"]
    # The old version of the tool knows a key by name, the new one checks the chain by itself.
    command = ["xmlsec1", "--verify", *ids, "--trusted-pem", str(trusted), str(file)]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS
    )


def unpack(folder: Path, container: bytes) -> bytes:
    """Lay the files where their references find them; returns signatures.xml."""
    with zipfile.ZipFile(io.BytesIO(container)) as archive:
        for name in archive.namelist():
            if name != SIGNATURES_NAME:
                (folder / name).write_bytes(archive.read(name))
        return archive.read(SIGNATURES_NAME)


@needs_xmlsec1
def test_an_independent_tool_finds_the_package_signed_right(
    tmp_path: Path, authority: Authority, signing: SigningKey
) -> None:
    trusted = tmp_path / "root.pem"
    trusted.write_bytes(pem_of(authority.certificate))
    xml = unpack(tmp_path, package(ENTRIES, signing, AT))
    found = verified(tmp_path, xml, trusted)
    assert found.returncode == 0, found.stderr
    assert "OK" in found.stdout + found.stderr
    assert (
        f"SignedInfo References (ok/all): {len(ENTRIES) + 1}/{len(ENTRIES) + 1}"
        in found.stdout + found.stderr
    )


@needs_xmlsec1
@pytest.mark.parametrize("what", ["file", "manifest", "time", "type"])
def test_the_same_tool_sees_any_change(
    tmp_path: Path, authority: Authority, signing: SigningKey, what: str
) -> None:
    trusted = tmp_path / "root.pem"
    trusted.write_bytes(pem_of(authority.certificate))
    xml = unpack(tmp_path, package(ENTRIES, signing, AT))
    if what == "file":
        (tmp_path / ENTRIES[0].name).write_bytes(ENTRIES[0].content + b"\n")
    if what == "manifest":
        (tmp_path / "manifest.xml").write_bytes(ENTRIES[2].content.replace(b"\r\n", b"\n"))
    if what == "time":
        xml = xml.replace(b"<SigningTime>2026", b"<SigningTime>2025")
    if what == "type":
        xml = xml.replace(b"<MimeType>application/xml", b"<MimeType>application/pdf")
    assert verified(tmp_path, xml, trusted).returncode != 0


@needs_facts
@needs_xmlsec1
def test_the_golden_package_is_found_right_in_the_same_way(tmp_path: Path) -> None:
    """So that what finds ours right is known to be the right question."""
    golden = EXAMPLES / "asice-golden"
    for name in ("0000_sample_agreement.pdf", "manifest.xml"):
        shutil.copy(golden / name, tmp_path / name)
    xml = (golden / SIGNATURES_NAME).read_bytes()
    found = verified(tmp_path, xml, golden / "signer-certificate.pem")
    assert found.returncode == 0, found.stderr


@needs_facts
def test_canonical_form_in_place_is_that_of_the_golden_package() -> None:
    root = etree.fromstring(example(f"asice-golden/{SIGNATURES_NAME}"))
    [properties] = root.iter(f"{XADES}SignedProperties")
    canonical = canonical_in_place(properties)
    assert canonical.startswith(
        b'<SignedProperties xmlns="http://uri.etsi.org/01903/v1.3.2#" '
        b'xmlns:ns2="http://www.w3.org/2000/09/xmldsig#" Id="SignedProperties">'
    )
    digest = base64.b64encode(hashlib.sha256(canonical).digest())
    assert digest == b"5uu003yfdkIuN6rzuhSTOZIQOvgLM01r/6ywfEVZm50="


@needs_facts
def test_the_signature_is_built_as_the_golden_one(signing: SigningKey) -> None:
    """Same elements, same order, same algorithms; only values and the number of files differ."""
    golden = etree.fromstring(example(f"asice-golden/{SIGNATURES_NAME}"))
    files = (ENTRIES[0], ENTRIES[2])
    alone = SigningKey(signing.key, signing.chain[:1])
    ours = etree.fromstring(signatures(files, alone, AT))
    assert _shape(ours) == _shape(golden)
    assert [sorted(element.nsmap.items(), key=str) for element in ours.iter()] == [
        sorted(element.nsmap.items(), key=str) for element in golden.iter()
    ]


def _shape(element: etree._Element) -> object:
    fixed = {name: value for name, value in element.attrib.items() if name != "URI"}
    return (element.tag, fixed, [*map(_shape, element)])


@needs_facts
def test_the_signature_is_valid_by_the_schema(signing: SigningKey) -> None:
    signature_schema().assertValid(etree.fromstring(signatures(ENTRIES, signing, AT)))


def test_what_is_signed_is_named_and_told_of(authority: Authority, signing: SigningKey) -> None:
    root = etree.fromstring(signatures(ENTRIES, signing, AT))

    def texts(name: str) -> list[str]:
        return [element.text or "" for element in root.iter(name)]

    uris = [element.get("URI") for element in root.iter(f"{DS}Reference")]
    assert uris == [
        "0000_avtale.pdf",
        "0001_med%20rom%20%26%20%C3%A6.pdf",
        "manifest.xml",
        "#SignedProperties",
    ]
    assert texts(f"{XADES}SigningTime") == ["2026-11-22T09:00:00.250+00:00"]
    assert texts(f"{XADES}MimeType") == [entry.media_type for entry in ENTRIES]
    leaf, root_certificate = signing.chain
    assert leaf.subject != root_certificate.subject == authority.certificate.subject
    assert texts(f"{DS}X509SerialNumber") == [str(leaf.serial_number)]
    assert texts(f"{DS}X509Certificate") == [
        base64.b64encode(found.public_bytes(Encoding.DER)).decode() for found in (leaf, root_certificate)
    ]
    sha1 = hashlib.sha1(leaf.public_bytes(Encoding.DER)).digest()
    assert texts(f"{DS}DigestValue")[-1] == base64.b64encode(sha1).decode()


def test_the_package_holds_the_files_the_signature_and_nothing_else(signing: SigningKey) -> None:
    container = package(ENTRIES, signing, AT)
    with zipfile.ZipFile(io.BytesIO(container)) as archive:
        assert archive.namelist() == [*(entry.name for entry in ENTRIES), SIGNATURES_NAME]
        assert [archive.read(entry.name) for entry in ENTRIES] == [entry.content for entry in ENTRIES]
    # There is no chance in this kind of signature, so the same job gives the same package.
    assert package(ENTRIES, signing, AT) == container
    assert package(ENTRIES, signing, AT + timedelta(seconds=1)) != container


def test_the_body_has_two_parts_without_names(signing: SigningKey) -> None:
    container = package(ENTRIES, signing, AT)
    content_type, body = multipart(b"<request/>", container)
    assert content_type.startswith("multipart/mixed; boundary=")
    parsed = message_from_bytes(
        f"Content-Type: {content_type}\r\n\r\n".encode() + body, policy=email.policy.default
    )
    request, package_part = parsed.iter_parts()
    assert request.items() == [("Content-Type", "application/xml")]
    assert request.get_payload() == "<request/>"
    assert package_part.items() == [("Content-Type", "application/octet-stream")]
    start = body.index(b"octet-stream\r\n\r\n") + len(b"octet-stream\r\n\r\n")
    assert body[start : start + len(container)] == container
    assert multipart(b"<request/>", container)[0] != content_type


# Keys and certificates


def test_a_key_with_a_password_and_a_file_with_both_are_read(authority: Authority) -> None:
    certificate, key = authority.issue("AVSENDER AS", organisation="123456789")
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"s3cret"))
    both = pem_of(certificate) + locked
    loaded = load_signing_key(both, both, b"s3cret")
    assert loaded.chain == (certificate,)
    assert "AVSENDER AS" in repr(loaded)
    for password in (None, b"wrong-s3cret"):
        with pytest.raises(WaitingError, match="password of the key") as refused:
            load_signing_key(both, both, password)
        assert "s3cret" not in str(refused.value)


def test_what_cannot_sign_is_refused_with_what_to_do(authority: Authority) -> None:
    certificate, key = authority.issue("AVSENDER AS", organisation="123456789")
    pem, key_pem = pem_of(certificate), pem_of(key)
    with pytest.raises(WaitingError, match="openssl pkcs12"):
        load_signing_key(b"\x30\x82\x01\x00", key_pem)
    with pytest.raises(WaitingError, match="does not belong"):
        load_signing_key(pem, pem_of(rsa.generate_private_key(65537, 2048)))
    with pytest.raises(WaitingError, match="cannot be read"):
        load_signing_key(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", key_pem)
    other = ec.generate_private_key(ec.SECP256R1())
    of_other_kind = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(WaitingError, match="RSA"):
        load_signing_key(pem, of_other_kind)


def test_the_issuer_is_named_as_other_programs_name_it(authority: Authority) -> None:
    named = Authority("Utsteder AS", organisation="987654321")
    certificate, key = named.issue("AVSENDER AS", organisation="123456789")
    root = etree.fromstring(signatures(ENTRIES, SigningKey(key, (certificate,)), AT))
    [issuer] = [element.text for element in root.iter(f"{DS}X509IssuerName")]
    assert issuer == "organizationIdentifier=NTRNO-987654321,CN=Utsteder AS,O=Utsteder AS,C=NO"
    assert isinstance(certificate, x509.Certificate)
    assert certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_IDENTIFIER)
