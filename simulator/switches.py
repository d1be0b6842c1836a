"""Switches of a simulated peer: its fields of plain values, read and set while it runs."""

from __future__ import annotations

from dataclasses import fields
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from simulator.peer import PeerError

_PLAIN = (str, int, float, bool, type(None))


def switches_of(peer: Any) -> dict[str, Any]:
    """The switches of a peer by name, as they stand."""
    return {name: getattr(peer, name) for name in _types(peer)}


def set_switches(peer: Any, values: dict[str, Any]) -> None:
    """Set switches; either all of them or, if one is wrong, none.

    Raises:
        PeerError: 422, one is not known or of another kind; the message names it.
    """
    types = _types(peer)
    checked = {}
    for name, value in values.items():
        if name not in types:
            raise PeerError(422, f"there is no switch {name!r}; there are {', '.join(types)}")
        try:
            checked[name] = TypeAdapter(types[name], config=ConfigDict(strict=False)).validate_python(value)
        except ValidationError as error:
            raise PeerError(422, f"switch {name!r}: {error.errors()[0]['msg']}") from None
    for name, value in checked.items():
        setattr(peer, name, value)


def _types(peer: Any) -> dict[str, Any]:
    """The type of each field that holds a plain value; what a peer keeps of documents is no switch."""
    hints = get_type_hints(type(peer))
    return {field.name: hints[field.name] for field in fields(peer) if _is_plain(hints[field.name])}


def _is_plain(kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return True
    if get_origin(kind) in (Union, UnionType):
        return all(map(_is_plain, get_args(kind)))
    return isinstance(kind, type) and issubclass(kind, _PLAIN)
