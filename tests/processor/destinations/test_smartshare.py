"""SmartShare over real HTTP: what goes over the wire, and what each answer means for the delivery."""

from __future__ import annotations

import asyncio
import base64
import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from starlette.responses import HTMLResponse, JSONResponse, Response

from processor.destinations._base import Parcel
from processor.destinations.smartshare import SmartshareDestination
from shared.errors import NoAnswerError, PermanentError, TransientError, WaitingError
from shared.events import DocumentStatus
from shared.settings.destinations import SmartshareSettings

pytestmark = pytest.mark.anyio

LOGIN = "/root/api/v3/Usuario/ValidarLogin"
ATTACH = "/root/api/v1/Anexo/InserirAnexo"
DOCUMENT = "/root/api/v2/Documento"
ADVANCE = "/root/api/v1/Fluxo/AvancaFluxo"

Make = Callable[..., SmartshareDestination]


class Dms:
    """Gives tokens, refuses those it did not give or has withdrawn, and answers effects with `effect`."""

    def __init__(self) -> None:
        self.given: list[str] = []
        self.valid: set[str] = set()
        self.effect: Callable[[Any], Response] = lambda _request: JSONResponse({"cdDocumento": 5501})

    def __call__(self, request: Any) -> Response:
        if "ValidarLogin" in request.path:
            self.given.append(f"token-{len(self.given) + 1}")
            self.valid.add(self.given[-1])
            return JSONResponse({"cdUsuario": 1, "tokenUsuario": self.given[-1]})
        if request.header("tokenUsuario").decode() not in self.valid:
            return Response(status_code=401)
        return self.effect(request)


@pytest.fixture
def dms(receiver: Any) -> Dms:
    dms = Dms()
    receiver.answer = dms
    return dms


@pytest.fixture
def make(receiver: Any, make_outside: Any) -> Make:
    def make(**changes: Any) -> SmartshareDestination:
        settings = SmartshareSettings.model_validate(
            {
                "kind": "smartshare",
                "base_url": receiver.url + "/root/api/",
                "client": "mobile",
                "client_key": "key-of-client",
                "user": "integracao",
                "password": "pass-of-user",
                **changes,
            }
        )
        return SmartshareDestination("ecm", settings, make_outside("ecm", origins=settings.origins))

    return make


async def test_an_attachment_is_a_multipart_part_with_everything_else_in_headers(
    receiver: Any, dms: Dms, make: Make, make_parcel: Any, mark: Any
) -> None:
    await make().deliver(make_parcel(b"signed bytes"), mark)
    login, upload = receiver.requests
    assert (login.path, json.loads(login.body)) == (
        LOGIN,
        {"dsUsuario": "integracao", "dsSenha": "pass-of-user"},
    )
    assert (upload.method, upload.path) == ("POST", ATTACH)
    expected = {
        "dsCliente": b"mobile",
        "dsChaveAutenticacao": b"key-of-client",
        "tokenUsuario": b"token-1",
        "cdFluxo": b"1042",
        "cdTarefa": b"10",
        "cdTipoAnexo": b"3",
        "dsAnexo": b"contrato.pdf",
        "dsNomeArquivoOriginal": b"contrato.pdf",
        "Content-Length": str(upload.size_bytes).encode(),
    }
    assert {name: upload.header(name) for name in expected} == expected
    boundary = upload.header("content-type").partition(b"boundary=")[2]
    assert upload.body == (
        b"--" + boundary + b'\r\nContent-Disposition: form-data; name="file"; filename="contrato.pdf"\r\n'
        b"Content-Type: application/pdf\r\n\r\nsigned bytes\r\n--" + boundary + b"--\r\n"
    )


async def test_a_document_is_json_with_the_file_in_base64_and_numbers_left_as_they_are(
    receiver: Any, dms: Dms, make: Make, make_parcel: Any, mark: Any
) -> None:
    content = bytes(range(256)) * 2000 + b"x"
    destination = make(
        upload="document",
        document={"fields": {"cdTipoDocumento": 12, "cdPasta": "${dms.cdPasta}", "dtVencimento": ""}},
    )
    reference = await destination.deliver(make_parcel(content, dms={"cdPasta": "34"}), mark)
    assert reference == "5501"
    upload = receiver.requests[-1]
    assert upload.path == DOCUMENT
    assert upload.header("content-type") == b"application/json"
    fields = json.loads(upload.body)
    assert base64.b64decode(fields.pop("file"), validate=True) == content
    assert fields == {
        "dsTitulo": "contrato.pdf",
        "dsArquivoOriginal": "contrato.pdf",
        "cdTipoDocumento": 12,
        "dtEfetivacao": "",
        "idTipoRevisao": 0,
        "cdPasta": "34",
        "lstIndicesArray": [],
        "lstPerfilArray": [],
        "stGerarAprovacao": False,
    }


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("latin-1", "ação _ 100%.pdf".encode("latin-1")),
        ("utf-8", "ação \u2013 100%.pdf".encode()),
        ("percent", b"a%C3%A7%C3%A3o %E2%80%93 100%25.pdf"),
    ],
)
async def test_accents_in_headers_are_sent_as_the_settings_say(
    receiver: Any, dms: Dms, make: Make, make_parcel: Any, mark: Any, *, encoding: str, expected: bytes
) -> None:
    """The name is given decomposed, as a Mac writes it; on the wire it is composed."""
    decomposed = "ac\u0327a\u0303o \u2013 100%.pdf"
    await make(header_encoding=encoding).deliver(make_parcel(name=decomposed), mark)
    assert receiver.requests[-1].header("dsNomeArquivoOriginal") == expected


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
@pytest.mark.parametrize("break_", ["\r\n", "\n", "\0", "\x85", "\u2028"])
async def test_a_line_break_in_a_header_value_is_refused_before_the_effect_is_marked(
    receiver: Any, dms: Dms, make: Make, make_parcel: Any, mark: Any, *, encoding: str, break_: str
) -> None:
    parcel = make_parcel(name=f"a{break_}X-Evil: 1")
    with pytest.raises(PermanentError, match="dsAnexo"):
        await make(header_encoding=encoding).deliver(parcel, mark)
    assert mark.seen == []
    assert receiver.paths() == [LOGIN]


async def test_percent_encoding_carries_a_line_break_harmlessly(
    receiver: Any, dms: Dms, make: Make, make_parcel: Any, mark: Any
) -> None:
    await make(header_encoding="percent").deliver(make_parcel(name="a\r\nX-Evil: 1"), mark)
    upload = receiver.requests[-1]
    assert upload.header("dsAnexo") == b"a%0D%0AX-Evil: 1"
    assert upload.header("x-evil") is None


async def test_what_is_not_registered_is_all_named_with_the_command_and_nothing_is_sent(
    receiver: Any, dms: Dms, make: Make, make_parcel: Any, mark: Any
) -> None:
    parcel = make_parcel(dms={"cdTarefa": "10"}, document_id="a b")
    with pytest.raises(WaitingError) as caught:
        await make().deliver(parcel, mark)
    assert str(caught.value) == (
        "dms.cdFluxo, dms.cdTipoAnexo must be registered first: "
        "signspool documents register ssign 'a b' --dms cdFluxo=VALUE --dms cdTipoAnexo=VALUE"
    )
    assert receiver.requests == []
    assert mark.seen == []


async def test_the_effect_is_marked_once_after_the_login_and_before_the_upload(
    receiver: Any, dms: Dms, make: Make, make_parcel: Any, mark: Any
) -> None:
    await make().deliver(make_parcel(), mark)
    assert mark.seen == [[LOGIN]]
    assert receiver.paths() == [LOGIN, ATTACH]


async def test_an_effect_that_cannot_be_marked_is_not_sent(
    receiver: Any, dms: Dms, make: Make, make_parcel: Any, make_step: Any
) -> None:
    async def lost_database() -> None:
        raise ConnectionError("database gone")

    destination = make()
    with pytest.raises(ConnectionError):
        await destination.deliver(make_parcel(), lost_database)
    with pytest.raises(ConnectionError):
        await destination.advance(make_step(), lost_database)
    assert receiver.paths() == [LOGIN]


async def test_ten_deliveries_that_find_the_token_expired_log_in_once_between_them(
    receiver: Any, dms: Dms, make: Make, make_parcel: Any, mark: Any
) -> None:
    destination, parcel = make(), make_parcel()
    await destination.deliver(parcel, mark)
    dms.valid.clear()
    await asyncio.gather(*(destination.deliver(parcel, mark) for _ in range(10)))
    assert dms.given == ["token-1", "token-2"]
    taken = [r for r in receiver.requests if r.path == ATTACH and r.header("tokenUsuario") == b"token-2"]
    assert len(taken) == 10
    assert len(mark.seen) == 11, "a repeat after 401 is the same effect"


async def test_a_new_token_that_is_refused_too_is_not_renewed_for_ever(
    receiver: Any, dms: Dms, make: Make, make_parcel: Any, mark: Any
) -> None:
    dms.effect = lambda _request: Response(status_code=401)
    with pytest.raises(TransientError, match="correct the account") as caught:
        await make().deliver(make_parcel(), mark)
    assert not isinstance(caught.value, NoAnswerError)
    assert receiver.paths() == [LOGIN, ATTACH, LOGIN, ATTACH]


@pytest.mark.parametrize(
    "answer",
    [
        Response(status_code=400),
        Response(status_code=401),
        Response(status_code=500),
        JSONResponse({"erro": "senha pass-of-user invalida"}),
        JSONResponse({"cdUsuario": 1}),
        HTMLResponse("<html>manutenção</html>"),
    ],
)
async def test_a_failed_login_may_be_tried_again_and_marks_no_effect(
    receiver: Any, make: Make, make_parcel: Any, mark: Any, answer: Response
) -> None:
    receiver.answer = lambda _request: answer
    with pytest.raises(TransientError, match="login to ecm") as caught:
        await make().deliver(make_parcel(), mark)
    assert not isinstance(caught.value, NoAnswerError), "a login has no effect that could be unknown"
    assert "pass-of-user" not in str(caught.value)
    assert mark.seen == []
    assert receiver.paths() == [LOGIN]


STATUSES = [
    (Response(status_code=400), PermanentError, None),
    (Response(status_code=404), PermanentError, None),
    (Response(status_code=413), PermanentError, None),
    (Response(status_code=403), TransientError, None),
    (Response(status_code=429, headers={"Retry-After": "7"}), TransientError, 7.0),
    (Response(status_code=503, headers={"Retry-After": "9"}), TransientError, 9.0),
    (Response(status_code=503), TransientError, None),
    (Response(status_code=500), NoAnswerError, None),
    (Response(status_code=504), NoAnswerError, None),
    (JSONResponse({"erro": "Fluxo inexistente"}), PermanentError, None),
    (JSONResponse({"Errors": ["a"]}), PermanentError, None),
    (JSONResponse({"exceptionMessage": "NullReference"}), PermanentError, None),
    (JSONResponse({"success": False}), PermanentError, None),
    (HTMLResponse("<!DOCTYPE html><html>login</html>"), NoAnswerError, None),
]


@pytest.mark.parametrize(("answer", "expected", "wait_seconds"), STATUSES)
@pytest.mark.parametrize("effect", ["upload", "advance"])
async def test_each_answer_says_whether_the_effect_happened(
    dms: Dms,
    make: Make,
    make_parcel: Any,
    make_step: Any,
    mark: Any,
    *,
    answer: Response,
    expected: type[Exception],
    wait_seconds: float | None,
    effect: str,
) -> None:
    """The class is compared exactly: `NoAnswerError` holds the delivery, `TransientError` repeats it."""
    dms.effect = lambda _request: answer
    destination = make()
    upload, step = make_parcel(), make_step()
    with pytest.raises(expected) as caught:
        await (destination.deliver(upload, mark) if effect == "upload" else destination.advance(step, mark))
    assert type(caught.value) is expected
    assert getattr(caught.value, "retry_after_seconds", None) == wait_seconds
    assert len(mark.seen) == 1


@pytest.mark.parametrize(
    "answer",
    [
        Response(),
        Response("OK"),
        JSONResponse({"erro": "", "error": None, "errors": [], "dsErro": 0, "success": True}),
        JSONResponse([1]),
    ],
)
async def test_an_answer_that_speaks_of_no_error_is_a_success(
    dms: Dms, make: Make, make_parcel: Any, mark: Any, answer: Response
) -> None:
    dms.effect = lambda _request: answer
    assert await make().deliver(make_parcel(), mark) == ""


async def test_a_filed_document_without_its_number_is_of_unknown_outcome(
    dms: Dms, make: Make, make_parcel: Any, mark: Any
) -> None:
    dms.effect = lambda _request: JSONResponse({"message": "ok"})
    parcel = make_parcel(dms={"cdTipoDocumento": "1", "cdPasta": "2"})
    with pytest.raises(NoAnswerError, match="cdDocumento"):
        await make(upload="document").deliver(parcel, mark)


async def test_secrets_that_the_other_side_repeats_stay_out_of_the_message(
    dms: Dms, make: Make, make_parcel: Any, mark: Any
) -> None:
    dms.effect = lambda _request: Response("key-of-client pass-of-user token-1 broke", status_code=400)
    with pytest.raises(PermanentError) as caught:
        await make().deliver(make_parcel(), mark)
    assert str(caught.value).endswith("*** *** *** broke")


async def test_after_trouble_a_login_finds_out_first_whether_the_other_side_is_well(
    receiver: Any, dms: Dms, make: Make, make_parcel: Any, mark: Any
) -> None:
    dms.effect = lambda _request: Response(status_code=500)
    destination, parcel = make(), make_parcel()
    with pytest.raises(NoAnswerError):
        await destination.deliver(parcel, mark)
    receiver.answer = lambda _request: Response(status_code=500)
    with pytest.raises(TransientError):
        await destination.deliver(parcel, mark)
    assert receiver.paths() == [LOGIN, ATTACH, LOGIN]


async def test_the_workflow_advances_with_the_flow_in_headers_and_body(
    receiver: Any, dms: Dms, make: Make, make_step: Any, mark: Any
) -> None:
    destination = make()
    await destination.advance(make_step(), mark)
    assert receiver.paths() == [LOGIN, ADVANCE]
    assert mark.seen == [[LOGIN]]
    request = receiver.requests[-1]
    assert request.header("cdFluxo") == b"1042"
    assert request.header("dsEmailExecutor") == b"bot@example.com"
    assert request.header("cdOpcao") is None, "without an option no header is sent"
    assert json.loads(request.body) == {"cdFluxo": "1042", "dsEmailExecutor": "bot@example.com"}


async def test_the_exit_option_of_the_status_is_sent(
    receiver: Any, dms: Dms, make: Make, make_step: Any, mark: Any
) -> None:
    destination = make(advance_on={"completed": "2", "declined": "9"})
    await destination.advance(make_step(status=DocumentStatus.DECLINED), mark)
    assert receiver.requests[-1].header("cdOpcao") == b"9"
    assert destination.advances(DocumentStatus.DECLINED)
    assert not destination.advances(DocumentStatus.EXPIRED)
    assert not make(advance_on={}).advances(DocumentStatus.COMPLETED)


async def test_a_call_without_a_body_needs_nothing_for_its_fields(
    receiver: Any, dms: Dms, make: Make, make_step: Any, mark: Any
) -> None:
    destination = make(advance={"body": "none", "headers": {"dsEmailExecutor": "bot@example.com"}})
    await destination.advance(make_step(dms={"cdFluxo": "7"}), mark)
    request = receiver.requests[-1]
    assert (request.header("cdFluxo"), request.header("content-length"), request.body) == (b"7", b"0", b"")
    assert request.header("content-type") is None


@pytest.mark.parametrize("body", ["form", "multipart"])
async def test_the_older_login_is_a_matter_of_settings(
    receiver: Any, dms: Dms, make: Make, make_parcel: Any, mark: Any, *, body: str
) -> None:
    destination = make(login={"path": "/v2/Usuario/ValidarLogin", "body": body})
    await destination.deliver(make_parcel(), mark)
    login = receiver.requests[0]
    assert login.path == "/root/api/v2/Usuario/ValidarLogin"
    if body == "form":
        assert login.body == b"dsUsuario=integracao&dsSenha=pass-of-user"
    else:
        assert b'name="dsSenha"\r\n\r\npass-of-user\r\n' in login.body


@pytest.mark.parametrize("upload", ["attachment", "document"])
async def test_a_file_of_50_mb_does_not_pass_through_memory(
    receiver: Any, dms: Dms, make: Make, make_parcel: Any, mark: Any, *, upload: str
) -> None:
    receiver.keep_bodies = False
    content = b"%PDF" * (50 * 1024 * 1024 // 4)
    fields = {"cdTipoDocumento": 1, "cdPasta": 2}
    parcel: Parcel = make_parcel(content)
    encoded_bytes = len(base64.b64encode(content)) if upload == "document" else len(content)
    del content
    destination = make(upload=upload, document={"fields": fields})
    tracemalloc.start()
    try:
        await destination.deliver(parcel, mark)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 0 <= receiver.requests[-1].size_bytes - encoded_bytes < 1024
    assert peak_bytes < 6 * 1024 * 1024


async def test_a_file_that_changed_on_our_disk_never_arrives_whole(
    receiver: Any, dms: Dms, make: Make, make_parcel: Any, mark: Any
) -> None:
    parcel = make_parcel(b"a" * 1_000_000)
    parcel.path.write_bytes(b"a" * 999_999 + b"b")
    with pytest.raises(TransientError, match="changed"):
        await make().deliver(parcel, mark)
    assert ATTACH not in receiver.paths()


async def test_whether_an_upload_without_an_answer_is_repeated_is_a_setting(make: Make) -> None:
    assert not make().repeatable
    assert make(unknown_upload="retry").repeatable
