"""Real processes fed with marked secrets and numbers of persons everywhere: none of them comes out again."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import typer

from shared.names import entry_name
from shared.spool import Folder
from signspool.application import app
from simulator.files import make_pdf
from tests.conftest import make_database
from tests.installation import Installation, free_port
from tests.misbehaving import Call, json_body, serving
from tests.nursery import Nursery
from tests.waiting import PATIENCE_SECONDS

MARK = "MARKEDSECRET"
CALLBACK_SECRET = f"{MARK}-of-callbacks"
BASIC = f"lacuna:{MARK}-basic"
PERSONS = ("52998224725", "529.982.247-25", "529982247-25", "150765 00565", "15076500565")
"""A CPF and a fødselsnummer, in every way in which people write them."""
SAID = " and ".join(PERSONS)
WHO = re.compile("|".join(map(re.escape, PERSONS)))
SECRETS = re.compile(f"{MARK}|{re.escape(base64.b64encode(BASIC.encode()).decode())}", re.IGNORECASE)
BAD, GOOD, ODD, TAKEN_BACK = "1001", "1002", "1003", "1008"
LAID = f"{PERSONS[0]}_note.json"
"""What somebody laid into the spool; a file's name is what people search by, and is shown as it is."""


COMMANDS: list[tuple[str, tuple[str, ...]]] = [
    ("check", ()),
    ("db upgrade", ()),
    ("deliveries ls", ("--json",)),
    ("deliveries refetch", ("1", "--dry-run")),
    ("deliveries retry", ("--state", "failed", "--dry-run")),
    ("documents cancel", ("arqsign", TAKEN_BACK)),
    ("documents erase", ("ssign", GOOD, "--dry-run")),
    ("documents import", ("{home}/sent.csv", "--dry-run")),
    ("documents ls", ()),
    ("documents register", ("ssign", "1006", "--ref", "file_ids=9")),
    ("documents send", ("{home}/contract.pdf", "--provider", "restpki", "--return-url", "https://app.test/")),
    ("documents show", ("ssign", GOOD)),
    *(("documents show", ("ssign", document_id, "--json")) for document_id in (BAD, GOOD, ODD, "1004")),
    ("polls ask", ("restpki", "unknown")),
    ("polls ls", ()),
    ("providers ls", ()),
    ("providers show", ("restpki",)),
    ("retention", ("--dry-run",)),
    ("settings show", ()),
    ("spool discard", ("--all", "--folder", "quarantine", "--dry-run")),
    ("spool ls", ()),
    ("spool requeue", ("--all", "--folder", "quarantine", "--dry-run")),
    ("spool reverify", ("--all", "--dry-run")),
    ("spool shape", ()),
    ("spool show", (GOOD, "--json")),
    ("spool verify", ()),
]
"""Every command that reads settings and ends by itself, with arguments that lead it to what was fed."""
WITHOUT_SETTINGS_OR_END = {"api", "completion", "demo", "man", "processor", "simulate", "up"}


class Peers:
    """Providers and a destination on one socket that repeat what they were sent, and name persons."""

    def __init__(self) -> None:
        self.url = ""
        self.seen: list[str] = []
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()))

    def __enter__(self) -> Peers:
        self._thread.start()
        assert self._ready.wait(PATIENCE_SECONDS)
        return self

    def __exit__(self, *_error: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE_SECONDS)
        self._loop.close()

    async def _serve(self) -> None:
        async with serving(self._behave) as self.url:
            self._ready.set()
            await self._stop.wait()

    async def _behave(self, call: Call) -> None:
        self.seen.append(call.target)
        echo = f"{SAID}; you sent {call.headers.get('authorization')} to {call.target}".encode()
        if "EnvelopeFileId=good" in call.target:
            pdf = make_pdf("signed")
            call.say(
                200,
                pdf,
                content_type="application/pdf",
                content_disposition=f'attachment; filename="contract {PERSONS[1]}.pdf"',
            )
        elif "EnvelopeFileId=odd" in call.target:
            call.say(302, echo, location=f"http://elsewhere/{MARK}?cpf={PERSONS[0]}")
        elif call.target.startswith("/arqsign"):
            call.say(400, f"you sent {[value for value in call.headers.values() if MARK in value]}".encode())
        elif call.target.startswith("/dms"):
            call.say(400, json_body({"error": echo.decode(), "headers": dict(call.headers)}))
        else:
            call.say(400, echo)


@dataclass
class Story:
    """What an installation was fed with, and everything that it said."""

    installation: Installation
    peers: Peers
    said: dict[str, str] = field(default_factory=dict)


@pytest.fixture(scope="module")
def story(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, nursery: Nursery
) -> Iterator[Story]:
    """Both tiers, everything fed to them, and what came of it."""
    home = tmp_path_factory.mktemp("leaks")
    (home / "archive").mkdir()
    with Peers() as peers, make_database("sqlite", home, request) as url:
        made = Installation(home, peers.url, url)
        ports = free_port(), free_port()
        made.config.write_text(_settings(made, peers.url, ports))
        tiers = [
            nursery.start([tier, "--config", str(made.config)], home / f"{tier}.log")
            for tier in ("api", "processor")
        ]
        made.wait(made.is_ready, "the door to be ready")
        made.wait(lambda: "processor.started" in made.log("processor"), "the processor to be ready")
        told = Story(made, peers)
        _feed(told)
        made.wait(lambda: made.count(Folder.SPOOL) == 0, "everything to be recorded")
        made.wait(lambda: made.count(Folder.QUARANTINE) >= 4, "what cannot go on to be in quarantine")
        made.wait(lambda: "delivery.retry" in made.log("processor"), "the mirror to be missed")
        for port in ports:
            for path in ("metrics", "healthz", "readyz", f"x/{MARK}/{PERSONS[0]}"):
                answer = httpx.get(f"http://127.0.0.1:{port}/{path}", timeout=PATIENCE_SECONDS)
                told.said[f"{port}/{path[:7]}"] = answer.text
        for tier in tiers:
            tier.kill()
        _ask_commands(told, nursery)
        yield told
        made.close()


def _settings(made: Installation, peers: str, ports: tuple[int, int]) -> str:
    return f"""
[spool]
root = "{made.spool.root}"
[api]
port = {made.port}
[database]
url = "{made.database.url.render_as_string(hide_password=False)}"
[database.mirror]
url = "postgresql+psycopg://mirror:{MARK}-mirror@127.0.0.1:1/none"
statement = "UPDATE contract SET status = :status WHERE envelope = :document_id"
[metrics]
api_port = {ports[0]}
processor_port = {ports[1]}
[log]
level = "debug"
[processor]
sweep = "500ms"
look_outbox = "50ms"
backoff_base = "100ms"
backoff_cap = "200ms"
attempts = 3
[providers.ssign]
base_url = "{peers}/ssign"
token = "{MARK}-ssign-token"
secrets = {{ "2026-10" = "{MARK}-older", "2026-11" = "{CALLBACK_SECRET}" }}
[providers.restpki]
base_url = "{peers}/restpki"
token = "{MARK}|restpki-key"
authentication = "basic"
secret = "{BASIC}"
[providers.arqsign]
base_url = "{peers}/arqsign"
app_key = "{MARK}-app-key"
subscription_key = "{MARK}-subscription-key"
responsible_id = "0c1d2e3f"
folder_id = "5e6f7a8b"
secret = "{MARK}-arqsign"
[destinations.dms]
kind = "http"
url = "{peers}/dms/${{document_id}}"
token = "{MARK}-dms-token"
[destinations.archive]
kind = "folder"
path = "{made.home / "archive"}"
"""


def _feed(story: Story) -> None:
    """Callbacks good and bad, files laid by hand, and requests that are none."""
    made = story.installation
    for document_id, file_ids in ((BAD, "bad"), (GOOD, "good"), (ODD, "odd")):
        made.register("ssign", document_id, {}, file_ids=file_ids)
        _post(story, f"accepted {document_id}", {"envelopeId": int(document_id), "action": "COMPLETED"}, 200)
    made.register("arqsign", TAKEN_BACK, {})
    _post(story, "unknown action", {"envelopeId": 1004, "action": f"ASSINADO {SAID}"}, 200)
    _post(story, "wrong secret", {"envelopeId": 1, "action": "COMPLETED"}, 401, f"{MARK}-wrong")
    _post(story, "no action", {"envelopeId": 1, SAID: SAID}, 422)
    _post(story, "no id", {"envelopeId": {SAID: SAID}, "action": SAID}, 422)
    _post(story, "no JSON", f"cpf={SAID}&token={MARK}".encode(), 422)
    basic = base64.b64encode(BASIC.encode()).decode()
    for name, value in (("basic", f"Basic {basic}"), ("bad basic", f"Basic {basic}x {MARK}")):
        answer = httpx.post(
            f"{made.url}/api/callback?provider=restpki&cpf={PERSONS[0]}",
            content=json_body({"type": f"DocumentConcluded {SAID}", "data": {"document": {"id": SAID}}}),
            headers={"authorization": value},
            timeout=PATIENCE_SECONDS,
        )
        story.said[name] = answer.text
    for method, path in (
        ("GET", f"/api/callback?provider=ssign&secret={MARK}&cpf={PERSONS[0]}"),
        ("POST", f"/api/callback?provider={MARK}{PERSONS[0]}"),
        ("GET", f"/{MARK}/{PERSONS[0]}"),
        ("DELETE", f"/api/callback?provider={MARK}"),
        ("GET", f"/api/return?provider=restpki&signatureSessionId={MARK}&cpf={PERSONS[0]}"),
        ("GET", f"/api/return?provider={MARK}&cpf={PERSONS[0]}"),
    ):
        story.said[f"{method} {path[:28]}"] = httpx.request(
            method, made.url + path, timeout=PATIENCE_SECONDS
        ).text
    with socket.create_connection(("127.0.0.1", made.port), timeout=PATIENCE_SECONDS) as raw:
        raw.sendall(f"GARBAGE {MARK} {SAID}\r\n\r\n".encode())
        story.said["garbage"] = raw.recv(65536).decode("utf-8", "replace")
    _lay(made, LAID, f"not JSON: {SAID} {MARK}".encode())
    _lay(
        made,
        entry_name("1005", "0190a000-0000-7000-8000-000000000000"),
        json_body({"timestamp": SAID, "originalPayload": {}, "envelopeId": "1005", "provider": SAID}),
    )


def _post(story: Story, name: str, body: object, status: int, secret: str = CALLBACK_SECRET) -> None:
    content = body if isinstance(body, bytes) else json_body({**body, "signer": SAID, "note": MARK})  # type: ignore[dict-item]
    answer = httpx.post(
        f"{story.installation.url}/api/callback",
        params={"provider": "ssign", "token": f"{MARK}-query", "cpf": PERSONS[0]},
        content=content,
        headers={
            "content-type": "application/json",
            "x-callback-secret": secret,
            "authorization": f"Bearer {MARK}-header",
            "x-signer": SAID,
            "cookie": f"session={MARK}",
        },
        timeout=PATIENCE_SECONDS,
    )
    assert answer.status_code == status, (name, answer.text)
    story.said[name] = answer.text


def _lay(made: Installation, name: str, content: bytes) -> None:
    """Lay a file into `spool/` by hand, old enough to be whole."""
    path = made.home / name
    path.write_bytes(content)
    an_hour_ago = time.time() - 3600
    os.utime(path, (an_hour_ago, an_hour_ago))
    path.rename(made.spool.folder(Folder.SPOOL) / name)


def _ask_commands(story: Story, nursery: Nursery) -> None:
    """Side by side, since none changes anything but the one that the peer refuses."""
    home, asked = story.installation.home, {}
    (home / "contract.pdf").write_bytes(make_pdf("to be signed"))
    (home / "sent.csv").write_text("provider,document_id,ref.file_ids\nssign,1007,7\n")
    for number, (words, arguments) in enumerate(COMMANDS):
        output = home / f"command-{number}.txt"
        order = [*words.split(), *(argument.format(home=home) for argument in arguments)]
        asked[output] = order, nursery.start([*order, "--config", str(story.installation.config)], output)
    for output, (order, process) in asked.items():
        assert process.wait(2 * PATIENCE_SECONDS), order
        story.said[" ".join(order)] = output.read_text()
        assert output.read_text(), order


def leaks(text: str) -> list[str]:
    """Every marked secret and number of a person in a text, with what stands around it."""
    found = [*SECRETS.finditer(text), *WHO.finditer(text)]
    return [text[max(0, match.start() - 60) : match.end() + 20] for match in found]


def test_the_peers_were_really_asked_and_answered_with_marks(story: Story) -> None:
    """Else the tests below would pass for want of anything to leak."""
    assert any("EnvelopeFileId=good" in target for target in story.peers.seen)
    assert any("EnvelopeFileId=bad" in target for target in story.peers.seen)
    assert any(target.startswith("/dms/") for target in story.peers.seen)
    reasons = [path.read_text() for path in story.installation.spool.root.rglob("*.reason.json")]
    assert any("***" in reason for reason in reasons)
    assert "***" in story.said[f"documents show ssign {BAD} --json"]
    assert "***" in story.said[f"documents show ssign {GOOD} --json"]


@pytest.mark.parametrize("tier", ["api", "processor"])
def test_no_line_of_a_log_holds_a_secret_or_a_number_of_a_person(story: Story, tier: str) -> None:
    """At the level that says the most."""
    log = story.installation.log(tier)
    assert len(log.splitlines()) > 8
    assert leaks(log) == []


def test_no_answer_metric_or_listing_holds_one(story: Story) -> None:
    said = dict(story.said)
    # Shows what was received, as the file itself does.
    shown = json.loads(said.pop(f"spool show {GOOD} --json"))
    said["spool show"] = json.dumps([{**entry, "content": entry["content"]["receipt"]} for entry in shown])
    found = {name: leaks(text.replace(LAID, "")) for name, text in said.items()}
    assert {name: texts for name, texts in found.items() if texts} == {}


def test_every_command_was_asked() -> None:
    """A new one has to be added above."""

    def leaves(command: Any, words: tuple[str, ...] = ()) -> Iterator[str]:
        below = getattr(command, "commands", None)
        if below is None:
            yield " ".join(words)
        else:
            for name, part in below.items():
                yield from leaves(part, (*words, name))

    known = set(leaves(typer.main.get_command(app)))
    assert {words for words, _ in COMMANDS} == known - WITHOUT_SETTINGS_OR_END


def test_a_command_that_repeats_the_words_of_a_peer_knows_the_secrets_that_it_sent(story: Story) -> None:
    """As the tiers do: this one was told its own key."""
    assert "you sent ['***'" in story.said[f"documents cancel arqsign {TAKEN_BACK}"]


def test_no_file_outside_the_payloads_holds_one(story: Story) -> None:
    """Of the spool's own files what we noted of the callback; of the database, secrets alone."""
    made = story.installation
    found = {}
    for path in sorted(made.home.rglob("*")):
        inside = path.relative_to(made.home).parts
        # What was said in commands is looked at above.
        if not path.is_file() or path == made.config or inside[0] == "archive" or "command-" in path.name:
            continue
        text = path.read_bytes().decode("utf-8", "replace")
        if inside[0] == "root" and inside[1] == "files":
            continue
        if path.name.startswith(("signspool.db", ".in-hand")):
            text = "\n".join(match[0] for match in SECRETS.finditer(text))
        elif inside[0] == "root" and inside[1] in set(Folder) and not path.name.endswith(".reason.json"):
            text = _without_payload(text)
        if said := leaks(text):
            found[str(path.relative_to(made.home))] = said
    assert found == {}


def _without_payload(text: str) -> str:
    """What of a spool file is ours; of one that was laid by hand, nothing."""
    try:
        return json.dumps(json.loads(text).get("receipt", {}))
    except ValueError:
        return ""


def test_one_id_tells_the_story_through_both_tiers(story: Story) -> None:
    """From the answer to the provider to the quarantine."""
    receipt = json.loads(story.said[f"accepted {GOOD}"])["id"]
    lines = [
        json.loads(line)
        for tier in ("api", "processor")
        for line in story.installation.log(tier).splitlines()
        if receipt in line
    ]
    told = [line["event"] for line in lines]
    assert told[:2] == ["callback.accepted", "entry.recorded"]
    # Lanes do not wait for each other, so that their lines come in any order.
    assert "delivery.done" in told
    assert told.index("delivery.failed") < told.index("entry.quarantined")
    assert {line.get("lane") for line in lines} >= {
        "provider:ssign",
        "destination:archive",
        "destination:dms",
    }
