"""What the tests of a booted machine ask of the services in it, and the load that they put on them."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.machine import Machine

URL = "http://127.0.0.1:8080/api/callback?provider=ssign"
API, PROCESSOR = "signspool-api", "signspool-processor"
SPOOL = "/var/lib/signspool"
SECRET_FILE = "/etc/signspool/credentials/door/providers.ssign.secret"
SENDERS = 8


@dataclass
class Load:
    """What became of the callbacks that were sent while something else went on."""

    done: list[str]
    failed: list[str]
    longest_seconds: float


@contextlib.contextmanager
def under_load(machine: Machine, *secrets: str) -> Iterator[Load]:
    """Send callbacks without a pause inside the block, on connections that are kept and on new ones."""
    program = str(Path(__file__).with_name("load.py"))
    sending = subprocess.Popen(
        machine.beside(sys.executable, program, URL, str(SENDERS), *(secrets or [secret_of(machine)])),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    load = Load([], [], 0.0)
    try:
        # Something has to be on its way before anything is done to the services.
        count = len(stored(machine))
        machine.wait(lambda: len(stored(machine)) > count + SENDERS, "the first callbacks")
        yield load
        count = len(stored(machine))
        machine.wait(lambda: len(stored(machine)) > count + SENDERS, "callbacks to go on")
        said, _ = sending.communicate(timeout=120)
        for name, value in json.loads(said).items():
            setattr(load, name, value)
    finally:
        sending.kill()
        sending.communicate()


def secret_of(machine: Machine) -> str:
    """What proves a callback, once the door has taken it over."""
    return (machine.root / SECRET_FILE.lstrip("/")).read_text().strip()


def status_with(machine: Machine, secret: str) -> int:
    """What the door answers to one callback with this secret."""
    body = '{"envelopeId": 1, "action": "EXPIRED"}'
    command = f"curl -s -o /dev/null -w '%{{http_code}}' -H 'X-Callback-Secret: {secret}' -d '{body}' '{URL}'"
    return int(machine.says(command))


def stored(machine: Machine) -> set[str]:
    """The receipts of all callbacks that lie in the spool, whatever folder they are in."""
    root = machine.root / SPOOL.lstrip("/")
    return {path.stem.rpartition("_")[2] for path in root.glob("*/????-??-??/*.json")}


def expect_nothing_lost(machine: Machine, load: Load) -> None:
    """No callback failed, and each that was acknowledged is recorded, once."""
    assert load.failed == []
    assert load.done
    assert set(load.done) <= stored(machine)
    waiting = machine.root / SPOOL.lstrip("/") / "spool"
    machine.wait(lambda: not list(waiting.glob("*/*.json")), "everything to be recorded")
    assert len(load.done) == len(set(load.done))


def main_pid(machine: Machine, unit: str) -> str:
    return machine.show(unit, "MainPID")


def writers(machine: Machine) -> list[str]:
    """The processes that write for the door."""
    program = "callback_api[.]writer_process"
    asked = f"pgrep --full --parent {main_pid(machine, API)} {program}"
    return machine.run(asked, check=False).stdout.split()


def run_still(machine: Machine, *pids: str) -> bool:
    """Whether one of these processes is there."""
    return any(machine.run(f"test -e /proc/{pid}", check=False).returncode == 0 for pid in pids)


def wait_for_words(machine: Machine, unit: str, words: str) -> None:
    machine.wait(lambda: words in machine.journal(unit), f"{unit} to say {words}")


def wait_until_active(machine: Machine, unit: str) -> None:
    machine.wait(lambda: machine.show(unit, "ActiveState") == "active", f"{unit} to be active")
