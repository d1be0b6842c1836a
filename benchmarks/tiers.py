"""The two tiers as real processes, as systemd would start them."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.ground import Ground

_DEADLINE_SECONDS = 60.0


@contextmanager
def running(place: Ground, tier: str) -> Iterator[subprocess.Popen[bytes]]:
    """A tier, `api` or `processor`, from its start to an orderly end; its log lies beside the settings.

    Raises:
        RuntimeError: it ended badly.
    """
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SIGNSPOOL_")}
    with (place.home / f"{tier}.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603  (our own command)
            [sys.executable, "-m", "signspool", tier, "--config", str(place.config)],
            stdout=log,
            stderr=log,
            env=environ,
            start_new_session=True,
        )
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        code = process.wait(_DEADLINE_SECONDS)
    finally:
        process.kill()
        process.wait()
    if code != 0:
        raise RuntimeError(f"{tier} ended with {code}:\n{(place.home / f'{tier}.log').read_text()[-2_000:]}")


def wait_until(condition: Callable[[], bool], what: str, *, seconds: float = _DEADLINE_SECONDS) -> None:
    """Look every few milliseconds until something is so.

    Raises:
        RuntimeError: it does not come.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(0.02)


def door_answers(port: int) -> bool:
    """Whether the door is ready."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()


def memory_bytes(process: subprocess.Popen[bytes], field: str = "VmHWM") -> int:
    """What a process has of the memory, or had at its peak: a field of its status, in bytes."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"the process {process.pid} has no {field}")
