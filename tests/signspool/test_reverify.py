"""Refused callbacks judged again by command: who gets in, where, and what is said of the others."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from shared.clock import Clock
from shared.events import Trust
from shared.record import parse_record
from shared.settings import load_settings
from shared.spool import Entry, Folder
from tests.callback_api.door import in_process
from tests.signspool.conftest import MakePlace, Place

RIGHT, WRONG = "the-right-secret-4417", "a-wrong-secret-9981"
SIGNED = f'[providers.arqsign]\nsecret = "{WRONG}"\n'
BODY = b'{"idProcesso": "p-1", "idStatus": 4}'
CAME_AT = datetime(2026, 11, 20, 1, 30, tzinfo=UTC)
DAY = "2026-11-19"
"""In the zone of the place, three hours west."""


def hmac_of(body: bytes, secret: str = RIGHT) -> str:
    return base64.b64encode(hmac.digest(secret.encode(), body, hashlib.sha256)).decode()


def send(place: Place, provider: str, body: bytes, **headers: str) -> int:
    """Send a callback to a door with the settings of the place, days ago; the status of the answer."""
    clock = Clock(ZoneInfo("America/Sao_Paulo"), lambda: CAME_AT)
    with in_process(load_settings(place.config), clock=clock) as door:
        answer = door.ask(url=f"/api/callback?provider={provider}", content=body, headers=headers)
    return answer.status_code


def correct(place: Place, old: str, new: str) -> None:
    text = place.config.read_text()
    assert old in text
    place.config.write_text(text.replace(old, new))


def test_a_signed_callback_gets_in_once_the_secret_is_right(make_place: MakePlace) -> None:
    """Under the day it came, with its first id; the processor records it as proven, once."""
    place = make_place(SIGNED)
    assert send(place, "arqsign", BODY, HMAC=hmac_of(BODY)) == 400
    [name] = place.names(Folder.REFUSED)
    said = place.here("spool", "reverify", "p-1", "--json")
    assert (said.code, said.json["judged"][0]["judgement"]) == (1, "refused")
    assert place.names(Folder.REFUSED) == [name]

    correct(place, WRONG, RIGHT)
    tried = place.here("spool", "reverify", "--all", "--dry-run", "--json")
    assert (tried.code, tried.json["judged"][0]["entry"]) == (0, f"spool/{DAY}/{name}")
    assert place.names(Folder.SPOOL) == []
    copy = place.spool.read(Folder.REFUSED, Entry(DAY, name))
    said = place.here("spool", "reverify", "--all", "--provider", "arqsign", "--yes", "--json")
    assert (said.code, said.json["judged"][0]["trust"]) == (0, "proven")
    assert place.names(Folder.REFUSED) == []

    record = parse_record(place.spool.read(Folder.SPOOL, Entry(DAY, name)))
    assert record.receipt is not None
    assert record.receipt.judged_again is not None
    assert record.receipt.judged_again["status"] == 400
    assert (record.payload, record.received_at) == (BODY, CAME_AT)
    assert (record.receipt.trust, record.receipt.refusal) == (Trust.PROVEN, None)
    # Death between the two steps leaves both files.
    place.file(name, copy, Folder.REFUSED, DAY)
    assert place.once().json["recorded"] == 1
    assert place.here("spool", "reverify", "--all", "--yes").code == 0
    assert place.once().json["recorded"] == 1
    events = place.here("documents", "show", "arqsign", "p-1", "--json").json["events"]
    assert [(event["trust"], event["origin"]) for event in events] == [("proven", "callback")]


@pytest.mark.parametrize("encoded", [RIGHT, WRONG, base64.b64encode(b"k" * 32).decode(), "x" * 5000])
def test_no_secret_is_kept_even_where_it_stands_in_place_of_the_hmac(
    make_place: MakePlace, encoded: str
) -> None:
    """A sender who mistakes the scheme may send the secret itself. What is ours is known by its value."""
    place = make_place(SIGNED)
    known = base64.b64encode(b"k" * 32).decode()
    correct(place, f'secret = "{WRONG}"', f'secrets = {{ "1" = "{WRONG}", "2" = "{known}" }}')
    assert send(place, "arqsign", BODY, HMAC=encoded) == 400
    [path] = place.spool.folder(Folder.REFUSED).rglob("*.json")
    assert encoded not in path.read_text()
    [judged] = place.here("spool", "reverify", "--all", "--yes", "--json").json["judged"]
    assert judged["judgement"] == "unjudgeable"
    assert "holds no HMAC" in judged["reason"]


def test_what_was_proven_by_a_secret_that_is_not_kept_needs_somebody_to_vouch(place: Place) -> None:
    """It is said that nothing can be judged; a vouched callback is marked for good."""
    body = b'{"envelopeId": 155, "action": "COMPLETED"}'
    assert send(place, "ssign", body, **{"X-Callback-Secret": RIGHT}) == 401
    correct(place, "provider-secret-5577", RIGHT)
    said = place.here("spool", "reverify", "155")
    assert said.code == 1
    assert "unjudgeable" in said.out
    assert "secrets are not kept" in said.out
    refused = place.here("spool", "reverify", "155", "--vouch")
    assert (refused.code, refused.out) == (2, "")
    [judged] = place.here("spool", "reverify", "155", "--vouch", "--dry-run", "--json").json["judged"]
    assert (judged["judgement"], place.names(Folder.SPOOL)) == ("vouched", [])
    assert place.here("spool", "reverify", "155", "--vouch", "--yes").code == 0
    assert place.once().json["recorded"] == 1
    [event] = place.here("documents", "show", "ssign", "155", "--json").json["events"]
    assert (event["trust"], event["outcome"]) == ("vouched", "applied")


def test_vouching_lets_in_nothing_that_was_judged_to_be_wrong_or_is_not_whole(make_place: MakePlace) -> None:
    """A wrong HMAC, a body that was cut, a copy that somebody changed, and one without id."""
    place = make_place(f"{SIGNED}\n[providers.restpki]\nsecret = '{WRONG}'\n")
    correct(place, "[spool]", '[spool]\nrefused_max_bytes = "60B"')
    assert send(place, "arqsign", BODY, HMAC=hmac_of(BODY, "nobody's")) == 400
    assert send(place, "ssign", b'{"envelopeId": 1, "action": "' + b"A" * 60 + b'"}') == 401
    assert send(place, "ssign", b'{"envelopeId": 2, "action": "COMPLETED"}') == 401
    assert send(place, "ssign", b'{"action": "COMPLETED"}') == 401
    [changed] = place.spool.folder(Folder.REFUSED).rglob("2_*.json")
    changed.write_text(changed.read_text().replace("COMPLETED", "CANCELLED"))
    said = place.here("spool", "reverify", "--all", "--vouch", "--yes", "--json")
    assert said.code == 1
    reasons = {row["document_id"] or row["judgement"]: row["reason"] for row in said.json["judged"]}
    assert "is wrong" in reasons["p-1"]
    assert "only 60 of its" in reasons["unjudgeable"]
    assert "somebody changed" in reasons["2"]
    assert "envelopeId is missing" in reasons["refused"]
    assert (len(place.names(Folder.REFUSED)), place.names(Folder.SPOOL)) == (4, [])


def test_a_body_that_the_settings_now_understand_gets_in_with_the_proof_it_came_with(
    make_place: MakePlace,
) -> None:
    """Although the secret that proved it is not kept, and is another one by now."""
    place = make_place(f'[providers.arqsign]\nsecrets = {{ "2026-10" = "{RIGHT}" }}\n')
    body = b'{"processo": "p-2", "idStatus": 4}'
    assert send(place, "arqsign", body, HMAC=hmac_of(body)) == 422
    correct(place, f'"2026-10" = "{RIGHT}"', f'"2026-11" = "{WRONG}"')
    assert place.here("spool", "reverify", "--all", "--yes").code == 1
    correct(place, "[providers.arqsign]", '[providers.arqsign]\nid_fields = ["processo"]')
    assert place.here("spool", "reverify", "--all", "--yes").code == 0
    [name] = place.names(Folder.SPOOL)
    assert name.startswith("p-2_")
    record = parse_record(place.spool.read(Folder.SPOOL, Entry(DAY, name)))
    assert record.receipt is not None
    assert (record.receipt.trust, record.receipt.key_id) == (Trust.PROVEN, "2026-10")


def test_a_copy_that_cannot_be_let_in_stays(make_place: MakePlace) -> None:
    """The spool's disk fails: exit 1, and the next try finds it where it was."""
    place = make_place(SIGNED)
    send(place, "arqsign", BODY, HMAC=hmac_of(BODY))
    correct(place, WRONG, RIGHT)
    in_the_way = place.spool.folder(Folder.SPOOL) / DAY
    in_the_way.write_text("a file where the day folder belongs")
    said = place.here("spool", "reverify", "--all", "--yes")
    assert said.code == 1
    assert "is still there" in said.err
    in_the_way.unlink()
    assert len(place.names(Folder.REFUSED)) == 1
    assert place.here("spool", "reverify", "--all", "--yes").code == 0
    assert list(Path(place.spool.temporary).iterdir()) == []


def test_judging_all_of_them_needs_a_yes_and_unknown_names_are_told(make_place: MakePlace) -> None:
    place = make_place(SIGNED)
    send(place, "arqsign", BODY, HMAC=hmac_of(BODY))
    said = place.here("spool", "reverify", "--all")
    assert (said.code, said.out) == (2, "")
    assert "1 entry" in said.err
    said = place.here("spool", "reverify", "nobody")
    assert said.code == 1
    assert "no entry is called nobody" in said.err
    assert place.here("spool", "reverify").code == 2


def test_a_provider_that_is_closed_or_gone_lets_nobody_in(make_place: MakePlace) -> None:
    place = make_place(SIGNED)
    send(place, "arqsign", BODY, HMAC=hmac_of(BODY))
    correct(place, f'secret = "{WRONG}"', "")
    [judged] = place.here("spool", "reverify", "--all", "--vouch", "--yes", "--json").json["judged"]
    assert (judged["judgement"], judged["entry"]) == ("refused", None)
    # An open one would take anybody; it is closed as long as its settings contradict themselves.
    correct(place, "[providers.arqsign]", f'[providers.arqsign]\nauthentication = "none"\nsecret = "{WRONG}"')
    [judged] = place.here("spool", "reverify", "--all", "--vouch", "--yes", "--json").json["judged"]
    assert (judged["judgement"], judged["entry"]) == ("refused", None)
    correct(place, "[providers.arqsign]", "")
    correct(place, f'authentication = "none"\nsecret = "{WRONG}"', "")
    [judged] = place.here("spool", "reverify", "--all", "--vouch", "--yes", "--json").json["judged"]
    assert (judged["judgement"], judged["entry"]) == ("unjudgeable", None)
    assert json.dumps(judged).count("add [providers.") == 1
