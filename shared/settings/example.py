"""What to write for a key: the text of defaults and examples, in TOML."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import HttpUrl, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from shared.settings.shape import Leaf
from shared.settings.units import format_duration, format_size


def example(leaf: Leaf, default: Any) -> str:
    """A value that the key takes: its default, else its example, else one made up for its type."""
    value = default
    if value is None or value == []:
        examples = leaf.info.examples or []
        value = examples[0] if examples else _made_up(leaf)
    return to_toml(value, leaf.unit)


def default_of(info: FieldInfo) -> Any:
    """The default of a key; None when there is none."""
    value = info.get_default(call_default_factory=True, validated_data={})
    return None if value is PydanticUndefined else value


def _made_up(leaf: Leaf) -> Any:
    if leaf.many:
        return []
    if get_origin(leaf.type) is Literal:
        return get_args(leaf.type)[0]
    if isinstance(leaf.type, type) and issubclass(leaf.type, Enum):
        return next(iter(leaf.type))
    made_up: dict[Any, Any] = {
        SecretStr: "change-me",
        HttpUrl: "https://HOST",
        Path: "/path/of/it",
        int: 1,
        float: 1.0,
        bool: True,
    }
    return made_up.get(leaf.type, "text")


def to_toml(value: Any, unit: str | None = None) -> str:
    """A value as TOML writes it on one line."""
    if isinstance(value, Enum):
        return to_toml(value.value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(to_toml, value)) + "]"
    if isinstance(value, Mapping):
        pairs = (f"{to_toml(str(key))} = {to_toml(branch)}" for key, branch in value.items())
        return "{ " + ", ".join(pairs) + " }" if value else "{}"
    if unit is not None and isinstance(value, int | float):
        value = format_size(int(value)) if unit == "size" else format_duration(value)
    # Numbers, truth values and texts are written as in JSON.
    return json.dumps(value if isinstance(value, int | float) else str(value), ensure_ascii=False)
