"""The folders by command: what is listed, shown, moved, deleted and counted."""

from __future__ import annotations

import pytest

from shared.spool import Folder
from tests.meanwhile import right_before
from tests.signspool.conftest import Place


def test_a_listing_says_where_each_entry_lies_and_why(place: Place) -> None:
    """Quarantine by its reason file, refused by its receipt, unreadable files by what is wrong."""
    bad = place.callback("1")
    place.spool.quarantine(bad, Folder.SPOOL, {"reason": "not a spool file"})
    place.callback("2", folder=Folder.REFUSED, refusal={"status": 401, "detail": "the header is wrong"})
    place.file("broken.json", b"{", day="2026-11-20")
    rows = {row["folder"]: row for row in place.here("spool", "ls", "--json").json}
    assert rows["quarantine"]["reason"] == "not a spool file"
    assert rows["refused"]["reason"] == "401 the header is wrong"
    assert rows["spool"]["reason"].startswith("not a spool file: ")
    assert (rows["spool"]["document_id"], rows["spool"]["provider"]) == (None, "?")
    assert rows["refused"]["age_seconds"] >= 60


def test_a_deferred_entry_is_explained_from_the_database(place: Place) -> None:
    """What is owed stands beside the entry, and a database that is away is said and does no harm."""
    place.callback("155")
    assert place.once().json["recorded"] == 1
    [row] = place.here("spool", "ls", "deferred", "--json").json
    assert row["document_id"] == "155"
    assert "fetch (provider:ssign), waiting: " in row["reason"]
    (place.spool.root / "signspool.db").unlink()
    [row] = place.here("spool", "ls", "deferred", "--json").json
    assert row["reason"].startswith("not known: ")


def test_a_listing_is_narrowed_by_provider_document_day_and_age(place: Place) -> None:
    """Each option alone finds exactly its entry; the newest day comes first."""
    old = place.callback("1", age_seconds=7200, day="2026-11-19").name
    other = place.callback("2", provider="certisign").name
    handmade = place.file(
        "by-hand.json",
        b'{"timestamp": "2026-11-21T20:31:05-03:00", "originalPayload": {}, "envelopeId": 3, "action": "X",'
        b' "provider": 1}',
        day="2026-11-20",
    ).name

    def names(*options: str) -> list[str]:
        return [row["name"] for row in place.here("spool", "ls", "spool", "--json", *options).json]

    assert names() == [other, handmade, old]
    assert names("--provider", "certisign") == [other]
    assert names("--provider", "ssign") == [handmade, old]
    assert names("--document", "1") == [old]
    assert names("--document", "3") == [handmade]
    assert names("--day", "2026-11-20") == [handmade]
    assert names("--older-than", "1h30m") == [old]
    assert names("--limit", "1") == [other]
    assert place.here("spool", "ls", "--older-than", "soon").code == 2
    assert place.here("spool", "ls", "--day", "yesterday").code == 2


def test_a_table_for_a_pipe_has_one_whole_line_an_entry(place: Place) -> None:
    """No row is wrapped, only a long id is cut, and what a stranger wrote cannot steer a terminal."""
    long_id = "x" * 140
    name = place.callback(long_id, action="DONE\x1b[2J").name
    lines = place.here("spool", "ls").out.splitlines()
    assert len(lines) == 2
    assert name in lines[1]
    assert f" {'x' * 74}…(140) " in lines[1]
    assert "\x1b" not in lines[1]
    assert "DONE\\x1b[2J" in lines[1]


def test_an_entry_is_shown_by_name_by_guid_and_by_id_with_exact_numbers(place: Place) -> None:
    """The content is shown digit for digit, even where a number is longer than any of the machine's."""
    digits = "9" * 5000
    entry = place.callback("155")
    name = entry.name
    text = place.spool.path(Folder.SPOOL, entry).read_text()
    place.file(name, text.replace('"COMPLETED"}', f'"COMPLETED", "n": {digits}, "f": 1.10}}', 1).encode())
    guid = name.removesuffix(".json").partition("_")[2]
    for asked in (name, guid, guid.upper(), "155", guid[:13]):
        said = place.here("spool", "show", asked)
        assert said.code == 0
        assert f'"n": {digits},' in said.out
        assert '"f": 1.10' in said.out
    shown = place.here("spool", "show", "155", "--json").out
    assert f'"n": {digits},' in shown
    missing = place.here("spool", "show", "nobody")
    assert (missing.code, missing.out) == (1, "")


def test_requeue_moves_entries_back_and_takes_their_reason_away(place: Place) -> None:
    """By name, by id and, with --yes, all at once; a dry run moves nothing."""
    entries = [place.callback(document_id) for document_id in ("1", "2", "3")]
    for entry in entries:
        place.spool.quarantine(entry, Folder.SPOOL, {"reason": "x"})
    said = place.here("spool", "requeue", "--all", "--folder", "quarantine", "--dry-run")
    assert said.code == 0
    assert len(place.names(Folder.QUARANTINE)) == 3
    assert place.here("spool", "requeue", entries[0].name, "2").code == 0
    assert place.names(Folder.SPOOL) == sorted(entry.name for entry in entries[:2])
    assert place.here("spool", "requeue", "--all", "--folder", "quarantine").code == 2
    assert len(place.names(Folder.QUARANTINE)) == 1
    assert place.here("spool", "requeue", "--all", "--folder", "quarantine", "--yes").code == 0
    assert len(place.names(Folder.SPOOL)) == 3
    assert list(place.spool.folder(Folder.QUARANTINE).rglob("*.reason.json")) == []
    missing = place.here("spool", "requeue", "4")
    assert missing.code == 1
    assert "no entry is called 4" in missing.err


def test_requeue_takes_only_the_entries_that_fit(place: Place) -> None:
    """Provider and age narrow `--all`."""
    place.callback("1", folder=Folder.DONE, age_seconds=7200)
    place.callback("2", folder=Folder.DONE)
    place.callback("3", folder=Folder.DONE, age_seconds=7200, provider="certisign")
    options = ("--all", "--folder", "done", "--older-than", "1h", "--provider", "ssign", "--yes")
    assert place.here("spool", "requeue", *options).code == 0
    [name] = place.names(Folder.SPOOL)
    assert name.startswith("1_")


@pytest.mark.parametrize(
    ("option", "value"),
    [("--document", "1"), ("--day", "2026-11-20"), ("--reason", "SHARED number"), ("--older-than", "1h")],
)
def test_what_is_changed_is_chosen_as_what_is_listed(place: Place, option: str, value: str) -> None:
    """Each option alone means exactly one entry, for a look, a count, a requeue and a discard."""
    first = place.callback("1", day="2026-11-20", age_seconds=7200)
    for entry, reason in ((first, "a shared number"), (place.callback("2"), "the header is wrong")):
        place.spool.quarantine(entry, Folder.SPOOL, {"reason": reason})
    [listed] = place.here("spool", "ls", "quarantine", option, value, "--json").json
    assert listed["name"] == first.name
    assert place.here("spool", "shape", "quarantine", option, value, "--json").json["total"] == 1
    chosen = ("--all", "--folder", "quarantine", option, value, "--json")
    place_of_it = f"quarantine/2026-11-20/{first.name}"
    assert place.here("spool", "requeue", *chosen, "--dry-run").json["moved"] == [place_of_it]
    said = place.here("spool", "discard", *chosen, "--yes").json
    assert said == {"deleted": [place_of_it], "gone": [], "unknown": [], "dry_run": False}
    assert len(place.names(Folder.QUARANTINE)) == 1


def test_a_deferred_entry_is_chosen_by_the_reason_that_the_database_tells(place: Place) -> None:
    place.callback("155")
    assert place.once().json["recorded"] == 1
    found = place.here("spool", "ls", "deferred", "--reason", "fetch (provider:ssign)", "--json").json
    assert [row["document_id"] for row in found] == ["155"]
    assert place.here("spool", "ls", "deferred", "--reason", "deliver (", "--json").json == []


def test_requeue_refuses_what_the_door_refused_and_what_is_not_clear(place: Place) -> None:
    """Nothing moves; the exit code is that of wrong use."""
    name = place.callback("1", folder=Folder.REFUSED, refusal={"status": 401}).name
    for arguments in (
        ["--all", "--folder", "refused"],
        [name],
        [],
        ["--all"],
        ["1", "--all", "--folder", "quarantine"],
    ):
        assert place.here("spool", "requeue", *arguments).code == 2, arguments
    assert place.names(Folder.REFUSED) == [name]


def test_a_requeued_entry_is_recorded_again_without_effect(place: Place) -> None:
    """The real processor finds it known, and the history has each event once."""
    place.callback("155")
    assert place.once().json["recorded"] == 1
    assert place.real("spool", "requeue", "155").code == 0
    assert place.once().json["recorded"] == 1
    shown = place.here("documents", "show", "ssign", "155", "--json").json
    assert len(shown["events"]) == 1
    assert len(place.names(Folder.DEFERRED)) == 1


def test_discard_deletes_only_with_yes_and_only_from_two_folders(place: Place) -> None:
    """Without --yes nothing happens; an entry of another folder is not found."""
    name = place.callback("1", folder=Folder.REFUSED).name
    kept = place.callback("2", folder=Folder.DONE).name
    assert place.here("spool", "discard", name).code == 2
    assert place.here("spool", "discard", name, "--dry-run").code == 0
    assert place.names(Folder.REFUSED) == [name]
    assert place.here("spool", "discard", name, "--yes").code == 0
    assert place.names(Folder.REFUSED) == []
    assert place.here("spool", "discard", kept, "--yes").code == 1
    assert place.here("spool", "discard", "--all", "--folder", "done", "--yes").code == 2
    assert place.names(Folder.DONE) == [kept]


def test_a_part_of_a_name_has_three_characters(place: Place) -> None:
    """Fewer would show nearly everything; a whole id of one character is found all the same."""
    place.callback("7")
    place.callback("155")
    for part in ("", "_", "15"):
        said = place.here("spool", "show", part)
        assert (said.code, said.out) == (2, ""), part
        assert "at least 3 characters" in said.err
    assert [item["document_id"] for item in place.here("spool", "show", "7", "--json").json] == ["7"]
    assert [item["document_id"] for item in place.here("spool", "show", "155_", "--json").json] == ["155"]


def test_the_longest_name_stands_whole_in_a_listing(place: Place) -> None:
    """It is what people type next; the other rows are not widened by it beyond a column's width of 80."""
    long = place.callback("a" * 150)
    short = place.callback("1")
    other, first = sorted(place.here("spool", "ls").out.splitlines()[1:], key=len)
    assert f"  {long.name}  " in first
    assert "…(150)" in first
    assert f"  {short.name.ljust(80)}  1" in other


def test_shape_counts_by_provider_and_age(place: Place) -> None:
    """Each entry is in the bucket of its age in minutes; totals agree."""
    for minutes in (1, 6, 15, 2000):
        place.callback(str(minutes), age_seconds=60 * minutes)
    place.callback("c", provider="certisign", age_seconds=60 * 100)
    shape = place.here("spool", "shape", "--json").json
    assert shape["providers"]["ssign"] == {"total": 4, "counts": [1, 1, 1, 0, 0, 0, 0, 0, 0, 1]}
    assert shape["providers"]["certisign"]["counts"][5] == 1
    assert (shape["total"], sum(shape["counts"])) == (5, 5)
    lines = place.here("spool", "shape").out.splitlines()
    assert lines[1].split()[:2] == ["TOTAL", "5"]
    assert lines[2].split()[:2] == ["ssign", "4"]
    assert place.here("spool", "shape", "deferred", "--json").json["total"] == 0


def test_what_is_no_plain_file_does_not_stop_a_listing(place: Place) -> None:
    """A link, a pipe and a folder lie among the entries; the listing says so and goes on."""
    place.callback("1")
    day = place.spool.folder(Folder.SPOOL) / "2026-11-21"
    (day / "link.json").symlink_to("/etc/hostname")
    (day / "gone.json").symlink_to("/nowhere")
    (day / "folder.json").mkdir()
    rows = place.here("spool", "ls", "--json").json
    problems = {row["name"]: row["reason"] for row in rows if row["document_id"] is None}
    assert problems == {"link.json": "not a plain file", "gone.json": "not a plain file"}


def test_an_entry_that_somebody_puts_back_before_it_is_discarded_is_not_said_to_be_deleted(
    place: Place,
) -> None:
    entry = place.callback("1")
    place.spool.quarantine(entry, Folder.SPOOL, {"reason": "wrong"})
    path = place.spool.path(Folder.QUARANTINE, entry)
    back = place.spool.path(Folder.SPOOL, entry)
    with right_before("unlink", lambda gone: gone == path, lambda: path.rename(back)):
        said = place.here("spool", "discard", "1", "--yes", "--json")
    assert (said.json["deleted"], said.json["gone"]) == ([], [f"quarantine/{entry.day}/{entry.name}"])
    assert "somebody else moved it" in said.err
    assert place.names(Folder.SPOOL) == [entry.name]
