"""The registry: a file here without a leading underscore is a provider, and its name is the file's."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import Any

from shared.providers._base import Provider

AnyProvider = Provider[Any]


@cache
def provider_classes() -> dict[str, type[AnyProvider]]:
    """Every provider there is, by name, sorted. A file must hold exactly one subclass of `Provider`."""
    return {
        module.name: _class_in(module.name)
        for module in sorted(pkgutil.iter_modules(__path__), key=lambda found: found.name)
        if not module.name.startswith("_")
    }


def _class_in(name: str) -> type[AnyProvider]:
    module = importlib.import_module(f"{__name__}.{name}")
    classes = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Provider) and value.__module__ == module.__name__
    ]
    if len(classes) != 1:
        raise TypeError(f"{module.__name__} must hold one subclass of Provider, not {len(classes)}")
    return classes[0]
