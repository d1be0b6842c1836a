"""The contract of a provider.

A provider is one file of this package. It does no I/O: it is handed requests and answers as values, and
says with values what should be sent. `processor.outside` does the sending.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from datetime import date
from typing import ClassVar, Generic, Literal, NoReturn, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, model_validator

from shared.errors import UnjudgeableError, UnusableBodyError, UsageError
from shared.events import Event, EventType
from shared.expiry import EXPIRES, check_expires
from shared.providers._answers import (
    answered_object,
    excerpt,
    expect_success,
    find_field,
    how_to_register,
    id_text,
    origin_of,
    retry_after_seconds,
)
from shared.providers._asking import (
    Ask,
    Found,
    Order,
    OutgoingFile,
    Polled,
    PollView,
    Returned,
    SendOptions,
    Sent,
    SentDocument,
    Signer,
    Steps,
)
from shared.providers._limits import Limits
from shared.providers._values import (
    Acknowledgement,
    Answer,
    Callback,
    DocumentView,
    FetchedFile,
    FileContent,
    FileKind,
    Head,
    Into,
    PeerTls,
    Proof,
    Request,
    SignedFile,
    SignedFiles,
)

__all__ = [
    "Acknowledgement",
    "Answer",
    "Ask",
    "Callback",
    "DocumentView",
    "FetchedFile",
    "FileContent",
    "FileKind",
    "Found",
    "Head",
    "Into",
    "Limits",
    "Order",
    "OutgoingFile",
    "PeerTls",
    "PollView",
    "Polled",
    "Proof",
    "Provider",
    "ProviderSettings",
    "Request",
    "ReturnSettings",
    "Returned",
    "SendOptions",
    "Sent",
    "SentDocument",
    "SignedFile",
    "SignedFiles",
    "Signer",
    "Steps",
    "answered_object",
    "excerpt",
    "expect_success",
    "find_field",
    "how_to_register",
    "id_text",
    "origin_of",
    "retry_after_seconds",
]


_OUR_WORDS = Acknowledgement()


class ProviderSettings(BaseModel):
    """Settings that every provider has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    number: int | None = Field(
        default=None, description="number in the spool file, when not the prescribed one", ge=0
    )
    fetch_files: bool = Field(
        default=True, description="fetch the signed file of a completed document, and deliver it"
    )
    ca_file: str | None = Field(
        default=None,
        description="file of the certificate authorities (PEM) that its API's own certificate is checked "
        "against, in place of the public ones",
    )
    signatures: Literal["unchecked", "intact", "trusted"] = Field(
        default="unchecked",
        description="what is asked of signed files before they are delivered: nothing but that they are "
        "whole; that their signatures (PDF, p7s, p7m) fit their content; or that the signers' certificates "
        "lead to one of signature_authorities, too",
    )
    signature_authorities: str = Field(
        default="",
        description='file of the certificate authorities (PEM) that signatures = "trusted" asks for',
    )
    actions: dict[str, EventType] = Field(
        default_factory=dict,
        description="further words for actions, or other meanings: WORD = event type",
    )
    expires: dict[str, date] = Field(default_factory=dict, description=EXPIRES)

    @model_validator(mode="after")
    def _authorities_of_signatures(self) -> Self:
        if self.signatures == "trusted" and not self.signature_authorities:
            raise ValueError('signatures = "trusted" needs signature_authorities: name the file')
        if self.signatures != "trusted" and self.signature_authorities:
            # Whoever names authorities believes that they are asked for.
            raise ValueError(
                'signature_authorities are for signatures = "trusted" alone: set it, or drop them'
            )
        return self

    @model_validator(mode="after")
    def _expires_of_secrets(self) -> Self:
        check_expires(self, self.expires)
        return self


class ReturnSettings(ProviderSettings):
    """Settings of a provider from whose pages browsers come back."""

    return_page: HttpUrl | None = Field(
        default=None,
        description="page of your application to which a browser that comes back is sent on; "
        "without one it is shown a few words",
        examples=["https://app.example.com/signed"],
    )
    return_pages: dict[str, HttpUrl] = Field(
        default_factory=dict,
        description="further such pages by name, chosen by the parameter page=NAME of the return address",
    )

    def page_for(self, name: str) -> HttpUrl | None:
        """The page of a name, else the usual one."""
        return self.return_pages.get(name, self.return_page)


S = TypeVar("S", bound=ProviderSettings)


class Provider(ABC, Generic[S]):
    """All we know of one provider. Subclasses live in `shared/providers/<name>.py`."""

    title: ClassVar[str]
    """The company's name for people."""
    number: ClassVar[int]
    """Its number in the spool file."""
    id_field: ClassVar[str] = "envelopeId"
    """The prescribed name of the id in the spool file."""
    event_types: ClassVar[Mapping[str, EventType]]
    """What each action means; compared in the form that `fold` gives."""
    references: ClassVar[Mapping[str, str]] = {}
    """Reference names that `documents register` takes, each with a sentence for people."""
    kept_headers: ClassVar[frozenset[str]] = frozenset({"user-agent"})
    """Request headers that go into the receipt; never one that can carry a secret."""
    kept_query: ClassVar[frozenset[str]] = frozenset()
    """Query parameters that go into the receipt."""
    calls_back: ClassVar[bool] = True
    """Whether it ever calls the door; the callbacks of one that never does are all refused."""
    calls_per_second: ClassVar[float | None] = None
    """How many calls its API takes in a second, all kinds together; None where nothing is said."""
    polls: ClassVar[bool] = False
    """Whether it can be asked."""
    Options: ClassVar[type[SendOptions] | None] = None
    """What may be said of a sending; None when nothing can be sent out through it."""
    Signer: ClassVar[type[Signer] | None] = None
    """What is said of each person who is to sign; None when it is the provider that asks."""
    sends_whole: ClassVar[bool] = False
    """Whether `send` needs the content of the files in memory."""
    can_cancel: ClassVar[bool] = False
    """Whether what was sent out can be taken back."""
    Settings: ClassVar[type[ProviderSettings]]

    def __init__(self, name: str, settings: S) -> None:
        self.name = name
        self.settings = settings
        self._types = {
            self.fold(word): kind
            for words in (self.event_types, settings.actions)
            for word, kind in words.items()
        }

    @property
    def file_number(self) -> int:
        """The number that stands for this provider in the spool file."""
        return self.number if self.settings.number is None else self.settings.number

    @property
    def expects_callbacks(self) -> bool:
        """Whether it calls the door, with these settings."""
        return self.calls_back

    @abstractmethod
    def why_closed(self) -> str | None:
        """Why no callback may be accepted with these settings, or None when the door may open."""

    def why_mute(self) -> str | None:
        """Why nothing can be asked with these settings of a provider that has to be asked, or None."""
        return None

    @abstractmethod
    def authenticate(self, callback: Callback) -> Proof:
        """How far the sender is proven.

        Raises:
            NotProvenError: not at all.
        """

    def evidence(self, callback: Callback) -> dict[str, str]:
        """Headers by which a refused callback can be judged again; they go into its copy beside
        `kept_headers`. A signature may be among them, a secret never, whatever the sender put there."""
        return {}

    def judge_again(self, callback: Callback) -> Proof:
        """How far the sender of a refused callback is proven by the settings of now.

        The callback is put together from its copy, so that of the headers only `kept_headers` and the
        `evidence` are there. Its time is that of its receipt, against which time stamps count.

        Raises:
            NotProvenError: not at all.
            UnjudgeableError: what would have to be looked at is not in the copy.
        """
        raise UnjudgeableError("what would prove the sender is not kept")

    @abstractmethod
    def callback_id(self, callback: Callback) -> Head:
        """The id and the action, exact.

        Raises:
            UnusableBodyError: one is missing or of the wrong kind; the message names it.
        """

    def acknowledge(self, receipt_id: str) -> Acknowledgement:
        """What to answer once the callback is stored."""
        return _OUR_WORDS

    def handshake(self, callback: Callback) -> Acknowledgement:
        """What to answer to GET and HEAD on the callback address."""
        return Acknowledgement(body=b'{"status":"ready"}')

    def event_type(self, action: str) -> EventType:
        """What an action means, `UNKNOWN` for one in no table."""
        return self._types.get(self.fold(action), EventType.UNKNOWN)

    @staticmethod
    def fold(action: str) -> str:
        """The form in which actions are compared: trimmed and in upper case."""
        return action.strip().upper()

    @property
    def can_reopen(self) -> bool:
        """Whether a document of this provider may be taken back into signing."""
        return EventType.REOPENED in self._types.values()

    def parse(self, head: Head, callback: Callback) -> list[Event]:
        """What the callback says, in our words; `head` wins over the body, so that a mended file counts."""
        return [self.event(head, key=self.fold(head.action))]

    def event(self, head: Head, *, key: str, message: str = "", **learned: str) -> Event:
        """An event about `head`, its type looked up in the table."""
        kind = self.event_type(head.action)
        return Event(head.document_id, head.action, kind, key, message=message, learned=learned)

    def learn(self, known: Mapping[str, str], told: Mapping[str, str]) -> dict[str, str]:
        """What is known of a document after an event told something; what was told last counts."""
        return {**known, **told}

    @property
    @abstractmethod
    def origins(self) -> frozenset[str]:
        """Origins (`https://host:port`) that requests may go to; empty when the API is not set up."""

    @property
    def tls(self) -> PeerTls | None:
        """What its server asks of TLS, when that is more than the usual."""
        return None

    @abstractmethod
    def signed_file(self, document: DocumentView) -> SignedFiles:
        """Fetch the signed file, or files.

        Raises:
            WaitingError: a reference or a setting is missing; the message says what to type.
            NotReadyError: the provider has not finished it.
            PermanentError: it cannot be had.
            TransientError: it may be had later.
        """

    # What we begin ourselves

    @property
    def limits(self) -> Limits | None:
        """What the account may do with the API; None when nothing is known of a limit."""
        return None

    def returned(self, callback: Callback) -> Returned:
        """What a browser that comes back brings in its query, if the settings are `ReturnSettings`.

        Raises:
            UnusableBodyError: nothing that could be asked about; the person is sent on all the same.
        """
        raise UnusableBodyError(f"no browser comes back from {self.title}")

    def standing_asks(self) -> Iterable[Ask]:
        """What is asked about for as long as the settings say so, as queues are."""
        return ()

    def document_ask(self, document: DocumentView) -> Ask | None:
        """What is asked about a document that was registered, or heard of for the first time."""
        return None

    def asks(self, head: Head, callback: Callback) -> Iterable[Ask]:
        """What an entry of the spool makes worth asking about at once; made when it is recorded."""
        return ()

    def poll(self, view: PollView) -> Steps[Polled]:
        """Ask about one subject.

        Raises:
            AccessError: our own key is not accepted: nobody is asked any more until it is.
            TransientError: it is asked again later.
            PermanentError: so too, but people are told.
        """
        self._cannot("be asked")

    def confirm(self, document: DocumentView, confirmation: Mapping[str, str]) -> Steps[None]:
        """Tell the provider that an event is recorded, and of a completed document that its files are
        stored; `confirmation` is that of the event.

        Raises:
            As `signed_file`.
        """
        self._cannot("be told so")

    def send(self, order: Order) -> Steps[Sent]:
        """Send documents out for signature. One of the requests has `effect` set.

        Raises:
            UsageError: the order is none that the provider takes; the message says what to change.
            As `signed_file`.
        """
        self._cannot("be sent anything: no such call is known")

    def cancel(self, document: DocumentView) -> Steps[str]:
        """Take back what was sent out; returns a sentence that says how it stands now.

        Raises:
            As `signed_file`.
        """
        self._cannot("take anything back: no such call is known")

    def _cannot(self, what: str) -> NoReturn:
        raise UsageError(f"{self.title} cannot {what}")
