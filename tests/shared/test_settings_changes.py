"""What differs between two readings of the settings, by its dotted keys; never a value."""

from __future__ import annotations

from shared.settings import changes, load_settings

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
