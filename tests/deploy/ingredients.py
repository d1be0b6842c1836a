"""What a machine of the test is made of: Debian's packages and the wheels of the lock, kept between runs.

Both lie outside of the repository, in `TEST_DEPLOY_CACHE` or the user's cache folder. Where they come
from is what this machine's own apt and pip are set to.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]

SWITCH = "TEST_DEPLOY"
"""The variable that `make test-deploy` sets, for tests that take their time. Not one of `SIGNSPOOL_…`: those
are settings, and the program refuses one that it does not know."""

_SUITE = "bookworm"
_PACKAGES = (
    "ca-certificates",
    "curl",
    "dbus",
    "nginx-light",
    "openssl",
    "procps",
    "python3",
    "python3-venv",
    "systemd",
    "systemd-sysv",
)
_SOURCES = (
    ".dockerignore",
    "pyproject.toml",
    "requirements.lock",
    "README.md",
    "deploy",
    "signspool",
    "callback_api",
    "processor",
    "shared",
    "simulator",
)
_PYTHON = "3.11"
_GLIBC_MINORS = range(17, 37)
"""Debian 12 has glibc 2.36."""


class NotToBeHadError(Exception):
    """An ingredient cannot be had here; the message says which, and why."""


def why_no_machine() -> str:
    """Why no machine can be booted here; empty when one can."""
    if os.geteuid() != 0:
        return "only root can boot a container"
    missing = [tool for tool in ("debootstrap", "systemd-nspawn", "nsenter") if shutil.which(tool) is None]
    return f"not installed: {', '.join(missing)}" if missing else ""


def debian() -> Path:
    """The root of a fresh Debian; never booted itself.

    Raises:
        NotToBeHadError: it could not be made.
    """
    name = hashlib.sha256(" ".join(_PACKAGES).encode()).hexdigest()[:12]
    return _kept(f"{_SUITE}-{name}", _bootstrap)


def wheels() -> Path:
    """A folder with every wheel of the lock, for the Python of that Debian.

    Raises:
        NotToBeHadError: one could not be had.
    """
    name = hashlib.sha256((REPOSITORY / "requirements.lock").read_bytes()).hexdigest()[:12]
    return _kept(f"wheels-{name}", _download)


def _kept(name: str, make: Callable[[Path], None]) -> Path:
    """The folder of this name in the cache; made whole or not at all, by one process at a time."""
    folder = cache()
    folder.mkdir(parents=True, exist_ok=True)
    found = folder / name
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not found.exists():
            half = folder / f"{name}.half"
            shutil.rmtree(half, ignore_errors=True)
            make(half)
            half.rename(found)
    return found


def cache() -> Path:
    """The folder for what is kept between runs."""
    named = os.environ.get("TEST_DEPLOY_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "signspool-test-deploy"


def unpack_release(target: Path, version: str) -> None:
    """Put a release of this version into a folder, as a person unpacks one."""
    ignored = shutil.ignore_patterns("__pycache__", "secrets")
    target.mkdir(parents=True)
    for name in _SOURCES:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=ignored)
        else:
            shutil.copy2(source, target / name)
    project = target / "pyproject.toml"
    lines = project.read_text().splitlines(keepends=True)
    project.write_text(
        "".join(f'version = "{version}"\n' if "version = " in line[:10] else line for line in lines)
    )


def _bootstrap(target: Path) -> None:
    include = f"--include={','.join(_PACKAGES)}"
    _run("debootstrap", "--variant=minbase", include, _SUITE, str(target), *_mirror())


def _mirror() -> list[str]:
    """Where this machine has its own Debian packages from; debootstrap knows a place otherwise."""
    asked = [
        "apt-get",
        "indextargets",
        "--format",
        "$(REPO_URI)",
        "Created-By: Packages",
        f"Codename: {_SUITE}",
    ]
    told = subprocess.run(asked, capture_output=True, text=True, check=False)
    return told.stdout.split()[:1]


def _download(target: Path) -> None:
    machine = platform.machine()
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in _GLIBC_MINORS]
    platforms += [f"manylinux2014_{machine}", f"linux_{machine}"]
    _run(
        *(sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "--only-binary=:all:"),
        *("--python-version", _PYTHON, "--implementation", "cp"),
        *(part for name in platforms for part in ("--platform", name)),
        *("--requirement", str(REPOSITORY / "requirements.lock"), "--dest", str(target)),
    )


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotToBeHadError(f"{command[0]} failed: {(done.stderr or done.stdout)[-500:]}")
