"""The committed reference is what the models say, and the example file loads, as it is and uncommented."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shared.providers import provider_classes
from shared.settings import Settings, load_settings
from shared.settings.reference import MARKDOWN_FILE, TOML_FILE, render_markdown, render_toml

RENEW = "renew it: python -m shared.settings.reference"
COMMENTED = re.compile(r"^# (?=\[|[a-z_]+ = )", re.MULTILINE)
HEADER = re.compile(r"^(?:# )?\[([a-z0-9_.]+)\]$", re.MULTILINE)


def load(text: str, folder: Path) -> Settings:
    """The settings of a file with this text."""
    file = folder / "signspool.toml"
    file.write_text(text, encoding="utf-8")
    return load_settings(file, environ={})


def blocks() -> dict[str, str]:
    """The text of each table of the example, header first, by the table's name."""
    text = render_toml()
    found = list(HEADER.finditer(text))
    ends = [following.start() for following in found[1:]] + [len(text)]
    return {header[1]: text[header.start() : end] for header, end in zip(found, ends, strict=True)}


def test_the_example_file_is_up_to_date() -> None:
    assert TOML_FILE.read_text(encoding="utf-8") == render_toml(), RENEW


def test_the_page_is_up_to_date() -> None:
    assert MARKDOWN_FILE.read_text(encoding="utf-8") == render_markdown(), RENEW


def test_the_example_as_it_is_changes_nothing(tmp_path: Path) -> None:
    assert load(render_toml(), tmp_path) == load("", tmp_path)


@pytest.mark.parametrize(
    "table", [name for name in blocks() if name.count(".") < 2 and name != "database.mirror"]
)
def test_a_section_loads_with_every_line_uncommented(table: str, tmp_path: Path) -> None:
    text = "".join(block for name, block in blocks().items() if name == table or name.startswith(f"{table}."))
    uncommented = COMMENTED.sub("", text)
    assert not re.search(r"^# ", uncommented, re.MULTILINE)
    load(uncommented, tmp_path)


def test_everything_uncommented_loads(tmp_path: Path) -> None:
    settings = load(COMMENTED.sub("", render_toml()), tmp_path)
    assert set(settings.providers) == set(provider_classes())
    assert set(settings.destinations) >= {"folder", "http", "s3", "smartshare"}
    assert settings.database.mirror is not None


def test_defaults_are_shown_as_they_work(tmp_path: Path) -> None:
    """A section without examples is the same with every line uncommented."""
    for table in ("processor", "log"):
        uncommented = COMMENTED.sub("", blocks()[table])
        assert load(uncommented, tmp_path) == load("", tmp_path)


def test_every_key_of_every_provider_stands_on_the_page() -> None:
    page = render_markdown()
    for name, provider in provider_classes().items():
        section = page.split(f"## `[providers.{name}]`")[1].split("\n## ")[0]
        for key, field in provider.Settings.model_fields.items():
            assert f"| `{key}` |" in section
            assert field.description
