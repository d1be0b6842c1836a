"""`retention` and `spool verify`: what is over is told, and deleted only when told so; the chain holds."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from processor.alone import alone
from processor.housekeeping import LOCK
from shared.spool import Folder
from tests.signspool.conftest import Place


def days_ago(days: int) -> str:
    return (datetime.now(ZoneInfo("America/Sao_Paulo")).date() - timedelta(days=days)).isoformat()


def test_what_is_over_is_told_and_goes_when_told_so(place: Place) -> None:
    """A dry run, and a call that nobody confirms, delete nothing; the lists are made first."""
    old, young = place.callback("1", folder=Folder.DONE, day=days_ago(120)), days_ago(3)
    place.callback("2", folder=Folder.DONE, day=young)
    place.callback("3", folder=Folder.REFUSED, day=days_ago(40), refusal={"status": 401})
    dry = place.forked("retention", "--dry-run")
    assert dry.code == 0
    assert dry.json["days"] == [
        {"folder": "done", "day": old.day, "files": 1},
        {"folder": "refused", "day": days_ago(40), "files": 1},
    ]
    asked = place.real("retention")
    assert asked.code == 2
    assert f"done/{old.day}: 1 file" in asked.out
    assert place.spool.days(Folder.DONE) == [young, old.day]
    with alone(place.spool.root / LOCK):
        busy = place.forked("retention", "--yes")
    assert "at it at this moment" in busy.err
    assert (busy.code, place.spool.days(Folder.DONE)) == (1, [young, old.day])

    done = place.forked("retention", "--yes")
    assert (done.code, done.json["listed"]) == (0, [old.day, young])
    assert (place.spool.days(Folder.DONE), place.spool.days(Folder.REFUSED)) == ([young], [])
    verified = place.here("spool", "verify", "--json")
    assert verified.code == 0
    assert (verified.json["files"]["expired"], verified.json["files"]["sound"]) == (1, 1)
    assert place.forked("retention", "--dry-run").json["days"] == []


def test_an_altered_file_is_told_by_verify_and_a_broken_chain_by_check(place: Place) -> None:
    entries = [place.callback(str(age), folder=Folder.DONE, day=days_ago(age)) for age in (4, 3, 2)]
    stale = {item["about"]: item for item in place.here("check", "--offline", "--json").json}["evidence"]
    assert (stale["level"], "3 days" in stale["finding"]) == ("warn", True)
    assert place.forked("retention", "--yes").code == 0
    sound = {item["about"]: item for item in place.here("check", "--offline", "--json").json}["evidence"]
    assert (sound["level"], sound["finding"][:7]) == ("ok", "3 lists")
    added = place.file("added.json", b"{}", Folder.DONE, entries[1].day)
    said = place.here("spool", "verify")
    assert said.code == 0
    assert f"done/{added.day}/{added.name}: in no list yet\n" in said.out
    newest = place.spool.folder(Folder.DONE) / f"{entries[2].day}.sha256"
    told = place.here("spool", "verify", "--json").json
    assert told["unlisted"] == [f"{added.day}/{added.name}"]
    assert told["ends_with_sha256"] == hashlib.sha256(newest.read_bytes()).hexdigest()
    assert told["ends_with_sha256"] in said.out
    place.spool.path(Folder.DONE, entries[0]).write_text("{}")
    said = place.here("spool", "verify")
    assert said.code == 1
    assert f"done/{entries[0].day}/{entries[0].name}: was altered" in said.out
    assert place.here("spool", "verify", "--since", days_ago(3)).code == 0
    assert place.here("spool", "verify", "--only-lists").code == 0
    assert place.here("spool", "verify", "--since", "soon").code == 2
    place.spool.folder(Folder.DONE).joinpath(f"{entries[1].day}.sha256").unlink()
    broken = place.here("check", "--offline", "--json")
    assert broken.code == 1
    found = {item["about"]: item for item in broken.json}["evidence"]
    assert (found["level"], entries[1].day in found["finding"]) == ("fail", True)
    assert "signspool spool verify" in found["what_to_do"]
