"""`documents erase`: nothing personal is left on this machine, and what proves the handling stays."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from processor.daylists import DayLists
from shared.clock import Clock
from shared.spool import Entry, Folder
from tests.meanwhile import right_before
from tests.signspool.conftest import Place

PERSON = "Joana-Marques-Pereira-8471"


def execute(place: Place, *statements: str) -> None:
    engine = create_engine(f"sqlite:///{place.spool.root}/signspool.db")
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def personal(place: Place, document_id: str = "155", folder: Folder = Folder.SPOOL) -> Entry:
    """An entry whose payload names a person."""
    entry = place.callback(document_id, folder=folder, day="2026-11-20")
    path = place.spool.path(folder, entry)
    # Spaced so that size and digest in the receipt no longer matter.
    path.write_text(path.read_text().replace('"COMPLETED"', f'"COMPLETED", "signer": "{PERSON}"', 1))
    return entry


def handled(place: Place) -> None:
    """A document with a person's traces everywhere, of which everything is done."""
    place.here("documents", "register", "ssign", "155", "--ref", f"file_ids={PERSON}", "--dms", f"x={PERSON}")
    personal(place)
    assert place.once().json["recorded"] == 1
    file = place.spool.files / "2026-11-20" / "a" / f"{PERSON}.pdf"
    file.parent.mkdir(parents=True)
    file.write_text(PERSON)
    execute(
        place,
        f"UPDATE outbox SET state = 'done', last_error = '{PERSON}', remote_reference = '/x/{PERSON}.pdf'",
        f"UPDATE events SET message = '{PERSON}'",
        "UPDATE outbox SET task = 'deliver', destination = 'archive'",
        "INSERT INTO files (document_fk, kind, source, name, media_type, size_bytes, sha256, path, spool_id,"
        f" fetched_at) SELECT 1, 'signed', '{PERSON}', '{PERSON}', 'x', 1, 'abc',"
        f" '2026-11-20/a/{PERSON}.pdf', spool_id, recorded_at FROM events",
    )
    assert place.once().code == 0
    assert len(place.names(Folder.DONE)) == 1


def with_person(root: Path) -> list[str]:
    """The files of a spool, the database among them, that still name the person."""
    return sorted(
        str(path.relative_to(root))
        for path in root.rglob("*")
        if PERSON in path.name or (path.is_file() and PERSON.encode() in path.read_bytes())
    )


def test_nothing_personal_is_left_and_the_evidence_stays(place: Place) -> None:
    """In done/, quarantine/, refused/, files/, and in the database file itself with its log."""
    handled(place)
    place.spool.quarantine(personal(place), Folder.SPOOL, {"reason": f"{PERSON} is wrong"})
    personal(place, folder=Folder.REFUSED)
    other = personal(place, "156", Folder.DONE)
    damaged = place.file(place.callback("155").name, f"{{{PERSON}".encode(), Folder.QUARANTINE)
    assert with_person(place.spool.root)
    before = place.here("documents", "show", "ssign", "155", "--json").json

    said = place.here("documents", "erase", "ssign", "155", "--json")
    assert (said.code, said.out) == (2, "")
    dry = place.here("documents", "erase", "ssign", "155", "--dry-run", "--json")
    assert dry.code == 0
    for entry in place.spool.entries(Folder.SPOOL):
        place.spool.remove(entry, Folder.SPOOL)
    # As a daemon does, so that SQLite does not tidy up by itself at the end of the command.
    daemon = sqlite3.connect(place.spool.root / "signspool.db")
    daemon.execute("SELECT * FROM events").fetchall()
    said = place.here("documents", "erase", "ssign", "155", "--yes", "--json")
    assert said.code == 0, said.err
    assert len(said.json["entries"]) == 4
    assert damaged.name in str(said.json["entries"])
    assert (said.json["left"], said.json["elsewhere"]) == ([], [])
    assert [copy["remote_reference"] for copy in said.json["copies"]] == [f"/x/{PERSON}.pdf"]
    place.spool.remove(other, Folder.DONE)
    assert with_person(place.spool.root) == []
    daemon.close()

    shown = place.here("documents", "show", "ssign", "155", "--json").json
    assert shown["erased_at"] is not None
    kept = ("payload_sha256", "outcome", "received_at", "status_after", "receipt_id")
    assert [{name: event[name] for name in kept} for event in shown["events"]] == [
        {name: event[name] for name in kept} for event in before["events"]
    ]
    assert [file["sha256"] for file in shown["files"]] == ["abc"]
    assert "erased" in place.here("documents", "show", "ssign", "155").out
    assert list(shown["entries"].values()) == ["erased on request"]
    # A late repetition finds the document finished, and owes nothing.
    place.callback("155")
    place.once()
    shown = place.here("documents", "show", "ssign", "155", "--json").json
    assert (shown["status"], shown["owed"]) == ("completed", [])


def test_the_lists_of_digests_are_explained_by_a_note_without_anything_personal(place: Place) -> None:
    handled(place)
    [entry] = place.spool.entries(Folder.DONE)
    lists = DayLists(place.spool)
    place.spool.clock = Clock(UTC, lambda: datetime(2026, 11, 23, 12, tzinfo=UTC))
    assert lists.make(threading.Event())
    assert place.here("spool", "verify", "--json").json["files"]["sound"] == 1
    assert place.here("documents", "erase", "ssign", "155", "--yes").code == 0
    said = place.here("spool", "verify", "--json")
    assert (said.code, said.json["files"]["erased"], said.json["faults"]) == (0, 1, [])
    [note] = place.spool.folder(Folder.DONE).glob("*/*.erased")
    assert note.name == entry.name.replace(".json", ".erased")
    value = json.loads(note.read_text())
    assert (value["name"], value["verdict"]) == (entry.name, "done")
    # A note that does not fit explains nothing.
    note.write_text(json.dumps({**value, "sha256": "0" * 64}))
    assert place.here("spool", "verify").code == 1


def test_what_is_owed_or_not_recorded_yet_comes_first(place: Place) -> None:
    """Nothing is erased before; what is owed can be given up in so many words."""
    entry = personal(place)
    said = place.here("documents", "erase", "ssign", "155", "--yes")
    assert said.code == 2
    assert "not recorded yet" in said.err
    told = place.here("documents", "erase", "ssign", "155", "--dry-run").out
    assert f"wait    spool/{entry.day}/{entry.name}: it is not recorded yet" in told
    place.once()
    said = place.here("documents", "erase", "ssign", "155", "--yes")
    assert said.code == 2
    assert "--give-up" in said.err
    assert place.names(Folder.DEFERRED) == [entry.name]
    [lies] = place.here("documents", "show", "ssign", "155", "--json").json["entries"].values()
    assert lies == "deferred/"
    assert place.here("documents", "erase", "ssign", "155", "--yes", "--give-up").code == 0
    assert place.here("deliveries", "ls", "--json").json == []
    assert place.names(Folder.DEFERRED) == []
    assert with_person(place.spool.root) == []
    assert place.once().json["owed"] == {}


def test_a_document_that_is_being_worked_on_is_left_alone(place: Place) -> None:
    personal(place)
    place.once()
    execute(place, "UPDATE outbox SET lease_until = '2999-01-01 00:00:00.000000'")
    said = place.here("documents", "erase", "ssign", "155", "--yes", "--give-up")
    assert said.code == 2
    assert "worked on" in said.err
    assert len(place.names(Folder.DEFERRED)) == 1


def test_an_unknown_document_exits_1_and_one_known_by_its_file_alone_is_erased(place: Place) -> None:
    said = place.here("documents", "erase", "ssign", "777", "--yes")
    assert said.code == 1
    assert "777" in said.err
    personal(place, "778", Folder.REFUSED)
    assert place.here("documents", "erase", "ssign", "778", "--yes").code == 0
    assert place.names(Folder.REFUSED) == []


def test_what_lies_on_another_node_is_named(place: Place) -> None:
    handled(place)
    execute(place, "UPDATE events SET spool_id = 'another'", "UPDATE files SET spool_id = 'another'")
    said = place.here("documents", "erase", "ssign", "155", "--yes")
    assert said.code == 0
    assert "repeat the command on each" in said.err
    [row] = place.here("documents", "show", "ssign", "155", "--json").json["files"]
    assert row["path"] is not None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_would_make_files_that_the_service_cannot_use_is_refused(place: Place) -> None:
    """Run by root on the spool of another user."""
    name = place.callback("155", folder=Folder.REFUSED, refusal={"status": 401}).name
    os.chown(place.spool.root, 65534, -1)
    for command in (["documents", "erase", "ssign", "155"], ["spool", "reverify", "--all"]):
        said = place.here(*command, "--yes")
        assert said.code == 2, command
        assert "sudo -u" in said.err
    assert place.names(Folder.REFUSED) == [name]


def test_erasing_again_changes_nothing(place: Place) -> None:
    handled(place)
    for _ in range(2):
        assert place.here("documents", "erase", "ssign", "155", "--yes").code == 0
    assert len(list(place.spool.folder(Folder.DONE).glob("*/*.erased"))) == 1


def test_a_file_that_is_fetched_while_the_rest_is_erased_goes_too(place: Place) -> None:
    """Its row is emptied, so that nobody would find it any more."""
    handled(place)
    late = place.spool.files / "2026-11-20" / "a" / f"{PERSON}-late.pdf"

    def fetch() -> None:
        late.write_text(PERSON)
        execute(
            place,
            "INSERT INTO files (document_fk, kind, source, name, media_type, size_bytes, sha256, path,"
            f" spool_id, fetched_at) SELECT 1, 'signed', 'late', 'late', 'x', 1, 'abcd',"
            f" '2026-11-20/a/{late.name}', spool_id, fetched_at FROM files",
        )

    done = place.spool.folder(Folder.DONE)
    with right_before("unlink", lambda path: path.is_relative_to(done) and path.suffix == ".json", fetch):
        assert place.here("documents", "erase", "ssign", "155", "--yes").code == 0
    assert not late.exists()
    assert with_person(place.spool.root) == []


def test_a_fetched_file_that_no_row_names_goes_too(place: Place) -> None:
    """As one that a killed processor had fetched, or had delivered, and could not note or delete any more."""
    handled(place)
    folder = place.spool.files / "2026-11-20" / "ssign"
    folder.mkdir(parents=True)
    for name in ("155_signed_1_0123456789ab.pdf", "1556_signed_1_0123456789ab.pdf"):
        (folder / name).write_text(PERSON)
    assert place.here("documents", "erase", "ssign", "155", "--yes").code == 0
    assert [path.name for path in folder.iterdir()] == ["1556_signed_1_0123456789ab.pdf"]
