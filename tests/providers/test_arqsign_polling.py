"""Asking ArqSign: which call, what its words mean, what is spooled, and when it is asked again."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from shared.errors import AccessError, OverQuotaError, PermanentError, TransientError, WaitingError
from shared.events import DocumentStatus, Event, EventType, Origin
from shared.providers._base import Answer, DocumentView, Head, Into, Polled, PollView, Request
from tests.providers.conftest import SAMPLES, drive, make_callback, make_provider

PROCESS = "eaf4417d-441d-4f4b-9a30-a79118c5cc8a"
NOW = datetime(2025, 11, 21, 12, 0, tzinfo=UTC)
A_DAY = 86_400.0
KEYS = {"app_key": "app-k3y", "subscription_key": "sub-k3y"}
ASKED = {**KEYS, "poll": True, "plan": "small"}
LATER = "2025-12-20T12:00:05"


def answers(name: str) -> bytes:
    return (SAMPLES / "arqsign" / "answers" / f"{name}.json").read_bytes()


def said(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


@dataclass
class Asked:
    """One process that is asked about again and again, as the daemon does."""

    settings: dict[str, Any] = field(default_factory=lambda: dict(ASKED))
    memory: dict[str, str] = field(default_factory=dict)
    now: datetime = NOW
    status: DocumentStatus | None = DocumentStatus.PENDING
    requests: list[Request] = field(default_factory=list)

    @property
    def provider(self) -> Any:
        return make_provider("arqsign", **self.settings)

    def ask(self, body: bytes, status: int = 201, **headers: str) -> Polled:
        """Ask once; the provider answers this."""
        view = PollView(PROCESS, self.memory, self.now, None, self.status)
        requests, polled = drive(self.provider.poll(view), lambda _: Answer(status, headers, body))
        self.requests += requests
        self.memory = dict(polled.memory if polled.memory is not None else self.memory)
        made: Polled = polled
        return made

    def path(self) -> str:
        """The end of the last address."""
        return self.requests[-1].url.rpartition("/")[2]

    def events(self, polled: Polled) -> list[Event]:
        """What the daemon reads out of what was spooled."""
        found = []
        for item in polled.found:
            callback = make_callback(item.payload)
            callback.origin = Origin.POLL
            found += self.provider.parse(item.head, callback)
        return found


# Which call


def test_the_first_question_learns_the_expiry_and_the_next_ones_are_the_lightest() -> None:
    asked = Asked()
    polled = asked.ask(answers("dados-signatarios.em-processo"), 200)
    assert asked.path() == "dados-signatarios"
    assert polled.expires_at == datetime(2025, 12, 20, 12, 0, 5, tzinfo=UTC)
    assert (polled.again_seconds, polled.found, polled.note) == (A_DAY, (), "Em processo")
    asked.ask(answers("status.em-processo"))
    assert asked.path() == "status-do-processo"
    request = asked.requests[-1]
    assert request.url == f"https://api-rest.arqsign.com/api/v1/processo/{PROCESS}/status-do-processo"
    assert request.headers == {"AppKey": "app-k3y", "SubscriptionKey": "sub-k3y"}
    assert request.into is Into.MEMORY


def test_the_old_generation_and_other_paths_are_settings() -> None:
    asked = Asked({"app_key": "k", "poll": True, "plan": "old", "generation": "v1"}, {"expires": ""})
    asked.ask(answers("status.criado"))
    url = f"https://api.arqsign.com/api/v1/processo/{PROCESS}/status-do-processo"
    assert (asked.requests[-1].url, asked.requests[-1].headers) == (url, {"AppKey": "k"})
    asked.settings |= {"base_url": "https://proxy.test/a/", "status_path": "/s/{idProcesso}"}
    asked.ask(answers("status.criado"))
    assert asked.requests[-1].url == f"https://proxy.test/a/s/{PROCESS}"


def test_each_time_is_one_call() -> None:
    """So that a death, or used up calls, before the second one never repeats the first."""
    asked = Asked(memory={"expires": LATER})
    assert asked.ask(answers("status.cancelado")).again_seconds == 0
    asked.ask(said(status="Cancelado"), 200)
    assert len(asked.requests) == 2
    assert asked.requests[-1].into is Into.JSON_TREE


# What the words mean


@pytest.mark.parametrize("status", [200, 201])
@pytest.mark.parametrize(
    "body",
    [
        answers("status.concluido"),
        answers("status.concluido.camel-case"),
        said(STATUS="CONCLUÍDO"),
        said(status="concluido"),
        said(Status="  Concluido "),
    ],
)
def test_concluded_is_understood_however_it_is_written_and_spooled_byte_for_byte(
    body: bytes, status: int
) -> None:
    asked = Asked(memory={"expires": LATER})
    polled = asked.ask(body, status)
    assert polled.again_seconds is None
    [found] = polled.found
    assert found.payload == body
    [event] = asked.events(polled)
    assert (event.document_id, event.type, event.key) == (PROCESS, EventType.COMPLETED, "completed")


def test_a_webhook_and_a_question_about_the_same_fact_say_the_same() -> None:
    provider = make_provider("arqsign", **ASKED)

    def told(**fields: Any) -> str:
        callback = make_callback(said(idProcesso=PROCESS, dataHoraAtual="21/11/2025 13:15:31", **fields))
        [event] = provider.parse(provider.callback_id(callback), callback)
        return str(event.key)

    cancelled = {"status": "Cancelado", "dataCancelamento": "2025-11-21T13:15:00"}
    asked = Asked(memory={"expires": LATER, "next": "process"})
    [event] = asked.events(asked.ask(said(**cancelled)))
    assert event.key == told(idEvento=5, **cancelled)
    refused = cancelled | {"signatarios": [{"assinaturaRecusada": "true", "motivoRecusa": "Cláusula 3."}]}
    asked = Asked(memory={"expires": LATER, "next": "process"})
    [event] = asked.events(asked.ask(said(**refused)))
    assert (event.type, event.message) == (EventType.DECLINED, "Cláusula 3.")
    assert event.key == told(idEvento=4, **refused)
    expired = {"status": "Em processo", "dataExpiracao": "2025-11-21T10:00:00"}
    asked = Asked(memory={})
    [event] = asked.events(asked.ask(said(**expired)))
    assert event.key == told(idEvento=6, **expired)
    resent = {"status": "Em processo", "dataReenvio": "2025-11-21T11:00:00", "dataExpiracao": LATER}
    asked = Asked(memory={"expires": LATER, "next": "process"}, status=DocumentStatus.EXPIRED)
    [event] = asked.events(asked.ask(said(**resent)))
    assert event.key == told(idEvento=7, **resent)


def test_what_was_cancelled_is_looked_at_as_a_whole_and_ends_the_asking() -> None:
    asked = Asked(memory={"expires": LATER})
    polled = asked.ask(answers("status.cancelado"))
    assert (polled.again_seconds, polled.found) == (0, ())
    polled = asked.ask(said(status="Cancelado", dataCancelamento="2025-11-21T11:59:00"))
    assert asked.path() == PROCESS
    assert polled.again_seconds is None
    [event] = asked.events(polled)
    assert (event.type, event.occurred_at) == (
        EventType.CANCELLED,
        datetime(2025, 11, 21, 11, 59, tzinfo=UTC),
    )


def test_nothing_is_spooled_while_nothing_changes_and_each_change_once() -> None:
    asked = Asked(memory={"expires": LATER})
    words = ["Criado", "Aguardando", "Aguardando", "Em processo", "em processo", "Em Processo"]
    found = [[item.head.action for item in asked.ask(said(Status=word)).found] for word in words]
    assert found == [[], ["status:Aguardando"], [], ["status:Em processo"], [], []]


def test_an_unknown_word_is_kept_and_asked_about_again() -> None:
    asked = Asked(memory={"expires": LATER})
    polled = asked.ask(said(Status="Arquivado"))
    assert polled.again_seconds == A_DAY
    [event] = asked.events(polled)
    assert (event.type, event.action) == (EventType.UNKNOWN, "status:Arquivado")
    assert asked.ask(said(Status="arquivado")).found == ()
    asked.settings["actions"] = {"status:Arquivado": "completed"}
    assert asked.ask(said(Status="Arquivado")).again_seconds is None


# Expiry and resending


def test_expiry_is_a_date_in_the_past_and_is_not_the_end() -> None:
    asked = Asked(memory={"expires": (NOW - timedelta(hours=1)).isoformat()})
    over = said(status="Em processo", dataExpiracao="2025-11-21T11:00:00")
    polled = asked.ask(over)
    assert asked.path() == "dados-signatarios"
    [event] = asked.events(polled)
    assert (event.type, event.action) == (EventType.EXPIRED, "dataExpiracao")
    asked.status = DocumentStatus.EXPIRED
    waits = [polled.again_seconds]
    for _ in range(7):
        polled = asked.ask(over)
        assert polled.found == ()
        waits.append(polled.again_seconds)
    assert waits == [A_DAY * factor for factor in (1, 2, 4, 8, 16, 32, 32, 32)]


def test_a_concluded_process_is_not_expired_whatever_its_date() -> None:
    asked = Asked(memory={})
    [event] = asked.events(asked.ask(said(status="Concluído", dataExpiracao="2025-11-01T00:00:00")))
    assert event.type is EventType.COMPLETED


def test_a_date_that_was_moved_is_no_expiry() -> None:
    asked = Asked(memory={"expires": (NOW - timedelta(hours=1)).isoformat()})
    polled = asked.ask(said(status="Em processo", dataExpiracao=LATER))
    assert (polled.found, polled.again_seconds) == ((), A_DAY)
    asked.ask(answers("status.em-processo"))
    assert asked.path() == "status-do-processo"


@pytest.mark.parametrize(
    "status", [DocumentStatus.EXPIRED, DocumentStatus.CANCELLED, DocumentStatus.DECLINED]
)
def test_what_goes_on_after_its_end_was_resent(status: DocumentStatus) -> None:
    asked = Asked(memory={"expires": LATER, "wish": "hand"}, status=status)
    polled = asked.ask(said(status="Em processo", dataExpiracao=LATER))
    assert (polled.again_seconds, polled.found) == (0, ())
    polled = asked.ask(said(status="Em processo", dataExpiracao=LATER, dataReenvio="2025-11-21T09:00:00"))
    assert asked.path() == PROCESS
    assert polled.again_seconds == A_DAY
    assert "wish" not in asked.memory
    [event] = asked.events(polled)
    assert (event.type, event.occurred_at) == (
        EventType.REOPENED,
        datetime(2025, 11, 21, 9, 0, tzinfo=UTC),
    )


def test_the_word_of_a_resending_takes_the_asking_up_again_tomorrow() -> None:
    provider = make_provider("arqsign", **ASKED)
    callback = make_callback(said(idProcesso=PROCESS, idEvento=7, dataExpiracao=LATER))
    [ask] = provider.asks(Head(PROCESS, "idEvento:7"), callback)
    assert (ask.subject, ask.after_seconds) == (PROCESS, A_DAY)
    assert ask.expires_at == datetime(2025, 12, 20, 12, 0, 5, tzinfo=UTC)
    bare = make_callback(said(idProcesso=PROCESS, idEvento=7))
    [ask] = provider.asks(Head(PROCESS, "idEvento:7"), bare)
    asked = Asked(memory={"expires": "2025-01-01T00:00:00", **ask.memory})
    asked.ask(answers("dados-signatarios.em-processo"))
    assert asked.path() == "dados-signatarios"
    assert list(provider.asks(Head(PROCESS, "idEvento:8"), callback)) == []
    assert list(make_provider("arqsign", **KEYS).asks(Head(PROCESS, "idEvento:7"), callback)) == []


# The end


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("Documento excluído.".encode(), EventType.DELETED),
        (b"documento EXCLUIDO", EventType.DELETED),
        (json.dumps({"erros": [{"mensagem": "Documento excluído."}]}).encode(), EventType.DELETED),
        ("Processo não encontrado.".encode(), EventType.PROGRESS),
        (b"", EventType.PROGRESS),
    ],
)
def test_an_unknown_or_deleted_process_is_asked_about_no_more(body: bytes, kind: EventType) -> None:
    asked = Asked(memory={"expires": LATER, "wish": "hand"})
    polled = asked.ask(body, 400)
    assert polled.again_seconds is None
    assert "wish" not in asked.memory
    [found] = polled.found
    assert found.payload == body
    [event] = asked.events(polled)
    assert event.type is kind
    assert "does not know" in event.message


@pytest.mark.parametrize("status", [DocumentStatus.COMPLETED, DocumentStatus.CANCELLED])
def test_what_a_webhook_ended_costs_no_call(status: DocumentStatus) -> None:
    asked = Asked(status=status)
    polled = asked.ask(b"")
    assert (asked.requests, polled.again_seconds) == ([], None)


def test_without_poll_nothing_is_asked_but_what_a_person_wants() -> None:
    asked = Asked(dict(KEYS), memory={"expires": LATER})
    assert asked.ask(b"").again_seconds == A_DAY
    assert asked.requests == []
    assert asked.provider.document_ask(DocumentView(PROCESS, {})) is None
    asked.memory["wish"] = "hand"
    polled = asked.ask(said(Status="Em processo"))
    assert (len(asked.requests), polled.again_seconds) == (1, None)
    assert "wish" not in asked.memory


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, AccessError),
        (403, OverQuotaError),
        (429, OverQuotaError),
        (404, WaitingError),
        (500, TransientError),
        (422, PermanentError),
    ],
)
def test_what_a_failed_question_means(status: int, error: type[Exception]) -> None:
    with pytest.raises(error):
        Asked().ask(b"?", status)


def test_over_quota_waits_as_long_as_it_says() -> None:
    with pytest.raises(OverQuotaError) as told:
        Asked().ask(b"", 429, **{"retry-after": "77"})
    assert told.value.retry_after_seconds == 77
    with pytest.raises(OverQuotaError) as told:
        Asked().ask(b"", 403)
    assert told.value.retry_after_seconds == 3600


# Settings


def test_documents_are_spread_over_the_day() -> None:
    provider = make_provider("arqsign", **ASKED)
    asks = [provider.document_ask(DocumentView(f"p{number}", {})) for number in range(240)]
    by_hour = [0] * 24
    for ask in asks:
        by_hour[int(ask.after_seconds // 3600)] += 1
    assert all(by_hour)
    assert asks[0] == provider.document_ask(DocumentView("p0", {}))
    assert provider.document_ask(DocumentView("../p0", {})) is None


def test_what_a_webhook_told_of_the_expiry_is_not_asked_for() -> None:
    provider = make_provider("arqsign", **ASKED)
    callback = make_callback(said(idProcesso=PROCESS, idEvento=1, dataExpiracao=LATER))
    [event] = provider.parse(Head(PROCESS, "idEvento:1"), callback)
    ask = provider.document_ask(DocumentView(PROCESS, {}, event.learned))
    asked = Asked(memory=dict(ask.memory))
    asked.ask(answers("status.aguardando"))
    assert asked.path() == "status-do-processo"
    assert ask.expires_at == datetime(2025, 12, 20, 12, 0, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"app_key": None}, "app_key"),
        ({"plan": None}, "plan"),
        ({"poll_interval_seconds": 3600}, "poll_more_often"),
        ({"month_begins_on": 29}, "month_begins_on"),
    ],
)
def test_polling_that_cannot_work_is_refused_with_what_to_set(
    changes: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ValidationError, match=complaint):
        make_provider("arqsign", **{**ASKED, **changes})


def test_a_plan_says_the_limits_and_each_can_be_set_apart() -> None:
    limits = make_provider("arqsign", **ASKED, calls_per_month=200, call_reserve=0.5).limits
    assert (limits.per_second, limits.per_minute, limits.per_hour, limits.per_month) == (4, 80, 80, 200)
    assert (limits.reserve, limits.ask_interval_seconds) == (0.5, A_DAY)
    assert make_provider("arqsign", **KEYS).limits is None
    assert make_provider("arqsign", **KEYS, calls_per_month=9).limits.per_hour is None


def test_an_account_that_is_only_asked_needs_no_secret_and_takes_no_callback() -> None:
    provider = make_provider("arqsign", **ASKED, webhooks=False, authentication="hmac")
    assert provider.why_closed() is None
    with pytest.raises(Exception, match="webhooks is false") as refused:
        provider.authenticate(make_callback(b"{}"))
    assert refused.value.status == 400  # type: ignore[attr-defined]
