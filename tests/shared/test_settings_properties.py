"""What holds for every key of the settings: misspellings are named, and the stronger place wins."""

from __future__ import annotations

import string
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import BaseModel

from shared.errors import SettingsError
from shared.providers import provider_classes
from shared.settings import (
    ApiSettings,
    DatabaseSettings,
    LogSettings,
    MirrorSettings,
    ProcessorSettings,
    SpoolSettings,
    load_settings,
)
from shared.settings.destinations import FolderSettings, HttpSettings, SmartshareSettings

TABLES: dict[str, type[BaseModel]] = {
    "spool": SpoolSettings,
    "api": ApiSettings,
    "database": DatabaseSettings,
    "database.mirror": MirrorSettings,
    "processor": ProcessorSettings,
    "log": LogSettings,
    **{f"providers.{name}": provider.Settings for name, provider in provider_classes().items()},
    "destinations.folder": FolderSettings,
    "destinations.http": HttpSettings,
    "destinations.smartshare": SmartshareSettings,
}
# The kind decides which keys are known, so that it has to be right here.
KEYS = [(table, key) for table, model in TABLES.items() for key in model.model_fields if key != "kind"]


@st.composite
def misspelled_keys(draw: st.DrawFn) -> tuple[str, str, str]:
    """A table, a key of it, and the key with one letter changed, dropped, doubled or added."""
    table, key = draw(st.sampled_from(KEYS))
    at = draw(st.integers(0, len(key) - 1))
    letter = draw(st.sampled_from(string.ascii_lowercase))
    swapped = key[:at] + key[at + 1 : at + 2] + key[at] + key[at + 2 :]
    wrong = draw(
        st.sampled_from(
            [
                key[:at] + letter + key[at + 1 :],
                key[:at] + key[at + 1 :],
                key[:at] + letter + key[at:],
                swapped,
            ]
        )
    )
    assume(wrong not in TABLES[table].model_fields)
    return table, key, wrong


def said_of(text: str, environ: dict[str, str]) -> list[str]:
    """The problems of settings with this file and these variables."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "signspool.toml"
        file.write_text(text)
        with pytest.raises(SettingsError) as caught:
            load_settings(file, environ=environ)
    return str(caught.value).splitlines()


@given(misspelled_keys())
def test_a_key_with_a_wrong_letter_names_the_right_one(misspelled: tuple[str, str, str]) -> None:
    table, key, wrong = misspelled
    kind = f'kind = "{table.split(".")[1]}"\n' if table.startswith("destinations.") else ""
    said = said_of(f"[{table}]\n{kind}{wrong} = 1", {})
    [problem] = [line for line in said if f": {table}.{wrong}: unknown key: did you mean " in line]
    assert key in problem.removesuffix("?").split("did you mean ")[1].split(" or ")


@given(misspelled_keys())
def test_a_variable_with_a_wrong_letter_names_the_right_one(misspelled: tuple[str, str, str]) -> None:
    table, key, wrong = misspelled
    # Two underscores in a row are a border between two parts.
    assume("__" not in wrong and not wrong.startswith("_") and not wrong.endswith("_"))
    prefix = f"SIGNSPOOL_{table.replace('.', '__').upper()}__"
    kind = {prefix + "KIND": table.split(".")[1]} if table.startswith("destinations.") else {}
    said = said_of("", {**kind, prefix + wrong.upper(): "1"})
    [problem] = [line for line in said if "unknown variable: did you mean " in line]
    assert prefix + key.upper() in problem.removesuffix("?").split("did you mean ")[1].split(" or ")


PLACES = ("command line", "environment", "credential", "file")


@given(port_in=st.sets(st.sampled_from(PLACES)), token_in=st.sets(st.sampled_from(PLACES)))
def test_the_strongest_place_wins(port_in: set[str], token_in: set[str]) -> None:
    port_in -= {"credential"}
    ports = {place: 1000 + rank for rank, place in enumerate(PLACES) if place in port_in}
    tokens = {place: place for place in PLACES if place in token_in}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environ: dict[str, str] = {"CREDENTIALS_DIRECTORY": name}
        overrides: dict[str, Any] = {}
        text = ""
        if "command line" in ports:
            overrides["api"] = {"port": ports["command line"]}
        if "command line" in tokens:
            overrides["providers.ssign.token"] = tokens["command line"]
        if "environment" in ports:
            environ["SIGNSPOOL_API__PORT"] = str(ports["environment"])
        if "environment" in tokens:
            environ["SIGNSPOOL_PROVIDERS__SSIGN__TOKEN"] = tokens["environment"]
        if "credential" in tokens:
            (folder / "providers.ssign.token").write_text(tokens["credential"])
        if "file" in ports:
            text += f"[api]\nport = {ports['file']}\n"
        if "file" in tokens:
            text += f'[providers.ssign]\ntoken = "{tokens["file"]}"\n'
        file = folder / "signspool.toml"
        file.write_text(text)
        settings = load_settings(file, environ=environ, overrides=overrides)
    assert settings.api.port == next((ports[place] for place in PLACES if place in ports), 8080)
    section = settings.providers.get("ssign")
    token = section.model_dump()["token"].get_secret_value() if section else None
    assert token == next((tokens[place] for place in PLACES if place in tokens), None)
