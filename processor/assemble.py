"""Puts the daemon together from the settings: the one place where its parts meet."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from processor.agreed import AgreedTime
from processor.daemon import Daemon
from processor.inhand import InHand
from processor.means import Means
from processor.metrics import ProcessorMetrics
from processor.parts import PartsMaker, housekeeping, keeps_done, lane_names
from processor.pipeline import Pipeline
from processor.reloading import Reloading
from processor.settle import Settler
from shared.clock import Clock
from shared.db.session import Database
from shared.notify import Notifier
from shared.settings import Settings
from shared.spool import Spool
from shared.writer import SpoolWriter

IN_HAND = ".in-hand.json"
_SILENCE_SECONDS = 15.0
"""No statement of the daemon takes nearly as long on a database that works."""


@asynccontextmanager
async def daemon(
    settings: Settings,
    clock: Clock | None = None,
    *,
    notifier: Notifier | None = None,
    read_settings: Callable[[], Settings] | None = None,
) -> AsyncIterator[Daemon]:
    """A daemon ready to run; its connections are let go of at the end.

    `read_settings` is what SIGHUP calls; without one the settings stay as they are.

    Raises:
        SpoolUnavailableError: the spool has no marker.
    """
    own = clock or Clock.in_zone(settings.spool.timezone)
    metrics = ProcessorMetrics(settings.providers, lane_names(settings))
    database = Database(
        settings.database_url, silence_seconds=_SILENCE_SECONDS, on_transaction=metrics.transacted
    )
    time = AgreedTime(own, database)
    spool = Spool(settings.spool.root, time.clock())
    spool_id = spool.id()
    maker = PartsMaker(
        spool=spool,
        spool_id=spool_id,
        own=own,
        database=database,
        settler=Settler(spool, spool_id, database, keep_done=keeps_done(settings)),
        writer=SpoolWriter(spool, durable=settings.spool.durability == "full"),
        means=Means(),
        metrics=metrics,
    )
    reloading = Reloading(maker, settings, read_settings)
    try:
        yield _daemon(settings, maker, reloading, time, notifier or Notifier())
    finally:
        await reloading.aclose()
        database.close()


def _daemon(
    settings: Settings, maker: PartsMaker, reloading: Reloading, time: AgreedTime, notifier: Notifier
) -> Daemon:
    options, parts = settings.processor, reloading.parts
    pipeline = Pipeline(
        spool=maker.spool,
        spool_id=maker.spool_id,
        database=maker.database,
        reader=parts.reader,
        policy=parts.worker.policy,
        in_hand=InHand(maker.spool.root / IN_HAND),
        batch_size=options.batch,
        streak_limit=options.quarantine_streak,
        keep_done=keeps_done(settings),
        on_recorded=maker.metrics.recorded,
    )
    return Daemon(
        spool=maker.spool,
        spool_id=maker.spool_id,
        database=maker.database,
        pipeline=pipeline,
        settler=maker.settler,
        housekeeping=housekeeping(settings, maker.spool, maker.database),
        lanes=reloading.lanes,
        pollers=reloading.pollers,
        writer=maker.writer,
        means=maker.means,
        metrics=maker.metrics,
        time=time,
        sweep_seconds=options.sweep,
        grace_seconds=options.grace,
        notifier=notifier,
        reload=reloading.reload,
    )
