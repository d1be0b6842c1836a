"""What `signspool check` finds: each look at one thing, and what to do about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from processor.chain import Chain, unlisted_days
from processor.operator import why_mirror_fails
from shared.clock import Clock
from shared.errors import UnavailableError
from shared.providers import AnyProvider
from shared.providers._verify import SecretSettings
from shared.settings import Settings, build_providers
from shared.spool import MARKER, Folder, Spool
from signspool import machine
from signspool.asking import asking
from signspool.expiry import expiring
from signspool.finding import Finding, Level, fail, ok, warn
from signspool.modes import wrong_modes
from signspool.output import count_text, shortened
from signspool.owing import owing
from signspool.peers import peers
from signspool.recorded import recorded
from signspool.running import running_tiers
from signspool.silence import silent
from signspool.waiting import waiting

_CHAIN_DAYS = 31
"""So far back the lists of digests are looked at; `signspool spool verify` looks at all, and at the files."""


def findings(
    settings: Settings, *, init_spool: bool, offline: bool, makes_root: bool = True
) -> Iterator[Finding]:
    """Look at everything, one after the other; what fails does not keep the rest from being looked at.

    With `makes_root` a root that is not there is made; with `init_spool`, one that lacks our marker, too.
    With `offline` no provider and no destination is connected to.
    """
    yield ok("settings", settings.source)
    spool = Spool(settings.spool.root, Clock.in_zone(settings.spool.timezone))
    made = _spool(spool, init_spool=init_spool, makes_root=makes_root)
    yield made
    if made.level is not Level.FAIL:
        yield from _disk(spool, settings)
    yield from wrong_modes(settings)
    yield from _clock(spool)
    yield from recorded(settings, spool.clock)
    if settings.database.mirror is not None:
        why = why_mirror_fails(settings.database.mirror)
        yield fail("company table", why) if why else ok("company table", "answers and takes the statement")
    yield from _providers(settings)
    yield from asking(settings)
    yield from _destinations(settings, spool.clock)
    if not offline:
        yield from peers(settings, spool.clock)
    yield from expiring(settings, spool.clock)
    if made.level is not Level.FAIL:
        yield from waiting(spool, settings.check)
        yield from owing(settings, spool)
        yield from silent(settings, spool)
        yield from running_tiers(settings, spool)
        yield from _evidence(spool)


def _spool(spool: Spool, *, init_spool: bool, makes_root: bool) -> Finding:
    root = spool.root
    if root.exists() and not root.is_dir():
        return fail("spool", f"{root.absolute()} is a file, not a folder", "name a folder as [spool] root")
    if not (root.exists() or init_spool or makes_root):
        return fail("spool", f"{root.absolute()} is not there", "put it back, or type: signspool check")
    return _spool_at(spool, makes=init_spool or not root.exists())


def _spool_at(spool: Spool, *, makes: bool) -> Finding:
    root = spool.root
    try:
        if makes:
            return ok("spool", f"made {root.absolute()}, id {spool.initialise()}")
        if not (root / MARKER).exists():
            return fail(
                "spool",
                f"{root.absolute()} is there without the marker {MARKER}, as a volume that is not mounted",
                "mount it; or, to make it a spool: signspool check --init-spool",
            )
        spool_id = spool.id()
    except (UnavailableError, OSError) as error:
        return fail("spool", str(error))
    missing = [folder.name for folder in _folders(spool) if not folder.is_dir()]
    if missing:
        return fail("spool", f"folders are missing: {', '.join(missing)}", "signspool check --init-spool")
    return ok("spool", f"{root.absolute()}, id {spool_id}")


def _folders(spool: Spool) -> list[Any]:
    return [*map(spool.folder, Folder), spool.temporary, spool.files]


def _disk(spool: Spool, settings: Settings) -> Iterator[Finding]:
    folders = [spool.root, *_folders(spool)]
    elsewhere = [folder.name for folder in folders if folder.stat().st_dev != spool.root.stat().st_dev]
    if elsewhere:
        yield fail(
            "file system",
            f"{', '.join(elsewhere)} lie on another file system than the root",
            "put all folders on one, so that a rename is atomic",
        )
    else:
        yield _file_system(spool, settings)
    owner = machine.other_owner(spool.root)
    if owner is not None:
        yield warn(
            "user", f"the spool belongs to {owner}", "run commands as that user, so it can use the files"
        )
    yield _writing(spool)
    disk = machine.free_on(spool.root)
    room = f"{disk.free_bytes // machine.MIB} MiB and {disk.inodes_text} free"
    if disk.free_bytes < settings.spool.min_free or disk.is_short_of_inodes:
        yield fail("free space", room, "the door refuses callbacks: make room, or lower [spool] min_free")
    elif disk.free_bytes < 2 * settings.spool.min_free:
        yield warn("free space", room, "the door soon refuses callbacks: make room")
    else:
        yield ok("free space", room)


def _file_system(spool: Spool, settings: Settings) -> Finding:
    kind = machine.file_system_of(spool.root)
    if kind in machine.FORGETFUL:
        return warn(
            "file system", f"{kind}, which forgets everything at a restart", "put the spool on a disk"
        )
    if kind not in machine.OVER_NETWORK:
        return ok("file system", f"all folders are on one, {kind or 'of an unknown kind'}")
    where = settings.database_url
    if where.get_backend_name() == "sqlite" and machine.file_system_of(Path(where.database or "")) == kind:
        return fail("file system", f"{kind}, on which the locks of SQLite do not hold", "set [database] url")
    return warn(
        "file system",
        f"{kind}, over the network: whether a sync or a rename holds is for the server to say, and what "
        "other machines write is found by the sweep alone",
        "put the spool on a disk of this machine",
    )


def _writing(spool: Spool) -> Finding:
    barred = [folder.name for folder in _folders(spool) if not machine.may_write(folder)]
    if barred:
        return fail("writing", f"no right to write into {', '.join(barred)}", "give it to this user")
    try:
        milliseconds = machine.write_probe(spool.temporary) * 1000
    except OSError as error:
        return fail("writing", f"{spool.temporary}: {error.strerror}", "mend the disk or its rights")
    return ok("writing", f"a file was written, synced and renamed in {milliseconds:.1f} ms")


def _clock(spool: Spool) -> Iterator[Finding]:
    zone = spool.clock.zone or "the machine's zone"
    local = spool.clock.local()
    text = f"{local.isoformat(' ', timespec='seconds')}, {zone}"
    if local.date() < machine.RELEASED_ON:
        yield fail("clock", f"{text}, before this program was made", "set the clock")
    elif machine.is_clock_unsynchronised():
        yield warn("clock", f"{text}, not synchronised", "start the machine's time service")
    else:
        yield ok("clock", text)


def _providers(settings: Settings) -> Iterator[Finding]:
    from processor import signatures  # noqa: PLC0415
    from processor.outsides import outside_of  # noqa: PLC0415

    providers = build_providers(settings)
    if not providers:
        yield warn("providers", "none is configured, so no callback is accepted", "add [providers.NAME]")
    numbers = Counter(provider.file_number for provider in providers.values())
    for name, provider in providers.items():
        about = f"provider {name}"
        if numbers[provider.file_number] > 1:
            yield fail(about, f"shares the number {provider.file_number} with another", "set another number")
        elif (
            why := provider.why_closed()
            or provider.why_mute()
            or outside_of(provider, settings).why_unusable()
            or signatures.why_unusable(provider.settings)
        ):
            yield fail(about, why)
        else:
            yield _open_provider(about, provider)


def _open_provider(about: str, provider: AnyProvider) -> Finding:
    settings = provider.settings
    if isinstance(settings, SecretSettings) and settings.authentication == "none":
        return warn(about, "accepts callbacks from anybody", "set a secret and drop authentication")
    if settings.fetch_files and not provider.origins:
        return warn(about, "signed files cannot be fetched", "set its base_url, or fetch_files = false")
    return ok(about, f"{provider.title}, fetches from {', '.join(sorted(provider.origins)) or 'nowhere'}")


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
        yield ok("destinations", "none: signed files stay in files/")
    for name, destination in destinations.items():
        why = destination.why_unusable()
        kind = settings.destinations[name].kind
        yield fail(f"destination {name}", why) if why else ok(f"destination {name}", f"{kind}, usable")


def _evidence(spool: Spool) -> Iterator[Finding]:
    since = (spool.clock.today() - timedelta(days=_CHAIN_DAYS)).isoformat()
    try:
        found, unlisted = Chain(spool).verify(since=since, files=False), unlisted_days(spool)
    except UnavailableError as error:
        yield fail("evidence", str(error))
        return
    if found.faults:
        first = found.faults[0]
        yield fail("evidence", f"done/{shortened(first.path)}: {first.text}", "signspool spool verify")
    elif unlisted:
        yield warn(
            "evidence",
            f"{count_text(len(unlisted), 'day')} of done/ without list of digests, since {unlisted[-1]}",
            "the processor makes them once a day: is it running?",
        )
    else:
        yield ok("evidence", f"{count_text(found.lists, 'list')} of digests in {_CHAIN_DAYS} days, unbroken")
