"""The XML of the simulated Posten signering: what it reads of a new job, and what it writes."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import unquote

from lxml import etree

from simulator.peer import PeerError

NAMESPACE = "http://signering.posten.no/schema/v1"
_DS = "{http://www.w3.org/2000/09/xmldsig#}"
_XADES = "{http://uri.etsi.org/01903/v1.3.2#}"
_WIRE_PREFIXES: dict[str | None, str] = {
    None: "http://uri.etsi.org/01903/v1.3.2#",
    "ns2": "http://www.w3.org/2000/09/xmldsig#",
    "ns3": "http://uri.etsi.org/2918/v1.2.1#",
    "ns4": NAMESPACE,
}
_MANUAL_PREFIXES: dict[str | None, str] = {None: NAMESPACE}
_SIGNING_TIME_TOLERANCE = timedelta(seconds=5)
SIGNATURES = "META-INF/signatures.xml"


class CodedError(PeerError):
    """A refusal with an `error-code`."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(status, message)
        self.code = code


@dataclass(frozen=True)
class Person:
    """By what a signer is known: a personal number, contact information, or the sender's own identifier."""

    personal_number: str = ""
    email: str = ""
    mobile: str = ""
    custom: str = ""


@dataclass(frozen=True)
class NewSigner:
    """A signer as a manifest has it."""

    person: Person
    order: int


@dataclass(frozen=True)
class NewJob:
    """What a request for a new job says. Of the direct flow when it has exit addresses."""

    reference: str
    queue: str
    title: str
    signers: tuple[NewSigner, ...]
    documents: dict[str, bytes]
    exit_urls: dict[str, str]
    is_polled: bool


# Reading


def split_multipart(content_type: str, body: bytes) -> tuple[bytes, bytes]:
    """The two parts of a request for a new job: its document and its package.

    Raises:
        CodedError: it has not these two parts in this order.
    """
    media_type, _, parameter = content_type.partition(";")
    name, _, boundary = parameter.strip().partition("=")
    if media_type.strip() != "multipart/mixed" or name != "boundary" or not boundary:
        raise CodedError(415, "UNSUPPORTED_MEDIA_TYPE", "send multipart/mixed with a boundary")
    mark = b"--" + boundary.strip('"').encode()
    pieces = (b"\r\n" + body).split(b"\r\n" + mark)
    if len(pieces) != 4 or pieces[0] or not pieces[3].startswith(b"--"):
        raise CodedError(400, "SCHEMA_VALIDATION_ERROR", f"two parts are needed, there are {len(pieces) - 2}")
    found = []
    for piece, expected in zip(pieces[1:3], ("application/xml", "application/octet-stream"), strict=True):
        head, _, content = piece.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        if f"content-type: {expected}" not in head.decode("latin-1").lower():
            raise CodedError(400, "SCHEMA_VALIDATION_ERROR", f"a part of type {expected} is missing")
        found.append(content)
    return found[0], found[1]


def read_job(request: bytes, container: bytes, *, flow: str, sender: str, now: datetime) -> NewJob:
    """What a new job is about, its package checked.

    Raises:
        CodedError: the service would not take it.
    """
    asked = _root(request, f"{flow}-signature-job-request", "SCHEMA_VALIDATION_ERROR")
    files = _unpacked(container, now)
    manifest = _root(files["manifest.xml"], f"{flow}-signature-job-manifest", "ASICE_VALIDATION_FAILED")
    if _text(manifest, "sender", "organization-number") != sender:
        raise _bad_package("the sender in the manifest is not the one in the path")
    parent = manifest if flow == "direct" else _child(manifest, "signers")
    documents = {}
    for document in manifest.iter(f"{{{NAMESPACE}}}document"):
        href = document.get("href", "")
        if href not in files:
            raise _bad_package(f"{href} is not in the package")
        documents[href] = files[href]
    exits = _child(asked, "exit-urls")
    return NewJob(
        reference=_text(asked, "reference"),
        queue=_text(asked, "polling-queue"),
        title=_text(manifest, "title"),
        signers=tuple(map(_signer, () if parent is None else parent.iterchildren(f"{{{NAMESPACE}}}signer"))),
        documents=documents,
        exit_urls={} if exits is None else {etree.QName(url).localname: url.text or "" for url in exits},
        is_polled=flow == "portal" or _text(asked, "status-retrieval-method") == "POLLING",
    )


def _signer(element: etree._Element) -> NewSigner:
    number = _text(element, "personal-identification-number")
    email, sms = _child(element, "notifications", "email"), _child(element, "notifications", "sms")
    person = Person(
        personal_number=number,
        custom=_text(element, "signer-identifier"),
        # One who is known by number is not told of by anything else.
        email="" if number or email is None else email.get("address", ""),
        mobile="" if number or sms is None else sms.get("number", ""),
    )
    return NewSigner(person, int(element.get("order", "0")))


def _unpacked(container: bytes, now: datetime) -> dict[str, bytes]:
    """The files of a package, each of which the signature names with its digest."""
    try:
        with zipfile.ZipFile(io.BytesIO(container)) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
    except zipfile.BadZipFile:
        raise _bad_package("the package is no zip") from None
    if not {"manifest.xml", SIGNATURES} <= files.keys():
        raise _bad_package(f"manifest.xml or {SIGNATURES} is missing")
    signatures = etree.fromstring(files.pop(SIGNATURES), etree.XMLParser(resolve_entities=False))
    digests = {
        unquote(reference.get("URI", "")): reference.findtext(f"{_DS}DigestValue")
        for reference in signatures.iter(f"{_DS}Reference")
    }
    for name, content in files.items():
        if digests.get(name) != base64.b64encode(hashlib.sha256(content).digest()).decode():
            raise _bad_package(f"the digest of {name} is missing or wrong")
    signed_at = datetime.fromisoformat(signatures.findtext(f".//{_XADES}SigningTime") or "")
    if abs(signed_at - now) > _SIGNING_TIME_TOLERANCE:
        raise _bad_package(f"the signing time is {(signed_at - now).total_seconds():.0f} s off")
    return files


def _bad_package(message: str) -> CodedError:
    return CodedError(400, "ASICE_VALIDATION_FAILED", message)


def _root(content: bytes, name: str, code: str) -> etree._Element:
    try:
        root = etree.fromstring(content, etree.XMLParser(resolve_entities=False, no_network=True))
    except etree.XMLSyntaxError:
        raise CodedError(400, code, "no well-formed XML") from None
    if root.tag != f"{{{NAMESPACE}}}{name}":
        raise CodedError(400, code, f"the root must be {name}")
    return root


def _child(element: etree._Element | None, *names: str) -> etree._Element | None:
    for name in names:
        element = None if element is None else element.find(f"{{{NAMESPACE}}}{name}")
    return element


def _text(element: etree._Element, *names: str) -> str:
    found = _child(element, *names)
    return "" if found is None else (found.text or "").strip()


# Writing


class Writer:
    """Builds one document; with `wire` in the prefixes that the service writes, else as in its manuals."""

    def __init__(self, root: str, *, wire: bool, **attributes: str) -> None:
        prefixes = _WIRE_PREFIXES if wire else _MANUAL_PREFIXES
        self.root = etree.Element(f"{{{NAMESPACE}}}{root}", attributes, nsmap=prefixes)

    def add(
        self, name: str, text: str = "", *, to: etree._Element | None = None, **attributes: str
    ) -> etree._Element:
        """Put an element behind the last one, of the root unless another is given."""
        parent = self.root if to is None else to
        element = etree.SubElement(parent, f"{{{NAMESPACE}}}{name}", attributes)
        element.text = text or None
        return element

    def add_some(self, **texts: str) -> None:
        """Put those in that have a text; an underscore in a name stands for a hyphen."""
        for name, text in texts.items():
            if text:
                self.add(name.replace("_", "-"), text)

    @property
    def bytes(self) -> bytes:
        """The document."""
        return etree.tostring(self.root, encoding="UTF-8", xml_declaration=True, standalone=True)


def add_person(writer: Writer, parent: etree._Element, person: Person) -> None:
    """Say who a signer is, as status messages of the portal flow do."""
    if person.personal_number:
        writer.add("personal-identification-number", person.personal_number, to=parent)
        return
    identifier = writer.add("identifier", to=parent)
    if person.email:
        writer.add("email", to=identifier, address=person.email)
    if person.mobile:
        writer.add("sms", to=identifier, number=person.mobile)


def error_document(code: str, message: str, *, wire: bool) -> bytes:
    """Why something was refused."""
    writer = Writer("error", wire=wire)
    writer.add("error-code", code)
    writer.add("error-message", message)
    writer.add("error-type", "CLIENT")
    return writer.bytes
