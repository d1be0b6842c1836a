"""The note of what is in hand: read again after a death, whole or torn."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from processor.inhand import InHand
from shared.errors import SpoolUnavailableError
from shared.spool import Entry

ONE, OTHER = Entry("2041-11-21", "1_a.json"), Entry("2041-11-21", "2_b.json")


@pytest.fixture
def note(tmp_path: Path) -> Path:
    return tmp_path / ".in-hand.json"


def after_a_death(note: Path) -> InHand:
    in_hand = InHand(note)
    in_hand.after_start()
    return in_hand


def test_what_was_in_hand_at_a_death_is_suspected(note: Path) -> None:
    InHand(note).take([ONE, OTHER])
    assert after_a_death(note).suspects == [ONE, OTHER]


def test_a_shorter_note_takes_the_place_of_a_longer_one(note: Path) -> None:
    in_hand = InHand(note)
    in_hand.take([ONE, OTHER])
    in_hand.take([OTHER])
    assert after_a_death(note).suspects == [OTHER]
    in_hand.nothing()
    assert json.loads(note.read_text()) == []


def test_the_rest_of_an_older_note_behind_a_newer_one_counts_for_nothing(note: Path) -> None:
    """As after a death between writing the note and cutting off what stood there before."""
    in_hand = InHand(note)
    in_hand.take([ONE, OTHER])
    longer = note.read_bytes()
    in_hand.take([OTHER])
    shorter = note.read_bytes()
    note.write_bytes(shorter + longer[len(shorter) :])
    assert after_a_death(note).suspects == [OTHER]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[[",
        b'[["2041-11-21", "1_a',
        b'[["2041-11-21", "a", "b.json", 0]]',
        b"[1]",
        b'[["", "a", "b"]]',
        b'["\xff',
    ],
)
def test_a_torn_note_announces_work_that_had_not_begun(note: Path, content: bytes) -> None:
    note.write_bytes(content)
    assert after_a_death(note).suspects == []


def test_three_deaths_make_a_killer_and_a_suspicion_outlives_a_quiet_time(note: Path) -> None:
    InHand(note).take([ONE])
    for _ in range(2):
        in_hand = after_a_death(note)
        assert in_hand.suspects == [ONE]
        in_hand.nothing()
        in_hand.take(in_hand.suspects)
    in_hand = after_a_death(note)
    assert (in_hand.suspects, in_hand.killers) == ([], [ONE])
    in_hand.put_down(ONE)
    assert in_hand.killers == []


def test_a_note_that_cannot_be_written_is_said(note: Path) -> None:
    note.mkdir()
    with pytest.raises(SpoolUnavailableError, match="note what is in hand"):
        InHand(note).take([ONE])
