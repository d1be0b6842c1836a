"""Plays the script against the running tiers: sends, looks, registers what waits, until all is settled."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from processor import documents
from shared.spool import Folder
from signspool.demo.facts import Facts, collect
from signspool.demo.hand import Course, Hand, View
from signspool.demo.installing import set_up
from signspool.demo.looking import see_waiting
from signspool.demo.script import SSIGN, Cast, Role
from signspool.demo.stage import Stage
from signspool.demo.values import Look, short
from signspool.supervisor import DiesAtOnceError
from simulator.server import SimulatorServer
from simulator.weather import Storm, StormKind

DEADLINE_SECONDS = 180.0


class StoppedError(Exception):
    """Somebody stopped the demo before its end."""


class HungError(Exception):
    """The demo did not come to its end; the message says what was still open."""


@dataclass(slots=True)
class Player:
    """One run of the demo in an empty folder. `pace_seconds` is a pause after each callback, for people."""

    home: Path
    cast: Cast
    view: View
    pace_seconds: float = 0.0
    deadline_seconds: float = DEADLINE_SECONDS
    _course: Course = field(default_factory=Course, init=False)
    _complaints: list[str] = field(default_factory=list, init=False)

    async def run(self) -> Facts:
        """Set everything up, play, stop both tiers, and say what there is then.

        Raises:
            StoppedError: SIGINT, SIGTERM or SIGHUP came before the end.
            HungError: a process died, or the deadline passed.
        """
        began = time.monotonic()
        storm = Storm("smartshare", StormKind.STATUS, path="/InserirAnexo", status=503, retry_after_seconds=1)
        self.cast.world.weather.add(storm)
        with (
            SimulatorServer(self.cast.world) as simulator,
            set_up(self.home, self.cast, simulator.url) as stage,
        ):
            self.view.said(f"simulated providers and SmartShare: {simulator.url}")
            self.view.said(f"door: {stage.door_url}; spool: {stage.spool.root}")
            await self._beside_the_tiers(stage)
            return collect(
                stage,
                self.cast,
                sent=self._course.sent,
                waited=self._course.waited,
                complaints=self._complaints,
                seconds=round(time.monotonic() - began, 2),
            )

    async def _beside_the_tiers(self, stage: Stage) -> None:
        supervisor = stage.supervisor(self._complaints.append)
        tiers = asyncio.create_task(supervisor.run())
        play = asyncio.create_task(self._play_in_time(stage))
        try:
            await asyncio.wait((tiers, play), return_when=asyncio.FIRST_COMPLETED)
            # A signal stops the tiers, and then the door does not answer us any more either.
            stopped = supervisor.is_stopping
        finally:
            play.cancel()
            supervisor.stop()
            await asyncio.gather(tiers, play, return_exceptions=True)
        if isinstance(death := tiers.exception(), DiesAtOnceError):
            raise HungError(str(death).partition(";")[0])
        if stopped:
            raise StoppedError
        play.result()

    async def _play_in_time(self, stage: Stage) -> None:
        limit = f"within {self.deadline_seconds:g} s"
        async with httpx.AsyncClient(trust_env=False, timeout=self.deadline_seconds) as client:
            try:
                # The port is open already, so this waits until somebody takes what comes.
                await client.get(f"{stage.door_url}?provider={SSIGN}")
                self.view.said("the door is open")
                async with asyncio.timeout(self.deadline_seconds):
                    await self._play(stage, Hand(stage, client, self.view, self._course, self.pace_seconds))
            except TimeoutError:
                raise HungError(f"not at its end {limit}: {'; '.join(self._still_open())}") from None
            except httpx.HTTPError as error:
                raise HungError(f"the door did not answer {limit} ({error!r})") from None

    async def _play(self, stage: Stage, hand: Hand) -> None:
        late = [role for role in self.cast.roles if role.scene.registered_late]
        _register(stage, [role for role in self.cast.roles if role not in late])
        self.view.said(
            f"{len(self.cast.roles) - len(late)} documents are registered, as their sender does it"
        )
        for turn in self.cast.turns():
            for call in turn:
                await hand.send(call)
            await hand.until_recorded()
        await hand.until(lambda look: self._all_seen_waiting(stage, late, look))
        for seen in self._course.waited:
            self.view.said(f"{seen.provider} {seen.document_id} waits in {Folder.DEFERRED}/: {seen.reason}")
        _register(stage, late)
        self.view.said(f"registered now: {', '.join(' '.join(role.name) for role in late)}")
        await hand.until(lambda look: look.is_settled)
        for act in self.cast.acts:
            await act.play(hand)
        await hand.until(lambda look: look.is_settled)

    def _all_seen_waiting(self, stage: Stage, late: list[Role], look: Look) -> bool:
        names = {role.name for role in late}
        seen = [see_waiting(stage, document) for document in look.documents if document.name in names]
        self._course.waited = [waited for waited in seen if waited is not None]
        return len(self._course.waited) == len(late)

    def _still_open(self) -> list[str]:
        look = self._course.look
        missing = len(self.cast.calls) - len(self._course.sent)
        said = [f"{missing} callbacks not sent"] if missing > 0 else []
        if look is not None:
            unrecorded = len(self._course.receipts - look.receipts)
            said += [f"{unrecorded} callbacks not recorded"] if unrecorded else []
            said += [
                f"{document.provider} {document.document_id} {row.task} {row.destination} is {row.state}"
                f" after {row.attempts} attempts" + (f" ({row.reason})" if row.reason else "")
                for document, row in look.open_rows
            ]
            said += [
                f"{short(document.name)} is {document.status}, not {item.status}"
                for _, item in self.cast.followed
                for document in look.documents
                if document.name == item.name and document.status != item.status
            ]
            said += [f"{look.counts[folder]} in {folder}/" for folder in (Folder.SPOOL, Folder.DEFERRED)]
        return said


def _register(stage: Stage, roles: list[Role]) -> None:
    with stage.database.transaction() as connection:
        for role in roles:
            registration = documents.Registration(*role.name, role.references, role.dms)
            documents.check_registration(registration)
            documents.register(connection, registration, stage.spool.clock.now())
