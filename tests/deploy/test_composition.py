"""The composition of containers, started by the documented commands in an engine of its own.

The tests are one story and run in this order; each needs those before it.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.deploy.engine import Engine, started, why_no_engine
from tests.deploy.ingredients import REPOSITORY, SWITCH, NotToBeHadError, unpack_release
from tests.deploy.pages import commands

VERSION, NEXT = "0.1.0", "0.1.1"
URL = "http://127.0.0.1:8080/api/callback?provider=ssign"
DATABASE, DOOR, PROCESSOR = (f"signspool_{name}_1" for name in ("database", "door", "processor"))
CONTAINER = Path("deploy/container")
SECRETS, START, COMMAND, UPGRADE, SAVE = range(5)
"""The places of the page's blocks."""
SENDERS = 4
DEADLINE_SECONDS = 90.0

pytestmark = [
    pytest.mark.usefixtures("the_story_goes_on"),
    pytest.mark.timeout(900),
    pytest.mark.skipif(not os.environ.get(SWITCH), reason="runs containers: make test-deploy"),
]


def names_of_images() -> tuple[str, str]:
    """What the two files call the images that they build on: Python's, PostgreSQL's."""
    composition = yaml.safe_load((REPOSITORY / CONTAINER / "compose.yaml").read_text())
    lines = (REPOSITORY / CONTAINER / "Containerfile").read_text().splitlines()
    (python,) = (line.removeprefix("ARG BASE=") for line in lines if line.startswith("ARG BASE="))
    return python, composition["services"]["database"]["image"]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    if reason := why_no_engine():
        pytest.skip(f"no container was run: {reason}")
    with contextlib.ExitStack() as stack:
        try:
            made = stack.enter_context(started())
            made.make_images(*names_of_images())
            made.probe(names_of_images()[0])
        except NotToBeHadError as error:
            pytest.skip(f"no container was run: {error}")
        yield made


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("releases") / VERSION
    unpack_release(folder, VERSION)
    return folder


def typed(engine: Engine, release: Path, block: int) -> str:
    """Type a block of the page in the release's folder; returns what it printed."""
    return engine.run(commands("In containers")[block], folder=release).stdout


def wait(engine: Engine, condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}:\n{last_words(engine)}"
        time.sleep(0.2)


def last_words(engine: Engine) -> str:
    """What stands where, and how the log of each container ends."""
    look = (
        "podman ps --all; for name in $(podman ps --all --format '{{.Names}}'); do "
        "echo --- $name; podman logs --tail=15 $name 2>&1; done"
    )
    return engine.run(look, check=False).stdout


def is_open(engine: Engine) -> bool:
    """Whether the door says that it can store callbacks."""
    asked = "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/readyz', timeout=5)"
    return engine.run(f'{sys.executable} -c "{asked}"', check=False).returncode == 0


def is_healthy(engine: Engine, container: str) -> bool:
    # Podman leaves it to timers of systemd to ask now and then, and there may be none here.
    return engine.run(f"podman healthcheck run {container}", check=False).returncode == 0


def secret(release: Path) -> str:
    return (release / CONTAINER / "secrets/ssign_secret").read_text().strip()


def post(engine: Engine, release: Path, document: str) -> str:
    """Send one callback as a proxy on the host does; returns its receipt."""
    program = (
        "import json, sys, urllib.request as r\n"
        "body = json.dumps({'envelopeId': sys.argv[3], 'action': 'EXPIRED'}).encode()\n"
        "head = {'X-Callback-Secret': sys.argv[2], 'X-Forwarded-For': '203.0.113.7'}\n"
        "print(json.load(r.urlopen(r.Request(sys.argv[1], body, head), timeout=30))['id'])\n"
    )
    words = engine.beside(sys.executable, "-c", program, URL, secret(release), document)
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def documents(engine: Engine) -> set[str]:
    """The documents that PostgreSQL knows."""
    return told(engine, "SELECT document_id FROM documents")


def receipts(engine: Engine) -> set[str]:
    """The callbacks that are recorded in PostgreSQL."""
    return told(engine, "SELECT receipt_id FROM events")


def told(engine: Engine, query: str) -> set[str]:
    """The lines that PostgreSQL answers with; none while it is away."""
    password = f"PGPASSWORD=$(podman exec {DATABASE} cat /run/secrets/database_password)"
    psql = f"psql --host=127.0.0.1 --username=signspool --no-align --tuples-only --command='{query}'"
    asked = f"{password}; podman exec --env=PGPASSWORD=$PGPASSWORD {DATABASE} {psql}"
    return set(engine.run(asked, check=False).stdout.split("\n")) - {""}


@contextlib.contextmanager
def under_load(engine: Engine, release: Path) -> Iterator[dict[str, list[str]]]:
    """Send callbacks without a pause inside the block; afterwards `done` and `failed` are filled."""
    script = Path(__file__).with_name("load.py")
    sending = subprocess.Popen(
        engine.beside(sys.executable, str(script), URL, str(SENDERS), secret(release)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    load: dict[str, list[str]] = {}
    try:
        count = stored(engine)
        wait(engine, lambda: stored(engine) > count + SENDERS, "the first callbacks")
        yield load
        count = stored(engine)
        wait(engine, lambda: stored(engine) > count + SENDERS, "callbacks to go on")
        said, _ = sending.communicate(timeout=120)
        load.update(json.loads(said))
    finally:
        sending.kill()
        sending.communicate()


def entries(engine: Engine) -> set[str]:
    """The receipts of all callbacks that lie in the spool, whatever folder they are in."""
    volume = Path(engine.says("podman volume inspect --format '{{.Mountpoint}}' signspool_spool"))
    return {path.stem.rpartition("_")[2] for path in volume.glob("*/????-??-??/*.json")}


def stored(engine: Engine) -> int:
    return len(entries(engine))


def waiting(engine: Engine) -> int:
    """Callbacks that are not recorded yet."""
    volume = Path(engine.says("podman volume inspect --format '{{.Mountpoint}}' signspool_spool"))
    return len(list(volume.glob("spool/*/*.json")))


def version_of(engine: Engine, port: int) -> str:
    """The version that a tier shows in its metrics."""
    asked = f"import urllib.request as r; print(r.urlopen('http://127.0.0.1:{port}/metrics').read().decode())"
    said = engine.says(f'{sys.executable} -c "{asked}"')
    (line,) = (line for line in said.splitlines() if line.startswith("signspool_build_info{"))
    return line.partition('version="')[2].partition('"')[0]


def test_the_documented_commands_start_all_of_it(engine: Engine, release: Path) -> None:
    """The door opens by itself once there is a spool; what ends at once has found all well."""
    typed(engine, release, SECRETS)
    typed(engine, release, START)
    wait(engine, lambda: is_open(engine), "the door")
    for container in (DATABASE, DOOR, PROCESSOR):
        wait(engine, lambda name=container: is_healthy(engine, name), f"{container} to be healthy")  # type: ignore[misc]
    wait(engine, lambda: "0 FAIL" in engine.says("podman logs signspool_prepare_1"), "what check found")


def test_a_callback_is_stored_and_recorded_in_postgresql(engine: Engine, release: Path) -> None:
    """With the sender's address as the proxy on the host tells it."""
    receipt = post(engine, release, "first")
    assert receipt in entries(engine)
    wait(engine, lambda: "first" in documents(engine), "its document")
    assert "first" in typed(engine, release, COMMAND)
    shown = engine.says(f"podman exec {PROCESSOR} signspool spool show --json {receipt}")
    assert "203.0.113.7" in shown


def test_each_tier_is_confined_as_the_file_says(engine: Engine) -> None:
    look = "id -u; grep -E 'CapBnd|NoNewPrivs' /proc/1/status | cut -f2; touch /nowhere 2>&1; true"
    for container in (DOOR, PROCESSOR):
        user, bounding, no_new, touched = engine.says(f'podman exec {container} sh -c "{look}"').splitlines()
        assert (user, int(bounding, 16), no_new) == ("10001", 0, "1")
        assert "Read-only file system" in touched
        limits = engine.says(
            f"podman inspect --format '{{{{.HostConfig.Memory}}}} {{{{.HostConfig.PidsLimit}}}}' {container}"
        )
        assert limits == f"{2 * 2**30} 512"
        # Longer than a tier takes to finish what is in hand, for whoever stops it without another word.
        assert engine.says(f"podman inspect --format '{{{{.Config.StopTimeout}}}}' {container}") == "60"
    # The door has neither the database's address, nor its name, nor a way to it.
    assert engine.says(f"podman exec {DOOR} ls /run/secrets") == "ssign_secret"
    networks = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    address = engine.says(f"podman inspect --format '{networks}' {DATABASE}")
    for host in ("database", address):
        tried = f"import socket; socket.create_connection(('{host}', 5432), 2)"
        assert engine.run(f'podman exec {DOOR} python3 -c "{tried}"', check=False).returncode == 1


def test_the_door_takes_callbacks_while_the_database_is_away(engine: Engine, release: Path) -> None:
    """And says so itself when it cannot store them."""
    engine.run(f"podman stop {DATABASE}")
    receipt = post(engine, release, "meanwhile")
    assert receipt in entries(engine)
    engine.run(f"podman start {DATABASE}")
    wait(engine, lambda: is_healthy(engine, DATABASE), "the database")
    wait(engine, lambda: "meanwhile" in documents(engine), "what came meanwhile")
    volume = engine.says("podman volume inspect --format '{{.Mountpoint}}' signspool_spool")
    engine.run(f"mv {volume}/spool {volume}/away")
    wait(engine, lambda: not is_healthy(engine, DOOR), "the door to notice")
    engine.run(f"mv {volume}/away {volume}/spool")
    wait(engine, lambda: is_healthy(engine, DOOR), "the door to be well again")


def test_whatever_is_started_again_or_killed_under_load_loses_nothing(engine: Engine, release: Path) -> None:
    """The door's port is closed for a moment, so that some are not taken; what was taken is recorded."""
    with under_load(engine, release) as load:
        engine.run(f"podman restart {PROCESSOR}")
        engine.run(f"podman restart {DATABASE}")
        engine.run(f"podman restart {DOOR}")
        wait(engine, lambda: is_open(engine), "the door")
        # As whoever dies of himself; the engine starts it again.
        engine.run(f"kill -KILL $(podman inspect --format '{{{{.State.Pid}}}}' {PROCESSOR})")
    assert len(load["done"]) > SENDERS
    wait(engine, lambda: waiting(engine) == 0, "all to be recorded")
    assert set(load["done"]) <= entries(engine)
    assert set(load["done"]) <= receipts(engine)


def test_a_wrong_setting_is_told_by_name(engine: Engine) -> None:
    done = engine.run("podman run --rm --env=SIGNSPOOL_API__MAX_BODI=1MiB signspool", check=False)
    assert done.returncode == 2
    assert "did you mean SIGNSPOOL_API__MAX_BODY?" in done.stderr


def test_what_is_saved_holds_database_and_spool(engine: Engine, release: Path, tmp_path: Path) -> None:
    block = commands("In containers")[SAVE].replace("/var/backups", str(tmp_path))
    engine.run(block, folder=release)
    (folder,) = tmp_path.glob("signspool-*")
    assert ".json" in subprocess.check_output(["tar", "--list", f"--file={folder}/spool.tar"], text=True)
    assert (folder / "database.dump").read_bytes().startswith(b"PGDMP")
    wait(engine, lambda: is_healthy(engine, PROCESSOR), "the processor")


def test_an_upgrade_keeps_everything(engine: Engine, release: Path) -> None:
    newer = release.parent / NEXT
    unpack_release(newer, NEXT)
    engine.run(f"cp --archive {release / CONTAINER}/secrets {newer / CONTAINER}/")
    known = documents(engine)
    assert version_of(engine, 9464) == version_of(engine, 9465) == VERSION
    typed(engine, newer, UPGRADE)
    wait(engine, lambda: is_open(engine), "the door")
    wait(engine, lambda: is_healthy(engine, PROCESSOR), "the processor")
    assert version_of(engine, 9464) == version_of(engine, 9465) == NEXT
    post(engine, newer, "after the upgrade")
    wait(engine, lambda: documents(engine) - known != set(), "the newest")
    assert known < documents(engine)


def test_both_tiers_end_well_when_they_are_stopped(engine: Engine, release: Path) -> None:
    engine.run(f"podman stop {DOOR} {PROCESSOR} {DATABASE}")
    codes = {
        container: engine.says(f"podman inspect --format '{{{{.State.ExitCode}}}}' {container}")
        for container in (DOOR, PROCESSOR, DATABASE)
    }
    assert set(codes.values()) == {"0"}, f"{codes}\n{last_words(engine)}"
    assert "processor.stopped" in engine.run(f"podman logs {PROCESSOR}").stderr
