"""The simulator as one ASGI application: the peers, and the paths that control them."""

from __future__ import annotations

import json
from dataclasses import asdict

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from simulator import arqsign_api, certisign_api, dms, restpki_api, s3_api, smartshare, ssign
from simulator.peer import PeerError, json_object, refusing
from simulator.switches import set_switches, switches_of
from simulator.weather import Peer, storms_from
from simulator.wire import Wire
from simulator.world import World


def create_simulator(world: World | None = None, only: Peer | None = None) -> Starlette:
    """The application, of `only` one peer if that is named.

    Storms that touch the connection need `SimulatorServer` or `run` to serve it.
    """
    world = world or World()

    def wired(app: ASGIApp, peer: Peer) -> Mount:
        # What an address of S3 signs begins with the bucket.
        path = world.s3.bucket if peer == "s3" else peer
        return Mount(f"/{path}", app=Wire(app, peer, world.weather, world.requests))

    peers: dict[Peer, ASGIApp] = {
        "arqsign": arqsign_api.create_app(world.arqsign),
        "ssign": ssign.create_app(world.ssign),
        "certisign": certisign_api.create_app(world.certisign),
        "restpki": restpki_api.create_app(world.restpki),
        "smartshare": smartshare.create_app(world.smartshare),
        "dms": dms.create_app(world.dms),
        "s3": s3_api.create_app(world.s3),
    }
    return controlled(world, *(wired(app, peer) for peer, app in peers.items() if only in (None, peer)))


def controlled(world: World, *peers: Mount) -> Starlette:
    """The control calls of a world, and peers below them."""
    control = _Control(world)
    return Starlette(
        routes=[
            Route("/_weather", control.weather, methods=["GET", "POST", "DELETE"]),
            Route("/_switches/{peer}", control.switches, methods=["GET", "PATCH"]),
            Route("/_state", control.state, methods=["GET"]),
            Route("/_events/{provider}/{document_id}/{action}", control.event, methods=["POST"]),
            *peers,
        ],
        exception_handlers=refusing(lambda sentence, status: JSONResponse({"error": sentence}, status)),
    )


class _Control:
    def __init__(self, world: World) -> None:
        self._world = world

    async def weather(self, request: Request) -> Response:
        weather = self._world.weather
        if request.method == "DELETE":
            weather.clear()
        if request.method == "POST":
            try:
                weather.add(*storms_from(json.loads(await request.body())))
            except ValueError as error:
                raise PeerError(422, str(error)) from None
        return JSONResponse([asdict(storm) for storm in weather.storms])

    async def switches(self, request: Request) -> Response:
        """The switches of a peer; PATCH with an object sets some of them."""
        peer = self._world.peer(request.path_params["peer"])
        if request.method == "PATCH":
            set_switches(peer, await json_object(request))
        return JSONResponse(switches_of(peer))

    async def state(self, request: Request) -> Response:
        return JSONResponse(self._world.summary)

    async def event(self, request: Request) -> Response:
        """Let something happen and answer the callback body, ready to be piped into a POST to the door, with
        the headers that the provider proves it by."""
        path = request.path_params
        answer = JSONResponse(self._world.happen(path["provider"], path["document_id"], path["action"]))
        answer.headers.update(self._world.proof(path["provider"], bytes(answer.body)))
        return answer
