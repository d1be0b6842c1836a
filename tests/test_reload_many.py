"""SIGHUP at any time and again and again: before a tier listens to it, and without anything left over."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import make_database
from tests.installation import Installation
from tests.nursery import Nursery, Process

RELOADS = 50
AT_FIRST = 6
"""Reloads after which everything has been there that a tier ever has open at one time."""
A_FEW = 8
"""Threads of a pool come one by one, up to its size. What is left over by every reload is many more."""


@pytest.fixture(scope="module")
def installation(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Installation]:
    home = tmp_path_factory.mktemp("reload")
    (home / "archive").mkdir()
    with make_database("sqlite", home, request) as url:
        # Nobody listens there, and nobody is asked.
        made = Installation(home, "http://127.0.0.1:1", url)
        yield made
        made.close()


def command(installation: Installation, *words: str) -> list[str]:
    """As people type it: not forked, since the start itself is what is looked at."""
    return [sys.executable, "-m", "signspool", *words, "--config", str(installation.config)]


def said(installation: Installation, tier: str, word: str) -> int:
    lines = [line for line in installation.log(tier).splitlines() if line.startswith("{")]
    return sum(json.loads(line)["event"] == word for line in lines)


def holds(pid: int) -> bool:
    """Whether a process has SIGHUP wait."""
    status = Path(f"/proc/{pid}/status").read_text()
    blocked = int(next(line for line in status.splitlines() if line.startswith("SigBlk:")).split()[1], 16)
    return bool(blocked & 1 << (signal.SIGHUP - 1))


@pytest.mark.parametrize("tier", ["api", "processor"])
def test_a_reload_asked_for_during_the_start_is_done_after_it(installation: Installation, tier: str) -> None:
    """The signal comes while the program is being loaded, and does not end it."""
    count = said(installation, tier, "settings.reloaded")
    with (installation.home / f"{tier}.log").open("ab") as log:
        process = subprocess.Popen(command(installation, tier), stdout=log, stderr=log)
    try:
        installation.wait(lambda: holds(process.pid), "SIGHUP to be held")
        process.send_signal(signal.SIGHUP)
        installation.wait(
            lambda: said(installation, tier, "settings.reloaded") == count + 1, "it to be obeyed"
        )
        process.terminate()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()


def test_any_other_command_ends_by_it(installation: Installation) -> None:
    """As a command of a terminal that is closed; one that waited, too."""
    process = subprocess.Popen(command(installation, "providers", "ls"), stdout=subprocess.DEVNULL)
    installation.wait(lambda: holds(process.pid), "SIGHUP to be held")
    process.send_signal(signal.SIGHUP)
    assert process.wait(30) == -signal.SIGHUP


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


@pytest.mark.parametrize("tier", ["api", "processor"])
def test_many_reloads_leave_no_file_open_and_no_thread(
    installation: Installation, nursery: Nursery, tier: str
) -> None:
    """Each with other settings and, at the door, with a callback that its writer had to open folders for."""
    log = installation.home / f"{tier}.log"
    process = nursery.start([tier, "--config", str(installation.config)], log)
    if tier == "api":
        installation.wait(installation.is_ready, "the door to be ready")
    else:
        count = said(installation, tier, "processor.started")
        installation.wait(lambda: said(installation, tier, "processor.started") > count, "it to be ready")
    try:
        _reload(installation, tier, process, AT_FIRST)
        files, at_work = open_files(process.pid), threads(process.pid)
        _reload(installation, tier, process, RELOADS)
        installation.wait(lambda: open_files(process.pid) <= files, f"no more than {files} open files")
        installation.wait(
            lambda: threads(process.pid) <= at_work + A_FEW, f"hardly more than {at_work} threads"
        )
    finally:
        process.kill()


def _reload(installation: Installation, tier: str, process: Process, times: int) -> None:
    already = said(installation, tier, "settings.reloaded")
    archive, other = "[destinations.archive]", "[destinations.other]"
    for number in range(1, times + 1):
        text = installation.config.read_text()
        # A provider's secret at the door, a lane that comes and one that goes at the processor.
        old, new = (archive, other) if archive in text else (other, archive)
        text = text.replace(old, new)
        installation.config.write_text(
            re.sub(r'"2026-10" = "lacuna:.*?"', f'"2026-10" = "lacuna:{number}"', text)
        )
        if tier == "api":
            assert installation.post("ssign", {"envelopeId": number, "action": "EXPIRED"}).status_code == 200
        os.kill(process.pid, signal.SIGHUP)
        done = partial(_has_said, installation, tier, already + number)
        installation.wait(done, "the reload")


def _has_said(installation: Installation, tier: str, count: int) -> bool:
    return said(installation, tier, "settings.reloaded") == count
