"""The private address: figures and health over real HTTP, whatever state the rest is in."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
import structlog.testing
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from shared.metrics.families import registry
from shared.metrics.private import Health, PrivateAddress
from tests.installation import free_port
from tests.waiting import PATIENCE_SECONDS, wait_until


class Figures(Collector):
    """One gauge; or none, while something is wrong with whoever knows it."""

    error: Exception | None = None

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        if self.error is not None:
            raise self.error
        yield GaugeMetricFamily("height_meters", "How high it is.", value=3)


class Tier:
    """A private address with health that a test sets."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.figures = Figures()
        self.health = Health(None, {"oldest_seconds": 1.5})
        self.port = port or free_port()
        self.host = host
        self.address = PrivateAddress(
            host,
            self.port,
            registry=registry(self.figures),
            alive=Health,
            ready=lambda: self.health,
            retry_seconds=0.02,
        )

    def get(self, path: str, method: str = "GET") -> httpx.Response:
        named = f"[{self.host}]" if ":" in self.host else self.host
        return httpx.request(method, f"http://{named}:{self.port}{path}", timeout=PATIENCE_SECONDS)


@contextmanager
def serving(tier: Tier) -> Iterator[Tier]:
    with tier.address:
        yield tier


def test_metrics_are_served_in_the_form_that_prometheus_asks_for() -> None:
    with serving(Tier()) as tier:
        plain = tier.get("/metrics")
        assert plain.status_code == 200
        assert plain.headers["content-type"].startswith("text/plain")
        assert "# HELP height_meters How high it is.\n" in plain.text
        assert "\nheight_meters 3.0\n" in plain.text
        assert "process_resident_memory_bytes" in plain.text
        wanted = {"accept": "application/openmetrics-text; version=1.0.0"}
        other = httpx.get(f"http://127.0.0.1:{tier.port}/metrics", headers=wanted, timeout=PATIENCE_SECONDS)
        assert other.headers["content-type"].startswith("application/openmetrics-text")
        assert other.text.endswith("# EOF\n")


def test_health_is_200_or_a_problem_with_the_reason_and_the_same_details() -> None:
    with serving(Tier()) as tier:
        well = tier.get("/readyz")
        assert (well.status_code, well.json()) == (200, {"status": "ready", "oldest_seconds": 1.5})
        assert tier.get("/healthz").json() == {"status": "alive"}
        tier.health = Health("the disk is full", {"oldest_seconds": 900})
        ill = tier.get("/readyz")
        assert ill.status_code == 503
        assert ill.headers["content-type"] == "application/problem+json"
        assert ill.json()["detail"] == "the disk is full"
        assert ill.json()["oldest_seconds"] == 900
        assert tier.get("/healthz").status_code == 200


def test_another_path_is_404_and_head_has_no_body() -> None:
    """What a stranger wrote is not repeated."""
    with serving(Tier()) as tier:
        answer = tier.get("/secret-in-the-path?token=s3cret")
        assert answer.status_code == 404
        assert "secret" not in answer.text
        head = tier.get("/metrics", "HEAD")
        assert (head.status_code, head.content) == (200, b"")
        assert tier.get("/metrics", "POST").status_code == 501


def test_figures_that_fail_are_500_and_a_line_in_the_log_and_health_goes_on() -> None:
    with structlog.testing.capture_logs() as lines, serving(Tier()) as tier:
        tier.figures.error = ValueError("what is wrong inside")
        answer = tier.get("/metrics")
        assert answer.status_code == 500
        assert "inside" not in answer.text
        assert tier.get("/healthz").status_code == 200
        tier.figures.error = None
        assert tier.get("/metrics").status_code == 200
    assert [line["event"] for line in lines] == ["metrics.served", "metrics.failed"]


def test_a_port_that_is_taken_is_told_and_had_as_soon_as_it_is_free() -> None:
    """Nobody's callback may be refused because somebody else's program has the port."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        tier = Tier(port=other.getsockname()[1])
        with structlog.testing.capture_logs() as lines, serving(tier):
            assert [line["event"] for line in lines] == ["metrics.not_served"]
            assert "set another under [metrics]" in lines[0]["reason"]
            other.close()
            wait_until(lambda: any(line["event"] == "metrics.served" for line in lines), "the port to be had")
            assert tier.get("/healthz").status_code == 200


def test_many_who_connect_and_say_nothing_do_not_keep_others_out_for_long() -> None:
    """More connections than are served at once are closed, and the silent ones in their time."""
    with serving(Tier()) as tier:
        silent = [
            socket.create_connection(("127.0.0.1", tier.port), timeout=PATIENCE_SECONDS) for _ in range(12)
        ]
        closed = 0
        for connection in silent[8:]:
            closed += connection.recv(10) == b""
        assert closed == 4
        for connection in silent:
            connection.close()

        def is_answered() -> bool:
            try:
                return tier.get("/healthz").status_code == 200
            except httpx.TransportError:
                return False

        wait_until(is_answered, "an answer")


def test_an_address_of_the_sixth_kind_is_served() -> None:
    with serving(Tier("::1")) as tier:
        assert tier.get("/healthz").status_code == 200


def test_after_the_block_nobody_answers() -> None:
    with serving(Tier()) as tier:
        pass
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", tier.port)) != 0


def test_connections_that_no_thread_can_be_had_for_leave_room_for_later_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As where a container may have no more threads for a while."""
    start, scarce = threading.Thread.start, True

    def start_if_there_can_be_more(thread: threading.Thread) -> None:
        if scarce and "process_request" in thread.name:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_if_there_can_be_more)
    with structlog.testing.capture_logs() as lines, serving(Tier()) as tier:
        for _ in range(20):
            with pytest.raises(httpx.TransportError):
                tier.get("/healthz")
        scarce = False
        assert tier.get("/healthz").status_code == 200
    assert [line["event"] for line in lines].count("metrics.failed") == 20
