"""The plain receiver stores one file per idempotency key."""

from __future__ import annotations

import httpx
import pytest

from simulator.world import World


@pytest.fixture
def api(client: httpx.Client, world: World) -> httpx.Client:
    client.headers["Authorization"] = f"Bearer {world.dms.token}"
    return client


def test_a_raw_body_is_stored_with_its_headers(api: httpx.Client, world: World) -> None:
    headers = {"Content-Type": "application/pdf", "X-Own": "1"}
    answer = api.put("/dms/files/folder/a%20b.pdf", content=b"%PDF", headers=headers)
    assert (answer.status_code, answer.json()) == (201, {"id": 1})
    (received,) = world.dms.received
    assert (received.file.name, received.file.media_type) == ("folder/a b.pdf", "application/pdf")
    assert received.file.content == b"%PDF"
    assert received.headers["x-own"] == "1"


def test_a_form_is_stored_with_its_fields(api: httpx.Client, world: World) -> None:
    files = {"anything": ("não.pdf", b"%PDF", "application/pdf")}
    assert api.post("/dms/files", data={"document": "155"}, files=files).status_code == 201
    (received,) = world.dms.received
    assert (received.file.name, received.file.content) == ("não.pdf", b"%PDF")
    assert received.fields == {"document": "155"}


def test_a_repeated_key_stores_nothing_and_gives_the_first_id(api: httpx.Client, world: World) -> None:
    answers = [
        api.post("/dms/files", content=content, headers={"Idempotency-Key": key})
        for key, content in [("a", b"1"), ("b", b"2"), ("a", b"1")]
    ]
    assert [(answer.status_code, answer.json()["id"]) for answer in answers] == [(201, 1), (201, 2), (200, 1)]
    assert [received.idempotency_key for received in world.dms.received] == ["a", "b"]
    assert world.dms.repeats == 1
    other = api.post("/dms/files", content=b"other", headers={"Idempotency-Key": "a"})
    assert other.status_code == 422


def test_files_without_a_key_are_stored_each_time(api: httpx.Client, world: World) -> None:
    assert [api.post("/dms/files", content=b"1").json()["id"] for _ in range(2)] == [1, 2]
    assert world.dms.repeats == 0


def test_the_token_is_demanded_unless_there_is_none(client: httpx.Client, world: World) -> None:
    assert client.post("/dms/files", content=b"1").status_code == 401
    assert world.dms.received == []
    world.dms.token = None
    assert client.post("/dms/files", content=b"1").status_code == 201


def test_a_form_without_exactly_one_file_is_refused(api: httpx.Client, world: World) -> None:
    two = [("a", ("1", b"1")), ("b", ("2", b"2"))]
    assert api.post("/dms/files", files=two).status_code == 400
    assert api.post("/dms/files", files={"a": (None, "text")}).status_code == 400
    assert world.dms.received == []
