"""The daemon's parts, each made from the settings: at the start, and again whenever the settings change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from processor.access import Access
from processor.booked import booked
from processor.breaker import Breaker
from processor.daylists import DayLists
from processor.destinations import build_destinations
from processor.history import History
from processor.housekeeping import Housekeeping
from processor.lanes import Lane, LaneSettings
from processor.means import Means
from processor.metrics import ProcessorMetrics
from processor.mirror import Mirror
from processor.outside import Outside
from processor.outsides import outside_factory, outside_of
from processor.owed import MIRROR_LANE, Policy, destination_lane, provider_lane
from processor.poll import Poller
from processor.reading import Reader
from processor.retention import Retention
from processor.settle import Settler
from processor.signatures import SignatureCheck
from processor.taking import TakerSettings
from processor.work import Worker
from shared.clock import Clock
from shared.db.session import Database
from shared.providers import AnyProvider
from shared.settings import Settings, build_providers
from shared.spool import Folder, Spool
from shared.writer import SpoolWriter


@dataclass(frozen=True, slots=True)
class Parts:
    """What the settings say of the world outside. What is in hand ends with the parts that it began with.

    `outsides` are the senders to the providers, by name; `accesses` our standing with each peer, by lane.
    """

    settings: Settings
    worker: Worker
    reader: Reader
    outsides: Mapping[str, Outside]
    accesses: Mapping[str, Access]

    @property
    def lanes(self) -> list[str]:
        """The names of the lanes that these parts serve."""
        return lane_names(self.settings)

    @property
    def polled(self) -> list[AnyProvider]:
        """The providers that are asked."""
        return [provider for provider in self.worker.providers.values() if provider.polls]

    async def aclose(self) -> None:
        """Let go of every connection."""
        for outside in self.outsides.values():
            await outside.aclose()
        for destination in self.worker.destinations.values():
            await destination.aclose()
        if self.worker.mirror is not None:
            self.worker.mirror.close()


@dataclass(frozen=True, slots=True)
class PartsMaker:
    """Makes parts around what lasts as long as the daemon.

    `own` is the machine's clock; the spool's shows the time by which all processors agree.
    """

    spool: Spool
    spool_id: str
    own: Clock
    database: Database
    settler: Settler
    writer: SpoolWriter
    means: Means
    metrics: ProcessorMetrics
    signatures: SignatureCheck = field(default_factory=SignatureCheck)

    def parts(self, settings: Settings, before: Parts | None = None) -> Parts:
        """Parts for these settings; no connection is opened. `before` are those that they replace."""
        providers = build_providers(settings)
        outsides = {
            name: outside_of(
                provider, settings, on_request=partial(self.metrics.requested, provider_lane(name))
            )
            for name, provider in providers.items()
        }

        def outside_of_destination(peer: str, *, origins: frozenset[str], ca_file: Path | None) -> Outside:
            on_request = partial(self.metrics.requested, destination_lane(peer))
            return outside_factory(settings)(peer, origins=origins, ca_file=ca_file, on_request=on_request)

        destinations = build_destinations(
            settings.destinations, outside_factory=outside_of_destination, clock=self.own
        )
        mirror = _mirror(settings)
        worker = Worker(
            spool=self.spool,
            spool_id=self.spool_id,
            database=self.database,
            providers=providers,
            outsides={
                name: booked(provider, outsides[name], database=self.database, clock=self.spool.clock)
                for name, provider in providers.items()
            },
            destinations=destinations,
            mirror=mirror,
            policy=Policy(destinations, mirror is not None),
            max_file_bytes=settings.processor.max_file,
            signatures=self.signatures,
        )
        # How long ago a file was changed is for the machine's own clock to say.
        reader = Reader(Spool(self.spool.root, self.own), providers)
        return Parts(settings, worker, reader, outsides, self._accesses(settings, before))

    def lane(self, name: str, parts: Parts, *, wake_all: Callable[[], None]) -> Lane:
        """The lane of that name."""
        return Lane(
            name,
            database=self.database,
            worker=parts.worker,
            settler=self.settler,
            breaker=self.breaker(parts.settings),
            access=parts.accesses[name],
            settings=lane_settings(parts.settings, name),
            means=self.means,
            metrics=self.metrics,
            wake_all=wake_all,
            now=self.spool.clock.now,
        )

    def poller(self, provider: AnyProvider, parts: Parts) -> Poller:
        """What asks a provider."""
        name = provider.name
        return Poller(
            provider,
            sender=booked(
                provider, parts.outsides[name], database=self.database, clock=self.spool.clock, asking=True
            ),
            writer=self.writer,
            database=self.database,
            spool_id=self.spool_id,
            breaker=self.breaker(parts.settings),
            access=parts.accesses[provider_lane(name)],
            means=self.means,
            settings=_poll_settings(parts.settings),
            clock=self.spool.clock,
            on_answer=partial(self.metrics.polled, name),
        )

    def breaker(self, settings: Settings) -> Breaker:
        """One that knows of no failure yet."""
        return Breaker(
            failures=settings.processor.breaker_failures,
            pause_seconds=settings.processor.breaker_pause,
            monotonic=self.spool.clock.monotonic,
        )

    def _accesses(self, settings: Settings, before: Parts | None) -> dict[str, Access]:
        accesses = {
            name: Access(
                # What the log says is the name of the provider or destination.
                name.partition(":")[2] or name,
                pause_seconds=settings.processor.breaker_pause,
                monotonic=self.spool.clock.monotonic,
            )
            for name in lane_names(settings)
        }
        if before is not None:
            for name in accesses.keys() & before.accesses.keys():
                provider = name.partition(":")[2]
                if settings.providers.get(provider) == before.settings.providers.get(provider):
                    accesses[name].used_up(before.accesses[name].calls_wait_seconds)
        return accesses


def lane_names(settings: Settings) -> list[str]:
    """The lanes that these settings want."""
    names = [*map(provider_lane, settings.providers), *map(destination_lane, settings.destinations)]
    return [*names, MIRROR_LANE] if settings.database.mirror is not None else names


def keeps_done(settings: Settings) -> bool:
    """Whether finished files go to `done/` or are deleted."""
    return settings.spool.retention_done > 0


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


def lane_settings(settings: Settings, lane: str) -> LaneSettings:
    """How a lane works."""
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


def _poll_settings(settings: Settings) -> TakerSettings:
    options = settings.processor
    return TakerSettings(
        concurrency=options.concurrency,
        look_seconds=options.look_outbox,
        lease_seconds=options.lease,
        backoff_base_seconds=options.backoff_base,
        backoff_cap_seconds=options.backoff_cap,
    )


def _mirror(settings: Settings) -> Mirror | None:
    mirror = settings.database.mirror
    return None if mirror is None else Mirror(mirror.url.get_secret_value(), mirror.statement)
