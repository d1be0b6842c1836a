"""A lock that one has at a time, and that ends with whoever holds it."""

from __future__ import annotations

from pathlib import Path

import pytest

from processor.alone import alone
from shared.errors import SpoolUnavailableError


def test_one_has_it_at_a_time_and_the_next_once_it_is_let_go(tmp_path: Path) -> None:
    with (
        alone(tmp_path / "lock") as first,
        alone(tmp_path / "lock") as second,
        alone(tmp_path / "b") as other,
    ):
        assert (first, second, other) == (True, False, True)
    with alone(tmp_path / "lock") as third:
        assert third


def test_what_fails_inside_lets_it_go(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="inside"), alone(tmp_path / "lock"):
        raise ValueError("inside")
    with alone(tmp_path / "lock") as again:
        assert again


def test_a_spool_that_fails_is_unavailable_and_not_in_use(tmp_path: Path) -> None:
    (tmp_path / "away").write_text("in the folder's place")
    with pytest.raises(SpoolUnavailableError, match="lock"), alone(tmp_path / "away" / "lock"):
        pytest.fail("nobody can hold it")
