"""Makes system calls of a running process fail or dawdle, from outside, for as long as a block lasts."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.processes import family
from tests.waiting import wait_until

ATTACH_SECONDS = 20.0
_FOR_EVER_MICROSECONDS = 600_000_000
"""Longer than any test; who stands still goes on when the tracer leaves."""

needs_strace = pytest.mark.skipif(
    shutil.which("strace") is None, reason="strace, which makes system calls fail, is not installed"
)


@contextmanager
def injected(task: int, *faults: str, follow: bool = False) -> Iterator[None]:
    """Have faults in the system calls of a thread, or with `follow` of all threads of a process and of those
    that it has started.

    A fault is written as strace takes it: `fsync,fdatasync:error=EIO:when=2+3`.
    """
    calls = ",".join(fault.partition(":")[0] for fault in faults)
    injections = [argument for fault in faults for argument in ("-e", f"inject={fault}")]
    with _traced(task, ["-e", f"trace={calls}", *injections], "/dev/null", follow=follow):
        yield


@contextmanager
def held_up(task: int, calls: str) -> Iterator[None]:
    """Have a thread stand still in the first of some system calls that it makes, until the block ends."""
    with injected(task, f"{calls}:delay_enter={_FOR_EVER_MICROSECONDS}:when=1"):
        yield


def thread_that_calls(process: int, calls: str, act: Callable[[], object], folder: Path) -> int:
    """The thread of a process, or of one that it has started, that makes one of some system calls while `act`
    runs."""
    output = folder / "calls.trace"
    with _traced(process, ["-e", f"trace={calls}"], str(output), follow=True):
        act()
    found = re.search(rf"^(\d+) +(?:{calls.replace(',', '|')})\(", output.read_text(), re.MULTILINE)
    assert found is not None, f"nobody called {calls}"
    return int(found[1])


@contextmanager
def _traced(task: int, what: list[str], output: str, *, follow: bool) -> Iterator[None]:
    tasks = family(task) if follow else [task]
    attached = [argument for one in tasks for argument in ("-p", str(one))]
    command = ["strace", "-qq", "-o", output, *what, *(["-f"] if follow else []), *attached]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        _wait_until_attached(tasks, tracer, follow=follow)
        yield
    finally:
        tracer.send_signal(signal.SIGTERM)
        tracer.communicate(timeout=ATTACH_SECONDS)


def _wait_until_attached(tasks: list[int], tracer: subprocess.Popen[str], *, follow: bool) -> None:
    def is_attached() -> bool:
        if tracer.poll() is not None:
            pytest.skip(f"tracing is not permitted here: {tracer.communicate()[1].strip()[:80]}")
        threads = [thread for task in tasks for thread in _threads(task)] if follow else tasks
        return all(map(_is_traced, threads))

    wait_until(is_attached, "strace to attach")


def _threads(process: int) -> list[int]:
    return [int(path.name) for path in Path(f"/proc/{process}/task").iterdir()]


def _is_traced(task: int) -> bool:
    return "TracerPid:\t0\n" not in Path(f"/proc/{task}/status").read_text()
