"""SIGHUP at any time and again and again: before a tier listens to it, and without anything left over."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import make_database
from tests.installation import Installation
from tests.nursery import REPOSITORY, Nursery, Process

RELOADS = 50
AT_FIRST = 6
"""Reloads after which everything has been there that a tier ever has open at one time."""
A_FEW = 12
"""Threads and connections of pools, of two files each, come one by one, up to the size of the pool: when two
had to wait for the disk at once. What is left over by every other reload is twice as many."""
PATIENCE_SECONDS = 120

_TYPER = """
import os, signal, sys
os.kill(os.getpid(), signal.SIGHUP)
sys.path.remove(os.path.dirname(__file__))
del sys.modules["typer"]
import typer
"""
"""Hangs up while the program is being loaded, whatever the machine does meanwhile; then it is what it was."""


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


@pytest.fixture
def hung_up(tmp_path: Path) -> dict[str, str]:
    """The environment of a program that gets SIGHUP while it is being loaded."""
    (tmp_path / "typer.py").write_text(_TYPER)
    return {**os.environ, "PYTHONPATH": f"{tmp_path}:{REPOSITORY}"}


@pytest.mark.parametrize("tier", ["api", "processor"])
def test_a_reload_asked_for_during_the_start_is_done_after_it(
    installation: Installation, hung_up: dict[str, str], tier: str
) -> None:
    """The signal comes while the program is being loaded, and does not end it."""
    count = said(installation, tier, "settings.reloaded")
    with (installation.home / f"{tier}.log").open("ab") as log:
        process = subprocess.Popen(command(installation, tier), stdout=log, stderr=log, env=hung_up)
    try:
        installation.wait(
            lambda: said(installation, tier, "settings.reloaded") == count + 1, "it to be obeyed"
        )
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0
    finally:
        process.kill()
        process.wait()


def test_any_other_command_ends_by_it(installation: Installation, hung_up: dict[str, str]) -> None:
    """As a command of a terminal that is closed, although the signal had to wait."""
    done = subprocess.run(
        command(installation, "providers", "ls"), stdout=subprocess.DEVNULL, env=hung_up, check=False
    )
    assert done.returncode == -signal.SIGHUP


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
        for number, before, what in ((open_files, files, "open files"), (threads, at_work, "threads")):
            _expect_hardly_more(installation, partial(number, process.pid), before, what)
    finally:
        process.kill()


def _expect_hardly_more(
    installation: Installation, number: Callable[[], int], before: int, what: str
) -> None:
    installation.wait(lambda: number() <= before + A_FEW, f"hardly more than {before} {what}")


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
