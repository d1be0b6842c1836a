"""SmartShare over HTTP: strict about headers, and it never notices a repetition."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import pytest

from simulator.world import World

BASE = "/smartshare/SmartShareAPI/api"
CLIENT = {"dsCliente": "simulated-client", "dsChaveAutenticacao": "simulated-client-key"}
USER = {"dsUsuario": "integracao", "dsSenha": "simulated-password"}
TASK = {
    "cdFluxo": "1042",
    "cdTarefa": "10",
    "cdTipoAnexo": "3",
    "dsAnexo": "a",
    "dsNomeArquivoOriginal": "a.pdf",
}
ADVANCE = {"cdFluxo": "1042", "dsEmailExecutor": "integracao@example.com"}
DOCUMENT = {
    "dsTitulo": "Contrato",
    "dsArquivoOriginal": "contrato.pdf",
    "cdTipoDocumento": 12,
    "cdPasta": "34",
    "file": base64.b64encode(b"%PDF").decode(),
}
FIELD = {"cdFluxo": "1042", "cdTarefa": "10", "cdCampoFormulario": "77", "dsValor": "Assinado"}


def login(client: httpx.Client) -> str:
    answer = client.post(f"{BASE}/v3/Usuario/ValidarLogin", headers=CLIENT, json=USER)
    assert answer.json()["cdUsuario"] == 1
    return str(answer.json()["tokenUsuario"])


@pytest.fixture
def api(client: httpx.Client) -> httpx.Client:
    client.headers.update(CLIENT | {"tokenUsuario": login(client)})
    return client


def attach(api: httpx.Client, **headers: Any) -> httpx.Response:
    return api.post(
        f"{BASE}/v1/Anexo/InserirAnexo",
        headers=TASK | headers,
        files={"file": ("x", b"%PDF", "application/pdf")},
    )


def advance(api: httpx.Client) -> httpx.Response:
    return api.post(f"{BASE}/v1/Fluxo/AvancaFluxo", headers=ADVANCE, json=ADVANCE)


def test_both_forms_of_login_give_a_token(client: httpx.Client, world: World) -> None:
    form = client.post(
        f"{BASE}/v2/Usuario/ValidarLogin", headers=CLIENT, files={name: (None, v) for name, v in USER.items()}
    )
    assert form.json()["tokenUsuario"] != login(client)
    assert [entry["call"] for entry in world.smartshare.logins] == ["v2", "v3"]


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({}, USER, 401),
        (CLIENT | {"dsChaveAutenticacao": "wrong"}, USER, 401),
        (CLIENT, USER | {"dsSenha": "wrong"}, 401),
        (CLIENT, {"dsUsuario": "integracao"}, 400),
    ],
)
def test_a_wrong_login_is_refused(
    client: httpx.Client, world: World, headers: dict[str, str], body: dict[str, str], status: int
) -> None:
    answer = client.post(f"{BASE}/v3/Usuario/ValidarLogin", headers=headers, json=body)
    assert answer.status_code == status
    assert answer.json()["erro"]
    assert world.smartshare.logins == []


def test_what_comes_twice_is_kept_twice(api: httpx.Client, world: World) -> None:
    for number in (1, 2):
        assert attach(api).json() == {"cdAnexo": number, "message": ""}
        assert api.post(f"{BASE}/v2/Documento", json=DOCUMENT).json() == {
            "cdVersaoDocumento": 700 + number,
            "cdDocumento": 5500 + number,
            "cdVersao": 1,
            "message": "",
        }
        assert advance(api).status_code == 200
        assert api.post(f"{BASE}/v1/Fluxo/PreencheCampoFormulario", json=FIELD).status_code == 200
    share = world.smartshare
    assert [a.file.content for a in share.attachments] == [b"%PDF", b"%PDF"]
    assert share.attachments[0].values == TASK
    assert share.attachments[0].file.name == "a.pdf"
    assert [d.file.content for d in share.documents] == [b"%PDF", b"%PDF"]
    assert "file" not in share.documents[0].values
    assert share.advances == [ADVANCE | {"call": "v1"}] * 2
    assert share.fields == [FIELD, FIELD]


def test_the_other_form_of_advance_names_task_and_exit(api: httpx.Client, world: World) -> None:
    path = f"{BASE}/v2/Fluxo/AvancaFluxo"
    assert api.post(path, headers={"cdTarefa": "10", "cdOpcao": "2"}).status_code == 200
    assert world.smartshare.advances == [{"cdTarefa": "10", "cdOpcao": "2", "call": "v2"}]
    assert api.post(path, headers={"cdTarefa": "10"}).status_code == 400


def test_advance_keeps_the_exit_when_the_first_form_names_one(api: httpx.Client, world: World) -> None:
    api.post(f"{BASE}/v1/Fluxo/AvancaFluxo", headers=ADVANCE | {"cdOpcao": "5"}, json=ADVANCE)
    assert world.smartshare.advances[0]["cdOpcao"] == "5"


@pytest.mark.parametrize("missing", sorted(TASK))
def test_an_attachment_needs_each_of_its_headers(api: httpx.Client, world: World, missing: str) -> None:
    answer = attach(api, **{missing: ""})
    assert answer.status_code == 400
    assert missing in answer.json()["erro"]
    assert world.smartshare.attachments == []


def test_an_attachment_needs_the_part_file(api: httpx.Client) -> None:
    answer = api.post(f"{BASE}/v1/Anexo/InserirAnexo", headers=TASK, files={"other": ("x", b"%PDF")})
    assert answer.status_code == 400


@pytest.mark.parametrize(
    ("headers", "body"),
    [(ADVANCE, {}), ({}, ADVANCE), (ADVANCE, ADVANCE | {"cdFluxo": "1"}), ({"cdFluxo": "1042"}, ADVANCE)],
)
def test_advance_wants_the_same_values_in_headers_and_body(
    api: httpx.Client, world: World, headers: dict[str, str], body: dict[str, str]
) -> None:
    assert api.post(f"{BASE}/v1/Fluxo/AvancaFluxo", headers=headers, json=body).status_code == 400
    assert world.smartshare.advances == []


def test_a_document_needs_base64_text(api: httpx.Client, world: World) -> None:
    for wrong in ("***", [37, 80], ""):
        assert api.post(f"{BASE}/v2/Documento", json=DOCUMENT | {"file": wrong}).status_code == 400
    assert world.smartshare.documents == []


@pytest.mark.parametrize("left_out", ["dsCliente", "dsChaveAutenticacao", "tokenUsuario"])
def test_every_call_demands_client_and_token(api: httpx.Client, world: World, left_out: str) -> None:
    del api.headers[left_out]
    assert attach(api).status_code == 401
    assert advance(api).status_code == 401
    assert api.post(f"{BASE}/v2/Documento", json=DOCUMENT).status_code == 401
    assert (
        api.post(f"{BASE}/v2/Fluxo/AvancaFluxo", headers={"cdTarefa": "1", "cdOpcao": "2"}).status_code == 401
    )
    assert api.post(f"{BASE}/v1/Fluxo/PreencheCampoFormulario", json=FIELD).status_code == 401
    assert world.smartshare.summary["attachments"] == world.smartshare.summary["advances"] == []


def test_a_token_expires_by_age(api: httpx.Client, world: World) -> None:
    began = world.smartshare.clock()
    world.smartshare.token_lifetime_seconds = 1_000
    world.smartshare.clock = lambda: began + 900
    assert advance(api).status_code == 200
    world.smartshare.clock = lambda: began + 1_001
    assert advance(api).status_code == 401
    api.headers["tokenUsuario"] = login(api)
    assert advance(api).status_code == 200


def test_a_token_expires_by_use_or_at_once(api: httpx.Client, world: World) -> None:
    world.smartshare.token_uses = 2
    assert [advance(api).status_code for _ in range(3)] == [200, 200, 401]
    world.smartshare.token_uses = None
    assert advance(api).status_code == 200
    world.smartshare.expire_tokens()
    assert advance(api).status_code == 401


def test_refusals_may_come_as_successes(api: httpx.Client, world: World) -> None:
    world.smartshare.errors_in_200 = True
    world.smartshare.expire_tokens()
    answer = advance(api)
    assert (answer.status_code, answer.json()) == (200, {"erro": "tokenUsuario inválido"})
    assert world.smartshare.advances == []


@pytest.mark.parametrize(
    ("encoding", "sent"),
    [
        ("latin-1", "ação".encode("latin-1")),
        ("utf-8", "ação".encode()),
        ("percent", b"a%C3%A7%C3%A3o"),
    ],
)
def test_header_values_are_read_in_the_encoding_of_the_switch(
    api: httpx.Client, world: World, encoding: Any, sent: bytes
) -> None:
    world.smartshare.header_encoding = encoding
    assert attach(api, dsAnexo=sent).status_code == 200
    assert world.smartshare.attachments[0].values["dsAnexo"] == "ação"
