"""What the door answers, and what it keeps."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
import structlog
from fastapi.openapi.models import OpenAPI

from callback_api.app import create_app
from callback_api.intake import MAX_HEAD_TEXT_BYTES
from shared.body import Encoding
from shared.clock import Clock
from shared.errors import SettingsError
from shared.events import Trust
from shared.providers import AnyProvider
from shared.providers._base import Acknowledgement, Callback, Proof
from shared.providers.ssign import SSign
from shared.record import digest_of
from shared.settings import build_providers
from shared.spool import MARKER, Folder
from tests.callback_api.door import (
    BODY,
    HEADERS,
    SECRET,
    URL,
    contents,
    in_process,
    make_settings,
    paths,
    problem,
    records,
)


def test_a_callback_is_stored_and_answered_with_its_receipt(tmp_path: Path) -> None:
    """The answer names the file, and the file holds everything that was prescribed."""
    settings = make_settings(tmp_path)
    with in_process(settings) as door:
        answer = door.ask(headers={**HEADERS, "User-Agent": "Selbetti/1", "Content-Type": "application/json"})
    assert answer.status_code == 200
    receipt_id = answer.json()["id"]
    assert answer.json() == {"status": "accepted", "id": receipt_id}
    assert UUID(receipt_id).version == 7
    (path,) = paths(settings.spool.root)
    assert path.name == f"155_{receipt_id}.json"
    assert path.parent.name == datetime.now(ZoneInfo("America/Sao_Paulo")).date().isoformat()
    assert b'"originalPayload": ' + BODY in path.read_bytes()
    value = json.loads(path.read_bytes())
    assert (value["envelopeId"], value["action"], value["provider"]) == ("155", "COMPLETED", 1)
    assert value["receipt"] == {
        "id": receipt_id,
        "providerName": "ssign",
        "encoding": "json",
        "sha256": digest_of(BODY),
        "bytes": len(BODY),
        "contentType": "application/json",
        "headers": {"user-agent": "Selbetti/1"},
        "query": {},
        "remoteAddress": "192.0.2.7",
        "trust": "proven",
        "keyId": "default",
        "origin": "callback",
    }


def test_the_vendors_prefix_leads_to_the_same_door(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    with in_process(settings) as door:
        assert door.ask(url="/callbackAPI" + URL).status_code == 200
    assert len(paths(settings.spool.root)) == 1


def test_certisign_gets_its_own_field_and_number(tmp_path: Path) -> None:
    """Its number is 0, which is no reason to leave it out."""
    settings = make_settings(tmp_path, providers=f'[providers.certisign]\nsecret = "{SECRET}"\n')
    with in_process(settings) as door:
        answer = door.ask(
            url="/api/callback?provider=certisign", content=b'{"documentID": 7, "action": "FLOW"}'
        )
    assert answer.status_code == 200
    value = json.loads(contents(settings.spool.root)[0])
    assert (value["documentId"], value["provider"]) == ("7", 0)


@pytest.mark.parametrize(
    "query", ["", "?provider=", "?provider=nobody", "?Provider=ssign", "?provider=nobody&provider=ssign"]
)
def test_without_a_known_provider_nothing_is_kept(tmp_path: Path, query: str) -> None:
    settings = make_settings(tmp_path)
    with in_process(settings) as door:
        answer = door.ask(url=f"/api/callback{query}")
    assert answer.status_code == 400
    assert problem(answer)["type"] == "/problems/unknown-provider"
    assert "nobody" not in answer.text
    assert not paths(settings.spool.root) + paths(settings.spool.root, Folder.REFUSED)


ODD_IDS = [
    "../../etc/passwd",
    "a/b",
    "..",
    ".hidden",
    "-rf",
    "nul\0",
    "new\nline",
    "x" * 5000,
    "😀",
    "\ud800",
    " 155 ",
    "%41",
]


@pytest.mark.parametrize("document_id", ODD_IDS, ids=ascii)
def test_an_odd_id_is_encoded_in_the_name_and_true_in_the_content(tmp_path: Path, document_id: str) -> None:
    settings = make_settings(tmp_path)
    with in_process(settings) as door:
        answer = door.ask(content=json.dumps({"envelopeId": document_id, "action": "A"}).encode())
    assert answer.status_code == 200
    (path,) = paths(settings.spool.root)
    assert path.parent.parent == settings.spool.root / "spool"
    assert len(path.name) < 200
    assert records(settings.spool.root)[0].document_id == document_id


def test_the_longest_id_and_action_that_are_taken(tmp_path: Path) -> None:
    """So many bytes of UTF-8 each."""
    settings = make_settings(tmp_path)
    document_id, action = "é" * (MAX_HEAD_TEXT_BYTES // 2), "A" * MAX_HEAD_TEXT_BYTES
    with in_process(settings) as door:
        assert (
            door.ask(
                content=json.dumps({"envelopeId": document_id, "action": action}, ensure_ascii=False).encode()
            ).status_code
            == 200
        )
    (record,) = records(settings.spool.root)
    assert (record.document_id, record.action) == (document_id, action)


@pytest.mark.parametrize(
    ("body", "content_type", "encoding"),
    [
        (b'\xef\xbb\xbf{"envelopeId": "\xc3\xa9", "action": "A"}', "application/json", Encoding.TEXT),
        (b'{"envelopeId": "\xc3\xa9", "action": "A"}', "text/plain", Encoding.JSON),
        (b'{"envelopeId": "\xe9", "action": "A"}', "application/json; charset=latin-1", Encoding.BASE64),
        ('{"envelopeId": "é", "action": "A"}'.encode("utf-16"), "", Encoding.BASE64),
        (b' \r\n{"envelopeId": "no", "envelopeId": "\\u00e9", "action": "A"}\n\t', "", Encoding.JSON),
    ],
)
def test_unusual_bodies_are_read_and_kept_byte_for_byte(
    tmp_path: Path, body: bytes, content_type: str, encoding: Encoding
) -> None:
    """Byte order mark, text/plain, Latin-1, UTF-16; of duplicate keys the last counts."""
    settings = make_settings(tmp_path)
    with in_process(settings) as door:
        answer = door.ask(content=body, headers={**HEADERS, "Content-Type": content_type})
    assert answer.status_code == 200
    (record,) = records(settings.spool.root)
    assert (record.document_id, record.payload) == ("é", body)
    assert record.receipt is not None
    assert record.receipt.encoding is encoding


def test_every_callback_has_one_log_line_without_its_words(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    with structlog.testing.capture_logs() as lines, in_process(settings) as door:
        receipt_id = door.ask().json()["id"]
        door.ask(headers={})
        door.ask(url="/api/callback?provider=zyx%0Aname")
        (settings.spool.root / MARKER).unlink()
        door.wait_for(503)
        door.ask()
    (stored,) = [line for line in lines if line["event"] == "callback.accepted"]
    assert {key: stored[key] for key in ("provider", "receipt", "status", "bytes")} == {
        "provider": "ssign",
        "receipt": receipt_id,
        "status": 200,
        "bytes": len(BODY),
    }
    assert stored["duration_ms"] > 0
    assert [line["status"] for line in lines if line["event"] == "callback.refused"] == [401, 400]
    assert [line["status"] for line in lines if line["event"] == "callback.unavailable"] == [503]
    assert "COMPLETED" not in repr(lines)
    # A word that no random id can have in it.
    assert "zyx" not in repr(lines)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_handshake_needs_no_secret_and_stores_nothing(tmp_path: Path, method: str) -> None:
    settings = make_settings(tmp_path)
    with in_process(settings) as door:
        answer = door.ask(method, URL)
        assert door.ask(method, "/api/callback").status_code == 400
    assert answer.status_code == 200
    assert answer.text == ('{"status":"ready"}' if method == "GET" else "")
    assert not paths(settings.spool.root)


class Particular(SSign):
    """A provider with words of its own, an own status for the unproven, and a fault."""

    kept_headers = frozenset({"x-kept"})
    kept_query = frozenset({"tenant"})

    def acknowledge(self, receipt_id: str) -> Acknowledgement:
        return Acknowledgement(202, b"OK " + receipt_id.encode(), "text/plain", {"X-Own": "yes"})

    def authenticate(self, callback: Callback) -> Proof:
        if callback.body == b"fault":
            raise KeyError("unforeseen")
        return super().authenticate(callback)


def particular(settings: object) -> dict[str, AnyProvider]:
    (section,) = [provider.settings for provider in build_providers(settings).values()]  # type: ignore[arg-type]
    return {"ssign": Particular("ssign", section)}


def test_a_provider_chooses_its_words_and_what_is_kept(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    with in_process(settings, providers=particular(settings)) as door:
        answer = door.ask(url=f"{URL}&tenant=a&other=b", headers={**HEADERS, "X-Kept": "1", "X-Not": "2"})
    (record,) = records(settings.spool.root)
    assert record.receipt is not None
    assert answer.status_code == 202
    assert answer.text == f"OK {record.receipt.id}"
    assert (answer.headers["content-type"], answer.headers["x-own"]) == ("text/plain", "yes")
    assert (record.receipt.headers, record.receipt.query) == ({"x-kept": "1"}, {"tenant": "a"})


def test_a_fault_of_ours_is_answered_so_that_the_provider_comes_again(tmp_path: Path) -> None:
    """Never 500; the traceback is in the log, not in the answer."""
    settings = make_settings(tmp_path, api='retry_after = "90s"')
    with (
        structlog.testing.capture_logs() as lines,
        in_process(settings, providers=particular(settings)) as door,
    ):
        answer = door.ask(content=b"fault")
        assert door.ask().status_code == 202
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "90"
    assert "unforeseen" not in answer.text
    assert problem(answer)["type"] == "/problems/unavailable"
    (line,) = [line for line in lines if line["event"] == "callback.unavailable"]
    assert isinstance(line["exc_info"], KeyError)


@pytest.mark.parametrize("path", ["/api/callback/", "/callbackAPI/api/callback/"])
def test_a_slash_at_the_end_of_the_path_changes_nothing(tmp_path: Path, path: str) -> None:
    settings = make_settings(tmp_path)
    url = f"{path}?provider=ssign"
    with in_process(settings) as door:
        assert [door.ask(method, url).status_code for method in ("GET", "HEAD", "POST")] == [200, 200, 200]
        assert door.ask("DELETE", url).status_code == 405
    assert len(paths(settings.spool.root)) == 1


def test_no_redirect_leads_to_a_host_that_a_stranger_names(tmp_path: Path) -> None:
    with in_process(make_settings(tmp_path)) as door:
        for path in ("/healthz/", "/readyz/", "/openapi.json/", "/api/callback//"):
            answer = door.ask("GET", f"{path}?secret={SECRET}", headers={"Host": "evil.example"})
            assert (answer.status_code, answer.headers.get("location")) == (404, None)


def test_white_space_around_a_header_value_is_not_part_of_it(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    headers = {"X-Callback-Secret": f"\t {SECRET} \t", "Content-Type": " application/json\t"}
    with in_process(settings) as door:
        assert door.ask(headers=headers).status_code == 200
        assert door.ask(headers={"X-Callback-Secret": f"{SECRET}\xa0".encode("latin-1")}).status_code == 401
    (record,) = records(settings.spool.root)
    assert record.receipt is not None
    assert record.receipt.content_type == "application/json"


def test_unknown_paths_and_methods_are_problems_too(tmp_path: Path) -> None:
    with in_process(make_settings(tmp_path)) as door:
        missing, wrong = door.ask("GET", "/nothing"), door.ask("DELETE", URL)
        assert door.ask("GET", "/docs").status_code == 404
        assert door.ask("GET", "/redoc").status_code == 404
    assert problem(missing)["status"] == 404
    assert problem(wrong)["status"] == 405
    assert "POST" in wrong.headers["allow"]


def test_the_interface_is_described(tmp_path: Path) -> None:
    """A valid OpenAPI document, with every answer that these tests have seen."""
    with in_process(make_settings(tmp_path)) as door:
        document = door.ask("GET", "/openapi.json").json()
    OpenAPI.model_validate(document)
    assert set(document["paths"]) == {"/api/callback", "/callbackAPI/api/callback", "/healthz", "/readyz"}
    post = document["paths"]["/api/callback"]["post"]
    assert set(post["responses"]) == {"200", "400", "401", "405", "408", "413", "422", "503"}
    assert post["parameters"][0]["schema"]["enum"] == ["ssign"]
    identifiers = [part["operationId"] for path in document["paths"].values() for part in path.values()]
    assert len(identifiers) == len(set(identifiers))


def test_the_door_does_not_open_without_a_provider(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, providers=" ")
    with pytest.raises(SettingsError, match="no provider is configured"):
        create_app(settings)


def test_the_door_names_every_provider_that_would_accept_anybody(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, providers="[providers.ssign]\n[providers.certisign]\n")
    with pytest.raises(SettingsError) as caught:
        create_app(settings)
    assert [line.split("]")[0] for line in str(caught.value).splitlines()] == [
        "[providers.certisign",
        "[providers.ssign",
    ]


def test_an_open_provider_is_named_aloud_at_the_start(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, providers='[providers.ssign]\nauthentication = "none"\n')
    with structlog.testing.capture_logs() as lines, in_process(settings) as door:
        assert door.ask(headers={}).status_code == 200
    assert ("warning", "provider.unauthenticated", "ssign") in [
        (line["log_level"], line["event"], line.get("provider")) for line in lines
    ]
    assert records(settings.spool.root)[0].receipt.trust is Trust.OPEN  # type: ignore[union-attr]


def test_midnight_changes_the_folder(tmp_path: Path) -> None:
    """By the spool's zone: three hours after midnight UTC."""
    settings = make_settings(tmp_path)
    now = [datetime(2041, 11, 22, 2, 59, 59, tzinfo=UTC)]
    with in_process(settings, clock=Clock(ZoneInfo("America/Sao_Paulo"), lambda: now[0])) as door:
        door.ask()
        now[0] += timedelta(seconds=1)
        door.ask()
    assert [path.parent.name for path in paths(settings.spool.root)] == ["2041-11-21", "2041-11-22"]
    assert b'"timestamp": "2041-11-21T23:59:59.000000-03:00"' in contents(settings.spool.root)[0]


def test_nothing_is_made_before_the_door_is_started(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    create_app(settings)
    assert sorted(tmp_path.rglob("*")) == before
