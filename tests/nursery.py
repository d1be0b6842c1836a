"""A parent that has loaded the program and forks tiers on demand: loading is most of what a start costs.

What it forks runs the `signspool` command as any process does: a process of its own, with a log of its own.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

from tests.waiting import PATIENCE_SECONDS

_LOADED_BEFORE = (
    "anyio._backends._asyncio",
    "callback_api.server",
    "httpcore",
    "processor.assemble",
    "signspool.cli",
    "signspool.tiers",
    "tests.deaths",
)
REPOSITORY = Path(__file__).parent.parent
LISTENING = 63
"""The descriptor under which a forked process finds the socket that it was handed."""
_ORDER_BYTES = 65_536
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Fault:
    """A place in the program at which a process dies as if the power had gone.

    `when` is `enter` or `leave` of the function that `module` and `name` (its qualified name) give, at the
    `nth` time. Right before its death the process writes the file `hit`.
    """

    module: str
    name: str
    when: str
    nth: int
    hit: str


class Process:
    """A forked process, addressed by a descriptor that never comes to mean another one."""

    def __init__(self, pid: int, code: Callable[[int], int]) -> None:
        self.pid = pid
        self._descriptor = os.pidfd_open(pid)
        self._code = code

    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return not self.wait(0)

    def state(self) -> str:
        """What the kernel says that it does, in one letter: R, S, T for stopped..."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]

    def wait(self, seconds: float = PATIENCE_SECONDS) -> bool:
        """Wait for its end; whether it has come."""
        if self._descriptor >= 0:
            waiting = select.poll()
            waiting.register(self._descriptor, select.POLLIN)
            if waiting.poll(seconds * 1000):
                os.close(self._descriptor)
                self._descriptor = -1
        return self._descriptor < 0

    def exit_code(self, seconds: float) -> int:
        """Wait for its end; returns its exit code, below zero if a signal has ended it."""
        assert self.wait(seconds), f"process {self.pid} does not end"
        return self._code(self.pid)

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self.is_running():
            signal.pidfd_send_signal(self._descriptor, number)

    def kill(self, *, alone: bool = False) -> None:
        """End it as a power switch would, and unless `alone` what it has started at the same moment."""
        if not alone and self.is_running():
            # There is no such group in the first moment of its life.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        self.send_signal(signal.SIGKILL)
        assert self.wait(), f"process {self.pid} does not die"


class Nursery:
    """Starts tiers, with warnings as errors; kills those that are left when it is closed."""

    def __init__(self) -> None:
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SIGNSPOOL_")}
        with theirs:
            self._parent = subprocess.Popen(
                [sys.executable, "-m", "tests.nursery", str(theirs.fileno())],
                cwd=REPOSITORY,
                pass_fds=[theirs.fileno()],
                env={**kept, "PYTHONWARNINGS": "error"},
            )
        self._children: list[Process] = []

    def start(
        self,
        arguments: Sequence[str],
        log: Path,
        *,
        errors: Path | None = None,
        listening: socket.socket | None = None,
        environment: Mapping[str, str] | None = None,
        fault: Fault | None = None,
        stopped: bool = False,
        prepare: Mapping[str, object] | None = None,
    ) -> Process:
        """Fork a process that runs `signspool` with these arguments and appends its output to `log`.

        What it says of errors goes there too, or to a file of its own. A socket that is handed over is its
        descriptor `LISTENING`. One that is started `stopped` does nothing until it gets SIGCONT. Before it
        runs, it calls the functions that `prepare` names as `module:function`, each with its value.
        """
        for path in (log, errors or log):
            path.touch()
        order = {
            "arguments": list(arguments),
            "log": str(log),
            "errors": str(errors or log),
            "environment": dict(environment or {}),
            "fault": asdict(fault) if fault else None,
            "stopped": stopped,
            "prepare": dict(prepare or {}),
        }
        child = Process(self._ask({"start": order}, listening), lambda pid: self._ask({"ended": pid}))
        self._children.append(child)
        while stopped and child.state() != "T":
            assert child.is_running(), f"it has ended instead of waiting: see {log}"
            time.sleep(0.001)
        return child

    def _ask(self, order: dict[str, Any], listening: socket.socket | None = None) -> int:
        descriptors = [] if listening is None else [listening.fileno()]
        socket.send_fds(self._orders, [json.dumps(order).encode()], descriptors)
        return int(self._orders.recv(_ORDER_BYTES))

    def close(self) -> None:
        """End all that it has started, and the parent."""
        for child in self._children:
            child.kill()
        self._orders.close()
        self._parent.kill()
        self._parent.wait()


@functools.cache
def of_this_run() -> Nursery:
    """The one nursery of a test run, there from its first use to the end of the run."""
    made = Nursery()
    atexit.register(made.close)
    return made


def main(orders: socket.socket) -> None:
    """Fork for each order to start, and say the process id; or say the exit code of one that has ended."""
    for name in _LOADED_BEFORE:
        importlib.import_module(name)
    # What is loaded stays as it is, so that its memory can be shared.
    gc.freeze()
    codes: dict[int, int] = {}
    while True:
        order, descriptors, _, _ = socket.recv_fds(orders, _ORDER_BYTES, 1)
        if not order:
            return
        wanted = json.loads(order)
        _bury(codes)
        if "ended" in wanted:
            answer = _code_of(wanted["ended"], codes)
        elif not (answer := os.fork()):
            orders.close()
            _become(wanted["start"], descriptors)
        else:
            # A number that comes again means another process.
            codes.pop(answer, None)
        for descriptor in descriptors:
            os.close(descriptor)
        orders.send(str(answer).encode())


def _bury(codes: dict[int, int]) -> None:
    """Let the children go that have ended. Only now, so that the one asked for last can still be found."""
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            codes[ended[0]] = os.waitstatus_to_exitcode(ended[1])


def _code_of(pid: int, codes: dict[int, int]) -> int:
    if pid not in codes:
        # Whoever traces it sees its end before we do.
        codes[pid] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return codes[pid]


def _become(order: dict[str, Any], descriptors: Sequence[int]) -> NoReturn:
    from signspool.cli import run  # noqa: PLC0415  (loaded by the parent)
    from tests.deaths import arm  # noqa: PLC0415

    # Should the run be killed, the parent goes with it, and nothing else stays behind.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setsid()
    log, errors = (
        os.open(order[name], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640) for name in ("log", "errors")
    )
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (errors, 2)):
        os.dup2(source, target)
    for descriptor in descriptors:
        os.dup2(descriptor, LISTENING)
    os.environ.update(order["environment"])
    if order["stopped"]:
        os.kill(os.getpid(), signal.SIGSTOP)
    for place, value in order["prepare"].items():
        module, _, name = place.partition(":")
        getattr(importlib.import_module(module), name)(value)
    if order["fault"]:
        arm(Fault(**order["fault"]))
    code = run(order["arguments"])
    # What is to happen at the end of any process; taking all modules apart would cost more than the start.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as handed_over:
        main(handed_over)
