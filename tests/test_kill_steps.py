"""The daemon dies at every named step; then nothing is lost and nothing is doubled.

By default the most telling steps are tried; with `SIGNSPOOL_TEST_KILL_STEPS=all` it is every step, on both
databases. `SIGNSPOOL_TEST_KILL_PAIRS` sets how many times, on each database, the daemon dies at two places in
turn that are drawn by chance; `SIGNSPOOL_TEST_SEED` repeats a run.
"""

from __future__ import annotations

import functools
import os
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from simulator.server import SimulatorServer
from simulator.world import World
from tests.conftest import make_database
from tests.deaths import code_of
from tests.mortal import Mortal, assert_nothing_lost_or_doubled
from tests.nursery import Nursery
from tests.steps import STEPS, Point, Step
from tests.test_walk import dms_of

ALL = os.environ.get("SIGNSPOOL_TEST_KILL_STEPS") == "all"
PAIRS = int(os.environ.get("SIGNSPOOL_TEST_KILL_PAIRS", "0"))
SEED = int(os.environ.get("SIGNSPOOL_TEST_SEED", "20261122"))

POINTS = sorted({point for step in STEPS for point in step.deaths}, key=str)


@pytest.mark.parametrize("point", POINTS, ids=str)
def test_every_named_step_is_still_a_place_in_the_program(point: Point) -> None:
    """A function that gets another name takes its step with it."""
    assert code_of(point.module, point.name).co_name == point.name.rpartition(".")[2]


def test_a_place_that_is_gone_is_noticed() -> None:
    for module, name in (
        ("processor.inhand", "InHand.gone"),
        ("shared.spool", "MARKER"),
        ("shared.spool", "Spool"),
    ):
        with pytest.raises(LookupError):
            code_of(module, name)


@pytest.fixture(scope="module")
def world() -> Iterator[tuple[World, str]]:
    with SimulatorServer() as server:
        yield server.world, server.url


@pytest.fixture(scope="module")
def installed(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    world: tuple[World, str],
    nursery: Nursery,
) -> Iterator[Callable[[str], Mortal]]:
    """One installation for each database, made when it is asked for: its door stays up, the daemon lives and
    dies."""
    with ExitStack() as stack:

        @functools.cache
        def make(kind: str) -> Mortal:
            home = tmp_path_factory.mktemp("steps")
            url = stack.enter_context(make_database(kind, home, request))
            made = Mortal(home, world[1], url, nursery)
            stack.callback(made.close)
            made.start("api")
            return made

        yield make


def complete(installation: Mortal, world: World) -> tuple[int, str]:
    """An envelope is signed and the provider tells; returns its id and the receipt id."""
    envelope = world.ssign.send()
    file_ids = ",".join(map(str, envelope.file_ids))
    installation.register("ssign", envelope.id, dms_of(envelope.id), file_ids=file_ids)
    answer = installation.post("ssign", dict(world.ssign.complete(envelope.id)))
    assert answer.status_code == 200
    return envelope.id, answer.json()["id"]


def recover(installation: Mortal, envelope_id: int) -> None:
    """Start the daemon and wait until it has done all that it can."""
    installation.start("processor")
    try:
        installation.wait(
            lambda: installation.has_done_what_it_can(str(envelope_id)) and installation.is_at_rest(),
            "everything to be done",
        )
    finally:
        installation.kill("processor")


@pytest.mark.parametrize(
    ("database", "step"),
    [
        pytest.param(kind, step, id=f"{kind}, {step.what}")
        for kind in ("sqlite", "postgresql")
        for step in STEPS
        if ALL or kind in step.databases
    ],
)
def test_a_daemon_that_dies_at_a_step_loses_nothing_and_doubles_nothing(
    installed: Callable[[str], Mortal], world: tuple[World, str], database: str, step: Step
) -> None:
    installation = installed(database)
    envelope_id, receipt_id = complete(installation, world[0])
    for point in step.deaths:
        installation.die_at("processor", point)
    recover(installation, envelope_id)
    held = assert_nothing_lost_or_doubled(installation, world[0], envelope_id, {receipt_id})
    put_aside = [line for line in installation.log("processor").splitlines() if "entry.quarantined" in line]
    assert held or not [line for line in put_aside if receipt_id in line], "put aside without need"
    expected = {step.held} if step.held else set()
    assert held == expected or (step.beside and held < {"deliver", "advance"})


@pytest.mark.skipif(not PAIRS, reason="only in the long form: SIGNSPOOL_TEST_KILL_PAIRS=100")
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
@pytest.mark.timeout(60 + 10 * PAIRS)
def test_a_daemon_that_dies_twice_in_turn_loses_nothing_and_doubles_nothing(
    installed: Callable[[str], Mortal], world: tuple[World, str], database: str
) -> None:
    """A place that the second life does not come to any more is no death, but does no harm either."""
    installation = installed(database)
    chance = random.Random(SEED)
    for _ in range(PAIRS):
        envelope_id, receipt_id = complete(installation, world[0])
        for point in chance.sample(POINTS, 2):
            installation.die_at("processor", point, or_rest=True)
        recover(installation, envelope_id)
        assert_nothing_lost_or_doubled(installation, world[0], envelope_id, {receipt_id})
