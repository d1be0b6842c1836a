"""A database file that somebody moved away beside a processor that runs: nobody is told to make another."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from shared.settings import load_settings
from tests.signspool.conftest import Place


@pytest.fixture
def away(place: Place) -> Iterator[tuple[Path, Path]]:
    """The file, while somebody has it open, and where it was moved to."""
    file = Path(load_settings(place.config, environ={}).database_url.database or "")
    with closing(sqlite3.connect(file)) as processor:
        processor.execute("PRAGMA journal_mode = WAL")
        processor.execute("CREATE TABLE other (x)")
        processor.commit()
        yield file, file.rename(file.with_name("gone.db"))


@pytest.mark.parametrize(
    "command", [("db", "upgrade"), ("check", "--offline"), ("documents", "ls")], ids=lambda words: words[0]
)
def test_each_command_says_that_it_was_taken_away_and_makes_none(
    place: Place, away: tuple[Path, Path], command: tuple[str, ...]
) -> None:
    said = place.here(*command)
    assert said.code != 0
    # A table may break it over lines.
    words = " ".join(f"{said.out} {said.err}".split())
    assert f"the database {away[0]} was taken away" in words
    assert "db upgrade" not in words
    assert not away[0].exists()


def test_once_it_is_back_all_is_well(place: Place, away: tuple[Path, Path]) -> None:
    file, gone = away
    gone.rename(file)
    assert place.here("db", "upgrade").code == 0
    assert place.here("documents", "ls").code == 0
