"""The units and scripts as files: hardened, each remaining point explained, and the same as the page says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from shared.settings import load_settings
from tests.deploy.ingredients import REPOSITORY
from tests.deploy.pages import commands

DEPLOY = REPOSITORY / "deploy"
UNITS = sorted((DEPLOY / "systemd").iterdir())
SERVICES = [path for path in UNITS if path.suffix == ".service"]
MOST_EXPOSURE = 1.5
ALARM = DEPLOY / "alarm" / "signspool-alarm@.service"

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None,
    reason="systemd-analyze is not installed, so the units are not judged",
)


def setting(unit: str, key: str) -> str:
    """The last value of a key in a unit."""
    values = re.findall(rf"^{key}=(.*)$", (DEPLOY / "systemd" / unit).read_text(), re.MULTILINE)
    return str(values[-1])


def typed(script: str) -> list[str]:
    """The commands of a script or block: no comments, no blank lines."""
    lines = [line.rstrip() for line in script.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


@needs_systemd
@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.stem)
def test_a_service_may_do_little_and_each_point_left_is_explained(path: Path) -> None:
    asked = ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(path)]
    told = subprocess.run([*asked, "--json=short"], capture_output=True, text=True, check=True).stdout
    left = [point["name"] for point in json.loads(told) if not point["set"] and point["exposure"]]
    explained = "\n".join(line for line in path.read_text().splitlines() if line.startswith("#"))
    assert [name for name in left if name not in explained] == []
    overall = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    exposure = re.search(r"Overall exposure level for \S+: ([0-9.]+)", overall)
    assert exposure is not None
    assert float(exposure[1]) <= MOST_EXPOSURE


@needs_systemd
@pytest.mark.parametrize("units", [UNITS, [ALARM]], ids=["services", "alarm"])
def test_systemd_understands_every_line_of_the_units(units: list[Path]) -> None:
    """But that the programs are not installed here."""
    told = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, units)],
        capture_output=True,
        text=True,
        check=False,
    )
    missing = ("/opt/signspool", "/usr/local/lib/signspool", "/usr/local/sbin/signspool-alarm")
    assert [line for line in told.stderr.splitlines() if not any(path in line for path in missing)] == []


@pytest.mark.parametrize(
    ("script", "heading"), [("install.sh", "Install"), ("uninstall.sh", "Remove")], ids=["install", "remove"]
)
def test_a_script_does_just_what_the_page_says(script: str, heading: str) -> None:
    documented = typed(commands(heading)[0])
    done = typed((DEPLOY / script).read_text())
    # What a script adds: how it fails, where it stands, and an option that deletes more.
    own = ("set -eu", 'cd "$(dirname "$0")/.."')
    begins = next(number for number, line in enumerate(done) if line not in own)
    assert done[begins : begins + len(documented)] == documented
    rest = done[begins + len(documented) :]
    assert not rest or rest[0] == 'if [ "${1:-}" = --purge ]; then'


@pytest.mark.parametrize("tier", ["api", "processor"])
def test_a_reload_hands_over_the_credentials_of_a_start(tier: str) -> None:
    """All of them, before the signal; and no others, since they would be shown to the wrong service."""
    text = (DEPLOY / "systemd" / f"signspool-{tier}.service").read_text()
    loaded = re.findall(r"^LoadCredential=(.*)$", text, re.MULTILINE)
    handing, signalling = re.findall(r"^ExecReload=(.*)$", text, re.MULTILINE)
    assert loaded
    assert handing == " ".join(["+/usr/local/lib/signspool/hand-over-credentials %n $MAINPID", *loaded])
    assert signalling == "/bin/kill -HUP $MAINPID"


def test_the_check_may_write_its_memory_and_starts_the_alarm_by_two_names() -> None:
    """One name for both endings would keep systemd from telling the alarm which run it was started by."""
    memory = "%t/signspool-check/"
    assert memory in setting("signspool-check.service", "ExecStart")
    assert setting("signspool-check.service", "RuntimeDirectory") == "signspool-check"
    assert setting("signspool-check.service", "RuntimeDirectoryPreserve") == "yes"
    drop_in = (DEPLOY / "alarm" / "alarm.conf").read_text()
    named = re.findall(r"^On(?:Failure|Success)=signspool-alarm@(\w+)\.service$", drop_in, re.MULTILINE)
    assert len(set(named)) == 2


def test_the_settings_of_a_new_installation_are_right() -> None:
    settings = load_settings(DEPLOY / "signspool.toml", environ={})
    assert str(settings.spool.root) == "/var/lib/signspool"


@pytest.mark.parametrize("tier", ["api", "processor"])
def test_systemd_is_more_patient_than_the_grace_time(tier: str) -> None:
    """Else it would kill what is still within its time."""
    settings = load_settings(DEPLOY / "signspool.toml", environ={})
    grace = getattr(settings, tier).grace
    # Five seconds more are what the processor adds itself, and half of one the door.
    assert int(setting(f"signspool-{tier}.service", "TimeoutStopSec")) >= grace + 10


def test_the_door_may_open_as_many_files_as_its_connections_need() -> None:
    settings = load_settings(DEPLOY / "signspool.toml", environ={})
    assert int(setting("signspool-api.service", "LimitNOFILE")) >= settings.api.max_connections * 2


def test_the_door_may_have_as_many_tasks_as_workers_on_a_large_machine_need() -> None:
    """Each has two threads of its own, those of Python's pool, and a writer; a reload brings another."""
    tasks_of_a_worker = 2 + 32 + 2
    assert int(setting("signspool-api.service", "TasksMax")) >= 24 * tasks_of_a_worker


@pytest.mark.parametrize("unit", ["signspool-api.service", "signspool-processor.service"])
def test_one_process_that_runs_out_of_memory_does_not_end_the_others(unit: str) -> None:
    """Workers, writers and what checks signatures are started again by who started them; systemd would stop
    all of the service."""
    assert setting(unit, "OOMPolicy") == "continue"


def test_what_the_processor_keeps_is_hidden_from_the_door() -> None:
    text = (DEPLOY / "systemd" / "signspool-api.service").read_text()
    hidden = " ".join(re.findall(r"^InaccessiblePaths=(.*)$", text, re.MULTILINE)).replace("-/", "/").split()
    root = "/var/lib/signspool"
    assert {f"{root}/{name}" for name in ("deferred", "done", "quarantine", "files", "signspool.db")} < set(
        hidden
    )
    assert "LoadCredential=processor" not in text
