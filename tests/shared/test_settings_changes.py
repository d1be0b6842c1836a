"""What differs between two readings of the settings, by its dotted keys; never a value."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import SettingsError
from shared.settings import changes, expect_same_file, load_settings

OLD = {
    "spool": {"root": "/a"},
    "api": {"trusted_proxies": ["127.0.0.1"]},
    "providers": {"ssign": {"secret": "one"}, "certisign": {"secret": "kept"}},
    "destinations": {"archive": {"kind": "folder", "path": "/archive"}},
}


def test_the_same_settings_differ_in_nothing() -> None:
    old, new = (load_settings(environ={}, overrides=OLD) for _ in range(2))
    assert changes(old, new) == []


def test_each_key_that_differs_is_named_and_a_section_that_came_or_went_once() -> None:
    new = {
        "spool": {"root": "/b"},
        "api": {"trusted_proxies": []},
        "providers": {"ssign": {"secret": "two"}, "restpki": {"secrets": {"a": "three"}}},
        "destinations": {"archive": {"kind": "http", "url": "https://example.com/"}},
        "processor": {"batch": 7},
    }
    found = changes(load_settings(environ={}, overrides=OLD), load_settings(environ={}, overrides=new))
    assert found == [
        "api.trusted_proxies",
        "destinations.archive",
        "processor.batch",
        "providers.certisign",
        "providers.restpki",
        "providers.ssign.secret",
        "spool.root",
    ]


def test_settings_whose_file_is_gone_are_not_those_of_another_or_of_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    without = load_settings(environ={})
    file = tmp_path / "signspool.toml"
    file.write_text("")
    found = load_settings(environ={})
    expect_same_file(without, found)
    expect_same_file(found, load_settings(environ={}))
    file.unlink()
    with pytest.raises(SettingsError, match=r"signspool\.toml is gone: put it back, or restart"):
        expect_same_file(found, load_settings(environ={}))
