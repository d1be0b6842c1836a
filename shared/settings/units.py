"""Sizes and durations as people write them: `10MiB`, `15m`."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator

MINUTE_SECONDS = 60
HOUR_SECONDS = 60 * MINUTE_SECONDS
DAY_SECONDS = 24 * HOUR_SECONDS
MAX_DURATION_SECONDS = 36_500 * DAY_SECONDS
"""Longest duration: a hundred years, so that adding it to a date cannot overflow."""
MAX_SIZE_BYTES = 2**63 - 1
"""Largest size: no file system has more."""
KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

_BYTES = {
    "TiB": 1024 * GIB,
    "TB": 1000**4,
    "GiB": GIB,
    "GB": 1000**3,
    "MiB": MIB,
    "MB": 1000**2,
    "KiB": KIB,
    "kB": 1000,
    "B": 1,
}
_BYTES_BY_FOLDED = {unit.lower(): size for unit, size in _BYTES.items()}
_SECONDS = {
    "d": Decimal(DAY_SECONDS),
    "h": Decimal(HOUR_SECONDS),
    "m": Decimal(MINUTE_SECONDS),
    "s": Decimal(1),
    "ms": Decimal("0.001"),
}
# The digits are bounded, so that decimals stay exact and no text costs much work.
_NUMBER = r"[0-9]{1,19}(?:\.[0-9]{1,30})?"
_SIZE = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,6})?)\s*([A-Za-z]*)")
_DURATION = re.compile(
    r"\s*".join(rf"(?:(?P<{unit}>{_NUMBER})\s*{unit}(?![a-z]))?" for unit in _SECONDS),
)
_SIZE_ADVICE = "write it as 10MiB (units B, KiB, MiB, GiB, TiB, kB, MB, GB, TB)"
_DURATION_ADVICE = "write it as 15m or 1h30m (units ms, s, m, h, d; a plain number is seconds)"


def parse_size(value: Any) -> int:
    """The bytes that `10MiB`, `1GB` or a plain whole number stands for.

    Raises:
        ValueError: not a size, or larger than `MAX_SIZE_BYTES`.
    """
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_SIZE_BYTES:
        return value
    found = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"this is not a size: {_SIZE_ADVICE}")
    number, unit = found.groups()
    factor = _BYTES_BY_FOLDED.get(unit.lower() or "b")
    if factor is None:
        raise ValueError(f"{unit!r} is not a unit of size: {_SIZE_ADVICE}")
    size = Decimal(number) * factor
    if size != int(size):
        raise ValueError(f"this is not a whole number of bytes: {_SIZE_ADVICE}")
    if size > MAX_SIZE_BYTES:
        raise ValueError(f"this is larger than any file system: {_SIZE_ADVICE}")
    return int(size)


def format_size(size_bytes: int) -> str:
    """The shortest exact way to write a size; `parse_size` reads it back."""
    for unit, factor in _BYTES.items():
        if size_bytes and factor > 1 and size_bytes % factor == 0:
            return f"{size_bytes // factor}{unit}"
    return str(size_bytes)


def parse_duration(value: Any) -> float:
    """The seconds that `15m`, `1h30m`, `500ms` or a plain number stands for.

    Raises:
        ValueError: not a duration, or longer than a hundred years.
    """
    if isinstance(value, str):
        seconds = _duration_in(value.strip())
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value) if abs(value) <= MAX_DURATION_SECONDS else math.inf
    else:
        raise ValueError(f"this is not a duration: {_DURATION_ADVICE}")
    if not seconds >= 0:
        raise ValueError(f"a duration cannot be negative: {_DURATION_ADVICE}")
    if seconds > MAX_DURATION_SECONDS:
        raise ValueError("a duration cannot be longer than a hundred years (36500d)")
    return seconds


def _duration_in(text: str) -> float:
    if re.fullmatch(_NUMBER, text):
        return float(text)
    found = _DURATION.fullmatch(text)
    if found is None or not text:
        raise ValueError(f"this is not a duration: {_DURATION_ADVICE}")
    parts = ((unit, number) for unit, number in found.groupdict().items() if number is not None)
    return float(sum((Decimal(number) * _SECONDS[unit] for unit, number in parts), Decimal(0)))


def format_duration(seconds: float) -> str:
    """An exact way to write a duration; `parse_duration` reads it back."""
    milliseconds = round(seconds * 1000)
    if milliseconds / 1000 != seconds:
        return f"{Decimal(repr(seconds)):f}s"
    pieces = []
    for unit, length in _SECONDS.items():
        count, milliseconds = divmod(milliseconds, int(length * 1000))
        if count:
            pieces.append(f"{count}{unit}")
    return "".join(pieces) or "0"


SIZE_UNIT = BeforeValidator(parse_size)
DURATION_UNIT = BeforeValidator(parse_duration)

Size = Annotated[int, SIZE_UNIT]
"""Bytes; written `10MiB`."""
Duration = Annotated[float, DURATION_UNIT]
"""Seconds; written `15m`."""
