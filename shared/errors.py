"""Every deliberate error.

SignspoolError
├── SettingsError               a setting is wrong or missing: say so and exit 2
├── UsageError                  a command was given something it cannot use: say so and exit 2
├── RefusedError                the door turns a request away
│   ├── UnknownProviderError      400
│   ├── NotProvenError            401, or what the provider needs
│   ├── TooLargeError             413
│   └── UnusableBodyError         422
├── PermanentError              trying again cannot help: quarantine, with the reason
├── TransientError              trying again may help: backoff, the attempt is charged
│   ├── NotSentError              the request never left this machine
│   ├── NotReadyError             the provider has not finished the file
│   ├── OverQuotaError            the account's calls are used up: nobody is charged, all wait for more
│   │   └── NotBookedError          so our own books say; it is a NotSentError too
│   └── NoAnswerError             sent, and what became of it is unknown
├── WaitingError                a person or the application has to say something first: nobody is charged
│   └── AccessError               our own key is not accepted: nothing is asked there any more until it is
├── HeldError                   repeating might do the thing twice: a person decides
├── UnjudgeableError            the copy of a refused callback lacks what its proof needs
├── LeaseLostError              another process has taken the work over: leave it alone
└── UnavailableError            our own means are gone: stop taking work, charge nobody, log once
    ├── SpoolUnavailableError     the spool cannot be written: 503
    ├── DatabaseUnavailableError  the database does not answer
    │   └── BooksAwayError          so no call can be booked; it is a NotSentError too
    └── SchemaError               the database is not of this version

Raised where the knowledge is; acted on in `callback_api.responses`, `processor.pipeline`, `processor.lanes`
and `signspool.cli` only. Every message says what to do.
"""

from __future__ import annotations


class SignspoolError(Exception):
    """The root of every error raised on purpose; its text is fit to be shown to a person."""


class SettingsError(SignspoolError):
    """A setting is wrong, missing or unknown."""


class UsageError(SignspoolError):
    """A command was given something it cannot use."""


class RefusedError(SignspoolError):
    """The door turns a request away.

    `status` is the HTTP status, `title` the short name of the problem, `keep` whether a bounded copy may
    be kept in `refused/`.
    """

    status: int = 400
    title: str = "Refused"
    keep: bool = False

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        if status is not None:
            self.status = status


class UnknownProviderError(RefusedError):
    """The request names no provider, or one that is not configured."""

    status = 400
    title = "Unknown provider"


class NotProvenError(RefusedError):
    """The sender could not be proven."""

    status = 401
    title = "Not proven"
    keep = True


class TooLargeError(RefusedError):
    """The body is longer than the limit."""

    status = 413
    title = "Body too large"


class UnusableBodyError(RefusedError):
    """The body lacks what is needed to keep it as a callback; the message names what."""

    status = 422
    title = "Unusable body"
    keep = True


class PermanentError(SignspoolError):
    """Trying again cannot help."""


class TransientError(SignspoolError):
    """Trying again may help.

    `retry_after_seconds` is what the other side asked for, if it did.
    """

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class NotSentError(TransientError):
    """The request never left this machine: repeating it is safe."""


class NotReadyError(TransientError):
    """The provider has not finished the signed file."""


class OverQuotaError(TransientError):
    """The account has used up the calls that the other side allows; no document is to blame."""


class NotBookedError(OverQuotaError, NotSentError):
    """Our own books allow no further call for now, so nothing was sent."""


class NoAnswerError(TransientError):
    """The request was sent and what became of it is unknown."""


class WaitingError(SignspoolError):
    """Something has to be said first, by a person or by the application that sent the document."""


class AccessError(WaitingError):
    """The other side does not accept our own key or certificate, whatever is asked: a person mends that."""


class HeldError(SignspoolError):
    """The work may have been done already and doing it again is not harmless."""


class UnjudgeableError(SignspoolError):
    """Whether a refused callback was right cannot be told from its copy."""


class LeaseLostError(SignspoolError):
    """Another process has taken the work over after our lease had run out."""


class UnavailableError(SignspoolError):
    """Our own means are gone for the moment."""


class SpoolUnavailableError(UnavailableError):
    """The spool cannot be read or written now."""


class DatabaseUnavailableError(UnavailableError):
    """The database does not answer, or cannot store."""


class BooksAwayError(DatabaseUnavailableError, NotSentError):
    """No call can be booked while the database is away, so nothing was sent."""


class SchemaError(UnavailableError):
    """The tables are not of the version that this program needs."""
