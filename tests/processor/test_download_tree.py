"""Files out of a tree of JSON land on disk in both generations of the one provider that answers so."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import pytest

from processor.download import StoredFile, fetch_files
from processor.outside import Outside
from processor.signatures import SignatureCheck
from shared.errors import NotReadyError, PermanentError, TransientError
from shared.providers._base import DocumentView, FileKind
from simulator.app import create_simulator
from simulator.arqsign import LetterCase, Process, RecordAs, Trigger
from simulator.world import World
from tests.processor.fetching import Handler, names_in, pieces
from tests.providers.conftest import make_provider

MIB = 1024 * 1024


def make_arqsign(world: World, generation: str = "v2", **settings: Any) -> Any:
    return make_provider(
        "arqsign",
        base_url="http://simulator/arqsign",
        generation=generation,
        app_key=world.arqsign.app_key,
        subscription_key=world.arqsign.subscription_key,
        **settings,
    )


def run(
    folder: Path,
    provider: Any,
    transport: httpx.AsyncBaseTransport,
    process_id: str,
    max_file_bytes: int = MIB,
) -> list[StoredFile]:
    async def fetch() -> list[StoredFile]:
        outside = Outside(
            provider.name,
            origins=provider.origins,
            connect_timeout_seconds=60,
            read_timeout_seconds=60,
            total_timeout_seconds=120,
            transport=transport,
        )
        async with aclosing(outside):
            view = DocumentView(process_id, {})
            return await fetch_files(
                provider, view, outside, folder, max_file_bytes=max_file_bytes, signatures=SignatureCheck()
            )

    return asyncio.run(fetch())


def run_simulated(folder: Path, world: World, process: Process, **settings: Any) -> list[StoredFile]:
    transport = httpx.ASGITransport(create_simulator(world))
    return run(folder, make_arqsign(world, **settings), transport, process.id)


@pytest.mark.parametrize("letters", list(LetterCase))
@pytest.mark.parametrize("record_as", list(RecordAs))
def test_every_file_of_a_process_lands_in_order_with_its_record(
    tmp_path: Path, letters: LetterCase, record_as: RecordAs
) -> None:
    world = World()
    world.arqsign.letter_case, world.arqsign.record_as = letters, record_as
    world.arqsign.signed_size_bytes = 300_000
    process = world.arqsign.send(files=2)
    world.arqsign.conclude(process.id)
    found = run_simulated(tmp_path, world, process)
    wanted = [file for pair in zip(process.signed, process.records, strict=True) for file in pair]
    assert [file.path.read_bytes() for file in found] == [file.content for file in wanted]
    assert [file.sha256 for file in found] == [file.sha256 for file in wanted]
    assert [file.name for file in found] == [file.name for file in wanted]
    assert [file.kind for file in found] == [FileKind.SIGNED, FileKind.REPORT] * 2
    assert names_in(tmp_path) == sorted(file.path.name for file in found)


def test_the_old_generation_gives_its_one_file(tmp_path: Path) -> None:
    world = World()
    process = world.arqsign.send(files=2)
    world.arqsign.conclude(process.id)
    found = run_simulated(tmp_path, world, process, generation="v1")
    assert [file.sha256 for file in found] == [process.signed[0].sha256, process.records[0].sha256]


@pytest.mark.parametrize("trigger", [Trigger.ONE_SIGNED, Trigger.REFUSED, Trigger.CANCELLED, Trigger.EXPIRED])
def test_what_is_not_concluded_leaves_nothing_behind(tmp_path: Path, trigger: Trigger) -> None:
    """Its files come all the same."""
    world = World()
    process = world.arqsign.send()
    world.arqsign.happen(process.id, trigger)
    with pytest.raises(NotReadyError):
        run_simulated(tmp_path, world, process)
    assert names_in(tmp_path) == []


def test_a_label_with_a_path_in_it_names_no_path(tmp_path: Path) -> None:
    world = World()
    process = world.arqsign.send()
    process.originals[0] = type(process.originals[0])("../../etc/x\x00y.pdf", "application/pdf", b"%PDF")
    world.arqsign.conclude(process.id)
    [signed, _] = run_simulated(tmp_path, world, process)
    assert signed.name == "xy.pdf"
    assert signed.path.parent == tmp_path


def answering(body: bytes) -> Handler:
    return lambda _: httpx.Response(200, content=pieces(body))


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"status": "Conclu\xc3\xaddo", "documentos": [{"base64Documento": "JVBERi0x', TransientError),
        (b"<html>", TransientError),
        (b'[{"status": "Concluido"}]', TransientError),
        (b'{"status": "Concluido", "documentos": [{"base64Documento": "JVBE!"}]}', NotReadyError),
        # A whole text that is no PDF, and a PDF that is cut off.
        (b'{"status": "Concluido", "documentos": [{"base64Documento": "QUJDREVG"}]}', PermanentError),
        (b'{"status": "Concluido", "documentos": [{"base64Documento": "JVBERi0xLjQK"}]}', TransientError),
    ],
)
def test_damage_is_told_and_leaves_nothing_behind(
    tmp_path: Path, body: bytes, error: type[Exception]
) -> None:
    provider = make_arqsign(World())
    with pytest.raises(error):
        run(tmp_path, provider, httpx.MockTransport(answering(body)), "p-1")
    assert names_in(tmp_path) == []


def test_a_file_above_the_limit_is_refused_while_it_streams(tmp_path: Path) -> None:
    world = World()
    world.arqsign.signed_size_bytes = MIB + 1
    process = world.arqsign.send()
    world.arqsign.conclude(process.id)
    with pytest.raises(PermanentError, match="max_file"):
        run_simulated(tmp_path, world, process)
    assert names_in(tmp_path) == []
