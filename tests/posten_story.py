"""An installation beside a simulated Posten signering that notes what came in the wrong order."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, select

from shared.db.models import Document, FileRow
from shared.db.session import Database
from simulator.posten import Posten
from simulator.posten_jobs import Job
from simulator.posten_server import PostenServer, make_papers
from simulator.posten_wire import Person
from simulator.server import SimulatorServer
from simulator.world import World
from tests.conftest import make_database
from tests.mortal import Mortal
from tests.nursery import Nursery

ANNE, BO = Person(personal_number="01013300001"), Person(email="bo@example.com")
NUMBER = ANNE.personal_number

SETTINGS = """
[providers.posten]
base_url = "{url}/api"
sender = "123456789"
certificate_file = "{papers.sender}"
key_file = "{papers.sender_key}"
authorities_file = "{papers.roots}"
queues = ["", "named"]
direct_queues = ["d"]
exit_url = "{door}/api/return"
"""


@dataclass
class WatchedPosten(Posten):
    """Looks, whenever a finished job is confirmed, whether its files are noted on our side by then."""

    database: Database | None = field(default=None, repr=False)
    unstored: list[int] = field(default_factory=list)
    """Jobs whose confirmation came before their files were noted."""

    def confirm(self, job: Job) -> None:
        is_stored = job.status != "COMPLETED_SUCCESSFULLY" or self._is_stored(job)
        super().confirm(job)
        # An old update may be confirmed when the job has ended meanwhile: that one does not end it.
        if job.confirmations[-1] == "COMPLETED_SUCCESSFULLY" and not is_stored:
            self.unstored.append(job.id)

    def _is_stored(self, job: Job) -> bool:
        assert self.database is not None
        with self.database.reading() as connection:
            noted = connection.scalars(
                select(FileRow.sha256)
                .join(Document, Document.id == FileRow.document_fk)
                .where(Document.provider == "posten", Document.document_id == str(job.id))
            ).all()
        return hashlib.sha256(self.pades(job)).hexdigest() in noted


class PostenStory(Mortal):
    """An installation, and a simulated Posten signering that it asks."""

    def __init__(
        self, home: Path, peers: str, database_url: URL, nursery: Nursery, server: PostenServer, world: World
    ) -> None:
        super().__init__(home, peers, database_url, nursery)
        self.world = world
        self.server = server
        text = SETTINGS.format(url=server.url, papers=server.papers, door=self.url)
        self.config.write_text(self.config.read_text() + text)
        assert isinstance(world.posten, WatchedPosten)
        self.posten = world.posten
        self.posten.database = self.database

    def send(self, *persons: Person, **more: Any) -> Job:
        """A job that was sent out, and registered for SmartShare."""
        job = self.posten.send(*persons, **more)
        self.register("posten", job.id, dms_of(job.id))
        return job

    def shown(self, job: Job) -> dict[str, Any]:
        return self.show("posten", str(job.id))

    def until_confirmed(self, job: Job, status: str, times: int = 1) -> dict[str, Any]:
        """Wait until an update of a job was confirmed and all that is owed for it was done."""
        self.wait(lambda: job.confirmations.count(status) >= times, f"{status} of {job.id} to be confirmed")
        self.wait_until_settled()
        return self.shown(job)

    def archived(self, job: Job) -> list[str]:
        """Digests of what lies in the archive folder for a job."""
        files = (self.home / "archive" / "posten" / str(job.id)).rglob("*.pdf")
        return sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in files)

    def everything_written(self) -> str:
        """All texts of the installation but the spool's entries, which are what the provider said."""
        logs = [path.read_text() for path in self.home.glob("*.log")]
        reasons = [path.read_text() for path in (self.home / "root").rglob("*.reason.json")]
        return "".join((*logs, *reasons))


def dms_of(job_id: int) -> dict[str, str]:
    return {
        "cdFluxo": str(job_id),
        "cdTarefa": "5",
        "cdTipoAnexo": "3",
        "dsEmailExecutor": "integracao@example.com",
    }


def signed_digest(posten: Posten, job: Job) -> str:
    return hashlib.sha256(posten.pades(job)).hexdigest()


@contextmanager
def told(home: Path, database_url: URL, nursery: Nursery) -> Iterator[PostenStory]:
    """A story with its peers, from the beginning to the end; nothing is started yet."""
    papers = make_papers(home / "papers")
    world = World(posten=WatchedPosten(wait_seconds=0.1))
    with SimulatorServer(world) as peers, PostenServer(papers, world) as server:
        story = PostenStory(home, peers.url, database_url, nursery, server, world)
        try:
            yield story
        finally:
            story.close()


@contextmanager
def one_for_each_database(
    request: pytest.FixtureRequest,
    factory: pytest.TempPathFactory,
    nursery: Nursery,
    begin: Callable[[PostenStory], object],
) -> Iterator[Callable[[str], PostenStory]]:
    """One story for each kind of database, made and begun when it is asked for, to be shared by tests."""
    with ExitStack() as stack:

        @functools.cache
        def make(kind: str) -> PostenStory:
            home = factory.mktemp("posten")
            url = stack.enter_context(make_database(kind, home, request))
            made = stack.enter_context(told(home, url, nursery))
            begin(made)
            return made

        yield make
