"""Entries as people look at them: found by name, guid or id, chosen, read and explained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import Any

from shared import jsontext
from shared.errors import UnavailableError, UsageError
from shared.masking import mask
from shared.names import day_of, encode_id, guid_in
from shared.providers import AnyProvider
from shared.record import SpoolRecord, parse_record
from shared.settings import Settings
from shared.settings.units import parse_duration
from shared.spool import Entry, Folder, Spool, UnreadableError

UNKNOWN_PROVIDER = "?"
_EXPLAINED_AT_ONCE = 200


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """One entry, and what stands in it; without a `record` it cannot be read, and `problem` says why."""

    folder: Folder
    entry: Entry
    path: str
    provider: str
    age_seconds: float
    record: SpoolRecord | None
    problem: str
    data: bytes = field(repr=False)

    @property
    def place(self) -> str:
        """Where the file lies, under the root."""
        return "/".join(filter(None, (self.folder, self.entry.day, self.entry.name)))

    @property
    def document_id(self) -> str | None:
        """The id of the document, when the file could be read."""
        return self.record.document_id if self.record else None

    def as_json(self, reason: str | None) -> dict[str, Any]:
        """The entry as commands print it."""
        record = self.record
        return {
            "folder": str(self.folder),
            "day": self.entry.day,
            "name": self.entry.name,
            "path": self.path,
            "document_id": self.document_id,
            "provider": self.provider,
            "action": mask(record.action) if record else None,
            "received_at": record.received_at.isoformat() if record else None,
            "age_seconds": round(self.age_seconds, 1),
            "reason": reason,
        }


@dataclass(frozen=True, slots=True)
class Choice:
    """Which entries are meant; what is None does not narrow the choice."""

    provider: str | None = None
    document_id: str | None = None
    day: str | None = None
    older_than_seconds: float | None = None
    reason: str | None = None

    def fits_name(self, entry: Entry) -> bool:
        """Whether an entry may be meant, as far as its name tells."""
        if self.day is not None and entry.day != self.day:
            return False
        # A name without a guid was given by a person, and says nothing of the id.
        return (
            self.document_id is None
            or guid_in(entry.name) is None
            or entry.name.startswith(f"{encode_id(self.document_id)}_")
        )

    def fits(self, seen: Seen) -> bool:
        """Whether an entry that was read is meant."""
        return (
            (self.provider is None or seen.provider == self.provider)
            and (self.document_id is None or seen.document_id == self.document_id)
            and (self.older_than_seconds is None or seen.age_seconds >= self.older_than_seconds)
        )


class Looker:
    """Looks into the folders of one spool. A file that vanishes meanwhile is passed over."""

    def __init__(self, spool: Spool, settings: Settings) -> None:
        self.spool = spool
        self._settings = settings
        self._names = _provider_names(settings)

    def providers(self) -> Mapping[str, AnyProvider]:
        """The configured providers by name."""
        from shared.settings import build_providers  # noqa: PLC0415

        return build_providers(self._settings)

    def look(self, folder: Folder, entry: Entry) -> Seen | None:
        """Read one entry; None when it is gone."""
        record, problem, data = None, "", b""
        age_seconds = self.spool.age_seconds(folder, entry)
        try:
            data = self.spool.read(folder, entry)
            record = parse_record(data)
        except FileNotFoundError:
            return None
        except UnreadableError as error:
            problem = str(error)
        except ValueError as error:
            problem = f"not a spool file: {error}"
        provider = self._provider_of(record)
        path = str(self.spool.path(folder, entry))
        return Seen(folder, entry, path, provider, age_seconds, record, problem, data)

    def _provider_of(self, record: SpoolRecord | None) -> str:
        if record is None:
            return UNKNOWN_PROVIDER
        if record.receipt is not None:
            return record.receipt.provider_name
        number = record.provider_number
        return UNKNOWN_PROVIDER if number is None else self._names.get(number, f"number {number}")

    def chosen(self, folders: Iterable[Folder], choice: Choice) -> Iterator[Seen]:
        """The entries that are meant, the newest day first and in it the latest arrival."""
        for folder in folders:
            entries = (entry for entry in self.spool.entries(folder) if choice.fits_name(entry))
            for _, of_day in groupby(entries, key=lambda entry: entry.day):
                latest_first = sorted(of_day, key=_arrival, reverse=True)
                looked = (self.look(folder, entry) for entry in latest_first)
                yield from self.fitting((seen for seen in looked if seen is not None), choice)

    def fitting(self, found: Iterable[Seen], choice: Choice) -> Iterator[Seen]:
        """Those of the entries that are meant."""
        fitting = (seen for seen in found if choice.fits(seen))
        if choice.reason is None:
            yield from fitting
            return
        wanted = choice.reason.casefold()
        # The database is asked for the reasons of many at once.
        while part := list(islice(fitting, _EXPLAINED_AT_ONCE)):
            reasons = self.reasons(part)
            yield from (seen for seen in part if wanted in reasons.get(seen, "").casefold())

    def named(self, text: str, folders: Sequence[Folder] = tuple(Folder)) -> list[Seen]:
        """The entries of a name, a guid, or a document id."""
        places = [
            (folder, entry)
            for folder in folders
            for entry in self.spool.entries(folder)
            if _is_named(entry.name, text)
        ]
        return [seen for place in places if (seen := self.look(*place)) is not None]

    def reasons(self, seen: Sequence[Seen]) -> dict[Seen, str]:
        """Why entries lie where they lie, for those of which anything is known.

        Whoever asks while the database is away still learns what the files themselves say.
        """
        found: dict[Seen, str] = {}
        for item in seen:
            if item.folder is Folder.QUARANTINE:
                reason = (self.spool.reason(item.entry) or {}).get("reason")
                found[item] = str(reason or item.problem or "no reason file: moved here by hand")
            elif item.folder is Folder.REFUSED:
                found[item] = _refusal(item)
            elif item.problem:
                found[item] = item.problem
        deferred = [item for item in seen if item.folder is Folder.DEFERRED and item.record is not None]
        return {**found, **self._owed(deferred)}

    def _owed(self, deferred: Sequence[Seen]) -> dict[Seen, str]:
        if not deferred:
            return {}
        # SQLAlchemy is slow to import, and most looks need no database.
        from processor.operator import why_unfinished  # noqa: PLC0415
        from processor.reading import receipt_id_of  # noqa: PLC0415
        from signspool.context import database_of  # noqa: PLC0415

        receipts = {
            item: receipt_id_of(item.entry, item.record) for item in deferred if item.record is not None
        }
        try:
            with database_of(self._settings) as database, database.reading() as connection:
                reasons = why_unfinished(connection, set(receipts.values()))
        except UnavailableError as error:
            return dict.fromkeys(deferred, f"not known: {error}")
        settled = "nothing is owed any more: it is settled by the next look of the processor"
        return {item: reasons.get(receipt_id, settled) for item, receipt_id in receipts.items()}


def _provider_names(settings: Settings) -> Mapping[int, str]:
    """The name that stands behind each number in a file, a configured one first."""
    from shared.providers import provider_classes  # noqa: PLC0415
    from shared.settings import build_providers  # noqa: PLC0415

    known = {provider.number: name for name, provider in provider_classes().items()}
    return {
        **known,
        **{provider.file_number: name for name, provider in build_providers(settings).items()},
    }


def _arrival(entry: Entry) -> tuple[str, str]:
    return guid_in(entry.name) or "", entry.name


def _is_named(name: str, text: str) -> bool:
    return (
        name in (text, f"{text}.json")
        or guid_in(name) == text.lower()
        or (name.startswith(f"{encode_id(text)}_") and guid_in(name) is not None)
    )


def _refusal(seen: Seen) -> str:
    receipt = seen.record.receipt if seen.record else None
    if receipt is None or receipt.refusal is None:
        return seen.problem or "the receipt tells no reason"
    said = [str(value) for value in receipt.refusal.values() if isinstance(value, str | int)]
    return " ".join(said) or "the receipt tells no reason"


def content_of(seen: Seen) -> Any:
    """The content of an entry as a JSON value, numbers exact; None for a file that is no JSON."""
    try:
        text = seen.data.decode("utf-8-sig")
        jsontext.check_depth(text, jsontext.MAX_DEPTH + 1)
        return jsontext.raw_decode(text.lstrip(), 0)[0]
    except ValueError:
        return None


def parse_age(text: str | None) -> float | None:
    """The seconds of an age such as `2h` or `1d`.

    Raises:
        UsageError: it is none.
    """
    if text is None:
        return None
    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(f"--older-than {text}: {error}") from None


def parse_day(text: str | None, option: str = "--day") -> str | None:
    """A day as folders name it.

    Raises:
        UsageError: it is none.
    """
    if text is not None and day_of(text) is None:
        raise UsageError(f"{option} {text}: write it like 2026-11-21")
    return text
