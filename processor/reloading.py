"""Other settings while the daemon works: parts are exchanged, and what is in hand ends with the old ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from processor.daemon import Daemon
from processor.expiry import ends, first_ends
from processor.lanes import Lane
from processor.outbox import wake_waiting
from processor.parts import Parts, PartsMaker, housekeeping, keeps_done, lane_settings
from processor.poll import Poller
from processor.silence import silence_limits
from shared.errors import UnavailableError
from shared.masking import learn_more_secrets
from shared.settings import Settings, changes, expect_same_file, secret_values

log = structlog.get_logger()

_AT_RESTART = ("spool.root", "spool.timezone", "spool.durability", "database.url", "log", "metrics")
"""What a running daemon cannot change."""


class Reloading:
    """The parts of a daemon that follow the settings, `lanes` and `pollers` among them.

    Those that are in no setting any more stay in the lists, ended, until they are wanted again.
    """

    def __init__(
        self, maker: PartsMaker, settings: Settings, read_settings: Callable[[], Settings] | None
    ) -> None:
        self._maker = maker
        self._read_settings = read_settings
        self.parts = maker.parts(settings)
        self.lanes = [maker.lane(name, self.parts, wake_all=self._wake_all) for name in self.parts.lanes]
        self.pollers = [maker.poller(provider, self.parts) for provider in self.parts.polled]
        self._follow_metrics()
        self._retiring: dict[asyncio.Task[None], Parts] = {}

    async def aclose(self) -> None:
        """Let go of every connection."""
        for task in self._retiring:
            task.cancel()
        for parts in (self.parts, *self._retiring.values()):
            await parts.aclose()

    async def reload(self, running: Daemon) -> list[Lane | Poller]:
        """Read the settings again and put them to work; returns what has to begin.

        Raises:
            SettingsError: they are wrong; nothing has changed.
        """
        if self._read_settings is None:
            return []
        old = self.parts
        settings = await asyncio.to_thread(self._read_settings)
        expect_same_file(old.settings, settings)
        learn_more_secrets(secret_values(settings))
        self.parts = made = self._maker.parts(settings, old)
        changed = changes(old.settings, settings)
        busy_parts: list[Lane | Poller] = [*self.lanes, *self.pollers]
        in_hand = {task for part in busy_parts for task in part.in_hand}
        self._adopt(running, made)
        begun: list[Lane | Poller] = [*self._adopt_lanes(made), *self._adopt_pollers(made)]
        self._follow_metrics()
        retiring = asyncio.create_task(self._retire(old, in_hand))
        self._retiring[retiring] = old
        try:
            await asyncio.to_thread(self._take_up, made.lanes)
        except UnavailableError as error:
            # The next start does it, or another reload.
            log.warning("settings.waiting_not_woken", error=str(error))
        running.wake()
        log.info("settings.reloaded", changed=changed)
        if later := [key for key in changed if key.startswith(_AT_RESTART)]:
            log.warning("settings.need_restart", keys=later)
        return begun

    def _wake_all(self) -> None:
        for lane in self.lanes:
            lane.wake()

    def _follow_metrics(self) -> None:
        parts = self.parts
        self._maker.metrics.follow(
            providers=parts.worker.providers,
            lanes=parts.lanes,
            polled=[provider.name for provider in parts.polled],
            silence_limits=silence_limits(parts.settings.check, parts.worker.providers.values()),
            ends=first_ends(ends(parts.settings, self._maker.own)),
        )

    def _adopt(self, running: Daemon, parts: Parts) -> None:
        settings, options, maker = parts.settings, parts.settings.processor, self._maker
        pipeline = running.pipeline
        pipeline.reader, pipeline.policy = parts.reader, parts.worker.policy
        pipeline.batch_size, pipeline.streak_limit = options.batch, options.quarantine_streak
        pipeline.keep_done = maker.settler.keep_done = keeps_done(settings)
        # A new one looks again today, should it keep less than the one before.
        running.housekeeping = housekeeping(settings, maker.spool, maker.database)
        running.sweep_seconds, running.grace_seconds = options.sweep, options.grace

    def _adopt_lanes(self, parts: Parts) -> list[Lane]:
        """Lanes that are still served go on with the new parts, the others end; returns those that begin."""
        known = {lane.name: lane for lane in self.lanes}
        begun = []
        for name in parts.lanes:
            if (lane := known.pop(name, None)) is None:
                lane = self._maker.lane(name, parts, wake_all=self._wake_all)
                self.lanes.append(lane)
                begun.append(lane)
            # Settings that mend a peer shall count at once, so that it is not left alone any longer.
            elif lane.adopt(
                parts.worker,
                self._maker.breaker(parts.settings),
                parts.accesses[name],
                lane_settings(parts.settings, name),
            ):
                begun.append(lane)
        for lane in known.values():
            lane.end()
        return begun

    def _adopt_pollers(self, parts: Parts) -> list[Poller]:
        """As the lanes."""
        known = {poller.name: poller for poller in self.pollers}
        begun = []
        for provider in parts.polled:
            made = self._maker.poller(provider, parts)
            if (poller := known.pop(made.name, None)) is None:
                self.pollers.append(made)
                begun.append(made)
            elif poller.adopt(made):
                begun.append(poller)
        for poller in known.values():
            poller.end()
        return begun

    async def _retire(self, old: Parts, in_hand: set[asyncio.Task[None]]) -> None:
        """Close parts that get no new work, once what they have in hand has ended."""
        if in_hand:
            await asyncio.wait(in_hand)
        await old.aclose()
        task = asyncio.current_task()
        assert task is not None
        del self._retiring[task]

    def _take_up(self, lanes: list[str]) -> None:
        """What a start does with new settings, too."""
        with self._maker.database.transaction() as connection:
            wake_waiting(connection, lanes, self._maker.spool.clock.now())
            for poller in self.pollers:
                if not poller.is_ended:
                    poller.keep(connection)
