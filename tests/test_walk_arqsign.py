"""ArqSign's story, end to end: real processes, real HTTP, real files, signed callbacks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from shared.settings import load_settings
from shared.spool import Folder
from signspool.outgoing import Wish, cancel_document, send_documents
from simulator.arqsign import STATUS_WORDS, Process, Trigger
from simulator.files import make_pdf
from simulator.server import SimulatorServer
from simulator.world import World
from tests.conftest import make_database
from tests.installation import Installation

OLD_SECRET = "an-older-secret-of-the-test"

SETTINGS = """
[providers.arqsign]
base_url = "{peers}/arqsign"
app_key = "{app_key}"
subscription_key = "{subscription_key}"
responsible_id = "0c1d2e3f"
folder_id = "5e6f7a8b"
not_ready_wait_seconds = 0
over_quota_wait_seconds = 0

[providers.arqsign.secrets]
old = "{old}"
new = "{new}"
"""


class ArqSignStory:
    """An installation, and a simulated ArqSign whose callbacks it takes."""

    def __init__(self, installation: Installation, world: World) -> None:
        self.installation = installation
        self.world = world
        self.arqsign = world.arqsign

    def post(self, body: dict[str, Any], **headers: str) -> httpx.Response:
        """Send a callback with its HMAC, unless another is given."""
        content = json.dumps(body, ensure_ascii=False).encode()
        return self.installation.post("arqsign", content, **{**self.arqsign.proof(content), **headers})

    def tell(self, process: Process, *triggers: Trigger) -> None:
        """Let things happen and have ArqSign call about each."""
        for trigger in triggers:
            assert self.post(self.arqsign.happen(process.id, trigger)).status_code == 200

    def send(self, files: int = 1) -> Process:
        """A process that was sent out, and registered for SmartShare."""
        process = self.arqsign.send(files=files)
        flow = {"cdFluxo": process.id, "cdTarefa": "5", "cdTipoAnexo": "3"}
        dms = {**flow, "dsEmailExecutor": "integracao@example.com"}
        self.installation.register("arqsign", process.id, dms)
        return process

    def shown(self, process: Process) -> dict[str, Any]:
        return self.installation.show("arqsign", process.id)

    def settled(self, process: Process) -> dict[str, Any]:
        self.installation.wait_until_settled()
        return self.shown(process)

    def archived(self, process: Process) -> list[str]:
        """Digests of what lies in the archive folder for a process."""
        files = (self.installation.home / "archive" / "arqsign" / process.id).rglob("*.pdf")
        return sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in files)

    def calls(self, process: Process) -> int:
        return len(self.world.requests_to("arqsign", process.id))


def digests(process: Process) -> list[str]:
    return sorted(file.sha256 for file in (*process.signed, *process.records))


def outcomes(found: dict[str, Any]) -> list[str]:
    return [event["outcome"] for event in found["events"]]


@pytest.fixture(scope="module")
def shared_story(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ArqSignStory]:
    """One installation for all stories, since starting processes is what takes the time; SQLite."""
    home = tmp_path_factory.mktemp("arqsign")
    (home / "archive").mkdir()
    with SimulatorServer() as server, make_database("sqlite", home, request) as url:
        arqsign = server.world.arqsign
        settings = SETTINGS.format(
            peers=server.url,
            app_key=arqsign.app_key,
            subscription_key=arqsign.subscription_key,
            old=OLD_SECRET,
            new=arqsign.secret,
        )
        installation = Installation(home, server.url, url, settings)
        installation.start("api", "processor")
        yield ArqSignStory(installation, server.world)
        installation.close()


@pytest.fixture
def story(shared_story: ArqSignStory) -> ArqSignStory:
    shared_story.world.weather.clear()
    return shared_story


def test_a_concluded_process_is_delivered_with_all_its_files_and_records(story: ArqSignStory) -> None:
    process = story.send(files=2)
    story.tell(process, Trigger.SENT, Trigger.ONE_SIGNED)
    concluded = story.arqsign.conclude(process.id)
    assert story.post(concluded).status_code == 200
    # Sent again, as it is and with another time; then a trigger that comes late.
    story.arqsign.renews_dates = True
    late = {**concluded, "idEvento": 6, "evento": "?", "dataHoraAtual": "01/01/2025 00:00:00"}
    for body in (concluded, story.arqsign.again(concluded), late):
        assert story.post(body).status_code == 200
    found = story.settled(process)
    assert found["status"] == "completed"
    assert outcomes(found) == ["unchanged", "unchanged", "applied", "repeated", "repeated", "late"]
    assert {event["trust"] for event in found["events"]} == {"proven"}
    assert story.archived(process) == digests(process)
    attached = [item.file.sha256 for item in story.world.smartshare.attachments]
    assert sorted(attached) == digests(process)
    assert [advance["cdFluxo"] for advance in story.world.smartshare.advances] == [process.id]
    assert {item["state"] for item in found["deliveries"]} == {"done"}
    assert story.calls(process) == 1


def test_a_refused_process_is_declined_with_its_reason_and_no_file_is_asked_for(
    story: ArqSignStory,
) -> None:
    process = story.send()
    story.arqsign.with_signers = True
    story.tell(process, Trigger.REFUSED)
    # Without a word that is known, the status is cancelled and a signer's refusal tells the rest.
    story.arqsign.with_event_id = False
    other = story.send()
    story.tell(other, Trigger.REFUSED)
    story.arqsign.with_event_id, story.arqsign.with_signers = True, False
    for refused in (process, other):
        found = story.settled(refused)
        assert found["status"] == "declined"
        assert found["events"][0]["message"] == "Cláusula 3."
        assert found["owed"] == []
        assert story.calls(refused) == 0


def test_a_process_that_expired_and_was_resent_goes_on_in_whatever_order_it_is_told(
    story: ArqSignStory,
) -> None:
    process = story.send()
    told = [story.arqsign.happen(process.id, trigger) for trigger in (6, 7, 6, 7)]
    expired, resent, expired_again, resent_again = told
    statuses = []
    for body in (resent, expired, expired_again, expired, resent_again, expired_again):
        assert story.post(body).status_code == 200
        statuses.append(story.settled(process)["status"])
    assert statuses == ["pending", "pending", "expired", "expired", "pending", "pending"]
    story.tell(process, Trigger.CONCLUDED)
    assert story.settled(process)["status"] == "completed"
    assert story.archived(process) == digests(process)


def test_files_that_come_before_the_process_is_concluded_are_not_taken(story: ArqSignStory) -> None:
    process = story.send()
    early = {"idEvento": 8, "idProcesso": process.id, "dataHoraAtual": "21/11/2026 10:00:00"}
    assert story.post(early).status_code == 200
    installation = story.installation
    installation.wait(lambda: story.calls(process) >= 2, "the process to be asked for again")
    [owed] = story.shown(process)["owed"]
    assert "not Concluído" in owed["last_error"]
    assert story.archived(process) == []
    story.arqsign.conclude(process.id)
    story.settled(process)
    assert story.archived(process) == digests(process)


def test_a_revoked_key_fails_no_document_and_all_goes_on_when_it_is_right_again(story: ArqSignStory) -> None:
    process = story.send()
    right, story.arqsign.app_key = story.arqsign.app_key, "another"
    story.tell(process, Trigger.CONCLUDED)
    installation = story.installation
    installation.wait(lambda: story.calls(process) >= 2, "a second trial")
    [fetch] = story.shown(process)["owed"]
    assert (fetch["state"], fetch["attempts"] <= 1) == ("due", True)
    assert "app_key" in fetch["last_error"]
    assert installation.count(Folder.QUARANTINE) == 0
    assert installation.log("processor").count("provider.refuses_us") == 1
    story.arqsign.app_key = right
    story.settled(process)
    assert story.archived(process) == digests(process)
    assert installation.log("processor").count("provider.accepts_us") == 1


def test_what_is_sent_by_command_is_followed_to_its_signed_files(story: ArqSignStory) -> None:
    """Sent once for each reference; the process is registered by it, and can be taken back."""
    installation = story.installation
    contract = installation.home / "contrato.pdf"
    contract.write_bytes(make_pdf("Contrato", 3_000_000))
    said = ["documents", "send", str(contract), "--provider", "arqsign", "--json", "--reference", "2026-77"]
    said += ["--title", "Contrato 77", "--dms", "cdFluxo=77", "--dms", "cdTarefa=5", "--dms", "cdTipoAnexo=3"]
    said += ["--dms", "dsEmailExecutor=integracao@example.com", "--option", "expires_after_days=20"]
    said += ["--signer", "name=Maria,email=maria@example.com"]
    sent = json.loads(installation.run(*said, check=True).stdout)
    process = story.arqsign.processes[sent["envelope_id"]]
    assert process.originals[0].content == contract.read_bytes()
    assert (process.name, process.expires_at - process.sent_at) == ("Contrato 77", timedelta(days=20))
    assert process.ordered["idPasta"] == "5e6f7a8b"
    assert sent["documents"] == [{"document_id": process.id, "file": "contrato.pdf"}]
    again = json.loads(installation.run(*said, check=True).stdout)
    assert (again["envelope_id"], again["was_sent_before"]) == (process.id, True)
    story.tell(process, Trigger.CONCLUDED)
    assert story.settled(process)["status"] == "completed"
    assert story.archived(process) == digests(process)


def test_the_old_generation_is_sent_to_and_a_process_is_taken_back(story: ArqSignStory) -> None:
    config = story.installation.config
    old = config.with_name("old.toml")
    old.write_text(
        config.read_text().replace("[providers.arqsign]", '[providers.arqsign]\ngeneration = "v1"')
    )
    contract = config.with_name("antigo.pdf")
    contract.write_bytes(make_pdf("Contrato antigo"))
    signers = [{"name": "Maria", "email": "maria@example.com"}]
    wish = Wish("arqsign", [contract], reference="2024-1", signers=signers)
    sent = send_documents(load_settings(old), wish)
    process = story.arqsign.processes[sent.envelope_id]
    assert process.originals[0].content == contract.read_bytes()
    assert process.ordered["assinarOrdemDestinatarios"] is True
    words = cancel_document(load_settings(config), "arqsign", process.id)
    assert words == "Documento cancelado com sucesso."
    assert STATUS_WORDS[process.status] == "Cancelado"


def test_a_wrong_hmac_is_answered_with_400_and_leaves_a_copy_and_nothing_else(story: ArqSignStory) -> None:
    process = story.send()
    content = json.dumps(story.arqsign.conclude(process.id)).encode()
    right = story.arqsign.proof(content)["HMAC"]
    before = story.installation.count(Folder.REFUSED)
    attempts: list[tuple[bytes, dict[str, str]]] = [
        (content, {}),
        (content, {"HMAC": ("B" if right[0] == "A" else "A") + right[1:]}),
        (content + b" ", {"HMAC": right}),
    ]
    for body, headers in attempts:
        answer = story.installation.post("arqsign", body, **headers)
        assert answer.status_code == 400
        assert answer.json()["title"] == "Not proven"
        assert right not in answer.text
    story.installation.wait(
        lambda: story.installation.count(Folder.REFUSED) == before + len(attempts), "the copies"
    )
    for path in story.installation.spool.folder(Folder.REFUSED).rglob("*.json"):
        kept = path.read_text()
        # The HMAC of another body may stand there, so that the copy can be judged again; the secret never.
        assert story.arqsign.secret not in kept
        assert story.arqsign.secret not in kept
    assert story.shown(process)["events"] == []


def test_either_of_two_secrets_proves_and_the_receipt_says_which(story: ArqSignStory) -> None:
    process = story.send()
    story.tell(process, Trigger.SENT)
    new, story.arqsign.secret = story.arqsign.secret, OLD_SECRET
    story.tell(process, Trigger.ONE_SIGNED)
    story.arqsign.secret = new
    story.settled(process)
    files = story.installation.spool.folder(Folder.DONE).rglob(f"{process.id}_*.json")
    receipts = [json.loads(path.read_text())["receipt"] for path in sorted(files)]
    assert [(receipt["trust"], receipt["keyId"]) for receipt in receipts] == [
        ("proven", "new"),
        ("proven", "old"),
    ]
