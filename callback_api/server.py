"""Runs the door under uvicorn."""

from __future__ import annotations

import math
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
from uvicorn.supervisors import Multiprocess

from callback_api.app import check_providers, create_app, create_app_from_environment
from callback_api.garbage import collect_seldom
from callback_api.metrics import new_board, private_address
from callback_api.protocol import ConnectionLimits, LimitedConfig, LimitedProtocol
from shared.settings import Settings, build_providers

KEEP_ALIVE_SECONDS = 75
"""Longer than reverse proxies keep an idle connection, so that we never close one under a request."""

WORKER_SECONDS = 15
"""Time that a worker has to answer its parent, its start included; one that does not is replaced. uvicorn's
own 5 seconds are too few where many start at once on a busy machine: they would be replaced for ever."""

SPARE_FILES = 128
"""Files that a worker has open besides its connections: spool folders, sockets, what the libraries need."""

_log = structlog.get_logger()


def uvicorn_config(app: Callable[..., Any], settings: Settings, *, workers: int = 1) -> LimitedConfig:
    """How uvicorn serves the door; with several workers `app` is a factory that each of them calls."""
    api = settings.api
    return LimitedConfig(
        app,
        limits=ConnectionLimits(api.max_connections, api.head_timeout, api.retry_after),
        factory=workers > 1,
        host=api.host,
        port=api.port,
        workers=workers,
        loop="uvloop",
        http=LimitedProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=bool(api.trusted_proxies),
        forwarded_allow_ips=list(api.trusted_proxies),
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_worker_healthcheck=WORKER_SECONDS,
        timeout_graceful_shutdown=math.ceil(api.grace),
    )


def run(settings: Settings, *, workers: int = 1, fd: int | None = None) -> None:
    """Serve until SIGTERM or SIGINT, finish what is in hand, and return.

    `fd` is a listening socket that somebody else opened, as systemd does. Several workers read the settings
    again, each for itself, so that the environment must lead them to the same ones.

    Raises:
        SettingsError: the door may not open.
        SystemExit: the address cannot be had, or a worker did not start.
    """
    allow_open_files(settings.api.max_connections + SPARE_FILES)
    board = new_board(workers)
    if workers > 1:
        check_providers(build_providers(settings))
        app = partial(create_app_from_environment, board)
        with private_address(settings, board):
            _run_workers(uvicorn_config(app, settings, workers=workers), fd)
        return
    server = uvicorn.Server(uvicorn_config(create_app(settings, board=board), settings))

    def stop(_number: int, _frame: object) -> None:
        server.should_exit = True

    # uvicorn raises the signal once more when it has finished, which would end the process by it.
    previous = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with private_address(settings, board):
            collect_seldom()
            server.run([_inherited(fd)] if fd is not None else None)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


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


def _run_workers(config: uvicorn.Config, fd: int | None) -> None:
    listening = _inherited(fd) if fd is not None else config.bind_socket()
    supervisor = Multiprocess(config, sockets=[listening])
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
