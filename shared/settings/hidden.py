"""The secrets that settings hold, for whoever has to keep them out of what is written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, SecretStr

from shared.settings.model import Settings


def secret_values(settings: Settings) -> frozenset[str]:
    """Every secret, and of an address or a pair `user:password` the password by itself as well."""
    return frozenset(word for secret in _secrets(settings) for word in _words(secret) if word)


def _secrets(value: Any) -> Iterator[str]:
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _secrets(getattr(value, name))
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _secrets(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _secrets(inner)


def _words(secret: str) -> Iterator[str]:
    yield secret
    if "://" not in secret:
        yield secret.partition(":")[2]
        return
    try:
        password = urlsplit(secret).password or ""
    except ValueError:
        return
    yield password
    yield unquote(password)
