"""Builds the door. Nothing happens when this module is imported."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import structlog
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from callback_api.admission import Admission
from callback_api.guard import Guard
from callback_api.intake import RefusedCopies
from callback_api.metrics import DoorCounts
from callback_api.openapi import describe
from callback_api.responses import MethodNotAllowedError, NoSuchPathError, refused
from callback_api.returns import RETURN_PATHS, ReturnRoute
from callback_api.routes import CALLBACK_ADDRESSES, CALLBACK_METHODS, AliveRoute, CallbackRoute, ReadyRoute
from callback_api.writer import Writer
from shared.clock import Clock
from shared.errors import RefusedError, SettingsError
from shared.providers import AnyProvider
from shared.settings import Settings, build_providers
from shared.spool import Spool

_log = structlog.get_logger()


def create_app(
    settings: Settings,
    *,
    providers: Mapping[str, AnyProvider] | None = None,
    clock: Clock | None = None,
    counts: DoorCounts | None = None,
) -> Door:
    """The door with these settings; `providers` and `clock` are by default what the settings say.

    It counts into `counts`, which doors of one process share; by default for nobody.

    Raises:
        SettingsError: no provider is configured, or one would have to accept anybody; names each.
    """
    providers = build_providers(settings) if providers is None else providers
    clock = clock or Clock.in_zone(settings.spool.timezone)
    check_providers(providers)
    spool = Spool(settings.spool.root, clock)
    counts = counts or DoorCounts()
    writer = Writer(spool, durable=settings.spool.durability == "full", on_group=counts.group)
    guard = Guard(spool, min_free_bytes=settings.spool.min_free, trouble=lambda: writer.trouble)
    copies = RefusedCopies(
        spool,
        writer,
        clock,
        enabled=settings.spool.keep_refused,
        max_bytes=settings.spool.refused_max_bytes,
        max_per_day=settings.spool.refused_max_per_day,
    )
    retry_after_seconds = settings.api.retry_after
    admission = Admission(settings.api.max_requests, settings.api.max_in_hand)
    callbacks = CallbackRoute(
        providers=providers,
        writer=writer,
        guard=guard,
        copies=copies,
        clock=clock,
        admission=admission,
        counts=counts,
        max_body_bytes=settings.api.max_body,
        body_seconds=settings.api.body_timeout,
        retry_after_seconds=retry_after_seconds,
    )
    returns = ReturnRoute(
        providers=providers,
        writer=writer,
        guard=guard,
        clock=clock,
        admission=admission,
        counts=counts,
        retry_after_seconds=retry_after_seconds,
    )
    app = Door(
        callbacks,
        writer=writer,
        guard=guard,
        admission=admission,
        title="signspool callback API",
        version="1",
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        # A redirect would be built from the stranger's Host header, and repeat the secret in the query.
        redirect_slashes=False,
        lifespan=_lifespan(writer, guard, providers, lambda: counts.beating(guard, admission)),
        exception_handlers={HTTPException: _not_served},
    )
    routes = [Route(address, callbacks, methods=CALLBACK_METHODS) for address in CALLBACK_ADDRESSES]
    routes += [Route(path, returns, methods=["GET", "HEAD"]) for path in RETURN_PATHS]
    routes += [
        Route("/healthz", AliveRoute(), methods=["GET"]),
        Route("/readyz", ReadyRoute(guard, retry_after_seconds), methods=["GET"]),
    ]
    # Callbacks come first, also in the order in which paths are compared.
    app.router.routes[:0] = routes
    document = describe(providers, settings.api.max_body)
    app.openapi = lambda: document  # type: ignore[method-assign]
    return app


class Door(FastAPI):
    """The application, with a short way in: a callback passes none of the framework's middleware.

    Its routes stand in the router all the same, for every other method and for whoever lists them.
    """

    def __init__(
        self,
        callbacks: CallbackRoute,
        *,
        writer: Writer,
        guard: Guard,
        admission: Admission,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self._callbacks = callbacks
        self.writer = writer
        self.guard = guard
        self.admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the start and stop of the whole."""
        if (
            scope["type"] == "http"
            and scope["path"] in CALLBACK_ADDRESSES
            and scope["method"] in CALLBACK_METHODS
        ):
            await self._callbacks(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def check_providers(providers: Mapping[str, AnyProvider]) -> None:
    """Return when the door may open for every provider.

    Raises:
        SettingsError: it may not; one problem a line.
    """
    if not providers:
        raise SettingsError("no provider is configured: add a section [providers.NAME]")
    closed = {name: provider.why_closed() for name, provider in sorted(providers.items())}
    problems = [f"[providers.{name}] {why}" for name, why in closed.items() if why is not None]
    if problems:
        raise SettingsError("\n".join(problems))


def _lifespan(
    writer: Writer,
    guard: Guard,
    providers: Mapping[str, AnyProvider],
    beating: Callable[[], AbstractAsyncContextManager[None]],
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        for name, provider in sorted(providers.items()):
            if getattr(provider.settings, "authentication", None) == "none":
                _log.warning(
                    "provider.unauthenticated",
                    provider=name,
                    reason='authentication = "none" accepts anybody',
                )
        try:
            await writer.start()
            await guard.start()
            async with beating():
                yield
        finally:
            try:
                await guard.stop()
            finally:
                await writer.close()

    return lifespan


async def _not_served(_request: Request, error: Exception) -> Response:
    """Unknown paths and methods, as problem details."""
    assert isinstance(error, HTTPException)
    kinds: dict[int, RefusedError] = {
        404: NoSuchPathError("nothing is served here: callbacks go to /api/callback?provider=NAME"),
        405: MethodNotAllowedError("this path does not take this method"),
    }
    problem = kinds.get(error.status_code, RefusedError(error.detail, status=error.status_code))
    answer = refused(problem, retry_after_seconds=0, headers=error.headers)
    return Response(
        answer.body,
        answer.status,
        {name.decode("latin-1"): value.decode("latin-1") for name, value in answer.headers},
    )
