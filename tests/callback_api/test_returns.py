"""A browser that comes back is noted durably, proves nothing, and goes on to a page of the settings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlsplit

import pytest

from shared.errors import UnusableBodyError
from shared.events import EventType, Origin, Trust
from shared.providers._base import (
    Callback,
    DocumentView,
    Head,
    Proof,
    Provider,
    Returned,
    ReturnSettings,
    SignedFiles,
)
from tests.callback_api.door import InProcess, in_process, make_settings, paths, records

PAGE = "https://app.test/signed?tenant=7"


class ReturningProvider(Provider[ReturnSettings]):
    """Browsers come back from it with a session of digits."""

    title = "Returning"
    number = 78
    event_types: ClassVar[Mapping[str, EventType]] = {}
    Settings = ReturnSettings

    def why_closed(self) -> str | None:
        return None

    def authenticate(self, callback: Callback) -> Proof:
        return Proof(Trust.OPEN)

    def callback_id(self, callback: Callback) -> Head:
        return Head("1", "x")

    @property
    def origins(self) -> frozenset[str]:
        return frozenset()

    def signed_file(self, document: DocumentView) -> SignedFiles:
        yield from ()
        return []

    def returned(self, callback: Callback) -> Returned:
        session = callback.query.get("session", "")
        if not session.isdigit():
            raise UnusableBodyError("session is missing")
        return Returned(Head(session, "returned"), {"session": session}, {"session": session})


@contextmanager
def door(folder: Path, **settings: Any) -> Iterator[InProcess]:
    provider = ReturningProvider("returning", ReturnSettings(**settings))
    with in_process(make_settings(folder), providers={"returning": provider}) as made:
        yield made


def address(**query: str) -> str:
    return "/api/return?" + "&".join(
        f"{name}={text}" for name, text in {"provider": "returning", **query}.items()
    )


def target(answer: Any) -> tuple[str, list[tuple[str, str]]]:
    """Where an answer sends the browser: the address without its query, and the query."""
    parts = urlsplit(answer.headers["location"])
    return f"{parts.scheme}://{parts.netloc}{parts.path}", parse_qsl(parts.query)


def test_it_is_spooled_as_a_claim_and_sent_on_with_the_id_and_the_applications_own_parameters(
    tmp_path: Path,
) -> None:
    with door(tmp_path, return_page=PAGE) as made:
        answer = made.ask("GET", address(session="155", order="ação"))
    assert answer.status_code == 303
    assert target(answer) == (
        "https://app.test/signed",
        [("tenant", "7"), ("order", "ação"), ("session", "155")],
    )
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"
    [record] = records(tmp_path / "data")
    assert record.receipt is not None
    assert (record.receipt.origin, record.receipt.trust) == (Origin.RETURN, Trust.CLAIMED)
    assert (record.document_id, record.action) == ("155", "returned")
    # Only what the provider needs; the application's parameters are its own business.
    assert json.loads(record.payload) == {"session": "155"}


@pytest.mark.parametrize(
    "bad", ["page=https://evil.test", "page=//evil.test", "return_page=https://evil.test"]
)
def test_no_parameter_chooses_another_host(tmp_path: Path, bad: str) -> None:
    with door(tmp_path, return_page=PAGE) as made:
        answer = made.ask("GET", address(session="1") + f"&{bad}")
    assert target(answer)[0] == "https://app.test/signed"


def test_a_page_is_chosen_by_name_among_those_of_the_settings(tmp_path: Path) -> None:
    with door(tmp_path, return_page=PAGE, return_pages={"hr": "https://hr.test/done"}) as made:
        assert target(made.ask("GET", address(session="1", page="hr"))) == (
            "https://hr.test/done",
            [("session", "1")],
        )
        assert target(made.ask("GET", address(session="1", page="nobody")))[0] == "https://app.test/signed"


def test_nobody_changes_a_parameter_of_the_page_or_the_id(tmp_path: Path) -> None:
    with door(tmp_path, return_page=PAGE) as made:
        answer = made.ask("GET", address(session="1", tenant="8") + "&session=2")
    assert target(answer)[1] == [("tenant", "7"), ("session", "1")]


def test_head_is_answered_alike_and_leaves_nothing(tmp_path: Path) -> None:
    with door(tmp_path, return_page=PAGE) as made:
        answer = made.ask("HEAD", address(session="155"))
        assert (answer.status_code, answer.content) == (303, b"")
    assert paths(tmp_path / "data") == []


@pytest.mark.parametrize("query", [{}, {"session": ""}, {"session": "../etc"}])
def test_a_person_without_a_usable_id_is_sent_on_all_the_same_and_nothing_is_kept(
    tmp_path: Path, query: dict[str, str]
) -> None:
    with door(tmp_path, return_page=PAGE) as made:
        answer = made.ask("GET", address(**query))
    assert answer.status_code == 303
    assert target(answer)[0] == "https://app.test/signed"
    assert paths(tmp_path / "data") == []


def test_without_a_page_a_few_words_are_shown(tmp_path: Path) -> None:
    with door(tmp_path) as made:
        answer = made.ask("GET", address(session="155"))
    assert answer.status_code == 200
    assert "close this window" in answer.text
    assert len(paths(tmp_path / "data")) == 1


@pytest.mark.parametrize("url", ["/api/return", "/api/return?provider=nobody", "/api/return?provider="])
def test_an_unknown_provider_is_told_so(tmp_path: Path, url: str) -> None:
    with door(tmp_path, return_page=PAGE) as made:
        answer = made.ask("GET", url)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"


def test_what_cannot_be_stored_is_not_passed_off_as_done(tmp_path: Path) -> None:
    with door(tmp_path, return_page=PAGE) as made:
        (tmp_path / "data" / ".signspool").rename(tmp_path / "marker")
        made.wait_for(503)
        answer = made.ask("GET", address(session="155"))
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert "location" not in answer.headers
        (tmp_path / "marker").rename(tmp_path / "data" / ".signspool")
        made.wait_for(200)
        assert made.ask("GET", address(session="155")).status_code == 303


def test_parameters_beyond_measure_are_dropped(tmp_path: Path) -> None:
    with door(tmp_path, return_page=PAGE) as made:
        answer = made.ask("GET", address(session="1", order="x" * 3000))
    assert target(answer)[1] == [("tenant", "7"), ("session", "1")]


def test_it_is_described(tmp_path: Path) -> None:
    with door(tmp_path) as made:
        described = made.ask("GET", "/openapi.json").json()["paths"]
    assert described["/api/return"]["get"]["parameters"][0]["schema"]["enum"] == ["returning"]
