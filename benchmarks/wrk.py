"""Load from wrk: one callback posted again and again over a number of connections."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.servers import PROVIDER, SECRET

SCRIPT = Path(__file__).with_name("load.lua")
BODY_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk counted in one turn."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float

    @property
    def per_second(self) -> float:
        """Requests answered in a second."""
        return self.requests / self.seconds


def body() -> bytes:
    """A callback of S-SIGN, padded to a kilobyte."""
    content = {"envelopeId": 155, "action": "SIGNED", "note": ""}
    content["note"] = "x" * (BODY_BYTES - len(json.dumps(content)))
    return json.dumps(content).encode()


def run(url: str, home: Path, *, connections: int, seconds: float, threads: int = 1) -> Load:
    """One turn of load on `POST /api/callback`.

    Raises:
        RuntimeError: wrk is not installed, or an answer was not a 2xx.
    """
    command = shutil.which("wrk")
    if command is None:
        raise RuntimeError("wrk makes the load and is not installed: apt-get install wrk")
    content = home / "body.json"
    content.write_bytes(body())
    shape = ["-t", str(threads), "-c", str(connections), "-d", f"{seconds:g}s"]
    target = f"{url}/api/callback?provider={PROVIDER}"
    done = subprocess.run(  # noqa: S603  (wrk, with arguments of ours)
        [command, *shape, "--timeout", "30s", "--latency", "-s", str(SCRIPT), target],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "BENCHMARK_BODY": str(content), "BENCHMARK_SECRET": SECRET},
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    result = json.loads(line.removeprefix("RESULT "))
    if result["refused"] or result["broken"]:
        raise RuntimeError(f"not every callback was accepted: {result}")
    return Load(result["requests"], result["seconds"], result["p50Ms"], result["p99Ms"])
