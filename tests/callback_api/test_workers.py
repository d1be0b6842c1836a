"""Several processes of the door behind one port: they are one door, whatever becomes of each."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.callback_api.door import SECRET, Process, make_config, make_settings
from tests.callback_api.test_running import (
    OTHER,
    Manager,
    load,
    provider,
    reload,
    said,
    started,
    started_door,
    status_with,
)
from tests.waiting import wait_until

WORKERS = 2
STARTS_SECONDS = 60.0
"""Enough for several processes at once on a busy machine."""


def _command_line(pid: int) -> bytes:
    """What a process was started with; nothing when it is gone already."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def pids_of(door: Process) -> set[int]:
    """The workers' processes, those that are being loaded among them."""
    parent = door.process.pid
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return {int(pid) for pid in children if b"spawn_main" in _command_line(int(pid))}


@dataclass(frozen=True)
class Workers:
    """A door of several workers, its settings' folder, and the service manager that it speaks to."""

    door: Process
    home: Path
    manager: Manager

    def pids(self) -> set[int]:
        return pids_of(self.door)

    def statuses(self, secret: str) -> set[int]:
        """What callbacks with this secret are answered, so many of them that each worker gets some."""
        return {status_with(self.door, secret) for _ in range(4 * WORKERS)}

    def reload(self) -> None:
        """Have every worker take over the settings."""
        count = said(self.door, "settings.reloaded")
        self.door.process.send_signal(signal.SIGHUP)
        wait_until(
            lambda: said(self.door, "settings.reloaded") == count + WORKERS,
            "every worker to reload",
            STARTS_SECONDS,
        )


@pytest.fixture(scope="module")
def shared_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    home = tmp_path_factory.mktemp("workers")
    make_settings(home)
    manager = Manager(home / "notify")
    with pytest.MonkeyPatch.context() as environ:
        environ.setenv("NOTIFY_SOCKET", manager.address)
        environ.setenv("WATCHDOG_USEC", "900000")
        with started_door(home, workers=WORKERS) as door:
            assert manager.next("READY=1", STARTS_SECONDS)
            assert len(started(door)) == WORKERS
            yield Workers(door, home, manager)
    manager.close()


@pytest.fixture
def workers(shared_workers: Workers) -> Workers:
    """With the settings of the beginning."""
    make_config(shared_workers.home)
    shared_workers.reload()
    return shared_workers


def test_all_take_over_new_settings_and_no_request_is_lost(workers: Workers) -> None:
    """In the processes that there are."""
    before = workers.pids()
    with load(workers.door, [SECRET, OTHER]) as failed:
        make_config(workers.home, providers=provider(OTHER))
        workers.reload()
        assert workers.statuses(SECRET) == {401}
    assert failed == []
    assert workers.pids() == before


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"providers": "[providers.ssign]\n"}, "no secret is set"),
        ({"root": Path("/nowhere")}, "nothing could be"),
    ],
    ids=["a provider without a secret", "a root that is no spool"],
)
def test_wrong_settings_are_refused_once_for_all(
    workers: Workers, wrong: dict[str, Any], reason: str
) -> None:
    """By the parent, which would start new workers with them otherwise."""
    make_config(workers.home, **wrong)
    count = said(workers.door, "settings.refused")
    assert reason in reload(workers.door, "settings.refused")["reason"]
    assert workers.statuses(SECRET) == {200}
    assert said(workers.door, "settings.refused") == count + 1


def test_one_that_dies_is_replaced_by_one_with_the_settings_taken_over_last(workers: Workers) -> None:
    """Although those on the disk are wrong by now, and a reload has refused them."""
    make_config(workers.home, providers=provider(OTHER), api='max_body = "64B"')
    workers.reload()
    make_config(workers.home, api="nonsense = 1")
    reload(workers.door, "settings.refused")
    before, count = workers.pids(), len(started(workers.door))
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(started(workers.door)) == count + WORKERS, "the new workers", STARTS_SECONDS)
    assert not workers.pids() & before
    assert (workers.statuses(OTHER), workers.statuses(SECRET)) == ({200}, {401})


def hang_up_a_newborn(workers: Workers) -> bool:
    """Kill a worker, tell the one in its place to reload, and wait until it has; whether it was still being
    loaded when it was told."""
    before, reloads = workers.pids(), said(workers.door, "settings.reloaded")
    count = len(started(workers.door))
    os.kill(min(before), signal.SIGKILL)
    wait_until(lambda: workers.pids() - before, "a new process")
    [newborn] = workers.pids() - before
    os.kill(newborn, signal.SIGHUP)
    was_loading = len(started(workers.door)) == count
    wait_until(lambda: said(workers.door, "settings.reloaded") == reloads + 1, "it to reload", STARTS_SECONDS)
    assert newborn in workers.pids()
    return was_loading


def test_one_that_is_told_to_reload_while_it_is_being_loaded_does_so_once_it_can(workers: Workers) -> None:
    """And does not die of the signal."""
    make_config(workers.home, providers=provider(OTHER))
    # On a busy machine the signal may come too late.
    assert any(hang_up_a_newborn(workers) for _ in range(5))
    workers.reload()
    assert (workers.statuses(OTHER), workers.statuses(SECRET)) == ({200}, {401})


def test_the_service_manager_hears_of_the_whole(shared_workers: Workers) -> None:
    """Last of all, since it ends with the stop."""
    door, manager = shared_workers.door, shared_workers.manager
    assert manager.next("WATCHDOG=1")
    door.process.send_signal(signal.SIGHUP)
    assert manager.next("RELOADING=1")
    assert manager.next("READY=1")
    assert door.stop() == 0
    assert manager.next("STOPPING=1")


def test_none_outlives_its_parent(tmp_path: Path) -> None:
    """It would hold the port against the next door."""
    make_settings(tmp_path)
    with started_door(tmp_path, workers=WORKERS) as door:
        wait_until(lambda: len(started(door)) == WORKERS, "the workers", STARTS_SECONDS)
        orphans = pids_of(door)
        assert len(orphans) == WORKERS
        door.process.kill()
        wait_until(lambda: not any(_command_line(pid) for pid in orphans), "the end of all", STARTS_SECONDS)
