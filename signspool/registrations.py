"""Reading a file of registrations, CSV as spreadsheets write it or JSON lines; every fault with its line."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from processor.documents import Registration, check_registration
from shared import jsontext
from shared.errors import RefusedError, UsageError
from shared.providers._base import id_text

_REFERENCE, _DMS = "ref.", "dms."
_KEYS = ("provider", "document_id", "references", "dms")
_SHORTENED_NUMBER = re.compile(r"\d+(?:[.,]\d+)?E[+-]\d+", re.IGNORECASE)
"""What a spreadsheet makes of a long number: `1.55E+05`."""


class Format(StrEnum):
    """How a file of registrations is written."""

    CSV = "csv"
    JSONL = "jsonl"


@dataclass(slots=True)
class Sheet:
    """What a file says: registrations in its order, and its faults, each with the line it stands in."""

    registrations: list[Registration] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def read_sheet(data: bytes, kind: Format | None) -> Sheet:
    """Read and check a whole file. Without a `kind`, a file that begins with a brace is JSON lines."""
    sheet = Sheet()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        sheet.faults.append(f"line {line} is not UTF-8: save the file as UTF-8")
        return sheet
    if kind is None:
        kind = Format.JSONL if text.lstrip().startswith("{") else Format.CSV
    lines = _csv_lines(text) if kind is Format.CSV else _json_lines(text)
    said: dict[tuple[str, str], dict[str, tuple[str, int]]] = {}
    for line, found in lines:
        try:
            if isinstance(found, UsageError):
                raise found
            check_registration(found)
            _check_agreement(found, line, said)
        except UsageError as error:
            sheet.faults.append(f"line {line}: {error}")
        else:
            sheet.registrations.append(found)
    return sheet


_Line = tuple[int, Registration | UsageError]


def _check_agreement(
    found: Registration, line: int, said: dict[tuple[str, str], dict[str, tuple[str, int]]]
) -> None:
    """Return when no line before says otherwise of the same document, so that a repeat changes nothing.

    Raises:
        UsageError: one does.
    """
    known = said.setdefault((found.provider, found.document_id), {})
    values = {f"{_REFERENCE}{name}": value for name, value in found.refs.items()}
    values |= {f"{_DMS}{name}": value for name, value in found.dms.items()}
    for name, value in values.items():
        before, place = known.setdefault(name, (value, line))
        if before != value:
            raise UsageError(f"{name} of the same document is another one in line {place}")


# JSON lines


def _json_lines(text: str) -> Iterator[_Line]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield number, _from_json(line)
            except (ValueError, RefusedError) as error:
                yield number, UsageError(str(error))


def _from_json(line: str) -> Registration:
    value = jsontext.parse_object(line)
    unknown = sorted(value.keys() - set(_KEYS))
    if unknown:
        raise ValueError(f"unknown key {unknown[0]!r}; known are {', '.join(_KEYS)}")
    provider = value.get("provider")
    if not isinstance(provider, str) or isinstance(provider, jsontext.Number):
        raise ValueError("provider must be a text")
    return Registration(
        provider,
        id_text(value.get("document_id"), "document_id"),
        _texts(value.get("references"), "references"),
        _texts(value.get("dms"), "dms"),
    )


def _texts(value: object, name: str) -> dict[str, str]:
    """The named texts in an object; a null stands for not given."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be an object, this is {jsontext.kind_of(value)}")
    return {key: id_text(item, f"{name}.{key}") for key, item in value.items() if item is not None}


# CSV


def _csv_lines(text: str) -> Iterator[_Line]:
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    columns: list[str] = []
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if not columns:
                columns = _columns(cells)
                continue
            try:
                yield reader.line_num, _from_cells(columns, cells)
            except ValueError as error:
                yield reader.line_num, UsageError(str(error))
    except (csv.Error, UsageError) as error:
        # What follows cannot be read as a table any more.
        yield reader.line_num, UsageError(str(error))
    else:
        if not columns:
            yield 1, UsageError("the file is empty: its first line must be provider,document_id,ref.NAME,...")


def _columns(cells: list[str]) -> list[str]:
    columns = [cell.strip() for cell in cells]
    for name in ("provider", "document_id"):
        if name not in columns:
            raise UsageError(f"the first line must name the columns, and there is none called {name}")
    for name in columns:
        if name not in _KEYS[:2] and not (
            name.startswith((_REFERENCE, _DMS)) and len(name) > len(_REFERENCE)
        ):
            raise UsageError(
                f"unknown column {name!r}: write provider, document_id, {_REFERENCE}NAME or {_DMS}NAME"
            )
        if columns.count(name) > 1:
            raise UsageError(f"there are several columns {name}")
    return columns


def _from_cells(columns: list[str], cells: list[str]) -> Registration:
    if len(cells) != len(columns):
        raise ValueError(f"{len(cells)} cells where the first line has {len(columns)}")
    values = {name: cell.strip() for name, cell in zip(columns, cells, strict=True)}
    for name, value in values.items():
        # References are mostly ids too; what the document management system calls a thing may be any text.
        if not name.startswith(_DMS) and _SHORTENED_NUMBER.fullmatch(value):
            raise ValueError(
                f"a spreadsheet has shortened this id: {name} is {value}; format the column as text, and put "
                "the whole id in"
            )
    return Registration(
        values["provider"],
        values["document_id"],
        _under(_REFERENCE, values),
        _under(_DMS, values),
    )


def _under(prefix: str, values: Mapping[str, str]) -> dict[str, str]:
    """The cells that are filled, of the columns under a prefix."""
    return {
        name.removeprefix(prefix): value
        for name, value in values.items()
        if name.startswith(prefix) and value
    }
