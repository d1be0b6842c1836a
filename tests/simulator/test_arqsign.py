"""ArqSign over HTTP, as an application and as signspool call it, and the callbacks of every trigger."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from typing import Any

import httpx
import pytest

from shared.providers._verify import check_hmac
from simulator.arqsign import STATUS_WORDS, LetterCase, RecordAs, Status, Trigger, WordAs
from simulator.arqsign_api import example_process
from simulator.files import make_pdf
from simulator.peer import PeerError
from simulator.weather import Storm, StormKind
from simulator.world import World
from tests.providers.conftest import make_callback, make_provider

V1, V2 = "/arqsign/api/v1/processo", "/arqsign/api/v2/processo"
SEND = "enviar-documento-para-assinar"


@pytest.fixture
def api(client: httpx.Client, world: World) -> httpx.Client:
    client.headers["AppKey"] = world.arqsign.app_key
    client.headers["SubscriptionKey"] = world.arqsign.subscription_key
    return client


def test_send_conclude_read(api: httpx.Client, world: World) -> None:
    content = base64.b64encode(make_pdf("Texto")).decode()
    sent = api.post(f"{V2}/{SEND}", json=example_process("Contrato", content)).json()
    process_id = sent["idProcesso"]
    assert [document["nome"] for document in sent["documentos"]] == ["contrato.pdf"]
    unsigned = api.get(f"{V2}/{process_id}").json()
    assert unsigned["status"] == "Aguardando"
    assert base64.b64decode(unsigned["documentos"][0]["base64Documento"]) == make_pdf("Texto")

    body = world.arqsign.conclude(process_id)
    assert (body["idProcesso"], body["idEvento"], body["evento"]) == (process_id, 8, "ProcessoConcluido")
    signed = api.get(f"{V2}/{process_id}")
    assert signed.status_code == 200
    document = signed.json()["documentos"][0]
    assert b"(Assinado: contrato.pdf)" in base64.b64decode(document["base64Documento"])
    assert b"Registro de assinaturas" in base64.b64decode(document["registroAssinaturas"]["base64"])
    old = api.get(f"{V1}/{process_id}")
    assert old.status_code == 201
    assert old.json()["documento"]["documento"] == document["base64Documento"]
    assert old.json()["registroAssinaturas"]["arquivo"] == document["registroAssinaturas"]["base64"]
    status = api.get(f"{V1}/{process_id}/status-do-processo")
    assert (status.status_code, status.json()) == (201, {"NomeProcesso": "Contrato", "Status": "Concluído"})


def test_the_old_generation_takes_other_names_and_answers_201(api: httpx.Client, world: World) -> None:
    body = example_process()
    body["nome"] = body.pop("nomeProcesso")
    answer = api.post(f"{V1}/{SEND}", json=body)
    assert answer.status_code == 201
    assert list(answer.json()) == ["IdProcesso"]
    assert answer.json()["IdProcesso"] in world.arqsign.processes


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        (f"{V2}/x", {"SubscriptionKey": "wrong"}, 401),
        (f"{V2}/x", {"AppKey": "wrong"}, 401),
        (f"{V1}/x", {"AppKey": "wrong"}, 401),
        (f"{V1}/x/status-do-processo", {"AppKey": "wrong"}, 401),
        # An unknown process is 400, and the old generation asks for one key alone.
        (f"{V2}/x", {}, 400),
        (f"{V1}/x", {"SubscriptionKey": "wrong"}, 400),
    ],
)
def test_every_call_demands_the_keys_of_its_generation(
    api: httpx.Client, path: str, headers: dict[str, str], status: int
) -> None:
    assert api.get(path, headers=headers).status_code == status


def test_a_storm_of_wrong_keys_is_a_revoked_one(api: httpx.Client, world: World) -> None:
    process = world.arqsign.send()
    world.weather.add(Storm("arqsign", StormKind.WRONG_TOKEN))
    assert api.get(f"{V2}/{process.id}").text == "Acesso não autorizado."
    assert api.get(f"{V2}/{process.id}").status_code == 200


def test_the_calls_of_an_account_can_run_out(api: httpx.Client, world: World) -> None:
    process = world.arqsign.send()
    world.arqsign.calls_left, world.arqsign.over_quota_status = 2, 403
    assert [api.get(f"{V2}/{process.id}").status_code for _ in range(4)] == [200, 200, 403, 403]


@pytest.mark.parametrize(
    "change",
    [
        {"documentos": []},
        {"documentos": [{"nomeComExtensao": "a.pdf"}]},
        {"documentos": [{"nomeComExtensao": "a.pdf", "arquivo": "***"}]},
        {"documentos": "a.pdf"},
        {"destinatarios": [1]},
        {"nomeProcesso": None},
    ],
)
def test_an_unusable_request_is_refused(api: httpx.Client, world: World, change: dict[str, Any]) -> None:
    assert api.post(f"{V2}/{SEND}", json={**example_process(), **change}).status_code == 400
    assert world.arqsign.processes == {}


def test_each_trigger_changes_the_process_and_says_so(world: World) -> None:
    arqsign = world.arqsign
    process = arqsign.send(signers=2)
    seen = []
    for trigger in (1, 2, 3, 4, 7, 6, 7, 5, 7, 8):
        body = arqsign.happen(process.id, trigger)
        seen.append((trigger, body["idStatusProcesso"]))
        assert body["idEvento"] == trigger
        assert body["statusProcesso"] == STATUS_WORDS[Status(body["idStatusProcesso"])]
    # Expiry has no status of its own, and refusal has that of a cancellation.
    expected = [(1, 2), (2, 2), (3, 3), (4, 5), (7, 3), (6, 3), (7, 3), (5, 5), (7, 3), (8, 4)]
    assert seen == expected
    with pytest.raises(PeerError, match="Concluído"):
        arqsign.happen(process.id, Trigger.RESENT)
    with pytest.raises(PeerError, match="from 1 to 8"):
        arqsign.happen(process.id, "9")


def test_a_refusal_shows_at_the_signer_until_the_process_is_resent(api: httpx.Client, world: World) -> None:
    world.arqsign.with_signers = True
    process = world.arqsign.send(signers=2)
    [signer, _] = world.arqsign.happen(process.id, Trigger.REFUSED, "Não concordo.")["signatarios"]
    assert (signer["assinaturaRecusada"], signer["motivoRecusa"]) == ("true", "Não concordo.")
    assert api.get(f"{V2}/{process.id}").json()["signatarios"][0] == signer
    with pytest.raises(PeerError, match="Cancelado"):
        world.arqsign.happen(process.id, Trigger.EXPIRED)
    [signer, _] = world.arqsign.happen(process.id, Trigger.RESENT)["signatarios"]
    assert signer["assinaturaRecusada"] == "false"


def test_the_form_of_callbacks_can_be_switched(world: World) -> None:
    arqsign = world.arqsign
    process = arqsign.send(signers=2)
    arqsign.with_process = arqsign.with_event_id = False
    bare = arqsign.happen(process.id, 3)
    assert set(bare) == {"evento", "idProcesso", "idConta", "idWebhook", "dataHoraAtual"}
    arqsign.letter_case, arqsign.with_documents, arqsign.record_as = LetterCase.PASCAL, True, RecordAs.LIST
    arqsign.dates_as_iso = True
    whole = arqsign.conclude(process.id)
    assert whole["Evento"] == "ProcessoConcluido"
    assert "T" in whole["DataHoraAtual"]
    assert list(whole["Documentos"][0]["RegistroAssinaturas"][0]) == ["NomeRegistro", "Base64Registro"]


def test_a_callback_sent_again_may_carry_another_time(world: World) -> None:
    body = world.arqsign.happen(world.arqsign.send().id, Trigger.EXPIRED)
    assert world.arqsign.again(body) == body
    world.arqsign.renews_dates = True
    renewed = world.arqsign.again(body)
    assert renewed != body
    assert {**renewed, "dataHoraAtual": body["dataHoraAtual"]} == body


@pytest.mark.parametrize("as_hex", [False, True])
def test_the_event_over_http_comes_with_an_hmac_that_the_provider_file_accepts(
    client: httpx.Client, world: World, as_hex: bool
) -> None:
    world.arqsign.hmac_as_hex = as_hex
    process = world.arqsign.send()
    said = client.post(f"/_events/arqsign/{process.id}/8")
    encoding = "hex" if as_hex else "base64"
    provider = make_provider("arqsign", secret=world.arqsign.secret, hmac_encoding=encoding)
    callback = make_callback(said.content, headers={"hmac": said.headers["HMAC"]})
    assert check_hmac(provider.settings, callback).key_id == "default"
    assert client.post(f"/_events/arqsign/{process.id}/8").status_code == 422
    assert client.post("/_events/arqsign/nobody/8").status_code == 400
    state = client.get("/_state")
    assert [found["status"] for found in state.json()["arqsign"]["processes"]] == ["Concluído"]
    assert json.dumps(base64.b64encode(process.signed[0].content).decode()) not in state.text


def test_status_and_signers_are_told_without_files(api: httpx.Client, world: World) -> None:
    process = world.arqsign.send(signers=2)
    world.arqsign.happen(process.id, Trigger.ONE_SIGNED)
    people = api.get(f"{V1}/{process.id}/dados-signatarios")
    assert people.status_code == 200
    assert people.json()["status"] == "Em processo"
    assert people.json()["dataExpiracao"] == process.expires_at.strftime("%Y-%m-%dT%H:%M:%S")
    assert [person["assinado"] for person in people.json()["signatarios"]] == [True, False]
    assert b"base64" not in people.content


@pytest.mark.parametrize(
    ("word_as", "word"),
    [
        (WordAs.PRINTED, "Concluído"),
        (WordAs.UPPER, "CONCLUÍDO"),
        (WordAs.LOWER, "concluído"),
        (WordAs.PLAIN, "Concluido"),
    ],
)
def test_words_of_a_status_are_written_as_the_switch_says(
    api: httpx.Client, world: World, word_as: WordAs, word: str
) -> None:
    world.arqsign.word_as = word_as
    process = world.arqsign.send()
    assert world.arqsign.conclude(process.id)["statusProcesso"] == word
    assert api.get(f"{V1}/{process.id}/status-do-processo").json()["Status"] == word
    assert api.get(f"{V2}/{process.id}").json()["status"] == word


def test_a_process_is_cancelled_while_it_is_on_its_way_and_can_be_resent(
    api: httpx.Client, world: World
) -> None:
    process = world.arqsign.send()
    assert api.patch(f"{V1}/{process.id}/cancelar-processo").text == "Documento cancelado com sucesso."
    assert api.patch(f"{V1}/{process.id}/cancelar-processo").status_code == 422
    assert api.patch(f"{V2}/{process.id}/reenviar-processo").status_code == 200
    assert (process.status, process.resent_at) == (Status.EM_PROCESSO, world.arqsign.now)


def test_a_deleted_process_and_an_unknown_one_are_told_apart_by_words_alone(
    api: httpx.Client, world: World
) -> None:
    process = world.arqsign.send()
    process.deleted = True
    path = f"{V1}/{process.id}/status-do-processo"
    assert (api.get(path).status_code, api.get(path).text) == (400, "Documento excluído.")
    world.arqsign.errors_as_json = True
    assert api.get(path).json() == {"mensagens": ["Documento excluído."]}
    assert api.get(f"{V1}/nobody/status-do-processo").status_code == 400


def test_a_new_key_ends_the_old_one_at_once(api: httpx.Client, world: World) -> None:
    process = world.arqsign.send()
    new = world.arqsign.revoke()
    path = f"{V1}/{process.id}/status-do-processo"
    assert api.get(path).status_code == 401
    assert api.get(path, headers={"AppKey": new}).status_code == 201


def test_used_up_calls_may_say_for_how_long(api: httpx.Client, world: World) -> None:
    world.arqsign.calls_left = 0
    assert "Retry-After" not in api.get(f"{V2}/x").headers
    world.arqsign.retry_after_seconds = 7
    assert api.get(f"{V2}/x").headers["Retry-After"] == "7"


def test_what_a_process_was_sent_with_is_kept_without_its_files(api: httpx.Client, world: World) -> None:
    body = {**example_process(), "configuracoesAvancadas": {"tempoExpiracaoDocumentoDias": 3}}
    process = world.arqsign.processes[api.post(f"{V2}/{SEND}", json=body).json()["idProcesso"]]
    assert process.expires_at - process.sent_at == timedelta(days=3)
    assert process.ordered["documentos"] == [{"ordemDocumento": 1, "nomeComExtensao": "contrato.pdf"}]
    assert process.ordered["destinatarios"] == body["destinatarios"]
