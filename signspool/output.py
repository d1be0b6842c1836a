"""What commands print: JSON for programs, tables for people, never a control character of a stranger's."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Sequence
from typing import Any

from shared.jsontext import Number

_GAP = "  "
_INDENT = "  "
_CELL_LENGTH = 80
"""Longest text of a cell, escapes included, and the widest that a column gets."""
_NAME_LENGTH = 255
"""No file name is longer."""
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def print_json(value: Any) -> None:
    """Print one JSON value; a `Number` keeps the digits it was written with."""
    sys.stdout.write(pretty(value) + "\n")


def pretty(value: Any, indent: str = "") -> str:
    """A JSON text over several lines, ASCII only."""
    inner = indent + _INDENT
    if isinstance(value, dict) and value:
        lines = [f"{inner}{json.dumps(str(name))}: {pretty(branch, inner)}" for name, branch in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, list | tuple) and value:
        return "[\n" + ",\n".join(inner + pretty(item, inner) for item in value) + f"\n{indent}]"
    return str(value) if isinstance(value, Number) else json.dumps(value)


def print_table(
    headings: Sequence[str], rows: Sequence[Sequence[object]], *, names: Collection[str] = ()
) -> None:
    """Print a table: drawn to fit a terminal, else plain, each row on one line.

    The last column is for reasons and is whole. In the others a text longer than 80 characters is cut, since
    strangers choose ids of any length; `names` are the headings of columns with file names, which are not.
    """
    limits = [_NAME_LENGTH if heading in names else _CELL_LENGTH for heading in headings[:-1]]
    texts = [_texts(row, limits) for row in rows]
    if sys.stdout.isatty():
        _draw(headings, texts)
        return
    # What is longer than a column is wide moves the rest of its own row alone.
    widths = [min(max(map(len, column)), _CELL_LENGTH) for column in zip(headings, *texts, strict=True)][:-1]
    for *row, last in (headings, *texts):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        sys.stdout.write(_GAP.join((*cells, last)).rstrip() + "\n")


def _texts(row: Sequence[object], limits: Sequence[int]) -> list[str]:
    *cells, last = ["" if cell is None else str(cell) for cell in row]
    return [*(shortened(cell, limit) for cell, limit in zip(cells, limits, strict=True)), printable(last)]


def shortened(text: str, length: int = _CELL_LENGTH) -> str:
    """A stranger's text, printable and cut to a length; a cut one ends in `…(N)`, N being its true length."""
    shown = printable(text[: length + 1])
    if len(shown) <= length:
        return shown
    ending = f"…({len(text)})"
    return shown[: length - len(ending)] + ending


def _draw(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    # Rich is slow to import and of no use to a pipe.
    from rich import box  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        # A name that does not fit goes on in the next line; cut, it would be of no use.
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)


def say(text: str) -> None:
    """Print a line for people on standard output."""
    sys.stdout.write(printable(text) + "\n")


def complain(text: str) -> None:
    """Print a message on standard error, every line of it marked as ours."""
    for line in text.splitlines() or [""]:
        sys.stderr.write(f"signspool: {printable(line)}\n")
    sys.stderr.flush()


def printable(text: str) -> str:
    """A text with every control character and lone surrogate shown as an escape, so that it cannot steer a
    terminal."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text
    )


def age_text(seconds: float) -> str:
    """An age in its largest unit: `40s`, `12m`, `5h`, `3d`."""
    for unit_seconds, letter in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "m")):
        if seconds >= unit_seconds:
            return f"{int(seconds // unit_seconds)}{letter}"
    return f"{int(seconds)}s"


def count_text(number: int, noun: str) -> str:
    """A number with its noun: `1 entry`, `2 entries`, `2 days`."""
    if number == 1:
        return f"1 {noun}"
    if noun.endswith("y") and not noun.endswith("ay"):
        return f"{number} {noun[:-1]}ies"
    return f"{number} {noun}s"
