"""Days on which secrets stop being valid, noted in the settings so that somebody is told in time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import get_args

from pydantic import BaseModel, SecretStr

EXPIRES = (
    "last day on which a secret is valid, by its key (of several `secrets.KEY`), as "
    '{ token = "2027-01-31" }; signspool check tells in time, nothing else happens'
)
"""What the setting `expires` is."""


def secret_names(section: BaseModel) -> list[str]:
    """The keys of a section that hold a secret; one of several is `secrets.KEY`."""
    names = []
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Mapping) and SecretStr in get_args(field.annotation):
            names += [f"{name}.{key}" for key in value]
        elif isinstance(value, SecretStr):
            names.append(name)
    return names


def check_expires(section: BaseModel, expires: Mapping[str, date]) -> None:
    """Return when every noted day is of a secret that is set.

    Raises:
        ValueError: one is of none; the message names what is known.
    """
    known = secret_names(section)
    for name in expires:
        if name not in known:
            told = ", ".join(known) or "none"
            raise ValueError(f"expires names {name}, and no such secret is set; set are: {told}")
