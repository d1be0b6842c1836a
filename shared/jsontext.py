"""JSON from strangers: strict, exact to the last digit, and never deeper than we can hold.

The standard decoder with three differences: a number is kept as the text that was written, so an id is
exact at any magnitude and ten million digits cost no conversion; `NaN` and `Infinity`, which are not
JSON, are refused; nesting is limited, so that what the door accepts the daemon can read too. Of duplicate
keys the last one counts, as in the standard decoder.
"""

from __future__ import annotations

import json
import re
from itertools import accumulate
from typing import Any, NoReturn

MAX_DEPTH = 200
"""Levels of arrays and objects that are read; a body nested deeper is refused."""


class Number(str):
    """A JSON number as it was written."""

    __slots__ = ()


class WholeNumber(Number):
    """A JSON number without fraction and exponent, as it was written."""

    __slots__ = ()


# An unfinished string ends with the text, so that the scan stays linear whatever the text is.
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


# Made once, since most whole numbers are small; the rest of a million zeros would fill the memory.
_SMALL = {text: WholeNumber(text) for text in map(str, range(1000))}


def _whole_number(text: str) -> WholeNumber:
    # A function of ours, and not the bare class: between two calls of it other threads get their turn, while
    # the decoder on its own keeps them all waiting for the whole of a body.
    return _SMALL.get(text) or WholeNumber(text)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_int=_whole_number, parse_float=Number, parse_constant=_refuse_constant)


def loads(text: str) -> Any:
    """The value of a JSON text; numbers come as `Number`.

    Raises:
        ValueError: not JSON, or nested deeper than `MAX_DEPTH`.
    """
    check_depth(text)
    return _DECODER.decode(text)


def raw_decode(text: str, start: int) -> tuple[Any, int]:
    """The value that begins at a character, and where it ends; the depth is the caller's to check.

    Raises:
        ValueError: no JSON value begins there.
    """
    return _DECODER.raw_decode(text, start)


def check_depth(text: str, limit: int = MAX_DEPTH) -> None:
    """Return when a JSON text is nested no deeper than the limit.

    Raises:
        ValueError: it is deeper.
    """
    if text.count("[") + text.count("{") > limit and _depth(text) > limit:
        raise ValueError(f"nested deeper than {limit} levels")


def _depth(text: str) -> int:
    """The deepest nesting of brackets outside strings; for text that is not JSON, any number."""
    data = text.encode("utf-8", "surrogatepass")
    brackets = _STRING.sub(b"", data).translate(None, delete=_NOT_BRACKETS)
    return max(accumulate(map(_STEP.__getitem__, brackets)), default=0)


def parse_object(text: str) -> dict[str, Any]:
    """The JSON object that a text is.

    Raises:
        ValueError: not JSON, nested too deep, or not an object.
    """
    value = loads(text)
    if not isinstance(value, dict):
        raise ValueError(f"a JSON object is needed, this is {kind_of(value)}")
    return value


def kind_of(value: object) -> str:
    """The JSON name of a value's kind, for messages: «an array», «null»."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, Number):
        return "a number"
    if isinstance(value, str):
        return "a text"
    return "an array" if isinstance(value, list) else "an object"
