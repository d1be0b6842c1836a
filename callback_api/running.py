"""The door while it runs: watched all the time, and opened anew when its settings have changed."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import structlog
from starlette.routing import Router
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from callback_api.app import Door, create_app
from callback_api.guard import CANNOT_STORE
from callback_api.metrics import DoorCounts
from shared import hangup
from shared.errors import SettingsError, SpoolUnavailableError
from shared.masking import learn_more_secrets
from shared.notify import Notifier
from shared.settings import Settings, changes, expect_same_file, secret_values

BEAT_SECONDS = 2.0
"""Longest time between two looks whether event loop and writer go round."""

_DRAIN_LOOK_SECONDS = 0.05

_AT_RESTART = ("api.host", "api.port", "log", "metrics")
"""What a running door cannot change."""

_log = structlog.get_logger()


class RunningDoor:
    """An ASGI application: the door with the settings of the moment.

    SIGHUP reads the settings again. Requests in hand end at the door that took them; new ones go to the new
    one. Settings that are wrong are refused, and the door stays as it is. `on_settings`, for
    the server, and `on_reload`, for whoever shows figures, are called with those in effect from now on.

    With `silence_seconds`, this process ends itself, with the traces of all threads on standard error, when
    event loop or writer have not gone round for so long: for a worker, whose parent starts another.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        read_settings: Callable[[], Settings],
        notifier: Notifier,
        counts: DoorCounts | None = None,
        silence_seconds: float | None = None,
    ) -> None:
        self.on_settings: Callable[[Settings], None] = lambda _settings: None
        self.on_reload: Callable[[Settings], None] = lambda _settings: None
        self._settings = settings
        self._read_settings = read_settings
        self._notifier = notifier
        self._silence_seconds = silence_seconds
        # One row for all doors of this process, which one after the other go on counting there.
        self._counts = counts or DoorCounts()
        self._opened = _Opened(create_app(settings, counts=self._counts))
        self._serve = _served(self._opened.door, settings)
        self._asked = asyncio.Event()
        self._retiring: set[asyncio.Task[None]] = set()
        self._life = Router(lifespan=self._lifespan)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """One request, or the start and stop of the whole."""
        if scope["type"] == "lifespan":
            return self._life(scope, receive, send)
        return self._serve(scope, receive, send)

    @asynccontextmanager
    async def _lifespan(self, _router: Router) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        await self._opened.open()
        loop.add_signal_handler(signal.SIGHUP, self._asked.set)
        hangup.release()
        background = [loop.create_task(self._beat()), loop.create_task(self._reload_when_asked())]
        try:
            yield
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            faulthandler.cancel_dump_traceback_later()
            await asyncio.gather(self._opened.close(), *self._retiring)

    # Signs of life

    async def _beat(self) -> None:
        """Tell that the loop goes round, each time after the writer has."""
        seconds = min(BEAT_SECONDS, self._notifier.beat_seconds or BEAT_SECONDS)
        self._put_off_the_end()
        while True:
            door = self._opened.door
            # A writer that has ended is started again, or else there is silence.
            with contextlib.suppress(SpoolUnavailableError):
                await door.writer.echo()
                self._put_off_the_end()
                self._notifier.alive()
            reason = door.guard.reason
            self._notifier.status("taking callbacks" if reason is None else f"refusing callbacks: {reason}")
            await asyncio.sleep(seconds)

    def _put_off_the_end(self) -> None:
        if self._silence_seconds is not None:
            faulthandler.dump_traceback_later(self._silence_seconds, exit=True)

    # Another door

    async def _reload_when_asked(self) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            self._notifier.reloading()
            try:
                await self._reload()
            except SettingsError as error:
                _log.error("settings.refused", reason=str(error), in_effect="the old ones")
            except Exception:  # noqa: BLE001  (whatever it is, the door goes on as it was)
                _log.exception("settings.refused", in_effect="the old ones")
            finally:
                self._notifier.ready()

    async def _reload(self) -> None:
        """Open a door with the settings as they are now, then let the old one finish what it has in hand.

        Raises:
            SettingsError: they are wrong or gone, or nothing could be stored with them though it can be now.
        """
        settings = await asyncio.to_thread(self._read_settings)
        expect_same_file(self._settings, settings)
        learn_more_secrets(secret_values(settings))
        opened = _Opened(create_app(settings, counts=self._counts))
        await opened.open()
        reason = opened.door.guard.reason
        if reason is not None and self._opened.door.guard.reason is None:
            await opened.close()
            raise SettingsError(f"{CANNOT_STORE}: {reason}")
        changed = changes(self._settings, settings)
        old, self._opened = self._opened, opened
        self._serve = _served(opened.door, settings)
        self._settings = settings
        self.on_settings(settings)
        self.on_reload(settings)
        retiring = asyncio.create_task(_retire(old))
        self._retiring.add(retiring)
        retiring.add_done_callback(self._retiring.discard)
        later = [key for key in changed if key.startswith(_AT_RESTART)]
        _log.info("settings.reloaded", changed=changed)
        if later:
            _log.warning("settings.need_restart", keys=later)


class _Opened:
    """A door and its background work."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self._stack = AsyncExitStack()

    async def open(self) -> None:
        """Start what the door needs."""
        await self._stack.enter_async_context(self.door.router.lifespan_context(self.door))

    async def close(self) -> None:
        """Write what was handed over, and stop."""
        await self._stack.aclose()


async def _retire(old: _Opened) -> None:
    """Close a door that gets no new requests, once those are answered that it has."""
    # A body that never ends is cut off by its own time limit.
    while old.door.admission.requests:  # noqa: ASYNC110  (seldom, and the count is kept on the hot path)
        await asyncio.sleep(_DRAIN_LOOK_SECONDS)
    await old.close()


def _served(door: Door, settings: Settings) -> ASGIApp:
    """The door behind what believes the forwarded addresses of trusted proxies."""
    trusted = settings.api.trusted_proxies
    return ProxyHeadersMiddleware(door, trusted_hosts=list(trusted)) if trusted else door  # type: ignore[arg-type, return-value]  # uvicorn's and Starlette's words for the same
