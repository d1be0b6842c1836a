"""What is blotted out of texts that people and other programs read, and what is not."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shared.masking import learn_secrets, mask, mask_all


@pytest.fixture(autouse=True)
def no_secrets() -> Iterator[None]:
    """Secrets are those of the process."""
    yield
    learn_secrets([])


@pytest.mark.parametrize(
    "number",
    ["52998224725", "529.982.247-25", "529982247-25", "529.98224725", "15076500565", "150765 00565"],
)
@pytest.mark.parametrize("around", ["{}", "cpf={}&x", "«{}».", "{}_name.json", "a, {}, b", "id:{}\n", "-{}-"])
def test_a_number_of_a_person_is_blotted_out_wherever_it_stands(number: str, around: str) -> None:
    assert mask(around.format(number)) == around.format("***")


@pytest.mark.parametrize(
    "text",
    [
        "1234567890 and 123456789012",
        "01a20287-5f4d-773a-8a9f-59cd0bdebdc2",
        "01a20287-5f4d-7736-8109-598200123456_11111111-2222-4333-8444-555555555555.json",
        "aa15076500565",
        "15076500565aa",
        "the answer was 200 after 1.5 s",
        "2026-11-22T09:12:35.924701Z",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    ],
)
def test_other_digits_stay(text: str) -> None:
    """Guids, digests and times above all: people search for them."""
    assert mask(text) == text


def test_secrets_are_blotted_out_also_as_basic_authentication_writes_them() -> None:
    learn_secrets(["hush-hush", "user:hush-hush", "short"])
    encoded = base64.b64encode(b"user:hush-hush").decode()
    assert mask(f"token hush-hush, Basic {encoded}, short") == "token ***, Basic ***, short"


def test_of_two_secrets_the_longer_is_blotted_out_as_a_whole() -> None:
    learn_secrets(["hush-hush", "hush-hush-more"])
    assert mask("hush-hush-more") == "***"


def test_lists_dictionaries_and_errors_are_looked_through() -> None:
    learn_secrets(["hush-hush"])
    at = datetime(2026, 11, 21, tzinfo=UTC)
    value = {
        "a": ["hush-hush", {"hush-hush": ("52998224725", 52998224725)}],
        "b": ValueError("hush-hush"),
        "c": {"hush-hush"},
        "d": Path("files/hush-hush"),
        "e": [None, True, 1.5, at],
    }
    assert mask_all(value) == {
        "a": ["***", {"***": ["***", 52998224725]}],
        "b": "ValueError('***')",
        "c": ["***"],
        "d": "files/***",
        "e": [None, True, 1.5, at],
    }
