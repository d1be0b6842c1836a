"""What differs between two readings of the settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from shared.errors import SettingsError
from shared.settings.model import NO_FILE, Settings


def changes(old: Settings, new: Settings) -> list[str]:
    """The dotted keys whose values differ, sorted; a section that came or went is one key."""
    return sorted(_differing(old, new, ""))


def expect_same_file(old: Settings, new: Settings) -> None:
    """Return unless the settings file is gone, as for the moment in which somebody replaces it: without one
    that was named, another or none would count, and what arrives would be of no provider that is known.

    Raises:
        SettingsError: it is.
    """
    if old.source not in (NO_FILE, new.source):
        raise SettingsError(f"{old.source} is gone: put it back, or restart to go on with {new.source}")


def _differing(old: Any, new: Any, key: str) -> Iterator[str]:
    before, after = _parts(old), _parts(new)
    if before is None or after is None or type(old) is not type(new):
        if old != new:
            yield key
        return
    for name in before.keys() | after.keys():
        below = f"{key}.{name}" if key else name
        if name in before and name in after:
            yield from _differing(before[name], after[name], below)
        else:
            yield below


def _parts(value: Any) -> Mapping[str, Any] | None:
    if isinstance(value, BaseModel):
        return {name: getattr(value, name) for name in type(value).model_fields}
    return value if isinstance(value, Mapping) else None
