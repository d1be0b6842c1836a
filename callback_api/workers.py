"""Several processes of the door behind one port, and the parent that looks after them."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable

import structlog
import uvicorn
from uvicorn.supervisors import Multiprocess

from callback_api.app import check_providers
from callback_api.guard import CANNOT_STORE, Guard
from shared import hangup
from shared.clock import Clock
from shared.errors import SettingsError
from shared.masking import learn_more_secrets
from shared.notify import Notifier
from shared.settings import Settings, build_providers, expect_same_file, secret_values
from shared.spool import Spool

_ANSWER_SECONDS = 1.0

_log = structlog.get_logger()


class Workers(Multiprocess):
    """Starts workers, and others for those that die; speaks for all of them to the service manager.

    SIGHUP is held, here and so in every worker from its birth on: here it is looked for in the loop, and a
    worker lets it in once it can obey.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        listening: socket.socket,
        settings: Settings,
        *,
        read_settings: Callable[[], Settings],
        notifier: Notifier,
        on_reload: Callable[[Settings], None] = lambda _settings: None,
    ) -> None:
        super().__init__(config, sockets=[listening])
        self._settings = settings
        self._read_settings = read_settings
        self._notifier = notifier
        self._on_reload = on_reload
        self._are_ready = False

    def keep_subprocess_alive(self) -> None:
        """Called about twice a second."""
        super().keep_subprocess_alive()
        self._notifier.alive()
        if not self._are_ready and all(process.is_ready(_ANSWER_SECONDS) for process in self.processes):
            self._are_ready = True
            self._notifier.status(f"taking callbacks in {len(self.processes)} workers")
            self._notifier.ready()

    def terminate_all(self) -> None:
        """Called once, at the end."""
        self._notifier.stopping()
        super().terminate_all()

    def handle_signals(self) -> None:
        """Called about twice a second."""
        super().handle_signals()
        if hangup.take():
            self.handle_hup()

    def handle_hup(self) -> None:
        """Have every worker read the settings again, if they are right."""
        self._notifier.reloading()
        try:
            settings = self._read_settings()
            expect_same_file(self._settings, settings)
            learn_more_secrets(secret_values(settings))
            check_providers(build_providers(settings))
            self._expect_storage(settings)
        except SettingsError as error:
            _log.error("settings.refused", reason=str(error), in_effect="the old ones")
        except Exception:  # noqa: BLE001  (whatever it is, the workers go on as they were)
            _log.exception("settings.refused", in_effect="the old ones")
        else:
            self._settings = settings
            self._on_reload(settings)
            for process in self.processes:
                if process.pid is not None and process.exitcode is None:
                    os.kill(process.pid, signal.SIGHUP)
        self._notifier.ready()

    def _expect_storage(self, settings: Settings) -> None:
        """Return unless callbacks can be stored now, and could not be with these settings.

        Raises:
            SettingsError: so it is, and every worker would refuse them.
        """
        reason = _why_closed(settings)
        if reason is not None and _why_closed(self._settings) is None:
            raise SettingsError(f"{CANNOT_STORE}: {reason}")


def _why_closed(settings: Settings) -> str | None:
    spool = Spool(settings.spool.root, Clock.in_zone(settings.spool.timezone))
    return Guard(spool, min_free_bytes=settings.spool.min_free).look()
