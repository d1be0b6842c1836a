"""Asking for JSON with large files in it: the files pass by, the rest is kept, and cuts are noticed."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable

import httpx
import pytest

from processor.outside import Outside
from processor.skim import ask_and_skim
from shared.errors import PermanentError, TransientError
from shared.providers._base import Answer, Into, Request

URL = "https://x.test:443/process"
FILE = base64.b64encode(bytes(range(256)) * 20_000)


def ask(request: Request, respond: Callable[[httpx.Request], httpx.Response]) -> Answer:
    async def scenario() -> Answer:
        outside = Outside(
            "x",
            origins=frozenset({"https://x.test:443"}),
            connect_timeout_seconds=60,
            read_timeout_seconds=60,
            total_timeout_seconds=120,
            transport=httpx.MockTransport(respond),
        )
        try:
            return await ask_and_skim(outside, request)
        finally:
            await outside.aclose()

    return asyncio.run(scenario())


def tree() -> Request:
    return Request("GET", URL, into=Into.JSON_TREE, file_fields=frozenset({"base64documento"}))


BODY = b'{"status": "Conclu\xc3\xaddo", "documentos": [{"base64Documento": "' + FILE + b'", "id": 7}]}'


def test_files_pass_by_however_large_and_the_rest_is_kept() -> None:
    """Seven megabytes, where a megabyte is what an answer in memory may have."""
    answer = ask(tree(), lambda _: httpx.Response(200, content=BODY))
    assert json.loads(answer.body) == {
        "status": "Concluído",
        "documentos": [{"base64Documento": 0, "id": 7}],
    }
    assert answer.files == ()
    assert len(answer.body) < 100


def test_an_answer_that_is_cut_off_is_asked_for_again() -> None:
    with pytest.raises(TransientError):
        ask(tree(), lambda _: httpx.Response(200, content=BODY[:-5]))


def test_a_refusal_is_handed_over_with_its_words() -> None:
    answer = ask(tree(), lambda _: httpx.Response(400, text="Documento excluído."))
    assert (answer.status, answer.body.decode()) == (400, "Documento excluído.")


def test_what_fits_into_memory_stays_byte_for_byte() -> None:
    answer = ask(Request("GET", URL), lambda _: httpx.Response(201, content=b'{ "Status" : "x" }\n'))
    assert answer.body == b'{ "Status" : "x" }\n'


def test_nothing_else_is_stored_by_asking() -> None:
    with pytest.raises(PermanentError):
        ask(Request("GET", URL, into=Into.FILE), lambda _: httpx.Response(200, content=b"x"))
