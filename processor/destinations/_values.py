"""Templates filled in for one document: as a text, as a part of an address, as the bytes of a header."""

from __future__ import annotations

import shlex
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any, Literal
from urllib.parse import quote

from processor.destinations._base import Parcel, Step, Subject
from shared import template
from shared.errors import PermanentError, WaitingError

HeaderEncoding = Literal["latin-1", "utf-8", "percent"]

_PRINTABLE_BUT_PERCENT = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")


class Values:
    """What the names in templates stand for: `plain` by name, and what was registered for the subject."""

    def __init__(self, plain: Mapping[str, str], subject: Subject | None = None) -> None:
        self._plain = plain
        self._subject = subject

    @classmethod
    def of_parcel(cls, parcel: Parcel, **more: str) -> Values:
        """The names that the delivery of a file knows, and more."""
        return cls(
            {
                **_of_subject(parcel.subject, parcel.idempotency_key),
                "file_name": parcel.name,
                "kind": parcel.kind.value,
                "media_type": parcel.media_type,
                "sha256": parcel.sha256,
                "size_bytes": str(parcel.size_bytes),
                **more,
            },
            parcel.subject,
        )

    @classmethod
    def of_step(cls, step: Step, **more: str) -> Values:
        """The names that a workflow step knows, and more."""
        return cls({**_of_subject(step.subject, step.idempotency_key), **more}, step.subject)

    def plus(self, **more: str) -> Values:
        """The same values and more."""
        return Values({**self._plain, **more}, self._subject)

    def lookup(self, name: str) -> str:
        """The value of a name; an empty text when nothing was registered under it."""
        group, dot, key = name.partition(".")
        if not dot:
            return self._plain[name]
        # Templates of calls that belong to no document were refused such names with the settings.
        assert self._subject is not None
        return (self._subject.dms if group == "dms" else self._subject.references).get(key, "")

    def require(self, *templates: Any) -> None:
        """Return when everything that the templates need was registered; they may be nested in tables.

        Raises:
            WaitingError: something was not; the message names all of it, and the command that registers it.
        """
        missing = {
            place.name: None
            for text in _texts(templates)
            for place in template.parse(text).places
            if place.name.startswith(template.REGISTERED)
            and place.default is None
            and not self.lookup(place.name)
        }
        if not missing:
            return
        assert self._subject is not None
        options = " ".join(f"--{name.replace('.', ' ', 1)}=VALUE" for name in missing)
        document = f"{self._subject.provider} {shlex.quote(self._subject.document_id)}"
        raise WaitingError(
            f"{', '.join(missing)} must be registered first: "
            f"signspool documents register {document} {options}"
        )

    def text(self, text: str) -> str:
        """A template filled in, for a place where any text is safe."""
        return template.parse(text).render(self.lookup)

    def nested(self, value: Any) -> Any:
        """The same with every text in lists and tables filled in; other values stay what they are."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {key: self.nested(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.nested(item) for item in value]
        return value

    def url(self, text: str) -> str:
        """A template filled in with percent-encoded values.

        Raises:
            PermanentError: a value would make a path segment `.` or `..`, and so change where it leads.
        """
        url = template.parse(text).render(self.lookup, escape=lambda value: quote(value, safe=""))
        if {".", ".."} & set(url.partition("?")[0].split("/")):
            raise PermanentError(
                "a registered value or a file name is . or .., which cannot stand in an address: correct it"
            )
        return url

    def headers(self, templates: Mapping[str, str], encoding: HeaderEncoding) -> dict[str, bytes]:
        """Headers filled in and encoded; one that comes out empty is left out.

        Raises:
            PermanentError: a value holds a line break or another control character.
        """
        values = {name: header_value(name, self.text(text), encoding) for name, text in templates.items()}
        return {name: value for name, value in values.items() if value}


def header_value(name: str, text: str, encoding: HeaderEncoding) -> bytes:
    """The bytes of a header value, without spaces around it.

    Letters are composed first, as in é from e and an accent. One that `latin-1` lacks becomes an underscore;
    with `percent`, everything outside ASCII and the percent sign become `%XX` of their UTF-8.

    Raises:
        PermanentError: it holds a line break or another control character, and the encoding cannot hide it.
    """
    text = unicodedata.normalize("NFC", text).strip()
    if encoding == "percent":
        return quote(text, safe=_PRINTABLE_BUT_PERCENT, errors="replace").encode("ascii")
    if any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in text):
        raise PermanentError(
            f"the value of the header {name} holds a line break or a control character: register it without"
        )
    if encoding == "utf-8":
        return text.encode("utf-8")
    return "".join(char if ord(char) < 0x100 else "_" for char in text).encode("latin-1")


def _of_subject(subject: Subject, idempotency_key: str) -> dict[str, str]:
    return {
        "provider": subject.provider,
        "document_id": subject.document_id,
        "status": subject.status.value,
        "idempotency_key": idempotency_key,
    }


def _texts(value: Any) -> Iterator[str]:
    """Every text in a value, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
