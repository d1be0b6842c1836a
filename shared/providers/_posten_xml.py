"""Reads the XML that Posten signering sends: status messages, answers to a new job, error documents.

Elements are told apart by namespace and local name, since the prefixes of the service differ from those in
its manuals. What is not known is passed over; what is needed and missing is said by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from lxml import etree

from shared.errors import UnusableBodyError
from shared.xmltext import parse_xml

NAMESPACE = "http://signering.posten.no/schema/v1"
LIMIT_BYTES = 256 * 1024
"""A message about ten signers takes some ten thousand bytes."""

_URL_LENGTH = 500
_MAX_SIGNERS = 10
_JOB_ID = re.compile(r"-?[0-9]{1,19}")
_LONG = range(-(2**63), 2**63)
_PERSONAL_NUMBER = re.compile(r"[0-9]{11}")
_LONE_NUMBER = re.compile(r"(?<![0-9])[0-9]{11}(?![0-9])")
_BIRTH_DATE_DIGITS = 6

PORTAL_STATUS = "portal-signature-job-status-change-response"
DIRECT_STATUS = "direct-signature-job-status-response"
PORTAL_CREATED = "portal-signature-job-response"
DIRECT_CREATED = "direct-signature-job-response"
DIRECT_SIGNER = "direct-signer-response"


@dataclass(frozen=True, slots=True, order=True)
class Who:
    """By what a signer is known; the personal number is whole here and must be shown masked alone.

    Of a signer known by contact information, the exact pair of address and number tells who it is. `custom`
    is the sender's own identifier in the direct flow.
    """

    personal_number: str = ""
    email: str = ""
    mobile: str = ""
    custom: str = ""

    def __repr__(self) -> str:
        return f"Who({self.label!r})"

    @property
    def label(self) -> str:
        """The signer for people, without a whole personal number; empty for one that has no name at all."""
        if self.personal_number:
            return mask(self.personal_number)
        return mask(self.custom) or " ".join(filter(None, (self.email, self.mobile)))


@dataclass(frozen=True, slots=True)
class Signature:
    """Where one signer stands. `status` is the provider's word, of which there may be new ones.

    `since` is None where the message has none. `xades_url` is empty until the signer has signed.
    """

    who: Who
    status: str
    since: datetime | None = None
    xades_url: str = ""


@dataclass(frozen=True, slots=True)
class StatusMessage:
    """What is said of a job, in either flow; addresses that are not there are empty."""

    job_id: str
    status: str
    signatures: tuple[Signature, ...]
    reference: str = ""
    confirmation_url: str = ""
    cancellation_url: str = ""
    delete_documents_url: str = ""
    pades_url: str = ""


@dataclass(frozen=True, slots=True)
class RedirectedSigner:
    """A signer of a new job of the direct flow: `href` names it, `redirect_url` is for its browser, once."""

    who: Who
    href: str
    redirect_url: str


@dataclass(frozen=True, slots=True)
class CreatedJob:
    """What is answered to a new job; in the portal flow it can be cancelled, in the direct one asked for."""

    job_id: str
    reference: str = ""
    cancellation_url: str = ""
    status_url: str = ""
    signers: tuple[RedirectedSigner, ...] = ()


@dataclass(frozen=True, slots=True)
class ErrorDocument:
    """Why a request was refused."""

    code: str
    message: str
    type: str


def mask(text: str) -> str:
    """The text with the last five digits of every personal number in it starred.

    A personal number is eleven digits; more of them in a row are an id of something else.
    """
    return _LONE_NUMBER.sub(lambda found: found[0][:_BIRTH_DATE_DIGITS] + "*****", text)


def read_status(body: bytes) -> StatusMessage:
    """A status message of the portal or of the direct flow.

    Raises:
        UnusableBodyError: it is none, or lacks what is needed.
    """
    root = _parse(body)
    name = _local_name(root)
    if name == PORTAL_STATUS:
        return _portal_status(root)
    if name == DIRECT_STATUS:
        return _direct_status(root)
    raise UnusableBodyError(
        f"the root must be {PORTAL_STATUS} or {DIRECT_STATUS}, this is {name or 'foreign'}"
    )


def read_created(body: bytes) -> CreatedJob:
    """The answer to a new job of either flow.

    Raises:
        UnusableBodyError: it is none, or lacks what is needed.
    """
    root = _parse(body)
    name = _local_name(root)
    if name == PORTAL_CREATED:
        return CreatedJob(
            job_id=_job_id(root),
            reference=_text_of(root, "reference"),
            cancellation_url=_needed_url(root, "cancellation-url"),
        )
    if name == DIRECT_CREATED:
        return CreatedJob(
            job_id=_job_id(root),
            reference=_text_of(root, "reference"),
            status_url=_url_of(root, "status-url"),
            signers=tuple(map(_redirected, _several(root, "signer"))),
        )
    raise UnusableBodyError(
        f"the root must be {PORTAL_CREATED} or {DIRECT_CREATED}, this is {name or 'foreign'}"
    )


def read_signer(body: bytes) -> RedirectedSigner:
    """The answer to the wish for a new redirect address of one signer.

    Raises:
        UnusableBodyError: it is none, or lacks what is needed.
    """
    root = _parse(body)
    if _local_name(root) != DIRECT_SIGNER:
        raise UnusableBodyError(f"the root must be {DIRECT_SIGNER}")
    return _redirected(root)


def read_error(body: bytes) -> ErrorDocument:
    """An error document.

    Raises:
        UnusableBodyError: it is none.
    """
    root = _parse(body)
    if _local_name(root) != "error":
        raise UnusableBodyError("the root must be error")
    return ErrorDocument(
        code=_needed(root, "error-code"),
        message=_text_of(root, "error-message"),
        type=_text_of(root, "error-type"),
    )


# The two flows


def _portal_status(root: etree._Element) -> StatusMessage:
    signatures = _single(root, "signatures")
    if signatures is None:
        raise UnusableBodyError("signatures is missing")
    return StatusMessage(
        job_id=_job_id(root),
        status=_needed(root, "status"),
        signatures=tuple(map(_signature, _several(signatures, "signature"))),
        reference=_text_of(root, "reference"),
        confirmation_url=_needed_url(root, "confirmation-url"),
        cancellation_url=_url_of(root, "cancellation-url"),
        delete_documents_url=_url_of(root, "delete-documents-url"),
        pades_url=_url_of(signatures, "pades-url"),
    )


def _signature(element: etree._Element) -> Signature:
    status = _single(element, "status")
    return Signature(
        who=_who(element),
        status=_needed(element, "status"),
        since=None if status is None else _since(status),
        xades_url=_url_of(element, "xades-url"),
    )


def _who(element: etree._Element) -> Who:
    number = _text_of(element, "personal-identification-number")
    if number:
        if not _PERSONAL_NUMBER.fullmatch(number):
            raise UnusableBodyError("a personal-identification-number is not of eleven digits")
        return Who(personal_number=number)
    identifier = _single(element, "identifier")
    if identifier is None:
        raise UnusableBodyError("a signature has neither personal-identification-number nor identifier")
    who = Who(
        email=_attribute(_single(identifier, "email"), "address"),
        mobile=_attribute(_single(identifier, "sms"), "number"),
    )
    if who == Who():
        raise UnusableBodyError("an identifier names neither an email address nor an sms number")
    return who


def _direct_status(root: etree._Element) -> StatusMessage:
    statuses = _several(root, "status")
    files = {_custom(item): _text(item) for item in _children(root, "xades-url")}
    if len(statuses) == len(files) == 1:
        # With one signer, either of the two may leave out who it is.
        files = {_custom(statuses[0]): next(iter(files.values()))}
    return StatusMessage(
        job_id=_job_id(root),
        status=_needed(root, "signature-job-status"),
        signatures=tuple(
            Signature(
                who=_custom(item),
                status=_full(_text(item), "status"),
                since=_since(item),
                xades_url=_checked_url(files.get(_custom(item), ""), "xades-url"),
            )
            for item in statuses
        ),
        reference=_text_of(root, "reference"),
        confirmation_url=_url_of(root, "confirmation-url"),
        delete_documents_url=_url_of(root, "delete-documents-url"),
        pades_url=_url_of(root, "pades-url"),
    )


def _custom(element: etree._Element) -> Who:
    """The signer that an element of the direct flow names; with one signer it need not name any."""
    named = _attribute(element, "signer")
    return Who(personal_number=named) if _PERSONAL_NUMBER.fullmatch(named) else Who(custom=named)


def _redirected(element: etree._Element) -> RedirectedSigner:
    number = _text_of(element, "personal-identification-number")
    return RedirectedSigner(
        who=Who(personal_number=number) if number else Who(custom=_text_of(element, "signer-identifier")),
        href=_checked_url(_full(_attribute(element, "href"), "href"), "href"),
        redirect_url=_needed_url(element, "redirect-url"),
    )


# Pieces


def _parse(body: bytes) -> etree._Element:
    """The root of a document that has neither DOCTYPE nor entities; nothing outside of it is ever read.

    Raises:
        UnusableBodyError: it is longer than the limit, no XML, or has a DOCTYPE.
    """
    if len(body) > LIMIT_BYTES:
        raise UnusableBodyError(f"the message is longer than {LIMIT_BYTES} bytes")
    try:
        return parse_xml(body)
    except ValueError as error:
        raise UnusableBodyError(str(error)) from None


def _local_name(element: etree._Element) -> str:
    """The name of an element of the service's namespace; empty for any other."""
    name = etree.QName(element)
    return name.localname if name.namespace == NAMESPACE else ""


def _children(element: etree._Element, name: str) -> Iterator[etree._Element]:
    return element.iterchildren(f"{{{NAMESPACE}}}{name}")


def _single(element: etree._Element, name: str) -> etree._Element | None:
    found = list(_children(element, name))
    if len(found) > 1:
        raise UnusableBodyError(f"{name} stands there {len(found)} times, so that none of them counts")
    return found[0] if found else None


def _several(element: etree._Element, name: str) -> list[etree._Element]:
    found = list(_children(element, name))
    if not 1 <= len(found) <= _MAX_SIGNERS:
        raise UnusableBodyError(f"{name} must stand there 1 to {_MAX_SIGNERS} times, not {len(found)}")
    return found


def _text(element: etree._Element) -> str:
    """The text of an element, without the white space around it; comments are gone already."""
    return "".join(element.itertext(with_tail=False)).strip()


def _text_of(element: etree._Element, name: str) -> str:
    found = _single(element, name)
    return "" if found is None else _text(found)


def _needed(element: etree._Element, name: str) -> str:
    return _full(_text_of(element, name), name)


def _full(text: str, name: str) -> str:
    if not text:
        raise UnusableBodyError(f"{name} is missing or empty")
    return text


def _url_of(element: etree._Element, name: str) -> str:
    return _checked_url(_text_of(element, name), name)


def _needed_url(element: etree._Element, name: str) -> str:
    return _checked_url(_needed(element, name), name)


def _checked_url(text: str, name: str) -> str:
    if len(text) > _URL_LENGTH:
        raise UnusableBodyError(f"{name} is longer than {_URL_LENGTH} characters")
    return text


def _attribute(element: etree._Element | None, name: str) -> str:
    return "" if element is None else (element.get(name) or "").strip()


def _job_id(root: etree._Element) -> str:
    """The id of the job, a number of 64 bits, in its one spelling."""
    text = _needed(root, "signature-job-id").removeprefix("+")
    if not _JOB_ID.fullmatch(text) or int(text) not in _LONG:
        raise UnusableBodyError("signature-job-id is no whole number of 64 bits")
    return str(int(text))


def _since(status: etree._Element) -> datetime | None:
    """Since when a signer stands there; old messages have none."""
    return instant(_attribute(status, "since"))


def instant(text: str) -> datetime | None:
    """An instant of ISO 8601 with an offset and any number of fraction digits; None for anything else."""
    try:
        # Python tells no more than six digits of a second apart.
        found = datetime.fromisoformat(re.sub(r"(\.[0-9]{6})[0-9]+", r"\1", text))
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
