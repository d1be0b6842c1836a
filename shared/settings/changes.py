"""What differs between two readings of the settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from shared.settings.model import Settings


def changes(old: Settings, new: Settings) -> list[str]:
    """The dotted keys whose values differ, sorted; a section that came or went is one key."""
    return sorted(_differing(old, new, ""))


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
