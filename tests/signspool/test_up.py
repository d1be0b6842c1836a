"""`signspool up` as a real process: answers, survives its children, stops, and takes them along."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared.settings import load_settings
from shared.spool import MARKER
from signspool.up import _tell_what_runs
from tests.callback_api.door import in_process, spool_of
from tests.signspool.conftest import clean_environ
from tests.waiting import wait_until

_PATIENCE_SECONDS = 90.0


class Running:
    """One `signspool up`, with what it printed in files."""

    def __init__(self, home: Path, *arguments: str, environ: dict[str, str] | None = None) -> None:
        self.home = home
        self.out, self.err = home / "out", home / "err"
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "signspool", "up", "--port", "0", *arguments],
                stdout=out,
                stderr=err,
                cwd=home,
                env={**clean_environ(), **(environ or {})},
            )

    @property
    def said(self) -> str:
        """Everything that it printed."""
        return self.out.read_text() + self.err.read_text()

    def until(self, happened: Callable[[], object]) -> None:
        """Return when something is true; fails with what was printed when that takes too long."""
        wait_until(happened, lambda: f"it; said was: {self.said}", _PATIENCE_SECONDS)

    def until_said(self, text: str) -> None:
        """Return when it has printed something."""
        self.until(lambda: text in self.said)

    @property
    def callback_url(self) -> str:
        """The address that it told."""
        self.until_said("callbacks ")
        found = re.search(r"http://\S+", self.out.read_text())
        assert found is not None
        return found[0]

    def post(self) -> str:
        """Send a callback as `curl` does; returns the receipt's id."""
        request = urllib.request.Request(
            self.callback_url, data=b'{"envelopeId": 155, "action": "COMPLETED"}'
        )
        with urllib.request.urlopen(request, timeout=_PATIENCE_SECONDS) as answer:
            said = json.load(answer)
        assert said["status"] == "accepted"
        return str(said["id"])

    def children(self) -> dict[str, int]:
        """The running children: their command and process id."""
        found = {}
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit() and (command := _command_of(folder)):
                module, parent, name = [*command, *[""] * 5][2:5]
                if module == "signspool.child" and parent == str(self.process.pid):
                    found[name] = int(folder.name)
        return found

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run another command beside it."""
        return subprocess.run(
            [sys.executable, "-m", "signspool", *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.home,
            env=clean_environ(),
        )


def _command_of(folder: Path) -> list[str]:
    try:
        return (folder / "cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return []


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Starts `signspool up`; whatever still runs at the end is killed."""
    started: list[Running] = []

    def start(*arguments: str, environ: dict[str, str] | None = None) -> Running:
        started.append(Running(tmp_path, *arguments, environ=environ))
        return started[-1]

    yield start
    for running in started:
        children = running.children()
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait()
        for pid in children.values():
            if Path(f"/proc/{pid}").exists():
                os.kill(pid, signal.SIGKILL)


def test_a_callback_is_taken_recorded_and_shown_and_ctrl_c_ends_with_0(up: Callable[..., Running]) -> None:
    """The newcomer's way, without any settings; the warning is loud, and everything stops in good order."""
    running = up()
    receipt = running.post()
    running.until(lambda: running.run("documents", "show", "ssign", "155").returncode == 0)
    shown = json.loads(running.run("documents", "show", "ssign", "155", "--json").stdout)
    assert shown["status"] == "completed"
    assert [event["receipt_id"] for event in shown["events"]] == [receipt]
    assert "WARNING" in running.err.read_text()
    assert "curl -d" in running.out.read_text()
    assert str(running.home / "data") in running.out.read_text()
    children = running.children()
    assert set(children) == {"api", "processor"}
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(timeout=_PATIENCE_SECONDS) == 0
    assert running.children() == {}
    assert "Traceback" not in running.said
    assert "killing it" not in running.said


def test_a_child_that_dies_is_started_again_and_no_connection_is_refused(up: Callable[..., Running]) -> None:
    """The port stays open meanwhile, so a callback that comes then waits and is taken."""
    running = up()
    running.post()
    os.kill(running.children()["api"], signal.SIGKILL)
    assert running.post()
    assert "the api died (killed by SIGKILL): starting it again" in running.said
    running.process.terminate()
    assert running.process.wait(timeout=_PATIENCE_SECONDS) == 0


def test_the_children_die_with_a_parent_that_is_killed(up: Callable[..., Running]) -> None:
    """SIGKILL leaves the parent no time to tell them."""
    running = up()
    running.post()
    running.until(lambda: len(running.children()) == 2)
    running.process.kill()
    running.process.wait()
    running.until(lambda: not running.children())


def test_a_child_that_dies_at_once_three_times_ends_the_whole(up: Callable[..., Running]) -> None:
    """Exit 1, with the child's own words, and the other one is stopped."""
    running = up()
    running.post()
    # The processor finds a database of another version whenever it starts.
    with sqlite3.connect(running.home / "data" / "signspool.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    os.kill(running.children()["processor"], signal.SIGKILL)
    assert running.process.wait(timeout=_PATIENCE_SECONDS) == 1
    assert "the processor died 3 times right after its start (exit 1)" in running.said
    assert "newer signspool" in running.said
    assert running.children() == {}
    assert "Traceback" not in running.said


def test_a_port_in_use_is_told_and_nothing_is_started(up: Callable[..., Running]) -> None:
    """Exit 1 and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        running = up("--port", str(port))
        assert running.process.wait(timeout=_PATIENCE_SECONDS) == 1
    assert f"port {port} of 127.0.0.1 cannot be had (Address already in use): " in running.said
    assert "--port" in running.said


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"SECRET_HEADER": "X-Ours"}, "-H 'X-Ours: YOUR-SECRET' "),
        ({"AUTHENTICATION": "query", "SECRET_QUERY": "a key"}, "&a%20key=YOUR-SECRET'"),
    ],
    ids=["header", "query"],
)
def test_the_line_to_try_is_let_in_once_the_secret_is_put_into_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: dict[str, str], told: str
) -> None:
    """The door takes what the line sends; the secret itself is not printed."""
    prefix = "SIGNSPOOL_PROVIDERS__SSIGN__"
    environ = {prefix + key: value for key, value in {**settings, "SECRET": "s3cret-5577"}.items()}
    loaded = load_settings(None, environ={**environ, "SIGNSPOOL_SPOOL__ROOT": str(tmp_path / "data")})
    _tell_what_runs(loaded, "127.0.0.1", 8080, ())
    said = capsys.readouterr().out
    line = next(line for line in said.splitlines() if line.startswith("try "))
    assert told in line
    words = shlex.split(line.replace("YOUR-SECRET", "s3cret-5577"))[2:]
    url, body = words[-1], words[words.index("-d") + 1]
    headers = dict([words[1].split(": ")]) if words[0] == "-H" else {}
    spool_of(loaded).initialise()
    with in_process(loaded) as door:
        assert door.ask(url=url, content=body.encode(), headers=headers).status_code == 200
    assert "s3cret-5577" not in said


def test_no_line_to_try_is_printed_for_a_provider_that_signs_its_callbacks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    environ = {"SIGNSPOOL_PROVIDERS__ARQSIGN__SECRET": "s3cret-5577"}
    _tell_what_runs(load_settings(None, environ=environ), "127.0.0.1", 8080, ())
    said = capsys.readouterr().out
    assert "/api/callback?provider=arqsign" in said
    assert "curl" not in said


def test_without_a_secret_only_this_machine_is_served(up: Callable[..., Running]) -> None:
    """Exit 2 before anything is made."""
    running = up("--host", "0.0.0.0")
    assert running.process.wait(timeout=_PATIENCE_SECONDS) == 2
    assert "[providers." in running.said
    assert not (running.home / "data").exists()


def test_a_folder_with_other_things_in_it_does_not_become_a_spool(
    up: Callable[..., Running], tmp_path: Path
) -> None:
    """Exit 1 and nothing is put into it; without them it is as good as a new one."""
    (tmp_path / "data").mkdir()
    thing = tmp_path / "data" / "thing"
    thing.write_text("")
    running = up()
    assert running.process.wait(timeout=_PATIENCE_SECONDS) == 1
    assert "signspool check --init-spool" in running.said
    assert list(thing.parent.iterdir()) == [thing]
    thing.unlink()
    assert running.run("db", "upgrade").returncode == 0
    running = up()
    running.until_said("Ctrl-C stops")
    assert (tmp_path / "data" / MARKER).exists()


def test_a_closed_provider_stops_the_start(up: Callable[..., Running]) -> None:
    """Exit 2, with the provider's name."""
    running = up(environ={"SIGNSPOOL_PROVIDERS__SSIGN__FETCH_FILES": "false"})
    assert running.process.wait(timeout=_PATIENCE_SECONDS) == 2
    assert "providers.ssign: no secret is set" in running.said
