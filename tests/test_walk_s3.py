"""An object store as destination, end to end: real processes that die, a key that is wrong, one object."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from simulator.server import SimulatorServer
from simulator.world import World
from tests.conftest import make_database
from tests.mortal import Mortal
from tests.nursery import Nursery
from tests.steps import Point

_SEND = ("processor.destinations.s3", "S3Destination._send")
SETTINGS = """
[destinations.bucket]
kind = "s3"
endpoint = "{peers}"
bucket = "{s3.bucket}"
region = "{s3.region}"
access_key = "{s3.access_key}"
secret_key = "{s3.secret_key}"
"""


@pytest.fixture(scope="module")
def server() -> Iterator[SimulatorServer]:
    with SimulatorServer() as running:
        yield running


@pytest.fixture(scope="module")
def world(server: SimulatorServer) -> World:
    return server.world


@pytest.fixture(scope="module")
def installation(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    server: SimulatorServer,
    world: World,
    nursery: Nursery,
) -> Iterator[Mortal]:
    """A door that stays up, and a bucket as the only destination."""
    home = tmp_path_factory.mktemp("s3")
    with make_database("sqlite", home, request) as url:
        made = Mortal(home, server.url, url, nursery)
        providers = made.config.read_text().partition("[destinations")[0]
        made.config.write_text(providers + SETTINGS.format(peers=server.url, s3=world.s3))
        made.start("api")
        yield made
        made.close()


def complete(installation: Mortal, world: World) -> str:
    """A completed document with one file; returns its id."""
    envelope = world.ssign.send()
    installation.register("ssign", envelope.id, {}, file_ids=str(envelope.file_ids[0]))
    assert installation.post("ssign", world.ssign.complete(envelope.id)).status_code == 200
    return str(envelope.id)


def delivery(installation: Mortal, document_id: str) -> dict[str, Any]:
    """The delivery of a document's file; empty until it is owed."""
    if not installation.knows("ssign", document_id):
        return {}
    shown = installation.show("ssign", document_id)
    found = [item for item in (*shown["owed"], *shown["deliveries"]) if item["task"] == "deliver"]
    return dict(found[0]) if found else {}


def deliveries(installation: Mortal, documents: list[str]) -> list[dict[str, Any]]:
    return [delivery(installation, one) for one in documents]


def test_a_file_is_put_once_however_often_the_processor_dies(installation: Mortal, world: World) -> None:
    """Right before the upload, right after it, and after the store was asked what it has."""
    document = complete(installation, world)
    for point in (Point(*_SEND, "enter"), Point(*_SEND, "leave"), Point(*_SEND, "leave", 2)):
        installation.die_at("processor", point)
    installation.start("processor")
    installation.wait_until_settled()
    installation.kill("processor")
    shown = delivery(installation, document)
    assert shown["state"] == "done"
    (held,) = world.s3.objects
    assert shown["remote_reference"] == held.file.name
    assert held.file.name.startswith(f"ssign/{document}/")
    assert held.file.sha256 == shown["sha256"]
    assert world.s3.puts == 1
    said = [(request.method, request.status) for request in world.requests_to("s3")]
    assert said == [("PUT", 200), ("PUT", 412), ("HEAD", 200), ("PUT", 412), ("HEAD", 200)]


def test_a_wrong_secret_is_one_alarm_charges_nobody_and_goes_on_once_it_is_right(
    installation: Mortal, world: World
) -> None:
    secret, right = world.s3.secret_key, "another-secret-5512"
    before, asked = len(world.s3.objects), len(world.requests_to("s3"))
    world.s3.secret_key = right
    installation.start("processor")
    documents = [complete(installation, world) for _ in range(3)]
    installation.wait(lambda: all(delivery(installation, one) for one in documents), "the deliveries")
    installation.wait(
        # An attempt is charged before it is made, and given back after each trial.
        lambda: (
            len(world.requests_to("s3")) >= asked + 4
            and {(one["state"], one["attempts"]) for one in deliveries(installation, documents)}
            == {("due", 0)}
        ),
        "several trials, none of which is charged",
    )
    reasons = {one["last_error"] for one in deliveries(installation, documents) if one["last_error"]}
    (reason,) = reasons
    assert reason.startswith("our key is not accepted: the upload to bucket was answered with 403 Signature")
    assert len(world.s3.objects) == before
    log = installation.log("processor")
    assert log.count("provider.refuses_us") == 1
    assert secret not in log

    text = installation.config.read_text()
    installation.config.write_text(text.replace(secret, right))
    os.kill(installation.pid("processor"), signal.SIGHUP)
    installation.wait_until_settled()
    assert {one["state"] for one in deliveries(installation, documents)} == {"done"}
    assert len(world.s3.objects) == before + 3
    assert right not in installation.log("processor")
    assert installation.stop("processor") == 0


def test_check_says_that_the_bucket_is_usable_and_answers(installation: Mortal) -> None:
    found = {one["about"]: one for one in json.loads(installation.run("check", "--json").stdout)}
    assert found["destination bucket"]["finding"] == "s3, usable"
    assert found["destination bucket"]["level"] == "ok"
    assert found["reaching destination bucket"]["level"] == "ok"
