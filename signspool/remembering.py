"""What failed the last time that `signspool check` looked, so that a timer tells what is new and no more.

A fault begins once, is told again after a time, and ends once. Without a memory that can be read everything
is new: to be told twice does no harm.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import IntEnum
from pathlib import Path

from shared.spool import write_small
from signspool.finding import Finding, Level, fail
from signspool.output import age_text

_NEEDED = frozenset({"settings", "spool", "database", "entries"})
"""While one of these fails, other things are not looked at, and nothing of them is known to have ended."""


class Weight(IntEnum):
    """How much a line matters, by the numbers of syslog: a tool that tells people asks for 5 and below."""

    FAULT = 3
    ENDED = 5
    STANDING = 6


@dataclass(frozen=True, slots=True)
class Line:
    """One line, and how much it matters."""

    weight: Weight
    text: str


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that fails: what it is about, since when, and when people were last told."""

    about: str
    since: datetime
    told_at: datetime


class Memory:
    """The faults of the last time, in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def compare(self, found: Sequence[Finding], now: datetime, *, remind_seconds: float) -> list[Line]:
        """What is to be told of these findings; what fails now is what is remembered from then on.

        With `remind_seconds` 0 nothing is told twice.
        """
        before = self._read()
        faults = {_key(finding): finding for finding in found if finding.level is Level.FAIL}
        lines: list[Line] = []
        after: dict[str, Fault] = {}
        for key, finding in faults.items():
            known = before.get(key)
            is_told = known is not None and not 0 < remind_seconds <= (now - known.told_at).total_seconds()
            after[key] = Fault(
                finding.about, known.since if known else now, known.told_at if known and is_told else now
            )
            if not is_told:
                lines.append(Line(Weight.FAULT, _told(finding, known, now)))
        gone = {key: fault for key, fault in before.items() if key not in faults}
        if any(finding.about in _NEEDED for finding in faults.values()):
            after |= gone
        else:
            lines += [Line(Weight.ENDED, _ended(fault, now)) for fault in gone.values()]
        if after:
            lines.append(Line(Weight.STANDING, _standing(after, now)))
        return lines + list(self._write(after))

    def _read(self) -> dict[str, Fault]:
        try:
            read = json.loads(self._path.read_text(encoding="utf-8"))
            return {
                key: Fault(
                    str(item["about"]),
                    datetime.fromisoformat(item["since"]),
                    datetime.fromisoformat(item["told_at"]),
                )
                for key, item in read.items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def _write(self, faults: Mapping[str, Fault]) -> Iterator[Line]:
        written = {key: asdict(fault) for key, fault in faults.items()}
        try:
            write_small(self._path, json.dumps(written, indent=2, default=datetime.isoformat) + "\n")
        except OSError as error:
            told = fail("memory", f"{self._path}: {error.strerror}", "name a file that can be written")
            yield Line(Weight.FAULT, _told(told, None, None))


def _key(finding: Finding) -> str:
    # What is said of it holds ages and numbers, which change each time.
    return f"{finding.about}: {finding.what_to_do}"


def _told(finding: Finding, known: Fault | None, now: datetime | None) -> str:
    still = f" (for {_age(known, now)})" if known and now else ""
    return f"FAIL{still} {finding.about}: {finding.words}"


def _ended(fault: Fault, now: datetime) -> str:
    return f"ended {fault.about}, after {_age(fault, now)}"


def _standing(faults: Mapping[str, Fault], now: datetime) -> str:
    oldest_last = sorted(faults.values(), key=lambda fault: fault.since, reverse=True)
    by_about = {fault.about: fault for fault in oldest_last}
    return "failing: " + ", ".join(f"{about} for {_age(fault, now)}" for about, fault in by_about.items())


def _age(fault: Fault, now: datetime) -> str:
    return age_text(max(0.0, (now - fault.since).total_seconds()))
