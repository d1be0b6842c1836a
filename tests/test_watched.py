"""Real processes, watched as Prometheus and an operator do: figures, health, and what `check` says."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import URL

from shared.metrics.catalogue import METRICS
from shared.spool import Folder
from simulator.server import SimulatorServer
from simulator.world import World
from tests.callback_api.test_metrics import Samples, samples
from tests.conftest import make_database
from tests.installation import Installation, free_port
from tests.nursery import Nursery, Process
from tests.test_walk import dms_of
from tests.waiting import PATIENCE_SECONDS, wait_until

USUAL = "process_"


class Watched(Installation):
    """An installation with private addresses, whose tiers are forked; the door has two workers."""

    def watch(self, nursery: Nursery) -> None:
        self.ports = {"api": free_port(), "processor": free_port()}
        more = f"\n[metrics]\napi_port = {self.ports['api']}\nprocessor_port = {self.ports['processor']}\n"
        self.config.write_text(self.config.read_text() + more)
        self.tiers: dict[str, Process] = {}
        self.nursery = nursery
        self.begin("api", "--workers", "2")
        self.begin("processor")
        self.wait(lambda: self.figures("api")["signspool_door_workers",] == 2, "both workers")
        self.wait(self.is_ready, "the door to be ready")

    def begin(self, tier: str, *words: str) -> None:
        told = [tier, *words, "--config", str(self.config)]
        self.tiers[tier] = self.nursery.start(told, self.home / f"{tier}.log")
        self.wait(lambda: self.ask(tier, "readyz") == 200, f"the {tier} to be ready")

    def get(self, tier: str, path: str = "metrics") -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.ports[tier]}/{path}", timeout=PATIENCE_SECONDS)

    def ask(self, tier: str, path: str) -> int:
        try:
            return self.get(tier, path).status_code
        except httpx.TransportError:
            return 0

    def figures(self, tier: str) -> Samples:
        return samples(self.get(tier).text)

    def findings(self) -> dict[str, str]:
        """What `signspool check` says, by what it is about."""
        output = self.home / "check.json"
        output.unlink(missing_ok=True)
        asked = self.nursery.start(["check", "--json", "--config", str(self.config)], output)
        assert asked.wait(PATIENCE_SECONDS)
        return {
            item["about"]: f"{item['level']}: {item['finding']}" for item in json.loads(output.read_text())
        }


@pytest.fixture(scope="module")
def watched(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, nursery: Nursery
) -> Iterator[tuple[Watched, World]]:
    home = tmp_path_factory.mktemp("watched")
    (home / "archive").mkdir()
    with SimulatorServer() as server, make_database("sqlite", home, request) as url:
        assert isinstance(url, URL)
        made = Watched(home, server.url, url)
        made.watch(nursery)
        yield made, server.world
        for tier in made.tiers.values():
            tier.kill()
        made.close()


def test_a_contract_that_went_through_is_seen_in_the_figures_of_both_tiers(
    watched: tuple[Watched, World],
) -> None:
    made, peers = watched
    envelope = peers.ssign.send(files=1)
    made.register("ssign", envelope.id, dms_of(envelope.id), file_ids=",".join(map(str, envelope.file_ids)))
    assert made.post("ssign", peers.ssign.complete(envelope.id)).status_code == 200
    made.wait_until_settled()
    door = made.figures("api")
    assert door["signspool_callbacks_total", "accepted", "ssign"] == 1
    assert door["signspool_callback_durable_seconds_count", "ssign"] == 1
    made.wait(
        lambda: made.figures("processor").get(("signspool_spool_entries", "done")) == 1,
        "the look at the spool to find the entry in done/",
    )
    found = made.figures("processor")
    assert found["signspool_events_total", "applied", "ssign"] == 1
    assert found["signspool_status_changes_total", "ssign", "completed"] == 1
    for lane, task in (
        ("provider:ssign", "fetch"),
        ("destination:smartshare", "deliver"),
        ("destination:smartshare", "advance"),
        ("destination:archive", "deliver"),
    ):
        assert found["signspool_delivery_attempts_total", lane, "done", task] == 1, (lane, task)
    assert found["signspool_peer_request_duration_seconds_count", "2xx", "provider:ssign"] == 1
    assert found["signspool_database_transaction_duration_seconds_count", "write"] > 0
    assert found["signspool_spool_entries", "spool"] == 0
    assert found["signspool_database_up",] == found["signspool_processor_available",] == 1
    assert {
        key[1:]: value for key, value in found.items() if key[0] == "signspool_deliveries" and value
    } == {}


def test_the_catalogue_and_the_tiers_know_the_same_metrics(watched: tuple[Watched, World]) -> None:
    """With their kind, help and labels; each tier has those that are said to be its own."""
    made, _ = watched
    for tier, name in (("api", "door"), ("processor", "processor")):
        families = {
            family.name: family
            for family in text_string_to_metric_families(made.get(tier).text)
            if not family.name.startswith(USUAL)
        }
        known = {
            metric.name.removesuffix("_total"): metric for metric in METRICS if metric.tier in (name, "both")
        }
        assert set(families) == set(known)
        for family in families.values():
            metric = known[family.name]
            assert (family.type, family.documentation) == (metric.kind, metric.help)
            assert {tuple(sorted(set(sample.labels) - {"le"})) for sample in family.samples} <= {
                tuple(sorted(metric.labels))
            }


def test_check_says_how_the_tiers_are(watched: tuple[Watched, World]) -> None:
    made, _ = watched
    found: dict[str, str] = {}

    def are_well() -> bool:
        # A worker whose loop has not turned for some seconds does not count for as long.
        found.update(made.findings())
        return found["api"] == "ok: ready, 2 working" and found["processor"].startswith("ok: ready")

    wait_until(are_well, lambda: f"both to be well: {found}", 5)
    assert found["processor"].startswith("ok: ready, the oldest thing to do is")


def test_a_processor_that_hangs_is_late_and_one_that_is_gone_is_missed(
    watched: tuple[Watched, World],
) -> None:
    """Callbacks are taken all the same, and recorded once it is back."""
    made, peers = watched
    made.config.write_text(made.config.read_text().replace("[metrics]\n", '[metrics]\nlate_after = "1s"\n'))
    made.tiers["processor"].kill()
    assert made.findings()["processor"].startswith("warn: does not answer on its private port")
    assert made.findings()["work"] == "ok: nothing is late"
    envelope = peers.ssign.send(files=1)
    assert made.post("ssign", peers.ssign.complete(envelope.id)).status_code == 200
    assert made.count(Folder.SPOOL) == 1
    made.wait(
        lambda: made.findings()["work"].startswith("warn: spool/"), "check to find the entry that waits"
    )
    made.begin("processor")
    made.wait(lambda: made.count(Folder.SPOOL) == 0, "the entry to be recorded")

    # Everything of it stands still but the kernel, which still takes connections.
    os.kill(made.tiers["processor"].pid, signal.SIGSTOP)
    with pytest.raises(httpx.TimeoutException):
        httpx.get(f"http://127.0.0.1:{made.ports['processor']}/healthz", timeout=0.3)
    os.kill(made.tiers["processor"].pid, signal.SIGCONT)
    made.wait(lambda: made.ask("processor", "readyz") == 200, "it to be well again")


def test_a_database_that_is_away_is_told_and_the_figures_go_on(watched: tuple[Watched, World]) -> None:
    made, _ = watched
    path = made.home / "signspool.db"
    path.rename(made.home / "elsewhere.db")
    made.wait(lambda: made.ask("processor", "readyz") == 503, "the processor to be unready")
    made.wait(lambda: made.figures("processor")["signspool_database_up",] == 0, "the figure to say so")
    assert made.ask("processor", "healthz") == 200
    made.wait(lambda: made.ask("api", "readyz") == 200, "the door, which has none, to be well")
    (made.home / "elsewhere.db").rename(path)
    made.wait(lambda: made.ask("processor", "readyz") == 200, "the processor to be ready again")
    made.wait(lambda: made.figures("processor")["signspool_processor_available",] == 1, "all to be there")


def test_both_tiers_end_at_once_when_told_to(watched: tuple[Watched, World]) -> None:
    """Last of all. The private address holds nobody up."""
    made, _ = watched
    for tier in made.tiers.values():
        tier.send_signal(signal.SIGTERM)
    for name, tier in made.tiers.items():
        assert tier.wait(PATIENCE_SECONDS), name
        assert made.ask(name, "healthz") == 0
