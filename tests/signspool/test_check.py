"""`signspool check`: what it finds wrong, and that it says what to do."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from shared.spool import MARKER, Folder
from tests.signspool.conftest import MakePlace, Place


def check(place: Place, *arguments: str) -> tuple[int, dict[str, Any]]:
    """The exit code, and the findings by what they are about."""
    said = place.here("check", "--offline", "--json", *arguments)
    return said.code, {finding["about"]: finding for finding in said.json}


def test_a_sound_installation_passes_with_a_line_for_everything(place: Place) -> None:
    """Every part is named once in the table, and the last line counts."""
    said = place.real("check", "--offline")
    assert said.code == 0
    abouts = [
        "settings",
        "spool",
        "file system",
        "writing",
        "free space",
        "clock",
        "database",
        "destinations",
    ]
    for about in [*abouts, "provider ssign", "entries"]:
        assert sum(f"  {about}  " in line for line in said.out.splitlines()) == 1, about
    assert said.out.splitlines()[-1].endswith(" 0 FAIL")
    assert list(place.spool.temporary.iterdir()) == []


def test_a_new_root_is_made_and_the_missing_tables_are_told(make_place: MakePlace) -> None:
    """Nothing at the path: the spool is made. The database is not, since that is another command."""
    place = make_place(bare=True)
    code, found = check(place)
    assert code == 1
    assert (found["spool"]["level"], found["database"]["level"]) == ("ok", "fail")
    assert "signspool db upgrade" in found["database"]["finding"]
    assert (place.spool.root / MARKER).exists()
    assert not (place.spool.root / "signspool.db").exists()


def test_a_root_without_marker_is_made_a_spool_only_on_request(make_place: MakePlace) -> None:
    """It may be the bare mount point of a volume that is away."""
    place = make_place(bare=True)
    place.spool.root.mkdir()
    code, found = check(place)
    assert code == 1
    assert found["spool"]["level"] == "fail"
    assert "--init-spool" in found["spool"]["what_to_do"]
    assert list(place.spool.root.iterdir()) == []
    assert check(place, "--init-spool")[1]["spool"]["level"] == "ok"
    assert (place.spool.root / MARKER).exists()


def test_a_missing_folder_fails_and_is_repaired(place: Place) -> None:
    """The id stays the same."""
    spool_id = place.spool.id()
    place.spool.folder(Folder.DONE).rmdir()
    code, found = check(place)
    assert code == 1
    assert "done" in found["spool"]["finding"]
    assert check(place, "--init-spool")[0] == 0
    assert place.spool.id() == spool_id


def test_a_disk_below_min_free_fails(place: Place) -> None:
    """The door would refuse callbacks."""
    text = place.config.read_text()
    place.config.write_text(text.replace("[spool]", '[spool]\nmin_free = "8000TiB"'))
    code, found = check(place)
    assert code == 1
    assert found["free space"]["level"] == "fail"


def test_folders_on_several_file_systems_fail(place: Place) -> None:
    """A rename between them would not be atomic."""
    elsewhere = Path("/dev/shm")
    if elsewhere.stat().st_dev == place.home.stat().st_dev:
        pytest.skip("this machine has one file system only")
    with tempfile.TemporaryDirectory(dir=elsewhere) as folder:
        place.spool.folder(Folder.DONE).rmdir()
        place.spool.folder(Folder.DONE).symlink_to(folder)
        code, found = check(place)
    assert code == 1
    assert (found["file system"]["level"], found["file system"]["finding"][:4]) == ("fail", "done")


def test_providers_and_destinations_that_cannot_work_fail(make_place: MakePlace) -> None:
    """A shared number, certificates and a folder that are not there."""
    place = make_place('[destinations.archive]\nkind = "folder"\npath = "/nowhere"\n')
    code, found = check(place)
    assert code == 1
    assert found["destination archive"]["level"] == "fail"
    assert "/nowhere is not there" in found["destination archive"]["finding"]
    text = place.config.read_text()
    trusted = 'signatures = "trusted"\nsignature_authorities = "/nowhere/authorities.pem"'
    place.config.write_text(text.replace("[providers.ssign]", f"[providers.ssign]\n{trusted}"))
    found = check(place)[1]
    assert found["provider ssign"]["level"] == "fail"
    assert "correct signature_authorities" in found["provider ssign"]["finding"]
    ca_file = '[providers.ssign]\nca_file = "/nowhere/ca.pem"'
    place.config.write_text(text.replace("[providers.ssign]", ca_file))
    found = check(place)[1]
    assert found["provider ssign"]["level"] == "fail"
    assert "/nowhere/ca.pem" in found["provider ssign"]["finding"]
    place.config.write_text(text.replace("[providers.ssign]", "[providers.ssign]\nnumber = 0"))
    found = check(place)[1]
    assert found["provider ssign"]["level"] == found["provider certisign"]["level"] == "fail"
    assert "shares the number 0" in found["provider ssign"]["finding"]


def test_a_closed_provider_fails_and_an_open_one_warns(place: Place) -> None:
    """No secret at all fails; `authentication = "none"` is allowed, and is said."""
    text = place.config.read_text()
    place.config.write_text(text.replace('secret = "provider-secret-5577"', ""))
    code, found = check(place)
    assert (code, found["provider ssign"]["level"]) == (1, "fail")
    place.config.write_text(text.replace('secret = "provider-secret-5577"', 'authentication = "none"'))
    code, found = check(place)
    assert (code, found["provider ssign"]["level"]) == (0, "warn")


def test_a_provider_of_any_way_of_proof_that_is_open_to_anybody_warns(make_place: MakePlace) -> None:
    """Whether it would prove itself by a secret that it sends, or by one that it signs with."""
    place = make_place('[providers.arqsign]\nauthentication = "none"\n')
    code, found = check(place)
    assert (code, found["provider arqsign"]["level"]) == (0, "warn")
    assert "anybody" in found["provider arqsign"]["finding"]


def test_what_is_no_entry_in_spool_is_named(place: Place) -> None:
    """Three by their path and the rest by number; entries, day folders and half-written files are right."""
    place.callback("1")
    place.file("2.json", b"{}", day="")
    day = place.spool.folder(Folder.SPOOL) / "2026-11-21"
    (day / ".half.json.tmp").touch()
    assert "strays" not in check(place)[1]
    (day / "x.txt").touch()
    (day / "dir.json").mkdir()
    code, found = check(place)
    assert (code, found["strays"]["level"]) == (0, "warn")
    assert set(found["strays"]["finding"].removeprefix("nobody reads ").split(", ")) == {
        "spool/2026-11-21/x.txt",
        "spool/2026-11-21/dir.json/",
    }
    assert "ends in .json" in found["strays"]["what_to_do"]
    (day / "2026-11-21").mkdir()
    (day.parent / "nested").mkdir()
    finding = check(place)[1]["strays"]["finding"]
    assert finding.count("spool/") == 3
    assert finding.startswith("nobody reads spool/nested/, ")
    assert finding.endswith(" and 1 more")


def test_a_root_that_is_a_file_is_said_to_be_one(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without the wish to make it a spool; the file stays."""
    plain = place.home / "plain"
    plain.write_text("mine")
    monkeypatch.setenv("SIGNSPOOL_SPOOL__ROOT", str(plain))
    for arguments in ([], ["--init-spool"]):
        code, found = check(place, *arguments)
        assert (code, found["spool"]["level"]) == (1, "fail")
        assert found["spool"]["finding"] == f"{plain} is a file, not a folder"
    assert plain.read_text() == "mine"


def test_deliveries_that_need_a_person_are_counted_with_the_command_that_lists_them(place: Place) -> None:
    """Held, failed, and owed to a peer that the settings do not name any more; what only waits is not."""
    for number in range(4):
        place.callback(str(number))
    place.once()
    assert "deliveries" not in check(place)[1]
    database = create_engine(f"sqlite:///{place.spool.root}/signspool.db")
    with database.begin() as connection:
        connection.execute(text("UPDATE outbox SET state = 'held' WHERE id = 1"))
        connection.execute(text("UPDATE outbox SET state = 'failed' WHERE id IN (2, 3)"))
        connection.execute(
            text(
                "UPDATE outbox SET destination = 'gone', last_error = 'not configured any more: put it back' "
                "WHERE id = 4"
            )
        )
    database.dispose()
    found = [
        item for item in place.here("check", "--offline", "--json").json if item["about"] == "deliveries"
    ]
    assert [(item["level"], item["finding"]) for item in found] == [
        ("warn", "1 delivery held"),
        ("warn", "2 deliveries failed"),
        ("warn", "1 delivery waiting for gone, which is in no setting any more"),
    ]
    for item, count in zip(found, (1, 2, 1), strict=True):
        command = item["what_to_do"].partition("signspool ")[2].split()
        assert len(place.here(*command, "--json").json) == count


def test_the_companys_table_is_tried_without_being_changed(make_place: MakePlace) -> None:
    """A statement that fits passes and is not executed; another fails; a missing file is not made."""
    place = make_place()
    url = f"sqlite:///{place.home}/company.db"
    place.config.write_text(
        f'{place.config.read_text()}\n[database.mirror]\nurl = "{url}"\n'
        'statement = "DELETE FROM contract WHERE envelope = :document_id OR :occurred_at IS NULL"\n'
    )
    code, found = check(place)
    assert (code, found["company table"]["level"]) == (1, "fail")
    assert not (place.home / "company.db").exists()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE other (id TEXT)"))
    assert "no such table: contract" in check(place)[1]["company table"]["finding"]
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE contract (envelope TEXT)"))
        connection.execute(text("INSERT INTO contract VALUES ('')"))
    assert check(place)[0] == 0
    with engine.begin() as connection:
        assert connection.scalar(text("SELECT count(*) FROM contract")) == 1
    engine.dispose()
