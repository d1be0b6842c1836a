"""The story, end to end: real processes, real HTTP, real files, both databases."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, text

from shared.spool import Folder
from simulator.restpki import RestPki
from simulator.restpki_shapes import Document, Shape
from simulator.server import SimulatorServer
from simulator.weather import Storm, StormKind
from simulator.world import World
from tests.conftest import make_database
from tests.installation import SECRET, Installation


def dms_of(document_id: object) -> dict[str, str]:
    """DMS references; the flow has the document's number, so that SmartShare's side can be told apart."""
    flow = {"cdFluxo": str(document_id), "cdTarefa": "5", "cdTipoAnexo": "3"}
    return {**flow, "dsEmailExecutor": "integracao@example.com"}


def attachments(peers: World, document_id: object) -> list[str]:
    """Digests of what SmartShare was given for a document."""
    return [
        found.file.sha256
        for found in peers.smartshare.attachments
        if found.values["cdFluxo"] == str(document_id)
    ]


def advances(peers: World, document_id: object) -> int:
    """How often SmartShare advanced a document's workflow."""
    return sum(found["cdFluxo"] == str(document_id) for found in peers.smartshare.advances)


@pytest.fixture(scope="module")
def world() -> Iterator[tuple[World, str]]:
    """The simulated providers and SmartShare; tests tell their envelopes apart by id."""
    with SimulatorServer() as server:
        yield server.world, server.url


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shared_installation(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, world: tuple[World, str]
) -> Iterator[Installation]:
    """One installation for all stories of a database, since starting processes is what takes the time."""
    home = tmp_path_factory.mktemp("walk")
    with make_database(request.param, home, request) as url:
        yield from _installed(home, world[1], url)


@pytest.fixture
def installation(shared_installation: Installation, world: tuple[World, str]) -> Installation:
    world[0].weather.clear()
    return shared_installation


@pytest.fixture
def own_installation(
    tmp_path: Path, world: tuple[World, str], request: pytest.FixtureRequest
) -> Iterator[Installation]:
    """An installation whose processes a test may end; SQLite."""
    with make_database("sqlite", tmp_path, request) as url:
        yield from _installed(tmp_path, world[1], url)


def _installed(home: Path, peers: str, url: URL) -> Iterator[Installation]:
    (home / "archive").mkdir()
    made = Installation(home, peers, url)
    made.start("api", "processor")
    made.wait(lambda: "processor.started" in made.log("processor"), "the processor to be ready")
    yield made
    made.close()


def register(installation: Installation, provider: str, document_id: object, **refs: str) -> None:
    installation.register(provider, document_id, dms_of(document_id), **refs)


def register_by_command(installation: Installation, provider: str, document_id: object, **refs: str) -> None:
    arguments = [f"--ref={name}={value}" for name, value in refs.items()]
    arguments += [f"--dms={name}={value}" for name, value in dms_of(document_id).items()]
    installation.run("documents", "register", provider, str(document_id), *arguments, check=True)


def show_by_command(installation: Installation, provider: str, document_id: object) -> dict[str, Any]:
    found = installation.run("documents", "show", provider, str(document_id), "--json", check=True)
    shown: dict[str, Any] = json.loads(found.stdout)
    return shown


def test_a_callback_becomes_a_status_and_a_delivered_signed_file(
    installation: Installation, world: tuple[World, str]
) -> None:
    peers, _ = world
    envelope = peers.ssign.send(files=2)
    register_by_command(installation, "ssign", envelope.id, file_ids=",".join(map(str, envelope.file_ids)))
    peers.weather.add(Storm("smartshare", StormKind.STATUS, status=503, retry_after_seconds=0, times=1))

    answer = installation.post("ssign", peers.ssign.complete(envelope.id))
    assert answer.status_code == 200
    assert answer.json()["status"] == "accepted"
    installation.wait_until_settled()

    shown = show_by_command(installation, "ssign", envelope.id)
    assert shown["status"] == "completed"
    assert [event["receipt_id"] for event in shown["events"]] == [answer.json()["id"]]
    assert {item["state"] for item in shown["deliveries"]} == {"done"}
    served = {peers.ssign.signed[file_id].sha256 for file_id in envelope.file_ids}
    assert sorted(attachments(peers, envelope.id)) == sorted(served)
    archived = (installation.home / "archive" / "ssign" / str(envelope.id)).rglob("*.pdf")
    assert sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in archived) == sorted(served)
    assert advances(peers, envelope.id) == 1
    assert [folder for folder, _ in installation.spool.find(answer.json()["id"])] == [Folder.DONE]


def test_certisign_is_number_zero_and_its_package_comes_by_chave(
    installation: Installation, world: tuple[World, str]
) -> None:
    peers, _ = world
    document = peers.certisign.send(steps=1, signers=1)
    register(installation, "certisign", document.id, chave=document.chave)
    for body in peers.certisign.play(document.id, "ACTION"):
        assert installation.post("certisign", body).status_code == 200
    installation.wait_until_settled()
    shown = installation.show("certisign", str(document.id))
    assert shown["status"] == "completed"
    assert len(attachments(peers, document.id)) == 1
    assert advances(peers, document.id) == 1
    files = list(installation.spool.folder(Folder.DONE).rglob(f"{document.id}_*.json"))
    assert {json.loads(path.read_text())["provider"] for path in files} == {0}


def test_rest_pki_core_completes_one_document_however_often_and_in_whatever_shape_it_calls(
    installation: Installation, world: tuple[World, str]
) -> None:
    """Basic in the header `Authentication`, relative links, the first of them stale, nothing registered but
    where the file goes."""
    peers, _ = world
    restpki = peers.restpki
    restpki.authentication, restpki.scheme_header = "basic", "Authentication"
    restpki.webhook_secret, restpki.relative_links = f"lacuna:{SECRET}", True
    document = restpki.send("Ação 1.pdf", metadata={"envelope-id": ["4711"]})
    flow = flow_of(document)
    installation.register("restpki", document.id, dms_of(flow))

    peers.weather.add(Storm("restpki", StormKind.STATUS, path="signed-file", status=403))
    for shape in (Shape.OLD, Shape.CURRENT, Shape.CURRENT):
        restpki.shape = shape
        body = restpki.complete(document.id)
        assert installation.post("restpki", body, **restpki.webhook_headers).status_code == 200
    installation.wait_until_settled()

    shown = show_by_command(installation, "restpki", document.id)
    assert shown["status"] == "completed"
    assert [event["outcome"] for event in shown["events"]] == ["applied", "repeated", "repeated"]
    assert shown["learned"] == {"document_key": document.key, "metadata.envelope-id": "4711"}
    signed = document.files["signed-file"].sha256
    assert attachments(peers, flow) == [signed]
    assert advances(peers, flow) == 1
    [archived] = (installation.home / "archive" / "restpki" / document.id).glob("*.pdf")
    assert archived.name == "Ação 1.pdf"
    assert hashlib.sha256(archived.read_bytes()).hexdigest() == signed
    asked = [request.path.rpartition("/")[2] for request in peers.requests_to("restpki", document.id)]
    assert asked == [document.id, "signed-file", document.id, "signed-file"]
    receipts = [
        json.loads(path.read_text())["receipt"]
        for path in installation.spool.folder(Folder.DONE).rglob(f"{document.id}_*.json")
    ]
    assert [(receipt["trust"], receipt["keyId"]) for receipt in receipts] == [("proven", "2026-11")] * 3
    assert_no_secret_is_written(installation, restpki)


def flow_of(document: Document) -> int:
    """The flow of a document whose id is no number."""
    return int(document.id[:8], 16)


def assert_no_secret_is_written(installation: Installation, restpki: RestPki) -> None:
    """No secret of a callback in any file, and no ticket of a link in any log or reason."""
    sent = restpki.webhook_headers["Authentication"].split()[1]
    written = [path for path in installation.home.rglob("*") if path.suffix in (".json", ".log")]
    for path in written:
        content = path.read_bytes()
        assert not [word for word in (SECRET, sent, restpki.token) if word.encode() in content], path
        if path.suffix == ".log" or path.name.endswith(".reason.json"):
            assert b"access_ticket" not in content, path


def test_links_of_rest_pki_core_that_are_always_stale_are_for_later_and_never_the_end(
    installation: Installation, world: tuple[World, str]
) -> None:
    restpki = world[0].restpki
    restpki.ticket_seconds, restpki.shape = 0, Shape.CURRENT
    document = restpki.send()
    installation.register("restpki", document.id, dms_of(flow_of(document)))
    restpki.authentication, restpki.webhook_secret = "basic", f"lacuna:{SECRET}"
    installation.post("restpki", restpki.complete(document.id), **restpki.webhook_headers)

    def fetch() -> Mapping[str, Any]:
        owed: list[dict[str, Any]] = installation.show("restpki", document.id)["owed"]
        return owed[0] if owed else {"attempts": 0}

    installation.wait(lambda: fetch()["attempts"] >= 2 and fetch()["last_error"], "two attempts")
    assert "so was a fresh one" in fetch()["last_error"]
    assert "access_ticket" not in fetch()["last_error"]
    restpki.ticket_seconds = None
    installation.wait_until_settled()
    assert installation.show("restpki", document.id)["status"] == "completed"
    assert attachments(world[0], flow_of(document)) == [document.files["signed-file"].sha256]


def test_duplicates_swapped_order_and_unknown_actions_end_right(
    installation: Installation, world: tuple[World, str]
) -> None:
    peers, _ = world
    envelope = peers.ssign.send()
    register(installation, "ssign", envelope.id, file_ids=str(envelope.file_ids[0]))
    completed = peers.ssign.complete(envelope.id)
    for body in (
        completed,
        {**completed, "action": "PENDING"},
        completed,
        {**completed, "action": "STAMPED"},
    ):
        assert installation.post("ssign", body).status_code == 200
    installation.wait_until_settled()
    shown = installation.show("ssign", str(envelope.id))
    assert shown["status"] == "completed"
    assert [event["outcome"] for event in shown["events"]] == [
        "applied",
        "late",
        "repeated",
        "unknown_action",
    ]
    assert len(attachments(peers, envelope.id)) == 1
    assert advances(peers, envelope.id) == 1


def test_an_unregistered_envelope_waits_and_is_delivered_once_it_is_registered(
    installation: Installation, world: tuple[World, str]
) -> None:
    peers, _ = world
    envelope = peers.ssign.send()
    installation.post("ssign", peers.ssign.complete(envelope.id))
    installation.wait(lambda: installation.count(Folder.DEFERRED) == 1, "the entry to be deferred")
    installation.wait(
        lambda: installation.show("ssign", str(envelope.id))["owed"][0]["state"] == "waiting",
        "the reason to be known",
    )
    reason = installation.show("ssign", str(envelope.id))["owed"][0]["last_error"]
    assert "documents register ssign" in reason
    register(installation, "ssign", envelope.id, file_ids=str(envelope.file_ids[0]))
    installation.wait_until_settled()
    assert len(attachments(peers, envelope.id)) == 1


def test_a_file_written_by_hand_and_one_moved_back_from_quarantine_are_processed(
    installation: Installation,
) -> None:
    day = installation.spool.clock.today().isoformat()
    by_hand = installation.home / "draft.json"
    by_hand.write_text(
        json.dumps(
            {
                "timestamp": "2026-11-21T20:31:05-03:00",
                "originalPayload": {"envelopeId": 7, "action": "EXPIRED"},
                "envelopeId": "7",
                "action": "EXPIRED",
                "provider": 12345,
            }
        )
    )
    name = "7_0190aaaa-0000-7000-8000-000000000000.json"
    by_hand.rename(installation.spool.folder(Folder.SPOOL) / name)
    installation.wait(lambda: installation.count(Folder.QUARANTINE) == 1, "the unknown number to be noticed")
    quarantined = installation.spool.folder(Folder.QUARANTINE) / day / name
    quarantined.write_text(quarantined.read_text().replace("12345", "1"))
    quarantined.rename(installation.spool.folder(Folder.SPOOL) / day / name)
    installation.wait(lambda: installation.knows("ssign", "7"), "the mended file to be processed")
    shown = installation.show("ssign", "7")
    assert (shown["status"], shown["events"][0]["origin"]) == ("expired", "hand")


def test_an_advance_of_unknown_outcome_is_held_until_a_person_retries_it(
    installation: Installation, world: tuple[World, str]
) -> None:
    peers, _ = world
    envelope = peers.ssign.send()
    register(installation, "ssign", envelope.id, file_ids=str(envelope.file_ids[0]))
    storm = Storm("smartshare", StormKind.SILENCE, path="AvancaFluxo", seconds=0, after_acting=True)
    peers.weather.add(storm)
    installation.post("ssign", peers.ssign.complete(envelope.id))
    installation.wait(lambda: installation.count(Folder.QUARANTINE) == 1, "the held step to be shown")
    assert advances(peers, envelope.id) == 1
    [held] = [
        item for item in installation.show("ssign", str(envelope.id))["deliveries"] if item["state"] == "held"
    ]
    assert held["task"] == "advance"
    installation.run("deliveries", "retry", str(held["id"]), check=True)
    installation.wait_until_settled()
    assert installation.count(Folder.QUARANTINE) == 0
    assert advances(peers, envelope.id) == 2


def test_bad_input_gets_its_answer_and_only_bounded_copies(installation: Installation) -> None:
    assert installation.post("", b"{}").status_code == 400
    assert installation.post("nobody", b"{}").status_code == 400
    wrong = installation.post(
        "ssign", {"envelopeId": 1, "action": "COMPLETED"}, **{"x-callback-secret": "wrong!"}
    )
    assert wrong.status_code == 401
    missing = installation.post("ssign", {"envelopeId": 1})
    assert missing.status_code == 422
    assert "action is missing" in missing.json()["detail"]
    assert installation.post("ssign", b" " * 2_000_000).status_code == 413
    unproven = {"type": "DocumentSignatureCompleted", "document": {"id": "1"}}
    credential = "Basic bGFjdW5hOndyb25nIQ=="
    assert installation.post("restpki", unproven, authentication=credential).status_code == 401
    installation.wait(lambda: installation.count(Folder.REFUSED) == 3, "three copies in refused/")
    assert installation.counts()["spool"] == 0
    for path in installation.home.rglob("*"):
        if path.is_file() and path.suffix in (".json", ".log"):
            content = path.read_bytes()
            assert b"wrong!" not in content
            assert credential.encode() not in content
            assert SECRET.encode() not in content


def test_stopping_finishes_what_is_in_hand_and_exits_0(
    own_installation: Installation, world: tuple[World, str]
) -> None:
    installation = own_installation
    peers, _ = world
    envelope = peers.ssign.send()
    register(installation, "ssign", envelope.id, file_ids=str(envelope.file_ids[0]))
    peers.weather.add(Storm("smartshare", StormKind.DELAY, path="InserirAnexo", seconds=1.5))
    logins = len(peers.requests_to("smartshare", "ValidarLogin"))
    installation.post("ssign", peers.ssign.complete(envelope.id))
    installation.wait(
        lambda: len(peers.requests_to("smartshare", "ValidarLogin")) > logins,
        "the delivery to be under way",
    )
    assert installation.stop("processor") == 0
    assert installation.stop("api") == 0
    shown = installation.show("ssign", str(envelope.id))
    uploads = [item for item in shown["deliveries"] if item["task"] == "deliver"]
    assert {item["state"] for item in uploads} == {"done"}
    assert len(attachments(peers, envelope.id)) == 1


def test_a_second_processor_stands_by_and_takes_over(own_installation: Installation) -> None:
    installation = own_installation
    installation.adopt("second", installation.bear("processor"))
    installation.wait(lambda: "processor.standby" in installation.log("processor"), "the second to stand by")
    installation.kill("processor")
    installation.post("ssign", {"envelopeId": 9, "action": "EXPIRED"})
    installation.wait(lambda: installation.count(Folder.DONE) == 1, "the second to take over")


def test_once_does_what_is_due_to_its_end_however_long_it_takes(
    tmp_path: Path, world: tuple[World, str], request: pytest.FixtureRequest
) -> None:
    """The grace time is for a stop; nobody asked for one here."""
    peers, url = world
    (tmp_path / "archive").mkdir()
    with make_database("sqlite", tmp_path, request) as database_url:
        made = Installation(tmp_path, url, database_url)
        made.config.write_text(made.config.read_text().replace("[processor]", '[processor]\ngrace = "500ms"'))
        envelope = peers.ssign.send()
        register(made, "ssign", envelope.id, file_ids=str(envelope.file_ids[0]))
        made.start("api")
        made.post("ssign", peers.ssign.complete(envelope.id))
        peers.weather.add(Storm("smartshare", StormKind.DELAY, path="InserirAnexo", seconds=1.5))
        made.run("processor", "--once", check=True)
        made.close()
        assert len(attachments(peers, envelope.id)) == 1
        assert advances(peers, envelope.id) == 1
        assert [folder for folder, _ in made.spool.find(f"{envelope.id}_")] == [Folder.DONE]


def test_an_old_schema_is_refused_with_what_to_type(tmp_path: Path, world: tuple[World, str]) -> None:
    made = Installation(tmp_path, world[1], URL.create("sqlite", database=str(tmp_path / "old.db")))
    with made.database.transaction() as connection:
        connection.execute(text("DELETE FROM alembic_version"))
    ended = made.run("processor", "--once")
    made.close()
    assert ended.returncode == 1
    assert "signspool db upgrade" in ended.stderr
    assert "Traceback" not in ended.stderr
