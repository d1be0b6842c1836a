"""What the settings of every kind of destination have."""

from __future__ import annotations

from datetime import date
from typing import Self

from pydantic import Field, model_validator

from shared import template
from shared.expiry import EXPIRES, check_expires
from shared.providers._base import FileKind
from shared.settings.sections import Section

DELIVERY_NAMES = template.DOCUMENT_NAMES | template.FILE_NAMES
"""The names that the templates of a delivery know."""


class DestinationSection(Section):
    """A destination: which files go there, and when its secrets end."""

    kinds: list[FileKind] = Field(
        default=[FileKind.SIGNED, FileKind.REPORT],
        description="kinds of files that are delivered here",
        min_length=1,
    )
    expires: dict[str, date] = Field(default_factory=dict, description=EXPIRES)

    @model_validator(mode="after")
    def _expires_of_secrets(self) -> Self:
        check_expires(self, self.expires)
        return self
