"""What the door counts, and what it says of it on its private address."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from callback_api.metrics import (
    ACCEPTED,
    DoorCounts,
    living,
    new_board,
    private_address,
)
from callback_api.responses import BusyError
from shared.commit import NewFile
from shared.errors import (
    NotProvenError,
    RefusedError,
    SpoolUnavailableError,
    TooLargeError,
    UnknownProviderError,
    UnusableBodyError,
)
from shared.metrics.board import Board
from shared.settings import Settings
from shared.spool import MARKER, Entry, Folder
from tests.callback_api.door import (
    BODY,
    DEADLINE_SECONDS,
    HEADERS,
    SECRET,
    URL,
    Process,
    in_process,
    make_settings,
    running,
)
from tests.installation import free_port
from tests.waiting import wait_until

Samples = dict[tuple[str, ...], float]


def samples(text: str) -> Samples:
    """Every sample of a scrape, by name and label values in the order of the labels' names."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape(port: int, path: str = "/metrics") -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=DEADLINE_SECONDS)


def wait(condition: Callable[[], bool], what: str) -> None:
    wait_until(condition, what, 3 * DEADLINE_SECONDS)


def served(folder: Path, **sections: str) -> tuple[Settings, int]:
    """Settings with a private address, and its port."""
    port = free_port()
    providers = f'[providers.ssign]\nsecret = "{SECRET}"\n[metrics]\napi_port = {port}\n'
    return make_settings(folder, providers=providers, **sections), port


def accepted(port: int) -> float:
    return samples(scrape(port).text)["signspool_callbacks_total", ACCEPTED, "ssign"]


def post(door: Process) -> None:
    assert (
        httpx.post(door.base_url + URL, content=BODY, headers=HEADERS, timeout=DEADLINE_SECONDS).status_code
        == 200
    )


def test_a_refusal_is_counted_under_the_name_of_its_problem(tmp_path: Path) -> None:
    """Whoever is to blame; what names no provider of ours is one value."""
    board = new_board()
    counts = DoorCounts(board)
    errors: list[BaseException] = [
        NotProvenError("x"),
        NotProvenError("x", status=400),
        UnusableBodyError("x"),
        TooLargeError("x"),
        RefusedError("x", status=418),
        SpoolUnavailableError("x"),
        BusyError("x"),
        asyncio.CancelledError(),
        ZeroDivisionError(),
    ]
    for error in errors:
        counts.refused("ssign", error)
    for name in ("", "a provider that is nowhere"):
        counts.refused(name, UnknownProviderError("x"))
    counts.disconnected("ssign")
    assert _counted(_collected(tmp_path, board)) == {
        ("not_proven", "ssign"): 2,
        ("unusable_body", "ssign"): 1,
        ("body_too_large", "ssign"): 1,
        ("refused", "ssign"): 1,
        ("not_stored", "ssign"): 1,
        ("busy", "ssign"): 1,
        ("unavailable", "ssign"): 2,
        ("disconnected", "ssign"): 1,
        ("unknown_provider", "unknown"): 2,
    }


def _counted(found: Samples, name: str = "signspool_callbacks_total") -> Samples:
    """Callbacks by outcome and provider, without the many zeros."""
    return {key[1:]: value for key, value in found.items() if key[0] == name and value}


def test_requests_of_every_kind_are_told_apart(tmp_path: Path) -> None:
    """What names no provider of ours is one value, whatever it names."""
    settings, port = served(tmp_path)
    with running(tmp_path / "signspool.toml") as door:
        for _ in range(3):
            post(door)
        url = door.base_url + URL
        httpx.post(url, content=BODY, timeout=DEADLINE_SECONDS)
        httpx.post(url, content=b"{}", headers=HEADERS, timeout=DEADLINE_SECONDS)
        for name in ("stranger-1", "stranger-2", ""):
            httpx.post(
                f"{door.base_url}/api/callback?provider={name}", content=BODY, timeout=DEADLINE_SECONDS
            )
        found = samples(scrape(port).text)
        by = {
            key[1:]: value for key, value in found.items() if key[0] == "signspool_callbacks_total" and value
        }
        assert by == {
            (ACCEPTED, "ssign"): 3,
            ("not_proven", "ssign"): 1,
            ("unusable_body", "ssign"): 1,
            ("unknown_provider", "unknown"): 3,
        }
        assert {key[2] for key in found if key[0] == "signspool_callbacks_total"} == {"ssign", "unknown"}
        assert found["signspool_callback_durable_seconds_count", "ssign"] == 3
        assert found["signspool_callback_durable_seconds_bucket", "+Inf", "ssign"] == 3
        assert 0 < found["signspool_callback_durable_seconds_sum", "ssign"] < DEADLINE_SECONDS
        last = found["signspool_callback_last_accepted_timestamp_seconds", "ssign"]
        assert abs(time.time() - last) < DEADLINE_SECONDS
        # Three callbacks and two copies of refused ones, each alone.
        wait(lambda: samples(scrape(port).text)["signspool_commit_files_sum",] == 5, "five files")
        assert found["signspool_spool_min_free_bytes",] == settings.spool.min_free
        assert found["signspool_spool_free_bytes",] > 0
        # A loop that has not turned for some seconds does not count.
        for name in ("signspool_door_workers", "signspool_door_ready"):
            wait(lambda name=name: samples(scrape(port).text)[name,] == 1, name)  # type: ignore[misc]

        (settings.spool.root / MARKER).rename(tmp_path / "marker")
        wait(lambda: scrape(port, "/readyz").status_code == 503, "the door to be unready")
        assert "marker" in scrape(port, "/readyz").json()["detail"]
        assert scrape(port, "/healthz").status_code == 200
        wait(lambda: samples(scrape(port).text)["signspool_door_ready",] == 0, "the figure to say so")
        assert httpx.post(url, content=BODY, headers=HEADERS, timeout=DEADLINE_SECONDS).status_code == 503
        assert samples(scrape(port).text)["signspool_callbacks_total", "not_stored", "ssign"] == 1
        assert door.stop() == 0


def test_browsers_that_come_back_are_counted_by_provider_and_outcome(tmp_path: Path) -> None:
    """By all workers together; names that no browser comes back from are one value, a HEAD is no visit."""
    _, port = served(tmp_path)
    config = tmp_path / "signspool.toml"
    config.write_text(config.read_text() + '[providers.restpki]\nsecret = "an-invented-one"\n')
    with _two_workers(tmp_path, port) as door:
        returns = f"{door.base_url}/api/return?"
        for number in range(12):
            # Each on a connection of its own, so that both workers have some.
            httpx.get(
                f"{returns}provider=restpki&signatureSessionId={uuid4()}&n={number}", timeout=DEADLINE_SECONDS
            )
        httpx.head(f"{returns}provider=restpki&signatureSessionId={uuid4()}", timeout=DEADLINE_SECONDS)
        httpx.get(f"{returns}provider=restpki", timeout=DEADLINE_SECONDS)
        for name in ("ssign", "stranger-1", "stranger-2", ""):
            httpx.get(f"{returns}provider={name}", timeout=DEADLINE_SECONDS)
        found = samples(scrape(port).text)
        by = {key[1:]: value for key, value in found.items() if key[0] == "signspool_returns_total"}
        assert {key: value for key, value in by.items() if value} == {
            (ACCEPTED, "restpki"): 12,
            ("unusable_body", "restpki"): 1,
            ("unknown_provider", "unknown"): 4,
        }
        assert {provider for _, provider in by} == {"restpki", "unknown"}
        # They are no callbacks.
        assert not _counted(found)


def test_a_return_that_cannot_be_stored_is_counted_as_that(tmp_path: Path) -> None:
    board = new_board()
    counts = DoorCounts(board)
    for error in (SpoolUnavailableError("x"), BusyError("x"), ZeroDivisionError()):
        counts.returned("a provider that is nowhere", error)
    found = _collected(tmp_path, board)
    assert _counted(found, "signspool_returns_total") == {
        ("not_stored", "unknown"): 1,
        ("busy", "unknown"): 1,
        ("unavailable", "unknown"): 1,
    }


def test_totals_are_those_of_all_workers_and_never_fall(tmp_path: Path) -> None:
    """Also when a worker is killed, and another one takes its place."""
    _, port = served(tmp_path)
    with _two_workers(tmp_path, port) as door:
        sent = 0
        while sent < 20:
            post(door)
            sent += 1
        assert accepted(port) == sent
        workers = [int(pid) for pid in _children(door.process.pid)]
        by_worker = [line for line in door.log_lines() if line["event"] == "callback.accepted"]
        assert len(by_worker) == sent
        os.kill(workers[0], signal.SIGKILL)
        assert accepted(port) == sent
        wait(lambda: len(set(_children(door.process.pid)) - set(workers)) == 1, "another worker")
        for _ in range(10):
            post(door)
        assert accepted(port) == sent + 10
        wait(lambda: _workers(port) == 2, "two workers again")


@contextmanager
def _two_workers(folder: Path, port: int) -> Iterator[Process]:
    """A door whose workers are both there: two starts at once take long on a machine that is busy."""
    door = Process(folder / "signspool.toml", workers=2)
    try:
        wait(lambda: _workers(port) == 2, "two workers")
        yield door
    finally:
        door.stop()


def _workers(port: int) -> float:
    """How many say that they are alive; none while nobody answers."""
    try:
        return samples(scrape(port).text)["signspool_door_workers",]
    except httpx.TransportError:
        return 0


@pytest.mark.parametrize("workers", [1, 2])
def test_a_reload_goes_on_counting_and_shows_the_providers_of_now(tmp_path: Path, workers: int) -> None:
    settings, port = served(tmp_path)
    with running(tmp_path / "signspool.toml", workers=workers) as door:
        wait(lambda: samples(scrape(port).text)["signspool_door_workers",] == workers, "the workers")
        post(door)
        post(door)
        assert ("signspool_callbacks_total", "accepted", "certisign") not in samples(scrape(port).text)
        config = tmp_path / "signspool.toml"
        more = '[providers.certisign]\nsecret = "an-invented-one"\n'
        config.write_text(config.read_text().replace("[providers.ssign]", f"{more}[providers.ssign]"))
        door.process.send_signal(signal.SIGHUP)
        wait(
            lambda: sum(line["event"] == "settings.reloaded" for line in door.log_lines()) == workers,
            "the other settings",
        )
        post(door)
        found = samples(scrape(port).text)
        assert found["signspool_callbacks_total", "accepted", "ssign"] == 3
        assert found["signspool_callbacks_total", "accepted", "certisign"] == 0
        assert found["signspool_spool_min_free_bytes",] == settings.spool.min_free
        wait(lambda: samples(scrape(port).text)["signspool_door_workers",] == workers, "the same workers")


def _children(pid: int) -> list[int]:
    """The worker processes of a door."""
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        try:
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(int(child))
        except FileNotFoundError:
            continue
    return found


def test_a_group_counts_its_files_and_those_that_failed(tmp_path: Path) -> None:
    board = new_board()
    counts = DoorCounts(board)
    good = NewFile(Folder.SPOOL, Entry("2026-11-21", "1.json"), b"{}")
    bad = NewFile(Folder.SPOOL, Entry("2026-11-21", "2.json"), b"{}", error=SpoolUnavailableError("full"))
    counts.group([good, bad, good], 0.003)
    found = _collected(tmp_path, board)
    assert found["signspool_commit_files_sum",] == 3
    assert found["signspool_commit_files_bucket", "2.0"] == 0
    assert found["signspool_commit_files_bucket", "4.0"] == 1
    assert found["signspool_commit_failed_files_total",] == 1
    assert found["signspool_commit_duration_seconds_bucket", "0.002"] == 0
    assert found["signspool_commit_duration_seconds_bucket", "0.004"] == 1


def _collected(folder: Path, board: Board) -> Samples:
    """What a scrape of a board says, without a door."""
    settings, port = served(folder)
    with private_address(settings, board):
        return samples(scrape(port).text)


def test_a_worker_whose_loop_has_stopped_is_not_alive(tmp_path: Path) -> None:
    """Its row says so by the age of its last beat; one that ended in good order at once."""
    settings = make_settings(tmp_path)
    board = new_board()
    assert living(board) == []
    with in_process(settings, counts=DoorCounts(board)) as door:
        assert len(living(board)) == 1
        assert door.ask().status_code == 200
    assert living(board) == []
