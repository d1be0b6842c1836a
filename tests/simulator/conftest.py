"""A simulator on a real socket, and a client to call it with."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from simulator.server import SimulatorServer
from simulator.world import World
from tests.waiting import PATIENCE_SECONDS


@pytest.fixture(scope="session")
def server() -> Iterator[SimulatorServer]:
    with SimulatorServer() as running:
        yield running


@pytest.fixture
def world(server: SimulatorServer) -> World:
    return server.renew()


@pytest.fixture
def client(server: SimulatorServer, world: World) -> Iterator[httpx.Client]:
    # Loading certificates takes longer than most of these tests, and nothing here is encrypted.
    with httpx.Client(base_url=server.url, timeout=PATIENCE_SECONDS, verify=False) as opened:
        yield opened
