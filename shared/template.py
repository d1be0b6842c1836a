"""Texts with `${name}` in them, for the addresses, headers and fields that a destination is sent."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass

DOCUMENT_NAMES = frozenset({"provider", "document_id", "status", "idempotency_key"})
"""Names that every delivery and every workflow step knows."""
FILE_NAMES = frozenset({"file_name", "kind", "media_type", "sha256", "size_bytes"})
"""Names that only the delivery of a file knows."""
FILE_CONTENT = "file_base64"
"""The name that stands for the file itself; a field must be this and nothing else."""
REGISTERED = ("dms.", "ref.")
"""Beginnings of the names that stand for what was registered for a document."""

_PLACE = re.compile(
    r"""\$(?:
        (?P<dollar>\$)
      | \{(?P<name>[a-z][a-z0-9_]*|(?:dms|ref)\.[A-Za-z0-9_.-]+)(?:\|(?P<default>[^{}]*))?\}
    )""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Place:
    """One `${name}` or `${name|default}` of a template."""

    name: str
    default: str | None


@dataclass(frozen=True, slots=True)
class Template:
    """A template in pieces: literal texts and places, in the order in which they were written."""

    pieces: tuple[str | Place, ...]

    @property
    def places(self) -> tuple[Place, ...]:
        """What has to be filled in."""
        return tuple(piece for piece in self.pieces if isinstance(piece, Place))

    def render(self, lookup: Callable[[str], str], *, escape: Callable[[str], str] = str) -> str:
        """The text with every place filled in; `escape` is applied to what is filled in, not to the rest.

        An empty value counts as a missing one and gives way to the default.
        """
        return "".join(
            piece if isinstance(piece, str) else escape(lookup(piece.name) or piece.default or "")
            for piece in self.pieces
        )


def parse(text: str) -> Template:
    """The template that a text is; `$$` stands for a dollar.

    Raises:
        ValueError: a dollar sign that begins neither `$$` nor `${name}`.
    """
    pieces: list[str | Place] = []
    literal = ""
    end = 0
    for found in _PLACE.finditer(text):
        literal += _literal(text[end : found.start()])
        end = found.end()
        if found["dollar"]:
            literal += "$"
            continue
        if literal:
            pieces.append(literal)
            literal = ""
        pieces.append(Place(found["name"], found["default"]))
    literal += _literal(text[end:])
    if literal:
        pieces.append(literal)
    return Template(tuple(pieces))


def check(text: str, allowed: Collection[str], *, registered: bool = True) -> Template:
    """The template that a text is, when it uses allowed names only.

    `registered` says whether `dms.` and `ref.` names are allowed too.

    Raises:
        ValueError: not a template, or a name that is not known in this place; the message lists the known.
    """
    template = parse(text)
    for place in template.places:
        if place.name in allowed or (registered and place.name.startswith(REGISTERED)):
            continue
        known = sorted(allowed) + (["dms.NAME", "ref.NAME"] if registered else [])
        raise ValueError(f"${{{place.name}}} is not known here; known are {', '.join(known)}")
    return template


def _literal(text: str) -> str:
    if "$" in text:
        raise ValueError(
            "a dollar sign must begin ${name}, ${dms.name} or ${ref.name}; write $$ for a dollar"
        )
    return text
