"""A signature job as Posten signering wants it described: its limits, the request document, the manifest."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeVar

from lxml import etree

from shared.errors import UsageError
from shared.providers._posten_xml import NAMESPACE, Who

T = TypeVar("T")

MAX_TOTAL_BYTES = 10_485_760
MAX_DOCUMENTS = 20
MAX_SIGNERS = 10
MAX_AVAILABLE_SECONDS = 7_776_000
"""90 days; more is refused."""
PDF, TEXT = "application/pdf", "text/plain"

_MAX_REFERENCE, _MAX_TITLE, _MAX_DESCRIPTION = 50, 80, 220
_MAX_CUSTOM = 80
_ORDERS = range(10)
_ORGANISATION = re.compile(r"[0-9]{9}")
_PERSONAL_NUMBER = re.compile(r"[0-9]{11}")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
_MOBILE = re.compile(r"\+?[0-9 ]{8,20}")
_PDF_VERSION = re.compile(rb"%PDF-1\.[1-7]")
_ENCRYPTED = re.compile(rb"/Encrypt\s+[0-9]+\s+[0-9]+\s+R")
_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

SignatureType = Literal["ADVANCED_ELECTRONIC_SIGNATURE", "AUTHENTICATED_ELECTRONIC_SIGNATURE"]
Identifier = Literal["PERSONAL_IDENTIFICATION_NUMBER_AND_NAME", "DATE_OF_BIRTH_AND_NAME", "NAME"]


@dataclass(frozen=True, slots=True)
class JobSigner:
    """Somebody who is to sign.

    In the portal flow one of: a personal number, told by `who`'s email and mobile or looked up in the public
    register (`lookup`, `lookup_sms` besides e-mail); or contact information alone. In the direct flow a
    personal number or an identifier of the sender's own.
    """

    who: Who
    order: int | None = None
    signature_type: SignatureType | None = None
    on_behalf_of: Literal["SELF", "OTHER"] | None = None
    lookup: bool = False
    lookup_sms: bool = False


@dataclass(frozen=True, slots=True)
class JobDocument:
    """A document that is to be signed. `entry` is its name in the package."""

    title: str
    content: bytes = field(repr=False)
    entry: str
    media_type: str = PDF


@dataclass(frozen=True, slots=True)
class ExitUrls:
    """Where the browser of a signer goes afterwards, in the direct flow."""

    completion: str
    rejection: str
    error: str


@dataclass(frozen=True, slots=True)
class Job:
    """A signature job; of the direct flow when it has exit addresses."""

    reference: str
    sender: str
    title: str
    signers: tuple[JobSigner, ...]
    documents: tuple[JobDocument, ...]
    nonsensitive_title: str = ""
    description: str = ""
    queue: str = ""
    authentication: Literal["3", "4"] | None = None
    activation: datetime | None = None
    available_seconds: int | None = None
    identifier: Identifier | None = None
    exit_urls: ExitUrls | None = None


def entry_name(place: int, title: str, media_type: str) -> str:
    """A name in the package that needs no encoding anywhere: `0000_title.pdf`, of `[0-9a-z._-]` alone."""
    ending = {PDF: "pdf", TEXT: "txt"}.get(media_type, "bin")
    stem = re.sub(r"[^0-9a-z_-]+", "_", title.lower().removesuffix(f".{ending}")).strip("_")[:60]
    return f"{place:04d}_{stem or 'document'}.{ending}"


# Limits


def check(job: Job) -> None:
    """Return when the service can take the job, as far as can be seen from here.

    Raises:
        UsageError: it cannot; the message says what is wrong, without any personal number.
    """
    problems = list(_problems(job))
    if problems:
        raise UsageError("the job cannot be sent: " + "; ".join(problems))


def _problems(job: Job) -> Iterable[str]:
    yield from _wrong_texts(job)
    if not _ORGANISATION.fullmatch(job.sender):
        yield "the sender must be an organisation number of 9 digits"
    if job.available_seconds is not None and not 0 < job.available_seconds <= MAX_AVAILABLE_SECONDS:
        yield "it can be available for at most 90 days, and for a second at least"
    if job.activation is not None and job.activation.tzinfo is None:
        yield "the activation time needs a zone"
    if job.exit_urls is not None and (job.activation or job.available_seconds):
        yield "a job of the direct flow is available for 30 days, which cannot be changed"
    yield from _wrong_documents(job.documents)
    yield from _wrong_signers(job)


def _wrong_texts(job: Job) -> Iterable[str]:
    for name, text, least, most in (
        ("reference", job.reference, 1, _MAX_REFERENCE),
        ("title", job.title, 1, _MAX_TITLE),
        ("non-sensitive title", job.nonsensitive_title, 0, _MAX_TITLE),
        ("description", job.description, 0, _MAX_DESCRIPTION),
        *(
            (f"title of document {n}", document.title, 1, _MAX_TITLE)
            for n, document in _counted(job.documents)
        ),
    ):
        if not least <= len(text) <= most:
            yield f"the {name} must have {least} to {most} characters, it has {len(text)}"
        if _NOT_IN_XML.search(text):
            yield f"the {name} holds a character that XML cannot carry"
    if re.search(r"(?<![0-9])[0-9]{11}(?![0-9])", job.reference):
        yield "the reference looks like a personal number, and it is shown in plain e-mail"


def _wrong_documents(documents: Sequence[JobDocument]) -> Iterable[str]:
    if not 1 <= len(documents) <= MAX_DOCUMENTS:
        yield f"it must have 1 to {MAX_DOCUMENTS} documents, it has {len(documents)}"
    total_bytes = sum(len(document.content) for document in documents)
    if total_bytes > MAX_TOTAL_BYTES:
        yield f"its documents have {total_bytes} bytes together, {MAX_TOTAL_BYTES} are allowed"
    if len({document.entry for document in documents}) < len(documents):
        yield "two documents have the same name in the package"
    for place, document in _counted(documents):
        if not document.content:
            yield f"document {place} is empty"
        elif document.media_type == PDF and not _PDF_VERSION.match(document.content):
            yield f"document {place} is no PDF of version 1.1 to 1.7"
        elif document.media_type == PDF and _ENCRYPTED.search(document.content):
            yield f"document {place} is protected by a password: save it without one"
        elif document.media_type not in (PDF, TEXT):
            yield f"document {place} is neither a PDF nor plain text"


def _wrong_signers(job: Job) -> Iterable[str]:
    signers, direct = job.signers, job.exit_urls is not None
    if not 1 <= len(signers) <= MAX_SIGNERS:
        yield f"it must have 1 to {MAX_SIGNERS} signers, it has {len(signers)}"
    for place, signer in _counted(signers):
        for problem in _wrong_signer_of_direct(signer) if direct else _wrong_signer(signer):
            yield f"signer {place}: {problem}"
    # One who signs by personal number is known by that number alone.
    identities = [Who(s.who.personal_number) if s.who.personal_number else s.who for s in signers]
    if len(set(identities)) < len(identities):
        yield "two signers are the same, and what one does could not be told from what the other does"
    by_contact = any(not signer.who.personal_number for signer in signers)
    if not direct and by_contact and any(signer.lookup for signer in signers):
        yield "looking up some signers does not go together with contact information of others"
    advanced = any(signer.signature_type != "AUTHENTICATED_ELECTRONIC_SIGNATURE" for signer in signers)
    if advanced and any(signer.lookup for signer in signers) and len(job.documents) > 1:
        yield "a public sender's advanced signature takes one document: send each in a job of its own"


def _wrong_signer(signer: JobSigner) -> Iterable[str]:
    who = signer.who
    if who.custom:
        yield "an identifier of one's own is for the direct flow alone"
    if who.personal_number and not _PERSONAL_NUMBER.fullmatch(who.personal_number):
        yield "the personal number must have eleven digits"
    if who.email and not _EMAIL.fullmatch(who.email):
        yield "the e-mail address is none"
    if who.mobile and not _MOBILE.fullmatch(who.mobile):
        yield "the mobile number must have 8 digits at least, and may begin with + and the country"
    if signer.order is not None and signer.order not in _ORDERS:
        yield "the order must be 0 to 9"
    if signer.lookup and (who.email or who.mobile):
        yield "either its contact information is looked up, or it is given"
    if signer.lookup and not who.personal_number:
        yield "only by a personal number can anything be looked up"
    if signer.lookup and signer.on_behalf_of == "OTHER":
        yield "looking up does not go together with signing on behalf of another"
    if not signer.lookup and not (who.email or who.mobile):
        yield "an e-mail address or a mobile number is needed"


def _wrong_signer_of_direct(signer: JobSigner) -> Iterable[str]:
    who = signer.who
    if bool(who.personal_number) == bool(who.custom):
        yield "either a personal number or an identifier of one's own is needed"
    if who.personal_number and not _PERSONAL_NUMBER.fullmatch(who.personal_number):
        yield "the personal number must have eleven digits"
    if len(who.custom) > _MAX_CUSTOM or _NOT_IN_XML.search(who.custom):
        yield f"its identifier must have at most {_MAX_CUSTOM} characters that XML can carry"
    if signer.order is not None or signer.lookup or who.email or who.mobile:
        yield "order and notifications are for the portal flow alone"


def _counted(items: Sequence[T]) -> Iterable[tuple[int, T]]:
    return enumerate(items, start=1)


# Documents that are sent


def request_document(job: Job) -> bytes:
    """What is asked for: reference, queue, and in the direct flow where browsers go."""
    if job.exit_urls is None:
        root = _root("portal-signature-job-request")
        _add(root, "reference", job.reference)
    else:
        root = _root("direct-signature-job-request")
        _add(root, "reference", job.reference)
        urls = _add(root, "exit-urls")
        _add(urls, "completion-url", job.exit_urls.completion)
        _add(urls, "rejection-url", job.exit_urls.rejection)
        _add(urls, "error-url", job.exit_urls.error)
    if job.queue:
        if job.exit_urls is not None:
            _add(root, "status-retrieval-method", "POLLING")
        _add(root, "polling-queue", job.queue)
    return _bytes(root)


def manifest(job: Job) -> bytes:
    """`manifest.xml` of the package; the order of its elements is the schema's."""
    if job.exit_urls is None:
        root = _root("portal-signature-job-manifest")
        signers = _add(root, "signers")
        for signer in job.signers:
            _add_signer(signers, signer)
    else:
        root = _root("direct-signature-job-manifest")
        for signer in job.signers:
            _add_signer_of_direct(root, signer)
    _add(_add(root, "sender"), "organization-number", job.sender)
    _add(root, "title", job.title)
    if job.nonsensitive_title and job.exit_urls is None:
        _add(root, "nonsensitive-title", job.nonsensitive_title)
    if job.description:
        _add(root, "description", job.description)
    documents = _add(root, "documents")
    for document in job.documents:
        element = _add(documents, "document", href=document.entry, mime=document.media_type)
        _add(element, "title", document.title)
    _add_terms(root, job)
    return _bytes(root)


def _add_terms(root: etree._Element, job: Job) -> None:
    if job.authentication:
        _add(root, "required-authentication", job.authentication)
    if job.activation or job.available_seconds:
        availability = _add(root, "availability")
        if job.activation:
            _add(availability, "activation-time", job.activation.isoformat(timespec="milliseconds"))
        if job.available_seconds:
            _add(availability, "available-seconds", str(job.available_seconds))
    if job.identifier:
        _add(root, "identifier-in-signed-documents", job.identifier)


def _add_signer(signers: etree._Element, signer: JobSigner) -> None:
    element = _add(signers, "signer", **({} if signer.order is None else {"order": str(signer.order)}))
    if signer.who.personal_number:
        _add(element, "personal-identification-number", signer.who.personal_number)
    else:
        _add(element, "identified-by-contact-information")
    if signer.signature_type:
        _add(element, "signature-type", signer.signature_type)
    if signer.lookup:
        lookup = _add(element, "notifications-using-lookup")
        _add(lookup, "email")
        if signer.lookup_sms:
            _add(lookup, "sms")
    else:
        notifications = _add(element, "notifications")
        if signer.who.email:
            _add(notifications, "email", address=signer.who.email)
        if signer.who.mobile:
            _add(notifications, "sms", number=signer.who.mobile)
    if signer.on_behalf_of:
        _add(element, "on-behalf-of", signer.on_behalf_of)


def _add_signer_of_direct(root: etree._Element, signer: JobSigner) -> None:
    element = _add(root, "signer")
    if signer.who.personal_number:
        _add(element, "personal-identification-number", signer.who.personal_number)
    else:
        _add(element, "signer-identifier", signer.who.custom)
    if signer.signature_type:
        _add(element, "signature-type", signer.signature_type)
    if signer.on_behalf_of:
        _add(element, "on-behalf-of", signer.on_behalf_of)


def _root(name: str) -> etree._Element:
    return etree.Element(f"{{{NAMESPACE}}}{name}", nsmap={None: NAMESPACE})


def _add(parent: etree._Element, name: str, text: str = "", **attributes: str) -> etree._Element:
    element = etree.SubElement(parent, f"{{{NAMESPACE}}}{name}", attributes)
    if text:
        element.text = text
    return element


def _bytes(root: etree._Element) -> bytes:
    return etree.tostring(root, encoding="UTF-8", xml_declaration=True, standalone=True)
