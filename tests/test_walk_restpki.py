"""Sessions of Rest PKI Core from beginning to end: sent, signed in a browser, read, and delivered."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from sqlalchemy import select

from processor.documents import Registration, register
from shared.clock import utc_now
from shared.db.models import PollRow, SendingRow
from shared.errors import UsageError
from shared.settings import load_settings
from shared.spool import Folder
from signspool.outgoing import Wish, send_documents
from simulator.files import make_pdf
from simulator.peer import StoredFile
from simulator.restpki import RestPki, Session
from simulator.server import SimulatorServer
from simulator.weather import Storm, StormKind
from simulator.world import World
from tests.conftest import make_database
from tests.installation import SECRET, Installation
from tests.mortal import Mortal
from tests.nursery import Nursery
from tests.providers.conftest import make_provider
from tests.waiting import PATIENCE_SECONDS

PAGE = "http://app.invalid/signed?tenant=7"
SETTINGS = f"""[providers.restpki]
return_page = "{PAGE}"
session_pause_seconds = 0.2
session_longest_pause_seconds = 0.2
inline_bytes = 2000
upload_bytes = 20000
"""
NO_SESSION = "00000000-0000-0000-0000-0123456789ab"


class RestPkiStory:
    """One installation, the simulated provider, and a browser."""

    def __init__(self, installation: Mortal, world: World) -> None:
        self.installation = installation
        self.world = world
        self.restpki: RestPki = world.restpki
        self._fresh = RestPki()

    def reset(self) -> None:
        """All switches as they are at first, with callbacks that the provider sends itself."""
        names = ("processing_seconds", "documents_on_cancel", "content_in_answers", "redirected_links")
        for name in (*names, "status_word"):
            setattr(self.restpki, name, getattr(self._fresh, name))
        self.restpki.holding_seconds = 0.3
        self.restpki.authentication, self.restpki.webhook_secret = "basic", f"lacuna:{SECRET}"
        self.restpki.webhook_url = f"{self.installation.url}/api/callback?provider=restpki"
        self.restpki.webhook_tries, self.restpki.webhook_pause_seconds = 20, 0.1
        self.world.weather.clear()

    @property
    def return_url(self) -> str:
        return f"{self.installation.url}/api/return?provider=restpki&order=77"

    def send(self, *arguments: str) -> dict[str, Any]:
        """Send by the command, as an application does; returns the JSON that it prints."""
        words = ("documents", "send", "--provider", "restpki", "--return-url", self.return_url, "--json")
        printed = self.installation.run(*words, *arguments, check=True).stdout
        found: dict[str, Any] = json.loads(printed)
        return found

    def register(self, session: Session) -> None:
        """Tell of a session's documents, as `signspool documents register --ref session=ID` does."""
        provider = make_provider("restpki")
        for document_id in session.document_ids:
            registration = Registration("restpki", document_id, {"session": session.id}, {})
            with self.installation.database.transaction() as connection:
                register(connection, registration, utc_now(), {"restpki": provider})

    def session(self, names: tuple[str, ...] = ("a.pdf",), **more: Any) -> Session:
        """A session that the application made by itself, so that nobody told us of it."""
        documents = [self.restpki.add(StoredFile(name, "application/pdf", make_pdf(name))) for name in names]
        return self.restpki.open(documents, return_url=self.return_url, **more)

    def come_back(self, session: Session, method: str = "GET") -> httpx.Response:
        """The user's browser, on its way from the provider's page."""
        address = self.restpki.return_address(session)
        assert address is not None
        return self.visit(address, method)

    @staticmethod
    def visit(address: str, method: str = "GET") -> httpx.Response:
        return httpx.request(method, address, timeout=PATIENCE_SECONDS, verify=False)

    def statuses(self, session: Session) -> set[str]:
        return {
            str(self.installation.show("restpki", document_id)["status"])
            if self.installation.knows("restpki", document_id)
            else "unknown"
            for document_id in session.document_ids
        }

    def wait_for(self, session: Session, status: str) -> None:
        self.installation.wait(lambda: self.statuses(session) == {status}, f"the documents to be {status}")

    def events(self, document_id: str) -> list[tuple[str, str, str]]:
        found = self.installation.show("restpki", document_id)["events"]
        return [(event["origin"], event["action"], event["outcome"]) for event in found]

    def was_told(self, document_id: str, origins: set[str]) -> bool:
        return origins <= {origin for origin, _, _ in self.events(document_id)}

    def archived(self, document_id: str) -> list[str]:
        files = (self.installation.home / "archive" / "restpki" / document_id).glob("*.pdf")
        return [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]

    def readings(self, session_id: str) -> int:
        return len(self.world.requests_to("restpki", f"signature-sessions/{session_id}"))

    def asked(self, session_id: str) -> Any:
        with self.installation.database.reading() as connection:
            return connection.execute(
                select(PollRow.__table__).where(PollRow.subject == session_id)
            ).one_or_none()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shared_story(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, nursery: Nursery
) -> Iterator[RestPkiStory]:
    """One installation for all stories of a database, since starting processes is what takes the time."""
    home = tmp_path_factory.mktemp("restpki")
    with SimulatorServer() as server, make_database(request.param, home, request) as url:
        made = mortal(home, server.url, url, nursery)
        made.start("api", "processor")
        yield RestPkiStory(made, server.world)
        made.close()


def mortal(home: Path, peers: str, database_url: Any, nursery: Nursery) -> Mortal:
    """An installation with the settings of these stories."""
    made = Mortal(home, peers, database_url, nursery)
    text = made.config.read_text().replace("[providers.restpki]\n", SETTINGS)
    before, _, destination = text.partition("[destinations.smartshare]")
    # The archive takes whatever it is given, also what nobody has registered.
    made.config.write_text(before + destination[destination.index("[destinations.archive]") :])
    return made


@pytest.fixture
def story(shared_story: RestPkiStory) -> RestPkiStory:
    shared_story.reset()
    return shared_story


def sign_in_browser(redirect_url: str, action: str = "sign") -> httpx.Response:
    """Open the provider's page and press a button; returns the answer of the application's side, our door."""
    with httpx.Client(timeout=PATIENCE_SECONDS, verify=False) as browser:
        page = browser.get(redirect_url)
        assert f'value="{action}"' in page.text
        pressed = browser.post(redirect_url, files={"action": (None, action)})
        assert pressed.status_code == 302
        return browser.get(pressed.headers["location"])


def test_what_is_sent_and_signed_in_a_browser_is_delivered_and_counts_once(
    story: RestPkiStory, tmp_path: Path
) -> None:
    """One file goes inside of the request, one by an upload, one in parts."""
    story.restpki.part_bytes = 50_000
    files = []
    for name, size_bytes in (("pequeno.pdf", 1500), ("médio.pdf", 15_000), ("grande.pdf", 120_001)):
        files.append(tmp_path / name)
        files[-1].write_bytes(make_pdf(name, size_bytes))
    reference = f"2026-{story.installation.port}"
    sent = story.send(
        *map(str, files),
        *("--reference", reference, "--metadata", "tenant=acme", "--dms", "folder=42"),
        *("--option", "cpf=111.444.777-35"),
    )
    session = story.restpki.session(sent["envelope_id"])
    assert [document["file"] for document in sent["documents"]] == [path.name for path in files]
    originals = [story.restpki.documents[item].files["original-file"] for item in session.document_ids]
    assert [file.content for file in originals] == [path.read_bytes() for path in files]
    assert story.statuses(session) == {"pending"}
    options = {"cpf": "11144477735"}
    wish = Wish("restpki", files, reference, "", story.return_url, (), options, {"tenant": ["acme"]})
    again = send_documents(load_settings(story.installation.config), wish)
    assert (again.was_sent_before, again.envelope_id, again.redirect_url) == (True, session.id, "")

    returned = sign_in_browser(sent["redirect_url"])
    assert returned.status_code == 303
    parts = urlsplit(returned.headers["location"])
    assert f"{parts.scheme}://{parts.netloc}{parts.path}" == PAGE.partition("?")[0]
    assert parse_qsl(parts.query) == [("tenant", "7"), ("order", "77"), ("signatureSessionId", session.id)]

    story.wait_for(session, "completed")
    story.installation.wait_until_settled()
    for document_id in session.document_ids:
        told_both_ways = partial(story.was_told, document_id, {"poll", "callback"})
        story.installation.wait(told_both_ways, "both the callback and the reading")
        outcomes = [outcome for _, action, outcome in story.events(document_id) if "Completed" in action]
        assert sorted(outcomes) == ["applied", "repeated"]
        signed = story.restpki.documents[document_id].files["signed-file"].sha256
        assert story.archived(document_id) == [signed]
        shown = story.installation.show("restpki", document_id)
        assert shown["dms"] == {"folder": "42"}
        assert shown["learned"]["session"] == session.id
        assert shown["learned"]["metadata.reference"] == reference
    assert story.asked(session.id).next_at is None
    token = sent["redirect_url"].rpartition("/")[2]
    assert_nowhere(story.installation, token, "11144477735", "111.444.777-35", story.restpki.token)


def assert_nowhere(installation: Installation, *secrets: str) -> None:
    """None of these stands in a file of ours, or in the table of sendings."""
    with installation.database.reading() as connection:
        rows = str(connection.execute(select(SendingRow.__table__)).all())
    written = {"the sendings": rows.encode()}
    for path in installation.home.rglob("*"):
        if path.suffix in (".json", ".log", ".db") or path.name.endswith("-wal"):
            written[str(path)] = path.read_bytes()
    for place, content in written.items():
        assert [secret for secret in secrets if secret.encode() in content] == [], place


def test_a_session_that_cannot_be_read_at_once_is_sent_all_the_same_and_learned_later(
    story: RestPkiStory, tmp_path: Path
) -> None:
    file = tmp_path / "contrato.pdf"
    file.write_bytes(make_pdf("contrato"))
    settings = load_settings(story.installation.config)
    wish = Wish("restpki", [file], return_url=story.return_url, dms={"folder": "42"})
    # More than the two readings, since the daemon may ask about other sessions meanwhile.
    story.world.weather.add(Storm("restpki", StormKind.STATUS, path="signature-sessions/", times=None))
    sent = send_documents(settings, wish)
    story.world.weather.clear()
    assert sent.documents == ()
    assert sent.redirect_url.startswith(story.restpki.base_url)
    assert "documents register restpki ID --dms" in sent.unnoted
    session = story.restpki.session(sent.envelope_id)
    story.restpki.cancel(session.id)
    story.installation.wait(lambda: story.installation.knows("restpki", session.id), "the cancel to be read")
    with pytest.raises(UsageError, match="--dms"):
        send_documents(settings, replace(wish, files=()))


@pytest.mark.parametrize("on_cancel", ["empty", "null", "kept"])
def test_a_user_who_gives_up_is_heard_of_by_the_browser_and_the_reading(
    story: RestPkiStory, on_cancel: Any
) -> None:
    story.restpki.documents_on_cancel = on_cancel
    session = story.session(("a.pdf", "b.pdf"))
    story.register(session)
    story.restpki.cancel(session.id)
    for _ in range(2):
        assert story.come_back(session).status_code == 303
    story.installation.wait(lambda: story.asked(session.id) is not None, "the session to be asked about")
    story.wait_for(session, "cancelled")
    assert story.events(session.document_ids[0]) == [("poll", "session:UserCancelled", "applied")]


def test_a_session_of_which_no_document_is_known_is_heard_of_under_its_own_id(story: RestPkiStory) -> None:
    session = story.session()
    story.restpki.cancel(session.id)
    story.come_back(session)
    story.installation.wait(lambda: story.installation.knows("restpki", session.id), "the session")
    assert story.installation.show("restpki", session.id)["status"] == "cancelled"
    assert story.statuses(session) == {"unknown"}


def test_a_session_that_expires_is_announced_by_nobody_and_read_on_a_timer(story: RestPkiStory) -> None:
    session = story.session()
    story.register(session)
    story.installation.wait(lambda: story.readings(session.id) >= 2, "an open session to be read again")
    story.restpki.expire(session.id)
    story.wait_for(session, "expired")
    story.installation.wait(lambda: story.asked(session.id).next_at is None, "an end of asking")


def test_a_word_that_nobody_knows_changes_nothing_and_the_session_is_read_on(story: RestPkiStory) -> None:
    story.restpki.status_word = "Suspended"
    session = story.session()
    [document_id] = session.document_ids
    story.register(session)
    story.come_back(session)
    told = [("poll", "session:Suspended", "unknown_action")]
    story.installation.wait(lambda: story.events(document_id) == told, "the unknown word to be kept")
    assert story.statuses(session) == {"pending"}
    story.restpki.status_word = ""
    story.restpki.cancel(session.id)
    story.wait_for(session, "cancelled")


def test_a_processing_error_is_read_and_a_callback_after_it_wins(story: RestPkiStory) -> None:
    story.restpki.processing_seconds = None
    session = story.session(("a.pdf", "b.pdf"), background=True)
    story.restpki.sign(session.id)
    story.come_back(session)
    story.wait_for(session, "processing")
    story.installation.wait(lambda: story.readings(session.id) >= 4, "a long wait")
    assert [
        request
        for request in story.world.requests_to("restpki", session.id)
        if "when-completed" in request.path
    ]
    story.restpki.complete(session.document_ids[0])
    story.restpki.fail(session.id)
    second = session.document_ids[1]
    story.installation.wait(
        lambda: story.installation.show("restpki", second)["status"] == "failed", "the error to be read"
    )
    assert "ValidationError" in story.installation.show("restpki", second)["events"][-1]["message"]
    story.restpki.finish(session.id)
    story.wait_for(session, "completed")
    assert [event[0] for event in story.events(second)][-1] == "callback"
    story.installation.wait_until_settled()
    assert story.archived(second)


def test_a_long_wait_hears_of_the_end_without_any_callback(story: RestPkiStory) -> None:
    story.restpki.processing_seconds, story.restpki.webhook_url = None, ""
    story.restpki.holding_seconds = 20
    session = story.session(background=True)
    story.restpki.sign(session.id)
    story.come_back(session)
    story.installation.wait(
        lambda: bool(story.world.requests_to("restpki", f"{session.id}/when-completed")), "the long wait"
    )
    story.restpki.finish(session.id)
    story.wait_for(session, "completed")
    assert len(story.world.requests_to("restpki", f"{session.id}/when-completed")) == 1


def test_a_made_up_session_costs_one_question_and_is_no_document(story: RestPkiStory) -> None:
    address = story.return_url + f"&signatureSessionId={NO_SESSION}"
    assert story.visit(address).headers["location"].endswith(f"signatureSessionId={NO_SESSION}")
    story.installation.wait(lambda: story.readings(NO_SESSION) > 0, "the question")
    story.installation.wait(lambda: story.asked(NO_SESSION).next_at is None, "an end of asking")
    assert story.readings(NO_SESSION) == 1
    assert not story.installation.knows("restpki", NO_SESSION)
    story.installation.wait_until_settled()


@pytest.mark.parametrize(
    "query", ["", "&signatureSessionId=", "&signatureSessionId=x", "&signaturesessionid=1"]
)
def test_a_browser_without_a_usable_id_is_sent_on_and_nothing_is_kept(
    story: RestPkiStory, query: str
) -> None:
    story.installation.wait_until_settled()
    before = story.installation.counts()
    answer = story.visit(story.return_url + query)
    assert answer.status_code == 303
    assert urlsplit(answer.headers["location"]).netloc == "app.invalid"
    assert story.installation.counts() == before


def test_a_head_leaves_nothing_and_has_nothing_asked(story: RestPkiStory) -> None:
    session = story.session()
    assert story.come_back(session, "HEAD").status_code == 303
    assert story.asked(session.id) is None


def test_of_a_repeated_id_the_first_one_counts_wherever_it_stands(story: RestPkiStory) -> None:
    session = story.session()
    address = f"{story.installation.url}/api/return?signatureSessionId={session.id.upper()}&provider=restpki"
    answer = story.visit(f"{address}&signatureSessionId={NO_SESSION[:-1]}0")
    assert re.findall("signatureSessionId=([^&]*)", answer.headers["location"]) == [session.id]
    story.installation.wait(lambda: story.asked(session.id) is not None, "the session to be asked about")
    assert story.asked(NO_SESSION[:-1] + "0") is None


def switch(name: str) -> Callable[[RestPki], None]:
    return lambda restpki: setattr(restpki, name, True)


@pytest.mark.parametrize("way", ["content_in_answers", "redirected_links"])
def test_files_come_inside_of_the_answer_or_by_a_redirect_too(story: RestPkiStory, way: str) -> None:
    switch(way)(story.restpki)
    document = story.restpki.send("contrato.pdf")
    story.restpki.complete(document.id)
    story.installation.wait(lambda: story.installation.knows("restpki", document.id), "the callback")
    story.installation.wait_until_settled()
    assert story.archived(document.id) == [document.files["signed-file"].sha256]
    assert story.installation.count(Folder.QUARANTINE) == 0
