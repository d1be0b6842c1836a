"""What the daemon counts: events, changes of status, attempts, requests and transactions."""

from __future__ import annotations

from datetime import UTC, datetime

import httpx
import pytest
from prometheus_client import CollectorRegistry

from processor.metrics import ENDINGS, ProcessorMetrics
from processor.outside import Outside
from shared.db.models import Task
from shared.db.session import Database
from shared.errors import DatabaseUnavailableError, NoAnswerError, PermanentError, TransientError
from shared.events import DocumentStatus, Outcome
from shared.providers._base import origin_of
from tests.processor.conftest import Workshop
from tests.processor.test_outbox import Yard, complete

Values = dict[tuple[str, ...], float]


def values(registry: CollectorRegistry, name: str) -> Values:
    """The samples of a name that are not zero, by their label values in the order of the labels' names."""
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == name and sample.value
    }


def test_every_series_is_there_before_anything_happened() -> None:
    """So that the first failure is a step from nought to one, which `increase` can see."""
    metrics = ProcessorMetrics(["one"], ["provider:one", "destination:two", "mirror"])
    found = {
        (sample.name, *(value for _, value in sorted(sample.labels.items())))
        for family in metrics.registry.collect()
        for sample in family.samples
    }
    for ending in ENDINGS:
        assert ("signspool_delivery_attempts_total", "provider:one", ending, "fetch") in found
        assert ("signspool_delivery_attempts_total", "destination:two", ending, "advance") in found
        assert ("signspool_delivery_attempts_total", "mirror", ending, "mirror") in found
    for outcome in Outcome:
        assert ("signspool_events_total", outcome, "one") in found
    for status in DocumentStatus:
        assert ("signspool_status_changes_total", "one", status) in found


def test_events_and_changes_are_counted_once_also_when_a_file_comes_back(workshop: Workshop) -> None:
    metrics = ProcessorMetrics((), ())

    def work() -> None:
        workshop.work(on_recorded=metrics.recorded)

    entry = workshop.put({"envelopeId": 1, "action": "EXPIRED"})
    content = workshop.spool.read(workshop.folder_of(entry), entry)
    workshop.put({"envelopeId": 2, "action": "COMPLETED"})
    work()
    workshop.put({"envelopeId": 2, "action": "EXPIRED"})
    workshop.put({"envelopeId": 2, "action": "COMPLETED"})
    workshop.put({"envelopeId": 2, "action": "something new"})
    work()
    workshop.lay(entry, content)
    work()
    assert values(metrics.registry, "signspool_events_total") == {
        ("applied", "ssign"): 2,
        ("late", "ssign"): 1,
        ("repeated", "ssign"): 1,
        ("unknown_action", "ssign"): 1,
    }
    assert values(metrics.registry, "signspool_status_changes_total") == {
        ("ssign", "expired"): 1,
        ("ssign", "completed"): 1,
    }


def test_what_could_not_be_recorded_is_not_counted(workshop: Workshop) -> None:
    metrics = ProcessorMetrics((), ())
    workshop.put({"envelopeId": 1, "action": "EXPIRED"})

    cut = Database(workshop.database.url)
    cut.give_up()
    with pytest.raises(DatabaseUnavailableError):
        workshop.work(on_recorded=metrics.recorded, database=cut)
    cut.close()
    assert values(metrics.registry, "signspool_events_total") == {}
    workshop.work(on_recorded=metrics.recorded)
    assert values(metrics.registry, "signspool_events_total") == {("applied", "ssign"): 1}


def attempts(yard: Yard) -> Values:
    return values(yard.metrics.registry, "signspool_delivery_attempts_total")


def test_attempts_are_counted_by_how_they_ended(workshop: Workshop) -> None:
    """A lane, an ending and a task each; the time of each attempt is taken, whatever came of it."""
    yard = Yard(workshop)
    workshop.put({"envelopeId": 155, "action": "COMPLETED"})
    workshop.work()
    yard.work()
    assert attempts(yard) == {("provider:ssign", "waiting", "fetch"): 1}
    complete(workshop)
    workshop.destination.fail_before = [TransientError("busy"), PermanentError("never")]
    yard.work()
    workshop.time.pass_seconds(3600)
    yard.work()
    assert attempts(yard) == {
        ("provider:ssign", "waiting", "fetch"): 1,
        ("provider:ssign", "done", "fetch"): 1,
        ("destination:memory", "retry", "deliver"): 1,
        ("destination:memory", "failed", "deliver"): 1,
    }
    times = values(yard.metrics.registry, "signspool_delivery_attempt_duration_seconds_count")
    assert times == {("provider:ssign", "fetch"): 2, ("destination:memory", "deliver"): 2}


def test_an_attempt_whose_outcome_is_unknown_counts_as_held(workshop: Workshop) -> None:
    yard = Yard(workshop)
    complete(workshop)
    workshop.destination.fail_after = [NoAnswerError("cut off")]
    yard.work()
    assert attempts(yard)["destination:memory", "held", "deliver"] == 1


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (httpx.Response(200), "2xx"),
        (httpx.Response(302, headers={"location": "http://elsewhere/"}), "3xx"),
        (httpx.Response(404), "4xx"),
        (httpx.Response(503), "5xx"),
        (httpx.ConnectError("refused"), "not_sent"),
        (httpx.LocalProtocolError("no header"), "not_sent"),
        (httpx.ReadTimeout("silent"), "no_answer"),
        (httpx.RemoteProtocolError("cut off"), "no_answer"),
    ],
    ids=lambda item: item if isinstance(item, str) else "",
)
async def test_a_request_is_told_by_how_it_was_answered(
    answer: httpx.Response | Exception, code: str
) -> None:
    said: list[tuple[str, float]] = []

    def handle(_request: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    outside = Outside(
        "peer",
        origins=frozenset({origin_of("http://peer.example")}),
        connect_timeout_seconds=60,
        read_timeout_seconds=60,
        total_timeout_seconds=120,
        transport=httpx.MockTransport(handle),
        on_request=lambda *told: said.append(told),
    )
    try:
        await outside.send("GET", "http://peer.example/")
    except (TransientError, PermanentError):
        assert code != "2xx"
    await outside.aclose()
    [(told, seconds)] = said
    assert told == code
    assert 0 <= seconds < 60


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


pytestmark = pytest.mark.anyio


def test_transactions_are_timed_by_whether_they_write(workshop: Workshop) -> None:
    """The ones that fail, too."""
    said: list[str] = []
    database = Database(workshop.database.url, on_transaction=lambda mode, _seconds: said.append(mode))
    with database.reading() as connection:
        connection.exec_driver_sql("SELECT 1")
    with database.transaction() as connection:
        connection.exec_driver_sql("SELECT 1")
    with pytest.raises(ZeroDivisionError), database.transaction():
        raise ZeroDivisionError
    database.close()
    assert said == ["read", "write", "write"]


def test_a_provider_without_a_limit_has_no_budget() -> None:
    metrics = ProcessorMetrics((), ())
    metrics.budgeted("one", needed=12, budget=None, spent=3)
    metrics.budgeted("two", needed=40, budget=30, spent=5)
    registry = metrics.registry
    assert values(registry, "signspool_poll_budget_requests") == {("two",): 30}
    assert values(registry, "signspool_poll_needed_requests") == {("one",): 12, ("two",): 40}
    assert values(registry, "signspool_poll_spent_requests") == {("one",): 3, ("two",): 5}


def test_other_settings_bring_series_and_keep_what_was_counted() -> None:
    """Of a provider that is polled no more nothing is expected, so its last answer never grows old."""
    metrics = ProcessorMetrics(["one"], ["provider:one"])
    metrics.follow(providers=["one"], lanes=["provider:one"], polled=["one"])
    metrics.attempted("provider:one", Task.FETCH, "done")
    metrics.budgeted("one", needed=40, budget=30, spent=5)
    metrics.follow(providers=["two"], lanes=["provider:two"], polled=["two"])
    counted = values(metrics.registry, "signspool_delivery_attempts_total")
    assert counted == {("provider:one", "done", "fetch"): 1}
    labels = {"lane": "provider:two", "outcome": "done", "task": "fetch"}
    assert metrics.registry.get_sample_value("signspool_delivery_attempts_total", labels) == 0
    assert values(metrics.registry, "signspool_poll_last_success_timestamp_seconds").keys() == {("two",)}
    assert values(metrics.registry, "signspool_poll_budget_requests") == {}


def test_limits_and_ends_are_those_of_the_present_settings() -> None:
    metrics = ProcessorMetrics(["one"], ["provider:one"])
    at = datetime(2027, 1, 31, tzinfo=UTC)
    metrics.follow(
        providers=["one"],
        lanes=["provider:one"],
        silence_limits={("one", "callbacks"): 60.0, ("one", "polls"): 90.0},
        ends={("provider:one", "certificate"): at},
    )
    limits = {("callbacks", "one"): 60.0, ("polls", "one"): 90.0}
    assert values(metrics.registry, "signspool_silence_limit_seconds") == limits
    expiry = {("certificate", "provider:one"): at.timestamp()}
    assert values(metrics.registry, "signspool_expiry_timestamp_seconds") == expiry
    metrics.follow(providers=["one"], lanes=["provider:one"], silence_limits={("one", "polls"): 30.0})
    assert values(metrics.registry, "signspool_silence_limit_seconds") == {("polls", "one"): 30.0}
    assert values(metrics.registry, "signspool_expiry_timestamp_seconds") == {}
