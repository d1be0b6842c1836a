"""The story of signed files that are checked: a good one, and a tampered one and how it is mended."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from shared.spool import Folder
from simulator.peer import StoredFile
from simulator.server import SimulatorServer
from simulator.ssign import Envelope, SSign
from tests.conftest import make_database
from tests.installation import Installation
from tests.signing import PERSON, Signing

DMS = {"cdFluxo": "7", "cdTarefa": "5", "cdTipoAnexo": "3", "dsEmailExecutor": "integracao@example.com"}


class Story:
    """An installation that delivers S-SIGN's files once their signatures are trusted; SQLite."""

    def __init__(self, ssign: SSign, installation: Installation) -> None:
        self.ssign = ssign
        self.installation = installation

    def serve(self, envelope: Envelope, content: bytes) -> str:
        """From now on S-SIGN gives this as the signed file; returns its digest."""
        file = StoredFile("contrato-assinado.pdf", "application/pdf", content)
        self.ssign.signed[envelope.file_ids[0]] = file
        return file.sha256

    def complete(self, envelope: Envelope) -> str:
        """Everybody has signed, and S-SIGN says so; returns the receipt's id."""
        file_id = str(envelope.file_ids[0])
        self.installation.register("ssign", envelope.id, DMS, file_ids=file_id)
        answer = self.installation.post("ssign", self.ssign.complete(envelope.id))
        assert answer.status_code == 200
        receipt: str = answer.json()["id"]
        return receipt

    def delivered(self) -> set[str]:
        """Digests of the files in the archive."""
        archive = self.installation.home / "archive"
        return {hashlib.sha256(path.read_bytes()).hexdigest() for path in archive.rglob("*.pdf")}

    def fetched(self, envelope: Envelope) -> list[str]:
        """Names of the files of a document that lie in `files/`."""
        return [path.name for path in self.installation.spool.files.rglob(f"{envelope.id}_*")]

    def fetch_of(self, envelope: Envelope) -> dict[str, Any]:
        """What is known of fetching the document's file; nothing before it is owed."""
        items = self.installation.show("ssign", str(envelope.id))["owed"]
        return next((dict(item) for item in items if item["task"] == "fetch"), {})

    def checked(self, envelope: Envelope) -> list[dict[str, Any]]:
        """What the processor has logged of checks of the document's file."""
        lines = map(json.loads, self.installation.log("processor").splitlines())
        return [
            line
            for line in lines
            if line["event"] == "file.signatures_checked" and line["document"] == str(envelope.id)
        ]


@pytest.fixture(scope="module")
def signing(tmp_path_factory: pytest.TempPathFactory) -> Signing:
    return Signing.begin(tmp_path_factory.mktemp("signing"))


@pytest.fixture(scope="module")
def story(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest, signing: Signing
) -> Iterator[Story]:
    home = tmp_path_factory.mktemp("walk")
    (home / "archive").mkdir()
    with SimulatorServer() as server, make_database("sqlite", home, request) as url:
        installation = Installation(home, server.url, url)
        section = "[providers.ssign]\n"
        settings = f'signatures = "trusted"\nsignature_authorities = "{signing.authorities}"\n'
        text = installation.config.read_text()
        installation.config.write_text(text.replace(section, section + settings))
        installation.start("api", "processor")
        yield Story(server.world.ssign, installation)
        installation.close()


def test_a_signed_file_is_delivered_once_its_signatures_were_checked(story: Story, signing: Signing) -> None:
    envelope = story.ssign.send()
    sha256 = story.serve(envelope, signing.pdf("Contrato bom"))
    receipt = story.complete(envelope)
    story.installation.wait_until_settled()
    assert sha256 in story.delivered()
    (line,) = story.checked(envelope)
    assert (line["provider"], line["receipt"], line["sha256"]) == ("ssign", receipt, sha256)
    assert (line["signatures"], line["check"]) == (1, "trusted")


def test_a_tampered_file_is_held_with_the_reason_until_the_right_one_is_there(
    story: Story, signing: Signing
) -> None:
    installation = story.installation
    envelope = story.ssign.send()
    good = signing.pdf("Contrato de 1000 reais")
    before = story.delivered()
    story.serve(envelope, good.replace(b"1000 reais", b"9000 reais"))
    receipt = story.complete(envelope)
    installation.wait(lambda: story.fetch_of(envelope).get("state") == "failed", "the file to be refused")
    installation.wait_until_settled()

    assert [folder for folder, _ in installation.spool.find(receipt)] == [Folder.QUARANTINE]
    said = installation.run("documents", "show", "ssign", str(envelope.id), check=True).stdout
    assert "it was changed after signing" in " ".join(said.replace("│", " ").split())
    assert "2026-03-01" in said
    assert (story.delivered(), story.fetched(envelope), story.checked(envelope)) == (before, [], [])
    name, _, number = PERSON.partition(":")
    told = said + installation.log("processor") + installation.log("api")
    assert name not in told
    assert number not in told

    sha256 = story.serve(envelope, good)
    installation.run("deliveries", "retry", str(story.fetch_of(envelope)["id"]), check=True)
    installation.wait(lambda: sha256 in story.delivered(), "the right file to be delivered")
    installation.wait(
        lambda: [folder for folder, _ in installation.spool.find(receipt)] == [Folder.DONE],
        "the entry to be settled",
    )
    assert [line["signatures"] for line in story.checked(envelope)] == [1]
