"""What every provider owes, whichever it is. No provider is named here."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

import pytest

from shared.errors import NotProvenError, RefusedError, UnusableBodyError, WaitingError
from shared.events import Event, EventType, Origin, Trust
from shared.providers import AnyProvider, provider_classes
from shared.providers._base import DocumentView, Head, Proof, ReturnSettings
from tests.providers.conftest import SAMPLES, make_callback, make_provider, proof_of

ROOT = Path(__file__).parent.parent.parent
NAMES = list(provider_classes())
HEADINGS = [
    "Callback",
    "Actions",
    "Authentication",
    "Answer",
    "Signed file",
    "Settings",
    "What is not public",
]


def samples_of(name: str) -> list[Path]:
    return sorted(path for path in (SAMPLES / name).iterdir() if path.is_file())


calls_back = pytest.mark.parametrize(
    "name", [name for name in NAMES if provider_classes()[name].calls_back], indirect=True
)
"""Of those alone that call us."""


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def provider(name: str) -> AnyProvider:
    made: AnyProvider = make_provider(name)
    return made


def test_the_name_is_the_file_and_fits_an_address(name: str) -> None:
    assert re.fullmatch(r"[a-z0-9_]+", name)


def test_numbers_are_unique() -> None:
    numbers = [provider.number for provider in provider_classes().values()]
    assert len(set(numbers)) == len(numbers)


def test_module_docstring_has_its_five_lines(name: str) -> None:
    text = inspect.getdoc(sys.modules[provider_classes()[name].__module__]) or ""
    for word in ("Source:", "Proof:", "Answer:", "Resends:", "File:"):
        assert re.search(rf"^{word} +\S", text, re.MULTILINE), word


def test_there_are_samples_tests_and_a_page(name: str) -> None:
    assert samples_of(name)
    assert (ROOT / "tests" / "providers" / f"test_{name}.py").exists()
    page = (ROOT / "docs" / "providers" / f"{name}.md").read_text()
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == HEADINGS


def test_the_page_names_every_action_reference_and_setting(name: str, provider: AnyProvider) -> None:
    page = (ROOT / "docs" / "providers" / f"{name}.md").read_text()
    # What every provider has is told once, on the page of all settings.
    settings = provider.Settings.model_fields.keys() - {"expires"}
    for word in (*provider.event_types, *provider.references, *settings):
        assert f"`{word}`" in page, word


def test_every_sample_becomes_known_events_about_its_document(name: str, provider: AnyProvider) -> None:
    for path in samples_of(name):
        callback = make_callback(path.read_bytes())
        head = provider.callback_id(callback)
        events = provider.parse(head, callback)
        assert events, path.name
        for event in events:
            assert isinstance(event, Event)
            assert event.type is not EventType.UNKNOWN, path.name
            assert event.document_id
            assert event.key


def test_the_same_callback_twice_says_the_same(name: str, provider: AnyProvider) -> None:
    for path in samples_of(name):
        callback = make_callback(path.read_bytes())
        head = provider.callback_id(callback)
        assert provider.parse(head, callback) == provider.parse(head, make_callback(path.read_bytes()))


def test_one_that_never_calls_accepts_nobody() -> None:
    for name in NAMES:
        if not provider_classes()[name].calls_back:
            provider = make_provider(name)
            assert provider.why_closed() is None
            for path in samples_of(name):
                with pytest.raises(NotProvenError, match="never calls"):
                    provider.authenticate(make_callback(path.read_bytes()))


@calls_back
def test_without_a_secret_the_door_is_closed(name: str) -> None:
    made = provider_classes()[name]
    closed = made(name, made.Settings()).why_closed()
    assert closed is not None
    assert 'authentication = "none"' in closed


@calls_back
def test_it_opens_to_anybody_only_when_told_so_in_so_many_words(provider: AnyProvider) -> None:
    assert provider.why_closed() is None
    assert provider.authenticate(make_callback(b"{}")) == Proof(Trust.OPEN)


@calls_back
def test_a_right_secret_is_proven_and_a_wrong_or_missing_one_is_not(name: str) -> None:
    provider = make_provider(name, secrets={"old": "s3cret-one", "new": "s3cret-two"})
    assert provider.why_closed() is None
    for key_id, secret in (("old", "s3cret-one"), ("new", "s3cret-two")):
        right = proof_of(provider, secret, b"{}")
        assert provider.authenticate(make_callback(b"{}", headers=right)) == Proof(Trust.PROVEN, key_id)
    [(header, value)] = right.items()
    for headers in (
        {},
        {header: ""},
        {header: value[:6]},
        {header: value + "o"},
        {header: "ação"},
        proof_of(provider, "s3cret-three", b"{}"),
        {"authorization": value},
    ):
        with pytest.raises(NotProvenError) as refused:
            provider.authenticate(make_callback(b"{}", headers=headers))
        assert "s3cret" not in str(refused.value)
        assert value not in str(refused.value)


@calls_back
def test_a_secret_with_letters_beyond_ascii_fits_as_it_comes_off_the_wire(name: str) -> None:
    provider = make_provider(name, secret="ação-s3cret")
    headers = proof_of(provider, "ação-s3cret", b"{}")
    assert provider.authenticate(make_callback(b"{}", headers=headers)).trust is Trust.PROVEN


def test_what_can_carry_a_secret_is_not_kept(name: str) -> None:
    made = provider_classes()[name]
    for header in made.kept_headers:
        assert not re.search(r"auth|secret|token|key|cookie|password", header)


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b'"text"', b"{}", b"{", b"NaN", b"\xff", b'{"action": 1}']
)
def test_a_body_without_id_and_action_is_refused_with_a_reason(provider: AnyProvider, body: bytes) -> None:
    with pytest.raises(UnusableBodyError) as refused:
        provider.callback_id(make_callback(body))
    assert isinstance(refused.value, RefusedError)
    assert len(str(refused.value)) > 10


def test_an_action_in_no_table_is_unknown_and_no_crash(provider: AnyProvider) -> None:
    assert provider.event_type("SIGNED-BY-BIRD") is EventType.UNKNOWN


def test_settings_can_teach_further_actions(name: str) -> None:
    provider = make_provider(name, actions={"signed-by-bird": "completed"})
    assert provider.event_type(" Signed-By-Bird ") is EventType.COMPLETED


def test_the_title_and_every_reference_are_words_for_people(provider: AnyProvider) -> None:
    assert provider.title
    for sentence in provider.references.values():
        assert len(sentence.split()) > 3


def test_a_browser_that_brings_nothing_is_refused_with_a_reason(provider: AnyProvider) -> None:
    with pytest.raises(UnusableBodyError) as refused:
        provider.returned(make_callback(b"", query={"provider": provider.name}))
    assert len(str(refused.value)) > 10


@pytest.mark.parametrize(
    "name",
    [name for name, made in provider_classes().items() if issubclass(made.Settings, ReturnSettings)],
)
def test_a_browser_that_comes_back_claims_nothing_about_any_document(name: str) -> None:
    provider = make_provider(name)
    for action in ("returned", *provider.event_types):
        callback = make_callback(b"{}")
        callback.origin = Origin.RETURN
        assert provider.parse(Head("1", action), callback) == []


def test_fetching_without_what_it_takes_says_what_to_type(name: str) -> None:
    provider = make_provider(name)
    with pytest.raises(WaitingError) as waiting:
        next(provider.signed_file(DocumentView("1", {})))
    assert name in str(waiting.value)
