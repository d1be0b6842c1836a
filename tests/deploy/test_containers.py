"""The container file and the composition, by their structure; no engine is needed, and none is tried."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.settings import load_settings
from tests.deploy.ingredients import REPOSITORY
from tests.deploy.pages import commands

CONTAINER = REPOSITORY / "deploy" / "container"
TIERS = {"door": "api", "processor": "processor"}
OURS = (*TIERS, "prepare")


@pytest.fixture(scope="module")
def composition() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((CONTAINER / "compose.yaml").read_text())
    return read


def instructions() -> list[tuple[str, str]]:
    """The container file as pairs of an instruction and its text."""
    text = re.sub(r"^#.*\n", "", (CONTAINER / "Containerfile").read_text(), flags=re.MULTILINE)
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines]


def seconds(period: str) -> int:
    return sum(int(n) * {"s": 1, "m": 60}[unit] for n, unit in re.findall(r"(\d+)([sm])", period))


def settings_of(service: dict[str, Any], tmp_path: Path, *, without: tuple[str, ...] = ()) -> Any:
    """The settings that a service starts with; secrets are files, as it finds them."""
    environ = dict(
        text.split("=", 1) for name, text in instructions() if name == "ENV" for text in text.split()
    )
    environ |= {key: str(value) for key, value in service.get("environment", {}).items()}
    for key, value in environ.items():
        if value.startswith("/run/secrets/"):
            secret = tmp_path / Path(value).name
            is_address = "url" in secret.name
            secret.write_text("postgresql://signspool:x@database/signspool" if is_address else "a-secret")
            environ[key] = str(secret)
    ours = {key: value for key, value in environ.items() if key.startswith("SIGNSPOOL_")}
    return load_settings(environ=ours, without=without)


def test_what_the_image_copies_is_what_the_program_consists_of() -> None:
    """And what is not sent to whatever builds it is not missing."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    packages = set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    copied = {part for name, text in instructions() if name == "COPY" for part in text.split()[:-1]}
    copied = {part for part in copied if not part.startswith(("--", "/"))}
    assert copied == packages | {"pyproject.toml", "README.md", "requirements.lock"}
    sent = set(re.findall(r"^!(\S+)$", (REPOSITORY / ".dockerignore").read_text(), re.MULTILINE))
    assert sent == copied


def test_the_image_runs_as_a_user_without_rights_and_is_stopped_gently() -> None:
    last = dict(instructions())
    assert last["USER"] == "10001:10001"
    assert last["STOPSIGNAL"] == "SIGTERM"
    # As a list, or a shell would stand between the signal and the program.
    assert (last["ENTRYPOINT"], last["CMD"]) == ('["signspool"]', '["api"]')


@pytest.mark.parametrize("name", OURS)
def test_each_command_of_the_composition_exists(composition: dict[str, Any], name: str) -> None:
    service = composition["services"][name]
    # Of a shell's words those that follow the program's name; else all of them.
    text = " ".join(service["command"])
    told = re.findall(r"signspool ([^;&]+)", text) if "entrypoint" in service else [text]
    assert told
    for words in told:
        asked = [sys.executable, "-m", "signspool", *words.split(), "--help"]
        assert subprocess.run(asked, capture_output=True, check=False).returncode == 0


def test_nothing_waits_for_another(composition: dict[str, Any]) -> None:
    """Podman restarts nothing, not even after a crash, that depends on a container which has ended."""
    assert not [name for name, service in composition["services"].items() if "depends_on" in service]


def test_the_database_is_healthy_when_it_can_be_reached(composition: dict[str, Any]) -> None:
    """By its socket it answers already while it is being made, and is then stopped once more."""
    assert "--host=127.0.0.1" in composition["services"]["database"]["healthcheck"]["test"]


@pytest.mark.parametrize("name", OURS)
def test_each_service_can_write_the_spool_alone_and_gains_no_rights(
    composition: dict[str, Any], name: str
) -> None:
    service = composition["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["volumes"] == ["spool:/var/lib/signspool"]


@pytest.mark.parametrize(("name", "tier"), TIERS.items())
def test_a_tier_has_longer_to_stop_than_its_grace_time(
    composition: dict[str, Any], tmp_path: Path, name: str, tier: str
) -> None:
    service = composition["services"][name]
    without = ("database", "destinations", "processor") if name == "door" else ()
    settings = settings_of(service, tmp_path, without=without)
    assert seconds(service["stop_grace_period"]) >= getattr(settings, tier).grace + 10
    assert str(settings.spool.root) == "/var/lib/signspool"
    assert settings.api.host == "0.0.0.0"


def test_podman_is_no_less_patient_than_the_composition(composition: dict[str, Any]) -> None:
    """Each documented start says so for all; podman's own 10 seconds would kill a tier that finishes."""
    typed = [line for block in commands("In containers") for line in block.splitlines()]
    starts = [line for line in typed if re.search(r"\bup\b", line)]
    longest = max(
        seconds(service.get("stop_grace_period", "0s")) for service in composition["services"].values()
    )
    assert len(starts) == 2
    for line in starts:
        (told,) = re.findall(r"--podman-run-args=--stop-timeout=(\d+) ", line)
        assert int(told) >= longest


def test_the_processor_finds_the_database_and_the_door_is_not_told_of_it(
    composition: dict[str, Any], tmp_path: Path
) -> None:
    services = composition["services"]
    assert settings_of(services["processor"], tmp_path).database_url.host == "database"
    assert services["door"]["secrets"] == ["ssign_secret"]
    assert "database" not in str(services["door"]["environment"]).lower()
    # Nor is there a way from one to the other.
    assert not set(services["door"]["networks"]) & set(services["database"]["networks"])
    assert composition["networks"]["inside"] == {"internal": True}


def test_every_name_that_is_used_is_defined(composition: dict[str, Any]) -> None:
    services = composition["services"]
    for service in services.values():
        assert set(service.get("secrets", [])) <= set(composition["secrets"])
        assert set(service["networks"]) <= set(composition["networks"])
        assert {volume.split(":")[0] for volume in service["volumes"]} <= set(composition["volumes"])
    published = [port for service in services.values() for port in service.get("ports", [])]
    # For the proxy and who watches, on this machine alone; the proxy has the network's first address.
    assert sorted(published) == [f"127.0.0.1:{port}:{port}" for port in (8080, 9464, 9465)]
    (subnet,) = composition["networks"]["front"]["ipam"]["config"]
    trusted = services["door"]["environment"]["SIGNSPOOL_API__TRUSTED_PROXIES"]
    assert ip_address(trusted) == next(ip_network(subnet["subnet"]).hosts())
