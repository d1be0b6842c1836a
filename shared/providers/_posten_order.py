"""What may be said of a sending through Posten signering, and the job that it makes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from pydantic import Field

from shared.errors import UsageError
from shared.providers._base import Order, SendOptions, Signer, origin_of
from shared.providers._posten_job import (
    MAX_AVAILABLE_SECONDS,
    PDF,
    ExitUrls,
    Identifier,
    Job,
    JobDocument,
    JobSigner,
    SignatureType,
    entry_name,
)
from shared.providers._posten_xml import Who

_MAX_URL = 500


class PostenOptions(SendOptions):
    """Options of a sending through Posten signering."""

    description: str = Field(default="", description="a message to the signers, up to 220 characters")
    nonsensitive_title: str = Field(default="", description="title in e-mail and SMS, up to 80 characters")
    queue: str = Field(default="", description="queue in which its changes appear; one that is asked")
    authentication: Literal["3", "4"] | None = Field(default=None, description="level that signers need")
    activation: datetime | None = Field(default=None, description="when it can first be signed, with a zone")
    available_days: float | None = Field(
        default=None, description="how long each group of signers has, 90 days at most", gt=0
    )
    identifier: Identifier | None = Field(
        default=None, description="how the signed document names its signers"
    )
    document_titles: list[str] = Field(
        default_factory=list, description="titles of the files in their order, in place of their names"
    )
    direct: bool = Field(
        default=False, description="direct flow: the signer is sent to the signing page by your application"
    )


class PostenSigner(Signer):
    """A signer in an order to Posten signering."""

    personal_number: str = Field(default="", description="national identity number, 11 digits", repr=False)
    email: str = Field(default="", description="address that is told, or that the signer is known by")
    mobile: str = Field(default="", description="mobile number for SMS, likewise")
    lookup: Literal["no", "email", "email_and_sms"] = Field(
        default="no", description="public senders: contact information from the public register"
    )
    order: int | None = Field(default=None, description="0 to 9, lower first, the same at once", ge=0, le=9)
    signature_type: SignatureType | None = Field(default=None, description="kind of signature")
    on_behalf_of: Literal["SELF", "OTHER"] | None = Field(default=None, description="for whom one signs")
    identifier: str = Field(default="", description="direct flow: your own name for the signer", repr=False)


def job_of(order: Order, *, provider: str, sender: str, queues: list[str], exit_url: str | None) -> Job:
    """The job that an order asks for.

    Raises:
        UsageError: it asks for something that nobody could do; the message says what to change.
    """
    options: PostenOptions = order.options
    if order.metadata:
        raise UsageError("Posten signering keeps nothing with a job but its reference: leave out --metadata")
    # A job of the direct flow without a queue is asked about when its browser comes back.
    if options.queue not in queues and not (options.direct and not options.queue):
        raise UsageError(
            f"queue {options.queue!r} is asked by nobody: add it to "
            f"{'direct_queues' if options.direct else 'queues'} in the settings"
        )
    if options.document_titles and len(options.document_titles) != len(order.files):
        raise UsageError("document_titles must name every file, in their order")
    titles = options.document_titles or [file.name.rpartition(".")[0] or file.name for file in order.files]
    available = options.available_days
    if available is not None and available * 86_400 > MAX_AVAILABLE_SECONDS:
        raise UsageError("available_days can be 90 at most")
    return Job(
        reference=order.reference,
        sender=sender,
        title=order.title,
        signers=tuple(map(_signer, order.signers)),
        documents=tuple(
            JobDocument(
                title, file.content, entry_name(place, title, file.media_type), file.media_type or PDF
            )
            for place, (title, file) in enumerate(zip(titles, order.files, strict=True))
        ),
        nonsensitive_title=options.nonsensitive_title,
        description=options.description,
        queue=options.queue,
        authentication=options.authentication,
        activation=options.activation,
        available_seconds=None if available is None else max(1, round(available * 86_400)),
        identifier=options.identifier,
        exit_urls=_exits(order, exit_url, provider) if options.direct else None,
    )


def _signer(signer: PostenSigner) -> JobSigner:
    return JobSigner(
        who=Who(signer.personal_number, signer.email, signer.mobile, signer.identifier),
        order=signer.order,
        signature_type=signer.signature_type,
        on_behalf_of=signer.on_behalf_of,
        lookup=signer.lookup != "no",
        lookup_sms=signer.lookup == "email_and_sms",
    )


def _exits(order: Order, exit_url: str | None, provider: str) -> ExitUrls:
    """Where browsers go: to our door, with our own reference, and a word for the company's page."""
    given = order.return_url or exit_url
    if given is None:
        raise UsageError("where does the browser come back? Set exit_url in the settings, or --return-url")
    if len(order.signers) != 1:
        raise UsageError("a job of the direct flow has one signer here: send one job for each")
    ours = {"provider": provider, "reference": order.reference}
    urls = [_exit(given, {**ours, "outcome": word}) for word in ("completed", "rejected", "error")]
    return ExitUrls(*urls)


def _exit(given: str, ours: Mapping[str, str]) -> str:
    try:
        origin_of(given)
    except ValueError as error:
        raise UsageError(f"the return address cannot be used: {error}") from None
    parts = urlsplit(given)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    url = urlunsplit(parts._replace(query=urlencode({**query, **ours}), fragment=""))
    if len(url) > _MAX_URL:
        raise UsageError(f"the return address may have {_MAX_URL} characters, with what is added to it")
    return url
