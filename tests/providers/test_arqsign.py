"""ArqSign's callbacks: HMAC over the raw body, three kinds of evidence, dates that tell them apart."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.errors import NotProvenError, UnusableBodyError
from shared.events import Event, EventType, Trust
from shared.providers._base import Head, Proof
from tests.providers.conftest import SAMPLES, make_callback, make_provider, proof_of, sample

PROCESS = "eaf4417d-441d-4f4b-9a30-a79118c5cc8a"
SECRET = "9a8b7c6d-0000-4000-8000-00000000beef"
OF_THE_VECTOR = {
    "base64": "aYoHXpYZH04S+XNB9PEpDCK6s/oUJDf4fMmnLQuENjo=",
    "hex": "698a075e96191f4e12f97341f4f1290c22bab3fa142437f87cc9a72d0b84363a",
}


def events_of(body: dict[str, Any], **settings: Any) -> tuple[Head, Event]:
    provider = make_provider("arqsign", **settings)
    callback = make_callback(json.dumps({"idProcesso": PROCESS, **body}).encode())
    head = provider.callback_id(callback)
    [event] = provider.parse(head, callback)
    return head, event


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("sent", EventType.SENT),
        ("delivery-failed", EventType.PROGRESS),
        ("one-signer-signed", EventType.PROGRESS),
        ("refused", EventType.DECLINED),
        ("cancelled-by-sender", EventType.CANCELLED),
        ("expired", EventType.EXPIRED),
        ("resent", EventType.REOPENED),
        ("completed.2025-fields", EventType.COMPLETED),
        ("completed.pascal-case", EventType.COMPLETED),
        ("minimal", EventType.COMPLETED),
    ],
)
def test_what_each_trigger_means(name: str, kind: EventType) -> None:
    provider = make_provider("arqsign")
    callback = sample("arqsign", name)
    [event] = provider.parse(provider.callback_id(callback), callback)
    assert (event.document_id, event.type) == (PROCESS, kind)


# The signature


@pytest.mark.parametrize("encoding", ["base64", "hex"])
def test_the_hmac_of_the_test_vector_fits_in_its_encoding_alone(encoding: str) -> None:
    body = (SAMPLES / "arqsign" / "hmac-vector.json").read_bytes()
    provider = make_provider("arqsign", secret=SECRET, hmac_encoding=encoding)
    other = {"base64": "hex", "hex": "base64"}[encoding]

    def prove(value: str, content: bytes = body) -> Proof:
        proof: Proof = provider.authenticate(make_callback(content, headers={"hmac": value}))
        return proof

    assert prove(OF_THE_VECTOR[encoding]) == Proof(Trust.PROVEN, "default")
    wrong = [(OF_THE_VECTOR[other], body), (OF_THE_VECTOR[encoding], body + b"\n")]
    # The same JSON, written anew.
    wrong.append((OF_THE_VECTOR[encoding], json.dumps(json.loads(body)).encode()))
    for value, content in wrong:
        with pytest.raises(NotProvenError):
            prove(value, content)


def test_hex_may_come_in_either_letter_case_and_base64_may_not() -> None:
    body = (SAMPLES / "arqsign" / "hmac-vector.json").read_bytes()
    by_hex = make_provider("arqsign", secret=SECRET, hmac_encoding="hex")
    headers = {"hmac": OF_THE_VECTOR["hex"].upper()}
    assert by_hex.authenticate(make_callback(body, headers=headers)).trust is Trust.PROVEN
    by_base64 = make_provider("arqsign", secret=SECRET)
    with pytest.raises(NotProvenError):
        by_base64.authenticate(make_callback(body, headers={"hmac": OF_THE_VECTOR["base64"].lower()}))


def test_the_header_has_the_name_of_the_settings() -> None:
    provider = make_provider("arqsign", secret=SECRET, hmac_header="X-Arq-Hmac")
    headers = proof_of(provider, SECRET, b"{}")
    assert list(headers) == ["x-arq-hmac"]
    assert provider.authenticate(make_callback(b"{}", headers=headers)).trust is Trust.PROVEN


@pytest.mark.parametrize(("settings", "status"), [({}, 400), ({"refused_status": 422}, 422)])
def test_whoever_is_not_proven_gets_an_answer_that_switches_nothing_off(
    settings: dict[str, Any], status: int
) -> None:
    provider = make_provider("arqsign", secret=SECRET, allow_addresses=["10.1.0.0/16"], **settings)
    right = proof_of(provider, SECRET, b"{}")
    for callback in (
        make_callback(b"{}"),
        make_callback(b"{}", headers={"hmac": "x"}),
        make_callback(b"{}", headers=right, address="192.0.2.1"),
    ):
        with pytest.raises(NotProvenError) as refused:
            provider.authenticate(callback)
        assert refused.value.status == status
        assert refused.value.keep


@pytest.mark.parametrize("status", [200, 302, 401, 403, 404])
def test_no_setting_makes_a_refusal_one_that_switches_the_webhook_off(status: int) -> None:
    with pytest.raises(ValidationError):
        make_provider("arqsign", refused_status=status)


def test_a_stored_callback_is_answered_with_exactly_200() -> None:
    assert make_provider("arqsign").acknowledge("id").status == 200


# Evidence


@pytest.mark.parametrize(
    ("body", "action", "kind"),
    [
        ({"idEvento": 4, "evento": "ProcessoConcluido", "idStatusProcesso": 4}, "idEvento:4", "declined"),
        ({"idEvento": "8", "evento": "?"}, "idEvento:8", "completed"),
        (
            {"idEvento": 99, "evento": "processoconcluído", "status": "Cancelado"},
            "processoconcluído",
            "completed",
        ),
        (
            {"idEvento": None, "evento": "?", "idStatusProcesso": 4, "statusProcesso": "?"},
            "idStatus:4",
            "completed",
        ),
        ({"evento": "?", "statusProcesso": "CONCLUIDO"}, "status:CONCLUIDO", "completed"),
        ({"evento": "?", "Status": " em   Processo "}, "status:em   Processo", "progress"),
        ({"evento": "?", "STATUS": "Concluído"}, "status:Concluído", "completed"),
        ({"evento": "Carimbado", "idEvento": 99, "status": "Lacrado"}, "Carimbado", "unknown"),
        ({"idEvento": 99, "status": "Lacrado"}, "idEvento:99", "unknown"),
    ],
)
def test_the_event_number_goes_before_its_word_and_that_before_the_status(
    body: dict[str, Any], action: str, kind: str
) -> None:
    head, event = events_of(body)
    assert head == Head(PROCESS, action)
    assert event.type == kind


def test_a_table_in_the_settings_takes_evidence_away_and_adds_some() -> None:
    body = {"idEvento": 8, "evento": "ProcessoReenviado", "status": "Em processo"}
    doubted = {"idEvento:8": "unknown"}
    assert events_of(body, actions=doubted)[0].action == "status:Em processo"
    taught = {**doubted, "PROCESSOREENVIADO": "reopened"}
    assert events_of(body, actions=taught)[1].type is EventType.REOPENED


@pytest.mark.parametrize("said", [True, "true", "True"])
def test_a_cancelled_process_in_which_somebody_refused_was_declined(said: object) -> None:
    signers = [
        {"Nome": "A", "AssinaturaRecusada": "false", "MotivoRecusa": None},
        {"Nome": "B", "AssinaturaRecusada": said, "MotivoRecusa": "Cláusula 3"},
    ]
    _, event = events_of({"Evento": "?", "Status": "Cancelado", "Signatarios": signers})
    assert (event.type, event.message) == (EventType.DECLINED, "Cláusula 3")
    _, event = events_of({"evento": "?", "status": "Cancelado", "signatarios": signers[:1]})
    assert (event.type, event.message) == (EventType.CANCELLED, "")
    # The trigger says who cancelled, whatever was refused before.
    assert events_of({"idEvento": 5, "signatarios": signers})[1].type is EventType.CANCELLED
    assert events_of({"idEvento": 4, "signatarios": signers})[1].message == "Cláusula 3"


def test_a_failed_delivery_to_a_signer_is_told() -> None:
    assert "could not reach a signer" in events_of({"idEvento": 2})[1].message


def test_the_id_may_stand_under_another_name_by_setting() -> None:
    provider = make_provider("arqsign", id_fields=["processId", "idProcesso"])
    callback = make_callback(b'{"ProcessID": "p-1", "idEvento": 8}')
    assert provider.callback_id(callback) == Head("p-1", "idEvento:8")


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b'{"idEvento": 8}', "idProcesso is missing"),
        (b'{"idProcesso": "p-1"}', "evento is missing"),
        (b'{"idProcesso": "p-1", "evento": "", "idEvento": {}, "status": null}', "evento is missing"),
        (b'{"idProcesso": null, "idEvento": 8}', "idProcesso must be"),
    ],
)
def test_an_unusable_body_names_what_is_missing(body: bytes, word: str) -> None:
    with pytest.raises(UnusableBodyError, match=word):
        make_provider("arqsign").callback_id(make_callback(body))


# Dates


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("21/11/2025 13:15:31", datetime(2025, 11, 21, 13, 15, 31, tzinfo=UTC)),
        ("01/02/2025 00:00:00", datetime(2025, 2, 1, tzinfo=UTC)),
        ("2025-11-21T13:15:31", datetime(2025, 11, 21, 13, 15, 31, tzinfo=UTC)),
        ("2025-11-21T13:15:31.1234567", datetime(2025, 11, 21, 13, 15, 31, 123456, tzinfo=UTC)),
        ("2025-11-21T13:15:31-03:00", datetime(2025, 11, 21, 16, 15, 31, tzinfo=UTC)),
        ("0001-01-01T00:00:00", None),
        ("9999-12-31T23:59:59-03:00", None),
        ("31/02/2025 00:00:00", None),
        ("yesterday", None),
        (1763730931, None),
        (None, None),
    ],
)
def test_dates_come_in_two_forms_and_are_utc(written: object, expected: datetime | None) -> None:
    assert events_of({"idEvento": 6, "dataHoraAtual": written})[1].occurred_at == expected


def key(**body: Any) -> str:
    return events_of(body)[1].key


def test_an_event_sent_again_is_the_same_and_one_that_happened_again_is_not() -> None:
    first, second = "21/11/2025 13:00:00", "25/11/2025 13:00:00"
    assert key(idEvento=6, dataHoraAtual=first) == key(evento="x", idEvento=6, dataHoraAtual=first)
    assert key(idEvento=6, dataHoraAtual=first) != key(idEvento=6, dataHoraAtual=second)
    assert key(idEvento=8, dataHoraAtual=first) == key(evento="ProcessoConcluido", dataHoraAtual=second)
    # The date of the thing itself stays when the callback is sent again with the time of day.
    own = "2025-11-21T09:00:00"
    for trigger, name in (
        (4, "dataCancelamento"),
        (5, "dataCancelamento"),
        (6, "DataExpiracao"),
        (7, "dataReenvio"),
    ):
        once = key(idEvento=trigger, dataHoraAtual=first, **{name: own})
        assert once == key(idEvento=trigger, dataHoraAtual=second, **{name: own})
        assert once != key(idEvento=trigger, dataHoraAtual=second)


def test_a_date_of_the_process_that_lies_ahead_is_not_that_of_the_event() -> None:
    _, event = events_of(
        {"idEvento": 6, "dataHoraAtual": "21/11/2025 13:00:00", "dataExpiracao": "2025-12-20T12:00:05"}
    )
    assert event.occurred_at == datetime(2025, 11, 21, 13, tzinfo=UTC)


def test_two_signers_are_two_things_and_one_callback_twice_is_one() -> None:
    one, two = {"signatarios": [{"id": 1}]}, {"signatarios": [{"id": 2}]}
    assert key(idEvento=3, **one) == key(idEvento=3, **one)
    assert key(idEvento=3, **one) != key(idEvento=3, **two)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12)
    | st.sampled_from(
        ["Cancelado", "true", "21/11/2025 13:15:31", "2025-11-21T13:15:31", "99/99/9999 00:00:00"]
    ),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["assinaturaRecusada", "motivoRecusa", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)
FIELDS = ["IdEvento", "evento ", "status", "idStatusProcesso", "signatarios", "dataHoraAtual", "dataReenvio"]


@given(st.dictionaries(st.sampled_from(FIELDS), VALUES))
def test_whatever_the_fields_hold_it_is_refused_or_one_event(body: dict[str, Any]) -> None:
    provider = make_provider("arqsign")
    callback = make_callback(json.dumps({"idProcesso": PROCESS, **body}).encode())
    try:
        head = provider.callback_id(callback)
    except UnusableBodyError:
        assert not {"IdEvento", "evento ", "status", "idStatusProcesso"} & {
            name for name, value in body.items() if type(value) is int
        }
        return
    [event] = provider.parse(head, callback)
    assert event.key
    assert event.document_id == PROCESS
