"""Puts the daemon together from the settings: the one place where its parts are made."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from processor.access import Access
from processor.agreed import AgreedTime
from processor.booked import booked
from processor.breaker import Breaker
from processor.daemon import Daemon
from processor.daylists import DayLists
from processor.destinations import build_destinations
from processor.destinations._base import Destination
from processor.history import History
from processor.housekeeping import Housekeeping
from processor.inhand import InHand
from processor.lanes import Lane, LaneSettings
from processor.means import Means
from processor.metrics import ProcessorMetrics
from processor.mirror import Mirror
from processor.outside import Outside
from processor.owed import MIRROR_LANE, Policy, destination_lane, provider_lane
from processor.pipeline import Pipeline
from processor.poll import Poller, PollSettings
from processor.reading import Reader
from processor.retention import Retention
from processor.settle import Settler
from processor.work import Worker
from shared.clock import Clock
from shared.db.session import Database
from shared.providers import AnyProvider
from shared.settings import Settings, build_providers
from shared.spool import Folder, Spool
from shared.writer import SpoolWriter

IN_HAND = ".in-hand.json"
_SILENCE_SECONDS = 15.0
"""No statement of the daemon takes nearly as long on a database that works."""


@asynccontextmanager
async def daemon(settings: Settings, clock: Clock | None = None) -> AsyncIterator[Daemon]:
    """A daemon ready to run; its connections are let go of at the end.

    Raises:
        SpoolUnavailableError: the spool has no marker.
    """
    own = clock or Clock.in_zone(settings.spool.timezone)
    providers = build_providers(settings)
    metrics = ProcessorMetrics(providers, _lane_names(settings))
    database = Database(
        settings.database_url, silence_seconds=_SILENCE_SECONDS, on_transaction=metrics.transacted
    )
    time = AgreedTime(own, database)
    spool = Spool(settings.spool.root, time.clock())
    spool_id = spool.id()
    mirror = _mirror(settings)
    outsides = {
        name: outside_of(
            provider, settings, on_request=partial(metrics.requested, provider_lane(provider.name))
        )
        for name, provider in providers.items()
    }

    def outside_of_destination(peer: str, *, origins: frozenset[str], ca_file: Path | None) -> Outside:
        on_request = partial(metrics.requested, destination_lane(peer))
        return _outside_factory(settings)(peer, origins=origins, ca_file=ca_file, on_request=on_request)

    destinations = build_destinations(
        settings.destinations, outside_factory=outside_of_destination, clock=own
    )
    try:
        yield _daemon(
            settings,
            spool=spool,
            spool_id=spool_id,
            time=time,
            # How long ago a file was changed is for the machine's own clock to say.
            reader=Reader(Spool(settings.spool.root, own), providers),
            database=database,
            mirror=mirror,
            providers=providers,
            outsides=outsides,
            destinations=destinations,
            metrics=metrics,
        )
    finally:
        for outside in outsides.values():
            await outside.aclose()
        for destination in destinations.values():
            await destination.aclose()
        if mirror is not None:
            mirror.close()
        database.close()


def outside_of(
    provider: AnyProvider,
    settings: Settings,
    *,
    on_request: Callable[[str, float], None] = lambda _code, _seconds: None,
) -> Outside:
    """The sender of requests to a provider."""
    ca_file = provider.settings.ca_file
    return _outside_factory(settings)(
        provider.name,
        origins=provider.origins,
        ca_file=None if ca_file is None else Path(ca_file),
        tls=provider.tls,
        calls_per_second=provider.calls_per_second,
        on_request=on_request,
    )


def _outside_factory(settings: Settings) -> partial[Outside]:
    return partial(
        Outside,
        connect_timeout_seconds=settings.processor.connect_timeout,
        read_timeout_seconds=settings.processor.read_timeout,
        total_timeout_seconds=settings.processor.total_timeout,
    )


def _daemon(
    settings: Settings,
    *,
    spool: Spool,
    spool_id: str,
    time: AgreedTime,
    reader: Reader,
    database: Database,
    mirror: Mirror | None,
    providers: Mapping[str, AnyProvider],
    outsides: Mapping[str, Outside],
    destinations: Mapping[str, Destination],
    metrics: ProcessorMetrics,
) -> Daemon:
    options = settings.processor
    policy = Policy(destinations, mirror is not None)
    keep_done = settings.spool.retention_done > 0
    settler = Settler(spool, spool_id, database, keep_done=keep_done)
    worker = Worker(
        spool=spool,
        spool_id=spool_id,
        database=database,
        providers=providers,
        outsides={
            name: booked(provider, outsides[name], database=database, clock=spool.clock)
            for name, provider in providers.items()
        },
        destinations=destinations,
        mirror=mirror,
        policy=policy,
        max_file_bytes=options.max_file,
    )
    means = Means()
    writer = SpoolWriter(spool, durable=settings.spool.durability == "full")

    def breaker() -> Breaker:
        return Breaker(
            failures=options.breaker_failures,
            pause_seconds=options.breaker_pause,
            monotonic=spool.clock.monotonic,
        )

    def access(name: str) -> Access:
        return Access(name, pause_seconds=options.breaker_pause, monotonic=spool.clock.monotonic)

    accesses = {provider_lane(name): access(name) for name in providers}
    lanes: list[Lane] = []

    def wake_all() -> None:
        for lane in lanes:
            lane.wake()

    lanes += [
        Lane(
            name,
            database=database,
            worker=worker,
            settler=settler,
            breaker=breaker(),
            access=accesses.get(name) or access(name),
            settings=_lane_settings(settings, name),
            means=means,
            metrics=metrics,
            wake_all=wake_all,
            now=spool.clock.now,
        )
        for name in _lane_names(settings)
    ]
    pollers = [
        Poller(
            provider,
            sender=booked(provider, outsides[name], database=database, clock=spool.clock, asking=True),
            writer=writer,
            database=database,
            spool_id=spool_id,
            breaker=breaker(),
            access=accesses[provider_lane(name)],
            means=means,
            settings=_poll_settings(settings),
            clock=spool.clock,
            on_answer=partial(metrics.polled, name),
        )
        for name, provider in providers.items()
        if provider.polls
    ]
    for poller in pollers:
        # So that one which never answers is missed in its time.
        metrics.polled(poller.provider_name)
    pipeline = Pipeline(
        spool=spool,
        spool_id=spool_id,
        database=database,
        reader=reader,
        policy=policy,
        in_hand=InHand(spool.root / IN_HAND),
        batch_size=options.batch,
        streak_limit=options.quarantine_streak,
        keep_done=keep_done,
        on_recorded=metrics.recorded,
    )
    return Daemon(
        spool=spool,
        spool_id=spool_id,
        database=database,
        pipeline=pipeline,
        settler=settler,
        housekeeping=housekeeping(settings, spool, database),
        lanes=lanes,
        pollers=pollers,
        writer=writer,
        means=means,
        metrics=metrics,
        time=time,
        sweep_seconds=options.sweep,
        grace_seconds=options.grace,
    )


def _lane_names(settings: Settings) -> list[str]:
    names = [*map(provider_lane, settings.providers), *map(destination_lane, settings.destinations)]
    return [*names, MIRROR_LANE] if settings.database.mirror is not None else names


def housekeeping(settings: Settings, spool: Spool, database: Database) -> Housekeeping:
    """What keeps this spool, and the history in the database, in bounds."""
    history = History(database, spool.clock, keep_seconds=settings.database.retention_events)
    return Housekeeping(spool, DayLists(spool), retention(settings, spool), history)


def retention(settings: Settings, spool: Spool) -> Retention:
    """What drops the days of this spool."""
    options = settings.spool
    return Retention(
        spool,
        {Folder.DONE: options.retention_done, Folder.REFUSED: options.retention_refused},
        reasons_seconds=options.retention_reasons,
        lists_seconds=options.retention_lists,
    )


def _lane_settings(settings: Settings, lane: str) -> LaneSettings:
    options = settings.processor
    return LaneSettings(
        # The company's own table hears of changes one after the other.
        concurrency=1 if lane == MIRROR_LANE else options.concurrency,
        look_seconds=options.look_outbox,
        lease_seconds=options.lease,
        attempts=options.attempts,
        backoff_base_seconds=options.backoff_base,
        backoff_cap_seconds=options.backoff_cap,
    )


def _poll_settings(settings: Settings) -> PollSettings:
    options = settings.processor
    return PollSettings(
        concurrency=options.concurrency,
        look_seconds=options.look_outbox,
        lease_seconds=options.lease,
        backoff_base_seconds=options.backoff_base,
        backoff_cap_seconds=options.backoff_cap,
    )


def _mirror(settings: Settings) -> Mirror | None:
    mirror = settings.database.mirror
    return None if mirror is None else Mirror(mirror.url.get_secret_value(), mirror.statement)
