"""A machine for the test: a Debian in a folder, booted with its own systemd, without any network."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.deploy.ingredients import debian, unpack_release, wheels
from tests.deploy.scripts import run_script

_DEADLINE_SECONDS = 120.0
_COMMAND_SECONDS = 900.0
"""An installation unpacks and compiles thousands of files, which takes its time on a busy machine."""

_TO_BE_STARTED_AGAIN = 133
"""How systemd-nspawn ends when the machine in it wants to be started again, and not just to be off."""

_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}


class Machine:
    """A booted machine; its file system lies under `root`."""

    def __init__(self, root: Path, console: Path, wheels_folder: Path) -> None:
        self.root = root
        self.console = console
        self._wheels = wheels_folder
        self._container: subprocess.Popen[bytes] | None = None

    # Switch

    def boot(self) -> None:
        """Switch it on; returns when everything is started."""
        with self.console.open("ab") as console:
            self._container = subprocess.Popen(
                [
                    *("systemd-nspawn", "--quiet", "--boot", f"--directory={self.root}"),
                    *("--register=no", "--keep-unit", "--private-network", "--link-journal=no"),
                    *("--resolv-conf=off", "--timezone=off", "--console=pipe"),
                    f"--bind-ro={self._wheels}:/srv/wheels",
                ],
                env={**_ENVIRONMENT, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        self._wait_until_started()

    def reboot(self) -> None:
        """As an administrator does."""
        assert self._container is not None
        self.run("systemctl reboot", check=False)
        assert self._container.wait(_DEADLINE_SECONDS) == _TO_BE_STARTED_AGAIN
        self.boot()

    def switch_off(self) -> None:
        """Pull the plug."""
        if self._container is None:
            return
        if first := self._first_process():
            with contextlib.suppress(ProcessLookupError):
                os.kill(first, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._container.wait(10)
        self._container.kill()
        self._container.wait()

    def _wait_until_started(self) -> None:
        def is_started() -> bool:
            return self.run("systemctl is-system-running", check=False).stdout.strip() in (
                "running",
                "degraded",
            )

        self.wait(is_started, "the machine to have started")

    def _first_process(self) -> int:
        """The machine's process 1, as seen from here; 0 while there is none."""
        assert self._container is not None
        pid = self._container.pid
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            return 0
        return int(children[0]) if children else 0

    # What is typed there

    def run(self, script: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run shell commands as root; with `check`, the first that fails fails the test."""
        there = self._inside("--all")
        return run_script(there, script, environment=_ENVIRONMENT, seconds=_COMMAND_SECONDS, check=check)

    def says(self, script: str) -> str:
        """What shell commands print."""
        return self.run(script).stdout.strip()

    def show(self, unit: str, key: str) -> str:
        """One property of a unit."""
        return self.says(f"systemctl show --value --property={key} {unit}")

    def journal(self, unit: str) -> str:
        """What a unit has said since the machine's last start."""
        return self.says(f"journalctl --no-pager --output=cat --boot --unit={unit}")

    def beside(self, *command: str) -> list[str]:
        """A command of this host that reaches the machine's addresses."""
        return [*self._inside("--net"), *command]

    def _inside(self, *namespaces: str) -> list[str]:
        first = self._first_process()
        if not first:
            # Between two boots; every command fails then.
            return ["false"]
        return ["nsenter", f"--target={first}", *namespaces, "--"]

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = _DEADLINE_SECONDS) -> None:
        """Look until something is so."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, (
                f"waited in vain for {what}; its console ends:\n{self._last_words()}"
            )
            time.sleep(0.2)

    def _last_words(self) -> str:
        return self.console.read_text(errors="replace")[-2000:]

    # What lies there

    def unpack_release(self, version: str) -> str:
        """Put a release of this version there, as a person unpacks one; returns its folder."""
        folder = f"/usr/local/src/signspool-{version}"
        unpack_release(self.root / folder.lstrip("/"), version)
        return folder


@contextlib.contextmanager
def booted(folder: Path) -> Iterator[Machine]:
    """A fresh machine, switched off at the end whatever happens.

    Raises:
        NotToBeHadError: it cannot be made here.
    """
    pristine, wheels_folder = debian(), wheels()
    root = folder / "root"
    # Not a copy by Python: devices, owners and links have to be the same.
    subprocess.run(["cp", "--archive", "--reflink=auto", str(pristine), str(root)], check=True)
    # The index of the machine is a folder, so that the documented commands need no other word.
    (root / "etc/pip.conf").write_text("[global]\nno-index = true\nfind-links = /srv/wheels\n")
    (root / "etc/systemd/journald.conf").write_text("[Journal]\nStorage=persistent\nRateLimitBurst=0\n")
    machine = Machine(root, folder / "console.log", wheels_folder)
    try:
        machine.boot()
        yield machine
    finally:
        machine.switch_off()
        shutil.rmtree(root, ignore_errors=True)
