"""`signspool check` on this machine and the database: rights, file systems, clocks, registrations."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL

from shared.clock import Clock, utc_now
from shared.settings import load_settings
from shared.spool import Folder
from signspool import machine
from signspool.finding import Level
from signspool.recorded import recorded
from tests.signspool.conftest import Place


def check(place: Place, about: str) -> tuple[int, list[dict[str, Any]]]:
    """The exit code, and the findings about one thing."""
    said = place.here("check", "--offline", "--json")
    return said.code, [finding for finding in said.json if finding["about"] == about]


def test_folders_that_anybody_may_read_warn_and_that_anybody_may_write_fail(place: Place) -> None:
    """Behind a root that nobody else may enter, the rights of what lies in it do not matter."""
    place.config.chmod(0o600)
    done = place.spool.folder(Folder.DONE)
    done.chmod(0o755)
    assert [item["level"] for item in check(place, "modes")[1]] == ["ok"]
    place.spool.root.chmod(0o755)
    code, found = check(place, "modes")
    database = place.spool.root / "signspool.db"
    database.chmod(0o644)
    code, found = check(place, "modes")
    assert (code, {item["what_to_do"] for item in found}) == (0, {f"chmod o= {done}", f"chmod o= {database}"})
    assert {item["level"] for item in found} == {"warn"}
    done.chmod(0o777)
    database.chmod(0o640)
    code, [found_one] = check(place, "modes")
    assert (code, found_one["level"]) == (1, "fail")
    assert f"anybody may write {done}" in found_one["finding"]


def test_a_settings_file_with_secrets_that_anybody_may_read_warns(place: Place) -> None:
    """One without any may be read; the file that a secret lies in may not."""
    place.config.chmod(0o644)
    [found] = check(place, "modes")[1]
    assert (found["level"], str(place.config) in found["finding"]) == ("warn", True)
    secret = place.home / "the-secret"
    secret.write_text("provider-secret-5577\n")
    secret.chmod(0o644)
    place.config.write_text(
        f'[spool]\nroot = "{place.spool.root}"\n[providers.ssign]\nsecret_file = "{secret}"\n'
    )
    [found] = check(place, "modes")[1]
    assert (found["level"], f"chmod o= {secret}" == found["what_to_do"]) == ("warn", True)
    secret.chmod(0o640)
    assert [item["level"] for item in check(place, "modes")[1]] == ["ok"]


def test_a_file_with_certificates_alone_may_be_read_by_anybody(place: Place) -> None:
    """They are shown to everybody anyhow; one that holds the key too may not."""
    papers = place.home / "papers.pem"
    place.config.write_text(
        f'[spool]\nroot = "{place.spool.root}"\n[providers.ssign]\nsecret_file = "{papers}"\n'
    )
    for more, level in (("", "ok"), ("\n-----BEGIN PRIVATE KEY-----\n", "warn")):
        papers.write_text(f"-----BEGIN CERTIFICATE-----\n{more}")
        papers.chmod(0o644)
        assert [item["level"] for item in check(place, "modes")[1]] == [level]


MOUNTS = r"""22 28 0:20 / / rw,relatime shared:7 - ext4 /dev/sda1 rw
30 22 0:44 / /srv/spool rw shared:9 - nfs4 server:/export rw
31 22 0:45 / /srv/with\040space rw - fuse.sshfs user@server: rw
32 22 0:46 / /srv/twice rw - ext4 /dev/sdb1 rw
33 22 0:47 / /srv/twice rw - cifs //server/share rw
nonsense
"""


@pytest.mark.parametrize(
    ("path", "kind", "over_network"),
    [
        ("/var/lib", "ext4", False),
        ("/srv/spool/spool/2026-11-21", "nfs4", True),
        ("/srv/spoolside", "ext4", False),
        ("/srv/with space/x", "fuse.sshfs", True),
        ("/srv/twice", "cifs", True),
    ],
)
def test_the_kind_of_a_file_system_is_that_of_the_nearest_mount(
    path: str, kind: str, over_network: bool
) -> None:
    found = machine.file_system_of(Path(path), MOUNTS)
    assert (found, found in machine.OVER_NETWORK) == (kind, over_network)


def test_a_spool_in_memory_is_a_warning(place: Place) -> None:
    kind = machine.file_system_of(place.spool.root)
    [found] = check(place, "file system")[1]
    assert kind is not None
    assert (found["level"], kind in found["finding"]) == (
        "warn" if kind in machine.FORGETFUL else "ok",
        True,
    )


@pytest.mark.parametrize(
    ("ahead_seconds", "level"), [(0, Level.OK), (20, Level.WARN), (-20, Level.WARN), (90, Level.FAIL)]
)
def test_the_clock_of_the_database_is_compared_with_ours(
    tmp_path: Path, postgres_url: URL, ahead_seconds: int, level: Level
) -> None:
    url = postgres_url.set(database="work", drivername="postgresql").render_as_string(hide_password=False)
    (tmp_path / "signspool.toml").write_text(f'[spool]\nroot = "{tmp_path}"\n[database]\nurl = "{url}"\n')
    settings = load_settings(tmp_path / "signspool.toml", environ={})
    clock = Clock(now=lambda: utc_now() - timedelta(seconds=ahead_seconds))
    found = {finding.about: finding for finding in recorded(settings, clock)}
    assert "schema 0" in found["database"].text
    assert found["clock of the database"].level is level


def test_documents_that_nobody_registered_are_counted_with_the_one_that_waits_for_longest(
    place: Place,
) -> None:
    for number in range(2):
        place.callback(str(number))
    place.once()
    code, [found] = check(place, "registrations")
    assert (code, found["level"]) == (0, "warn")
    assert found["finding"].startswith("2 documents that nobody registered wait, ssign 0 for ")
    command = found["what_to_do"].partition("look: signspool ")[2].split()
    assert len(place.here(*command, "--json").json) == 2
    for number in range(2):
        place.here("documents", "register", "ssign", str(number), "--ref", "file_ids=9")
    assert check(place, "registrations")[1] == []
