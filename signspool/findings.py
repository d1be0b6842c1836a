"""What `signspool check` finds: each look at one thing, and what to do about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, func, select

from processor.operator import owed_by_state, why_mirror_fails
from shared.clock import Clock
from shared.db.models import OutboxRow, State
from shared.errors import UnavailableError
from shared.providers import AnyProvider
from shared.providers._verify import SecretSettings
from shared.settings import Settings, build_providers
from shared.spool import MARKER, Folder, Spool
from signspool import health, machine
from signspool.context import database_of
from signspool.output import age_text, count_text, shortened
from signspool.strays import strays


class Level(StrEnum):
    """How bad a finding is; one FAIL makes the whole check fail."""

    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    about: str
    text: str
    what_to_do: str = ""

    def as_json(self) -> dict[str, Any]:
        """The finding as `--json` prints it."""
        return {
            "level": self.level.value.lower(),
            "about": self.about,
            "finding": self.text,
            "what_to_do": self.what_to_do or None,
        }


def _ok(about: str, text: str) -> Finding:
    return Finding(Level.OK, about, text)


def _warn(about: str, text: str, what_to_do: str = "") -> Finding:
    return Finding(Level.WARN, about, text, what_to_do)


def _fail(about: str, text: str, what_to_do: str = "") -> Finding:
    return Finding(Level.FAIL, about, text, what_to_do)


def findings(settings: Settings, *, init_spool: bool) -> Iterator[Finding]:
    """Look at everything, one after the other; what fails does not keep the rest from being looked at."""
    yield _ok("settings", settings.source)
    spool = Spool(settings.spool.root, Clock.in_zone(settings.spool.timezone))
    made = _spool(spool, init_spool=init_spool)
    yield made
    if made.level is not Level.FAIL:
        yield from _disk(spool, settings)
    yield from _clock(spool)
    yield from _database(settings)
    if settings.database.mirror is not None:
        why = why_mirror_fails(settings.database.mirror)
        yield _fail("company table", why) if why else _ok("company table", "answers and takes the statement")
    yield from _providers(settings)
    yield from _destinations(settings, spool.clock)
    if made.level is not Level.FAIL:
        yield from _entries(spool)
        yield from _tiers(settings, spool)


def _spool(spool: Spool, *, init_spool: bool) -> Finding:
    root = spool.root
    if root.exists() and not root.is_dir():
        return _fail("spool", f"{root.absolute()} is a file, not a folder", "name a folder as [spool] root")
    try:
        if init_spool or not root.exists():
            return _ok("spool", f"made {root.absolute()}, id {spool.initialise()}")
        if not (root / MARKER).exists():
            return _fail(
                "spool",
                f"{root.absolute()} is there without the marker {MARKER}, as a volume that is not mounted",
                "mount it; or, to make it a spool: signspool check --init-spool",
            )
        spool_id = spool.id()
    except (UnavailableError, OSError) as error:
        return _fail("spool", str(error))
    missing = [folder.name for folder in _folders(spool) if not folder.is_dir()]
    if missing:
        return _fail("spool", f"folders are missing: {', '.join(missing)}", "signspool check --init-spool")
    return _ok("spool", f"{root.absolute()}, id {spool_id}")


def _folders(spool: Spool) -> list[Any]:
    return [*map(spool.folder, Folder), spool.temporary, spool.files]


def _disk(spool: Spool, settings: Settings) -> Iterator[Finding]:
    folders = [spool.root, *_folders(spool)]
    elsewhere = [folder.name for folder in folders if folder.stat().st_dev != spool.root.stat().st_dev]
    if elsewhere:
        yield _fail(
            "file system",
            f"{', '.join(elsewhere)} lie on another file system than the root",
            "put all folders on one, so that a rename is atomic",
        )
    else:
        yield _ok("file system", "all folders are on one")
    owner = machine.other_owner(spool.root)
    if owner is not None:
        yield _warn(
            "user", f"the spool belongs to {owner}", "run commands as that user, so it can use the files"
        )
    yield _writing(spool)
    disk = machine.free_on(spool.root)
    room = f"{disk.free_bytes // machine.MIB} MiB and {disk.inodes_text} free"
    if disk.free_bytes < settings.spool.min_free or disk.is_short_of_inodes:
        yield _fail("free space", room, "the door refuses callbacks: make room, or lower [spool] min_free")
    elif disk.free_bytes < 2 * settings.spool.min_free:
        yield _warn("free space", room, "the door soon refuses callbacks: make room")
    else:
        yield _ok("free space", room)


def _writing(spool: Spool) -> Finding:
    barred = [folder.name for folder in _folders(spool) if not machine.may_write(folder)]
    if barred:
        return _fail("writing", f"no right to write into {', '.join(barred)}", "give it to this user")
    try:
        milliseconds = machine.write_probe(spool.temporary) * 1000
    except OSError as error:
        return _fail("writing", f"{spool.temporary}: {error.strerror}", "mend the disk or its rights")
    return _ok("writing", f"a file was written, synced and renamed in {milliseconds:.1f} ms")


def _clock(spool: Spool) -> Iterator[Finding]:
    zone = spool.clock.zone or "the machine's zone"
    local = spool.clock.local()
    text = f"{local.isoformat(' ', timespec='seconds')}, {zone}"
    if local.date() < machine.RELEASED_ON:
        yield _fail("clock", f"{text}, before this program was made", "set the clock")
    elif machine.is_clock_unsynchronised():
        yield _warn("clock", f"{text}, not synchronised", "start the machine's time service")
    else:
        yield _ok("clock", text)


def _database(settings: Settings) -> Iterator[Finding]:
    where = settings.database_url.render_as_string(hide_password=True)
    try:
        with database_of(settings) as database, database.reading() as connection:
            owed = owed_by_state(connection)
            orphans = _orphans(connection)
    except (UnavailableError, OSError) as error:
        yield _fail("database", f"{where}: {error}")
        return
    yield _ok("database", f"{where}, schema as needed")
    for state in ("held", "failed"):
        if owed.get(state):
            yield _warn(
                "deliveries",
                f"{count_text(owed[state], 'delivery')} {state}",
                f"signspool deliveries ls --state {state}",
            )
    for destination, count in orphans:
        yield _warn(
            "deliveries",
            f"{count_text(count, 'delivery')} waiting for {destination}, which is in no setting any more",
            "put it back into the settings, or look: "
            f"signspool deliveries ls --state waiting --destination {destination}",
        )


def _orphans(connection: Connection) -> list[tuple[str, int]]:
    """The peers that are owed something and are in no setting any more, and how many things each."""
    rows = connection.execute(
        select(OutboxRow.destination, func.count())
        .where(OutboxRow.state == State.WAITING, OutboxRow.last_error.startswith("not configured any more"))
        .group_by(OutboxRow.destination)
        .order_by(OutboxRow.destination)
    )
    return [(row[0], row[1]) for row in rows]


def _providers(settings: Settings) -> Iterator[Finding]:
    providers = build_providers(settings)
    if not providers:
        yield _warn("providers", "none is configured, so no callback is accepted", "add [providers.NAME]")
    numbers = Counter(provider.file_number for provider in providers.values())
    for name, provider in providers.items():
        about = f"provider {name}"
        if numbers[provider.file_number] > 1:
            yield _fail(about, f"shares the number {provider.file_number} with another", "set another number")
        elif why := provider.why_closed():
            yield _fail(about, why)
        else:
            yield _open_provider(about, provider)


def _open_provider(about: str, provider: AnyProvider) -> Finding:
    settings = provider.settings
    if isinstance(settings, SecretSettings) and settings.authentication == "none":
        return _warn(about, "accepts callbacks from anybody", "set a secret and drop authentication")
    if settings.fetch_files and not provider.origins:
        return _warn(about, "signed files cannot be fetched", "set its base_url, or fetch_files = false")
    return _ok(about, f"{provider.title}, fetches from {', '.join(sorted(provider.origins)) or 'nowhere'}")


def _destinations(settings: Settings, clock: Clock) -> Iterator[Finding]:
    from functools import partial  # noqa: PLC0415

    from processor.destinations import build_destinations  # noqa: PLC0415
    from processor.outside import Outside  # noqa: PLC0415

    options = settings.processor
    outside = partial(
        Outside,
        connect_timeout_seconds=options.connect_timeout,
        read_timeout_seconds=options.read_timeout,
        total_timeout_seconds=options.total_timeout,
    )
    # Nothing is opened by making them, so that there is nothing to close.
    destinations = build_destinations(settings.destinations, outside_factory=outside, clock=clock)
    if not destinations:
        yield _ok("destinations", "none: signed files stay in files/")
    for name, destination in destinations.items():
        why = destination.why_unusable()
        kind = settings.destinations[name].kind
        yield _fail(f"destination {name}", why) if why else _ok(f"destination {name}", f"{kind}, usable")


def _tiers(settings: Settings, spool: Spool) -> Iterator[Finding]:
    """How the running tiers are: what they say, and, without that, how old their work is."""
    ports = {"api": settings.metrics.api_port, "processor": settings.metrics.processor_port}
    silent = []
    for tier, port in ports.items():
        answer = health.ask(settings, port) if port is not None else None
        if answer is not None:
            yield (
                _ok(tier, answer.text) if answer.is_well else _fail(tier, answer.text, "see docs/runbook.md")
            )
        elif port is not None:
            silent.append(tier)
            yield _warn(tier, f"does not answer on its private port {port}", f"start it: signspool {tier}")
    if ports["processor"] is None or "processor" in silent:
        yield from _undone(settings, spool)


def _undone(settings: Settings, spool: Spool) -> Iterator[Finding]:
    try:
        with database_of(settings) as database:
            about, seconds = health.oldest_undone(settings, spool, database)
    except (UnavailableError, OSError):
        return  # The database was told of above.
    if seconds > settings.metrics.late_after:
        yield _warn(
            "work",
            f"{about}: something has been due for {age_text(seconds)}",
            "is the processor running?",
        )
    else:
        yield _ok("work", "nothing is late")


def _entries(spool: Spool) -> Iterator[Finding]:
    try:
        counts = {folder: sum(1 for _ in spool.entries(folder)) for folder in Folder}
        oldest = max(
            (spool.age_seconds(Folder.SPOOL, entry) for entry in spool.entries(Folder.SPOOL)), default=0
        )
        count_of_strays, named = strays(spool)
    except UnavailableError as error:
        yield _fail("entries", str(error))
        return
    text = ", ".join(f"{count} in {folder}/" for folder, count in counts.items())
    if counts[Folder.SPOOL]:
        text += f", the oldest in spool/ for {age_text(oldest)}"
    yield _ok("entries", text)
    if count_of_strays:
        more = f" and {count_of_strays - len(named)} more" if count_of_strays > len(named) else ""
        yield _warn(
            "strays",
            f"nobody reads {', '.join(map(shortened, named))}{more}",
            "a callback lies right in spool/ or in a day folder, as a file whose name ends in .json: put it "
            "there, and take away what is none",
        )
    if counts[Folder.QUARANTINE]:
        yield _warn(
            "quarantine",
            f"{count_text(counts[Folder.QUARANTINE], 'entry')} need a person",
            "signspool spool ls quarantine",
        )
