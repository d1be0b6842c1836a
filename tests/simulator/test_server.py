"""The simulator as a server: in a thread, and in the foreground as a person starts it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest

from simulator.server import SimulatorServer
from simulator.world import World
from tests.waiting import PATIENCE_SECONDS

ROOT = Path(__file__).parents[2]


def test_two_servers_stand_beside_each_other_on_loopback_and_share_nothing() -> None:
    with SimulatorServer() as one, SimulatorServer() as two:
        assert one.url != two.url
        assert one.url.startswith("http://127.0.0.1:")
        one.world.ssign.send()
        assert len(httpx.get(f"{one.url}/_state", timeout=PATIENCE_SECONDS).json()["ssign"]["envelopes"]) == 1
        assert httpx.get(f"{two.url}/_state", timeout=PATIENCE_SECONDS).json()["ssign"]["envelopes"] == []


def test_a_renewed_server_has_a_new_world_at_the_same_address() -> None:
    with SimulatorServer() as server:
        old = server.world
        old.ssign.send()
        new = server.renew()
        assert httpx.get(f"{server.url}/_state", timeout=PATIENCE_SECONDS).json()["ssign"]["envelopes"] == []
        assert new is server.world is not old
        assert new.certisign.base_url == f"{server.url}/certisign"


def test_a_stopped_server_has_closed_its_port_and_ended_its_thread() -> None:
    before = threading.active_count()
    with SimulatorServer() as server, httpx.Client(base_url=server.url, timeout=PATIENCE_SECONDS) as client:
        # The connection is left open on purpose.
        assert client.get("/_state").status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url, timeout=PATIENCE_SECONDS)
    assert threading.active_count() == before


def test_callbacks_carry_the_address_of_the_server() -> None:
    world = World()
    with SimulatorServer(world) as server:
        document = world.certisign.send()
        assert world.certisign.finish(document.id)["apiDownload"].startswith(
            f"{server.url}/certisign/api/v2/"
        )


def test_many_requests_at_once_are_all_recorded_and_stored_once() -> None:
    with SimulatorServer() as server, httpx.Client(base_url=server.url, timeout=PATIENCE_SECONDS) as client:
        headers = {"Authorization": f"Bearer {server.world.dms.token}"}

        def send() -> None:
            for _ in range(20):
                client.post("/dms/files", content=b"x", headers=headers).raise_for_status()

        senders = [threading.Thread(target=send) for _ in range(4)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        assert sorted(received.id for received in server.world.dms.received) == list(range(1, 81))
        assert len(server.world.requests_to("dms")) == 80


@pytest.fixture
def foreground() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A simulator started as its own process, and all that it printed."""
    code = "from simulator.server import run; run('127.0.0.1', 0)"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("Ctrl-C"):
                break
        yield process, "".join(lines)
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_foreground_ends_in_order_on_a_signal(
    foreground: tuple[subprocess.Popen[str], str], number: signal.Signals
) -> None:
    process, printed = foreground
    found = re.search(r"(http://\S+)/_state", printed)
    assert found is not None
    url = found[1]
    assert httpx.get(f"{url}/_state", timeout=PATIENCE_SECONDS).status_code == 200
    process.send_signal(number)
    rest, _ = process.communicate(timeout=PATIENCE_SECONDS)
    # uvicorn ends in order on both, and then lets SIGTERM have its usual effect.
    assert process.returncode == (0 if number == signal.SIGINT else -number)
    assert "Traceback" not in rest


class Door(BaseHTTPRequestHandler):
    """Stands where the real door would, and keeps what it was sent."""

    bodies: list[bytes] = []

    def do_POST(self) -> None:
        self.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        return


@pytest.mark.skipif(shutil.which("curl") is None, reason="the printed commands use curl")
def test_the_printed_commands_work_as_printed(foreground: tuple[subprocess.Popen[str], str]) -> None:
    _, printed = foreground
    Door.bodies.clear()
    with HTTPServer(("127.0.0.1", 0), Door) as door:
        threading.Thread(target=door.serve_forever, daemon=True).start()
        commands = re.sub(r"\\\n\s*", " ", printed.replace(":8080/", f":{door.server_port}/"))
        environment = {**os.environ, "no_proxy": "*"}
        outputs = [
            subprocess.run(
                line, shell=True, check=True, capture_output=True, text=True, env=environment
            ).stdout
            for line in re.findall(r"^  (curl .*)$", commands, re.MULTILINE)
        ]
        door.shutdown()
    assert outputs[:2] == ['{"id":9001}', '{"envelopeId":155}']
    assert Door.bodies == [b'{"envelopeId":155,"action":"COMPLETED"}']
    assert "hmac: " in outputs[4].lower()
    assert json.loads(outputs[4].split("\n\n")[1])["idProcesso"] == json.loads(outputs[3])["idProcesso"]
    assert '"times":3' in outputs[5]
