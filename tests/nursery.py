"""A parent that has loaded the program and forks tiers on demand: loading is most of what a start costs.

What it forks runs the `signspool` command as any process does: a process of its own, with a log of its own.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

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

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._descriptor = os.pidfd_open(pid)

    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return not self.wait(0)

    def state(self) -> str:
        """What the kernel says that it does, in one letter: R, S, T for stopped..."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]

    def wait(self, seconds: float) -> bool:
        """Wait for its end; whether it has come."""
        if self._descriptor >= 0:
            waiting = select.poll()
            waiting.register(self._descriptor, select.POLLIN)
            if waiting.poll(seconds * 1000):
                os.close(self._descriptor)
                self._descriptor = -1
        return self._descriptor < 0

    def signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self.is_running():
            signal.pidfd_send_signal(self._descriptor, number)

    def kill(self) -> None:
        """End it as a power switch would."""
        self.signal(signal.SIGKILL)
        assert self.wait(20), f"process {self.pid} does not die"


class Nursery:
    """Starts tiers; kills those that are left when it is closed."""

    def __init__(self) -> None:
        self._parent = subprocess.Popen(
            [sys.executable, "-m", "tests.nursery"],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={name: value for name, value in os.environ.items() if not name.startswith("SIGNSPOOL_")},
        )
        self._children: list[Process] = []

    def start(
        self,
        arguments: Sequence[str],
        log: Path,
        *,
        fault: Fault | None = None,
        stopped: bool = False,
        prepare: Mapping[str, object] | None = None,
    ) -> Process:
        """Fork a process that runs `signspool` with these arguments and appends its output to `log`.

        One that is started `stopped` does nothing until it gets SIGCONT. Before it runs, it calls the
        functions that `prepare` names as `module:function`, each with its value.
        """
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        order = {
            "arguments": list(arguments),
            "log": str(log),
            "fault": asdict(fault) if fault else None,
            "stopped": stopped,
            "prepare": dict(prepare or {}),
        }
        self._parent.stdin.write(json.dumps(order) + "\n")
        self._parent.stdin.flush()
        child = Process(int(self._parent.stdout.readline()))
        self._children.append(child)
        while stopped and child.state() != "T":
            assert child.is_running(), f"it has ended instead of waiting: see {log}"
            time.sleep(0.001)
        return child

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self._children:
            child.kill()
        self._parent.communicate(timeout=20)


def main() -> None:
    """Fork for each order on standard input; say the process id of each on standard output."""
    for name in _LOADED_BEFORE:
        importlib.import_module(name)
    for line in sys.stdin:
        _bury()
        pid = os.fork()
        if not pid:
            _become(json.loads(line))
        print(pid, flush=True)


def _bury() -> None:
    """Let the children go that have ended. Only now, so that the one asked for last can still be found."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _become(order: dict[str, Any]) -> NoReturn:
    from signspool.cli import run  # noqa: PLC0415  (loaded by the parent)
    from tests.deaths import arm  # noqa: PLC0415

    os.setsid()
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    if order["stopped"]:
        os.kill(os.getpid(), signal.SIGSTOP)
    for place, value in order["prepare"].items():
        module, _, name = place.partition(":")
        getattr(importlib.import_module(module), name)(value)
    if order["fault"]:
        arm(Fault(**order["fault"]))
    code = run(order["arguments"])
    sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
