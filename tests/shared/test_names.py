"""File names made of ids that strangers chose."""

from __future__ import annotations

import re
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.names import MAX_ID_BYTES, day_of, encode_id, entry_name, guid_in

GUID = "01906f3e-0000-7000-8000-0123456789ab"
# Surrogates included: JSON can write them, and so an id can hold them.
ids = st.text(st.characters(codec=None, exclude_categories=()), max_size=400)
# Ids that differ only where a careless encoding would merge them.
tricky = st.text("%-.aA0/\0é", max_size=220) | st.text("a", min_size=140, max_size=160)


@given(ids | tricky)
def test_a_name_is_short_plain_and_stays_where_it_is_put(document_id: str) -> None:
    """Under 200 bytes, allowed characters only, never hidden, never an option, never a path."""
    name = entry_name(document_id, GUID)
    assert len(name.encode("ascii")) < 200
    assert re.fullmatch(r"[A-Za-z0-9.%-]*_[0-9a-f-]{36}\.json", name)
    assert not name.startswith((".", "-"))
    assert guid_in(name) == GUID


@given(st.tuples(ids | tricky, ids | tricky))
def test_two_ids_never_share_a_name(pair: tuple[str, str]) -> None:
    one, other = pair
    assert (encode_id(one) == encode_id(other)) == (one == other)


@given(ids | tricky, st.text("ab%-.é", min_size=1, max_size=3))
def test_an_id_and_a_longer_one_never_share_a_name(document_id: str, more: str) -> None:
    """Cut at the limit or not."""
    assert encode_id(document_id) != encode_id(document_id + more)


@pytest.mark.parametrize(
    ("document_id", "encoded"),
    [
        ("155", "155"),
        ("a-b.c", "a-b.c"),
        ("..", "%2E."),
        ("-rf", "%2Drf"),
        ("a/b", "a%2Fb"),
        ("a_b", "a%5Fb"),
        ("é", "%C3%A9"),
        ("a%2Fb", "a%252Fb"),
        ("", ""),
        ("x" * MAX_ID_BYTES, "x" * MAX_ID_BYTES),
    ],
)
def test_how_ids_are_encoded(document_id: str, encoded: str) -> None:
    assert encode_id(document_id) == encoded


def test_a_long_id_that_looks_like_the_name_of_another_has_a_name_of_its_own() -> None:
    """The cut mark cannot be written by an id."""
    cut = encode_id("x" * 500)
    assert len(cut) == MAX_ID_BYTES
    assert encode_id(cut) != cut


@pytest.mark.parametrize("name", ["155.json", f"155_{GUID}", f"155_{GUID}.json.tmp", "155_0190.json", ""])
def test_a_name_of_another_form_has_no_guid(name: str) -> None:
    assert guid_in(name) is None


@pytest.mark.parametrize(
    ("name", "day"),
    [("2026-11-21", date(2026, 11, 21)), ("2026-02-30", None), ("2026-1-2", None), ("x2026-11-21", None)],
)
def test_which_folder_names_are_days(name: str, day: date | None) -> None:
    assert day_of(name) == day
