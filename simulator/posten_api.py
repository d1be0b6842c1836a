"""The HTTP API of the simulated Posten signering, and the calls that let signers act."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from email.utils import format_datetime
from typing import Any, cast

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from simulator.certificates import organisation_of
from simulator.connection import EXTENSION
from simulator.peer import PeerError
from simulator.posten import Posten
from simulator.posten_jobs import Flow, Job
from simulator.posten_wire import CodedError, error_document, read_job, split_multipart

Handler = Callable[[Request], Awaitable[Response]]


class _Api:
    def __init__(self, posten: Posten) -> None:
        self._posten = posten

    def admitted(self, handler: Handler) -> Handler:
        """A handler for those alone whose certificate may act for the sender in the path."""

        async def admit(request: Request) -> Response:
            caller = _caller(request)
            if self._posten.is_flood(caller):
                return Response(status_code=429, headers={"DoSFilter": "unavailable"})
            self._posten.admit(caller, request.path_params["sender"])
            return await handler(request)

        return admit

    async def who(self, request: Request) -> Response:
        caller, sender = _caller(request), request.path_params["sender"]
        broker = "" if caller == sender else f", operating on behalf of {sender}"
        return PlainTextResponse(f"You are {caller}{broker}")

    async def create(self, request: Request) -> Response:
        sender, flow = request.path_params["sender"], _flow(request)
        document, package = split_multipart(request.headers.get("content-type", ""), await request.body())
        new = read_job(document, package, flow=flow, sender=sender, now=self._posten.now())
        job = self._posten.create(sender, flow, new)
        return _xml(self._posten.created_message(job))

    async def poll(self, request: Request) -> Response:
        queue = request.query_params.get("polling_queue", "")
        polled = self._posten.poll(request.path_params["sender"], _flow(request), queue)
        return Response(polled.body, polled.status, polled.headers)

    async def confirm(self, request: Request) -> Response:
        self._posten.confirm(self._job(request))
        return Response(status_code=self._posten.confirm_status)

    async def cancel(self, request: Request) -> Response:
        self._posten.end(self._job(request).id, "CANCELLED")
        return Response(status_code=204)

    async def delete(self, request: Request) -> Response:
        job = self._job(request)
        if job.status == "IN_PROGRESS":
            raise CodedError(409, "JOB_NOT_FINISHED", "The job is not finished")
        job.documents_deleted = True
        return Response(status_code=204)

    async def pades(self, request: Request) -> Response:
        return Response(self._posten.pades(self._job(request)), media_type="application/octet-stream")

    async def xades(self, request: Request) -> Response:
        job = self._job(request)
        return _xml(self._posten.xades(job, request.path_params["place"]))

    async def status(self, request: Request) -> Response:
        token = request.query_params.get("status_query_token", "")
        return _xml(self._posten.status_by_token(self._job(request), token))

    async def redirect(self, request: Request) -> Response:
        job, place = self._job(request), request.path_params["place"] - 1
        if not 0 <= place < len(job.signers):
            raise CodedError(404, "SIGNER_NOT_FOUND", "There is no such signer")
        self._posten.redirect(job, place)
        return _xml(self._posten.signer_message(job, place))

    def _job(self, request: Request) -> Job:
        return self._posten.job(request.path_params["id"], request.path_params["sender"])

    # Control

    async def state(self, request: Request) -> Response:
        return JSONResponse(self._posten.summary)

    async def act(self, request: Request) -> Response:
        """`sign`, `reject`, or the name of any status, for one signer; `expire` and `cancel` for the job."""
        word = request.path_params["word"]
        job_id = request.path_params["id"]
        if word in ("expire", "cancel"):
            self._posten.end(job_id, {"expire": "EXPIRED", "cancel": "CANCELLED"}[word])
            return JSONResponse(self._posten.summary)
        status = {"sign": "SIGNED", "reject": "REJECTED"}.get(word, word)
        browser = self._posten.act(job_id, status, int(request.query_params.get("signer", "1")) - 1)
        return JSONResponse({"browserGoesTo": browser, **self._posten.summary})

    async def refuse(self, _request: Request, error: Exception) -> Response:
        assert isinstance(error, PeerError)
        form = self._posten.error_form
        if form == "empty":
            return Response(status_code=error.status)
        if form == "text":
            return PlainTextResponse("Something went wrong", error.status)
        code = error.code if isinstance(error, CodedError) else "SIMULATOR"
        return _xml(error_document(code, str(error), wire=self._posten.wire), error.status)


class _Dated:
    """Puts the server's own time into every answer, of which the poll time is a matter."""

    def __init__(self, app: ASGIApp, posten: Posten) -> None:
        self._app = app
        self._posten = posten

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                date = format_datetime(self._posten.now(), usegmt=True).encode()
                message = {**message, "headers": [*message["headers"], (b"date", date)]}
            await send(message)

        await self._app(scope, receive, dated)


def create_app(posten: Posten) -> Starlette:
    """The API under `/api`, and the control calls under `/_jobs`, which need the same certificate."""
    api = _Api(posten)
    root = "/api/{sender}"
    job = root + "/portal/signature-jobs/{id:int}"
    direct = root + "/direct/signature-jobs/{id:int}"

    def route(path: str, handler: Handler, method: str) -> Route:
        return Route(path, api.admitted(handler), methods=[method])

    return Starlette(
        routes=[
            Route("/_jobs", api.state, methods=["GET"]),
            Route("/_jobs/{id:int}/{word}", api.act, methods=["POST"]),
            route(root, api.who, "GET"),
            route(root + "/archive/documents/{id:int}/pades", api.pades, "GET"),
            route(job + "/status/complete", api.confirm, "POST"),
            route(job + "/cancel", api.cancel, "POST"),
            route(job + "/delete-documents", api.delete, "DELETE"),
            route(job + "/pades", api.pades, "GET"),
            route(job + "/xades/{place:int}", api.xades, "GET"),
            route(direct + "/status", api.status, "GET"),
            route(direct + "/signers/{place:int}", api.redirect, "POST"),
            route(root + "/{flow}/signature-jobs", api.create, "POST"),
            route(root + "/{flow}/signature-jobs", api.poll, "GET"),
        ],
        middleware=[Middleware(_Dated, posten=posten)],
        exception_handlers={PeerError: api.refuse},
    )


def _caller(request: Request) -> str:
    """The organisation in the certificate by which the caller is known."""
    connection: Any = request.scope["extensions"][EXTENSION]
    return organisation_of(connection.peer_certificate)


def _flow(request: Request) -> Flow:
    flow = request.path_params["flow"]
    if flow in ("portal", "direct"):
        return cast("Flow", flow)
    raise CodedError(404, "NOT_FOUND", "There are the portal and the direct flow")


def _xml(content: bytes, status: int = 200) -> Response:
    return Response(content, status, media_type="application/xml")
