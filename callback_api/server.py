"""Runs the door under uvicorn."""

from __future__ import annotations

import math
import multiprocessing
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog
import uvicorn
from uvicorn.config import STARTUP_FAILURE

from callback_api.app import check_providers
from callback_api.garbage import collect_seldom
from callback_api.metrics import DoorCounts, new_board, private_address
from callback_api.protocol import ConnectionLimits, LimitedConfig, LimitedProtocol
from callback_api.running import RunningDoor
from callback_api.workers import Workers
from shared import hangup, logs
from shared.metrics.board import Board
from shared.notify import Notifier
from shared.parenthood import end_with
from shared.settings import Settings, build_providers, load_settings, secret_values

KEEP_ALIVE_SECONDS = 75
"""Longer than reverse proxies keep an idle connection, so that we never close one under a request."""

WORKER_SECONDS = 30
"""Time that a worker has to answer its parent, its start included; one that does not is replaced. uvicorn's
own 5 seconds are too few where many start at once on a busy machine: they would be replaced for ever."""

SPARE_FILES = 128
"""Files that a worker has open besides its connections: spool folders, sockets, what the libraries need."""

NOT_THE_DOORS = ("database", "destinations", "processor")
"""Sections of the settings that the door does not read, so that it needs none of their secrets."""

WORKER_SILENCE_SECONDS = 60.0
"""Time without a sign of life after which a worker ends itself and its parent starts another."""

_log = structlog.get_logger()


class Config(LimitedConfig):
    """How uvicorn serves a running door; what the door's settings say of it follows them."""

    def load(self) -> None:
        """Called once in each process that serves."""
        super().load()
        assert isinstance(self.loaded_app, RunningDoor)
        self.loaded_app.on_settings = self.follow

    def follow(self, settings: Settings) -> None:
        """Serve with these settings from now on."""
        allow_open_files(settings.api.max_connections + SPARE_FILES)
        self.limits = _limits(settings)
        self.timeout_graceful_shutdown = math.ceil(settings.api.grace)


def uvicorn_config(app: Callable[..., Any], settings: Settings, *, workers: int = 1) -> Config:
    """How uvicorn serves the door; with several workers `app` is a factory that each of them calls."""
    return Config(
        app,
        limits=_limits(settings),
        factory=workers > 1,
        interface="asgi3",
        host=settings.api.host,
        port=settings.api.port,
        workers=workers,
        loop="uvloop",
        http=LimitedProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        # The door does that itself, since the trusted proxies may change while it runs.
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_worker_healthcheck=WORKER_SECONDS,
        timeout_graceful_shutdown=math.ceil(settings.api.grace),
    )


def _limits(settings: Settings) -> ConnectionLimits:
    api = settings.api
    return ConnectionLimits(api.max_connections, api.head_timeout, api.retry_after)


class _Server(uvicorn.Server):
    """Tells the service manager when it listens, and when it ends."""

    def __init__(self, config: uvicorn.Config, notifier: Notifier) -> None:
        super().__init__(config)
        self._notifier = notifier

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Called when the loop runs."""
        await super().startup(sockets)
        self._notifier.ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Called when it is to end."""
        self._notifier.stopping()
        await super().shutdown(sockets)


def run(settings: Settings, *, workers: int = 1, fd: int | None = None) -> None:
    """Serve until SIGTERM or SIGINT, finish what is in hand, and return.

    `fd` is a listening socket that somebody else opened, as systemd does. SIGHUP has the settings read again,
    by each of several workers for itself: the environment must lead to the same ones.

    Raises:
        SettingsError: the door may not open.
        SystemExit: the address cannot be had, or a worker did not start.
    """
    hangup.hold()
    allow_open_files(settings.api.max_connections + SPARE_FILES)
    notifier = Notifier.from_environment()
    board = new_board(workers)
    if workers > 1:
        check_providers(build_providers(settings))
        config = uvicorn_config(partial(worker_app, settings, board), settings, workers=workers)
        with private_address(settings, board) as follow:

            def adopt(settings: Settings) -> None:
                # For workers that start from now on, in place of those that died.
                config.app = partial(worker_app, settings, board)
                config.follow(settings)
                follow(settings)

            _run_workers(config, settings, fd, notifier, adopt)
        return
    door = RunningDoor(settings, read_settings=read_settings, notifier=notifier, counts=DoorCounts(board))
    server = _Server(uvicorn_config(door, settings), notifier)

    def stop(_number: int, _frame: object) -> None:
        server.should_exit = True

    # uvicorn raises the signal once more when it has finished, which would end the process by it.
    previous = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with private_address(settings, board) as follow:
            door.on_reload = follow
            collect_seldom()
            server.run([_inherited(fd)] if fd is not None else None)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def read_settings() -> Settings:
    """The door's settings, found as the command does.

    Raises:
        SettingsError: something is wrong with them.
    """
    return load_settings(without=NOT_THE_DOORS)


def worker_app(settings: Settings, board: Board | None = None) -> RunningDoor:
    """The door of one worker process, which counts on a row of the board.

    It begins with the settings that its parent took over last, whatever the files say by now, and ends when
    its parent does: alone it would hold the port, and nobody would look after it.
    """
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid is not None:
        end_with(parent.pid)
    logs.configure(settings.log.format, settings.log.level, secrets=secret_values(settings))
    door = RunningDoor(
        settings,
        read_settings=read_settings,
        # Its parent speaks for it.
        notifier=Notifier(),
        counts=DoorCounts(board),
        silence_seconds=WORKER_SILENCE_SECONDS,
    )
    collect_seldom()
    return door


def allow_open_files(wanted: int) -> None:
    """Raise this process' own limit of open files as far as it may be, and say when that is too low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= wanted:
        return
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        _log.warning(
            "api.few_open_files",
            allowed=allowed,
            wanted=wanted,
            reason="raise LimitNOFILE, or lower max_connections under [api]",
        )


def _run_workers(
    config: uvicorn.Config,
    settings: Settings,
    fd: int | None,
    notifier: Notifier,
    on_reload: Callable[[Settings], None],
) -> None:
    listening = _inherited(fd) if fd is not None else config.bind_socket()
    supervisor = Workers(
        config, listening, settings, read_settings=read_settings, notifier=notifier, on_reload=on_reload
    )
    supervisor.run()
    if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
        _log.error("api.not_started", reason="a worker did not start")
        sys.exit(STARTUP_FAILURE)


def _inherited(fd: int) -> socket.socket:
    """A socket that was handed over. uvicorn's own `fd` takes every one for a UNIX socket, and the
    senders' addresses are then lost."""
    listening = socket.socket(fileno=os.dup(fd))
    listening.set_inheritable(True)
    return listening
