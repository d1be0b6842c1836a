"""One thing that `signspool check` has looked at, and what is to be done about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Level(StrEnum):
    """How bad a finding is; one FAIL makes the whole check fail."""

    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    about: str
    text: str
    what_to_do: str = ""

    @property
    def words(self) -> str:
        """The finding with what to do, as people read it."""
        return f"{self.text}: {self.what_to_do}" if self.what_to_do else self.text

    def as_json(self) -> dict[str, Any]:
        """The finding as `--json` prints it."""
        return {
            "level": self.level.value.lower(),
            "about": self.about,
            "finding": self.text,
            "what_to_do": self.what_to_do or None,
        }


def ok(about: str, text: str) -> Finding:
    """All is well with it."""
    return Finding(Level.OK, about, text)


def warn(about: str, text: str, what_to_do: str = "") -> Finding:
    """It works, and somebody should look."""
    return Finding(Level.WARN, about, text, what_to_do)


def fail(about: str, text: str, what_to_do: str = "") -> Finding:
    """It does not work."""
    return Finding(Level.FAIL, about, text, what_to_do)
