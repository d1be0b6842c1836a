"""Loading settings from a text, and what is said of wrong ones."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from shared.errors import SettingsError
from shared.settings import Settings, load_settings

SECRET = "s3cr3t-that-must-not-be-shown"


def load(
    text: str = "", environ: Mapping[str, str] | None = None, overrides: Mapping[str, Any] | None = None
) -> Settings:
    """The settings of a file with this text, and nothing from outside."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "signspool.toml"
        file.write_text(text, encoding="utf-8")
        return load_settings(file, environ=environ or {}, overrides=overrides)


def problems(
    text: str = "", environ: Mapping[str, str] | None = None, overrides: Mapping[str, Any] | None = None
) -> list[str]:
    """What is said of wrong settings, a problem each; never with the secret in it."""
    with pytest.raises(SettingsError) as caught:
        load(text, environ, overrides)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    return str(caught.value).splitlines()


def only_problem(
    text: str = "", environ: Mapping[str, str] | None = None, overrides: Mapping[str, Any] | None = None
) -> str:
    """The one thing that is said."""
    [problem] = problems(text, environ, overrides)
    return problem
