"""Providers, settings and the database by command."""

from __future__ import annotations

import sqlite3
import tomllib

from shared.providers import provider_classes
from shared.settings.reference import render_toml
from signspool.cli import run
from tests.signspool.conftest import MakePlace, Place


def test_every_provider_is_listed_and_explained(place: Place) -> None:
    """The list is the registry; each page has the table of actions and where it was read up."""
    listed = place.here("providers", "ls", "--json").json
    assert [row["name"] for row in listed] == list(provider_classes())
    for name, known in provider_classes().items():
        said = place.here("providers", "show", name)
        assert said.code == 0
        for text in ("Source:", known.title, *known.event_types, *known.references):
            assert text in said.out
        shown = place.here("providers", "show", name, "--json").json
        assert {action: item["event_type"] for action, item in shown["actions"].items()} == {
            action: kind.value for action, kind in known.event_types.items()
        }
    assert place.here("providers", "show", "nobody").code == 1


def test_no_secret_is_ever_shown(make_place: MakePlace) -> None:
    """Neither of a provider, nor of a destination, nor a password in a database address."""
    place = make_place(
        '[providers.certisign.secrets]\nold = "hidden-1"\n'
        '[destinations.dms]\nkind = "http"\nurl = "https://dms.example/x"\ntoken = "hidden-2"\n'
        '[database.mirror]\nurl = "postgresql+psycopg://user:hidden-3@db/x"\nstatement = "SELECT 1"\n'
    )
    outputs = [
        place.here(*command, *form).out
        for command in (
            ["settings", "show"],
            ["providers", "show", "certisign"],
            ["providers", "show", "ssign"],
        )
        for form in ([], ["--json"])
    ]
    for output in outputs:
        assert "hidden-" not in output
        assert "provider-secret" not in output
    assert "user:***@db" in outputs[0]
    assert 'providers.certisign.secrets.old = "********"' in outputs[0]


def test_settings_in_effect_name_their_source(place: Place) -> None:
    """What the file says is there, and the default of what it does not say."""
    shown = place.here("settings", "show", "--json").json
    assert shown["source"] == str(place.config)
    assert shown["settings"]["spool"]["timezone"] == "America/Sao_Paulo"
    assert shown["settings"]["api"]["port"] == 8080
    assert "api.port = 8080" in place.here("settings", "show").out.splitlines()


def test_the_example_is_the_reference(place: Place) -> None:
    """Whole, on standard output, and TOML."""
    place.capture.readouterr()
    assert run(["settings", "--example"]) == 0
    out = place.capture.readouterr().out
    assert out == render_toml()
    tomllib.loads(out)
    assert run(["settings"]) == 2


def test_upgrading_the_tables_is_repeatable(make_place: MakePlace) -> None:
    """Made once, where the spool is; then nothing to do."""
    place = make_place(bare=True)
    said = place.here("db", "upgrade")
    assert said.code == 1
    assert "signspool check" in said.err
    assert not place.spool.root.exists()
    place.spool.initialise()
    assert "from schema none to" in place.here("db", "upgrade").out
    assert "already" in place.here("db", "upgrade").out


def test_tables_of_a_newer_version_are_left_alone(place: Place) -> None:
    """Exit 1, and the message says to install that version."""
    with sqlite3.connect(place.spool.root / "signspool.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    said = place.here("db", "upgrade")
    assert said.code == 1
    assert "newer signspool" in said.err
