"""Blots out what must stand in no log line, reason or message: numbers of persons, and our own secrets.

A number of a person is one of eleven digits, written as a Brazilian CPF or a Norwegian fødselsnummer is, with
or without its dots, dash or space. It is not asked whether it is valid: a mistyped one is somebody's, too.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from datetime import date, time, timedelta
from pathlib import PurePath
from typing import Any

BLOT = "***"
SHORTEST_SECRET = 6
"""Characters from which on a secret is looked for; a shorter one is part of ordinary words."""

_PERSONAL = re.compile(
    r"(?<![0-9A-Za-z])(?:[0-9]{3}\.?[0-9]{3}\.?[0-9]{3}-?[0-9]{2}|[0-9]{6} [0-9]{5})(?![0-9A-Za-z])"
)


class _Secrets:
    """The secrets of this process' settings."""

    words: frozenset[str] = frozenset()
    pattern: re.Pattern[str] | None = None


def learn_secrets(secrets: Iterable[str]) -> None:
    """From now on blot these out, as they are and as Basic authentication writes them.

    For a whole process, as the set-up of its log is: whatever writes a text should know all of them.
    """
    _Secrets.words = frozenset()
    learn_more_secrets(secrets)


def learn_more_secrets(secrets: Iterable[str]) -> None:
    """From now on blot these out as well: with new settings, while what began with the old ones goes on."""
    words = {secret for secret in secrets if len(secret) >= SHORTEST_SECRET}
    words |= {base64.b64encode(word.encode("utf-8", "surrogatepass")).decode() for word in words}
    _Secrets.words |= words
    # The longest first, since one may begin with another.
    ordered = sorted(_Secrets.words, key=len, reverse=True)
    _Secrets.pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None


def mask(text: str) -> str:
    """The text without secrets and numbers of persons."""
    if _Secrets.pattern is not None:
        text = _Secrets.pattern.sub(BLOT, text)
    return _PERSONAL.sub(BLOT, text)


def mask_all(value: Any) -> Any:
    """The same for every text in lists and dictionaries, at every depth; any other object becomes a text."""
    if isinstance(value, str):
        return mask(value)
    if value is None or isinstance(value, _PLAIN):
        return value
    if isinstance(value, Mapping):
        return {mask(str(name)): mask_all(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [mask_all(inner) for inner in value]
    return mask(str(value) if isinstance(value, PurePath) else repr(value))


_PLAIN = (bool, int, float, date, time, timedelta)
