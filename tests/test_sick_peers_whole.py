"""The whole daemon while its peers fall ill one after the other: each document arrives once, all the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from simulator.server import SimulatorServer
from simulator.weather import Storm, StormKind
from simulator.world import World
from tests.conftest import make_database
from tests.installation import Installation
from tests.test_slow_peers import lay
from tests.test_walk import dms_of

FETCH = [
    Storm("certisign", StormKind.RESET),
    Storm("certisign", StormKind.SILENCE),
    Storm("certisign", StormKind.TRUNCATED),
    Storm("certisign", StormKind.HTML),
    Storm("certisign", StormKind.ERROR_IN_200),
    Storm("certisign", StormKind.STATUS, status=429, retry_after_seconds=0),
    Storm("certisign", StormKind.REDIRECT),
    Storm("certisign", StormKind.STATUS, status=500),
]
UPLOAD = [
    Storm("smartshare", StormKind.STATUS, path="InserirAnexo", status=429),
    Storm("smartshare", StormKind.REDIRECT, path="InserirAnexo", status=307),
    Storm("smartshare", StormKind.HTML, path="ValidarLogin"),
    Storm("smartshare", StormKind.RESET, path="ValidarLogin"),
    Storm("smartshare", StormKind.STATUS, path="InserirAnexo", status=503),
]
UNKNOWN = Storm("smartshare", StormKind.RESET, path="InserirAnexo", after_acting=True)


@pytest.fixture
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Installation, World]]:
    (tmp_path / "archive").mkdir()
    with SimulatorServer() as server, make_database("sqlite", tmp_path, request) as url:
        made = Installation(tmp_path, server.url, url)
        yield made, server.world
        made.close()


def test_illnesses_in_turn_delay_a_document_and_neither_lose_nor_double_it(
    scene: tuple[Installation, World],
) -> None:
    """An upload that may have arrived is held, beside one that went through everything else."""
    installation, world = scene
    world.weather.add(*FETCH, *UPLOAD)
    through = send(installation, world)
    installation.start("processor")
    installation.wait(lambda: delivered(installation, through), "the document to get through")
    assert world.weather.storms == []
    world.weather.add(UNKNOWN)
    held = send(installation, world)
    installation.wait(lambda: "held" in states(installation, held), "the upload to be held")
    assert installation.stop("processor") == 0

    flows = Counter(found.values["cdFluxo"] for found in world.smartshare.attachments)
    assert flows == {through: 1, held: 1}
    assert Counter(found["cdFluxo"] for found in world.smartshare.advances) == {through: 1}
    assert len(list((installation.home / "archive" / "certisign").rglob("*.pdf"))) == 2

    log = installation.log("processor")
    for secret in ("simulated-certisign-token", "simulated-client-key", "simulated-password"):
        assert secret not in log
    for lane in ("provider:certisign", "destination:smartshare"):
        broken, mended = (sum(lane in line and word in line for line in log.splitlines()) for word in WORDS)
        assert broken == mended, f"{lane} says that it is closed, and that it is open again"
    assert log.count('"lane.broken"') >= 1


WORDS = ('"lane.broken"', '"lane.mended"')


def send(installation: Installation, world: World) -> str:
    """Have a document signed; returns its id, which is also that of its flow."""
    document = world.certisign.send(steps=1, signers=1)
    installation.register("certisign", document.id, dms_of(document.id), chave=document.chave)
    *_, completed = world.certisign.play(document.id, "ACTION")
    lay(installation, str(document.id), dict(completed))
    return str(document.id)


def states(installation: Installation, document_id: str) -> list[str]:
    if not installation.knows("certisign", document_id):
        return []
    return [item["state"] for item in installation.show("certisign", document_id)["deliveries"]]


def delivered(installation: Installation, document_id: str) -> bool:
    """Whether everything is done: both uploads and the workflow step."""
    return states(installation, document_id) == ["done"] * 3
