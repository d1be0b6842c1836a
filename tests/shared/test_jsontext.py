"""JSON from strangers: strict, exact, bounded."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import jsontext
from shared.jsontext import MAX_DEPTH, Number, WholeNumber


@pytest.mark.parametrize("text", ["0", "-1", "999", "1000", "9007199254740993", "9" * 30, "7" * 100_000])
def test_a_whole_number_is_the_text_that_was_written(text: str) -> None:
    value = jsontext.loads(text)
    assert isinstance(value, WholeNumber)
    assert value == text


@pytest.mark.parametrize("text", ["1.0", "1e3", "-0.50", "1E400"])
def test_another_number_too(text: str) -> None:
    value = jsontext.loads(text)
    assert isinstance(value, Number)
    assert not isinstance(value, WholeNumber)
    assert value == text


@pytest.mark.parametrize(
    "text", ["NaN", "[Infinity]", '{"a": -Infinity}', "", "{", "[1,]", "'a'", '"\n"', "01", "1 2"]
)
def test_what_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  (the decoder's own words)
        jsontext.loads(text)


def test_of_duplicate_keys_the_last_counts() -> None:
    assert jsontext.parse_object('{"a": 1, "a": 2}') == {"a": "2"}


@pytest.mark.parametrize("pair", ["[]", "{}"])
def test_nesting_is_read_to_the_limit_and_no_further(pair: str) -> None:
    opening = '{"a":' if pair == "{}" else "["
    within = opening * MAX_DEPTH + "1" + pair[1] * MAX_DEPTH
    jsontext.loads(within)
    with pytest.raises(ValueError, match=f"deeper than {MAX_DEPTH}"):
        jsontext.loads(f"[{within}]")


def test_brackets_in_strings_do_not_count_as_nesting() -> None:
    text = json.dumps(["[{" * 5000, '\\"[' * 5000])
    assert jsontext.loads(text) == json.loads(text)


@given(st.recursive(st.none() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_what_the_standard_decoder_reads_is_read_alike(value: object) -> None:
    text = json.dumps(value)
    assert jsontext.loads(text) == json.loads(text)


@given(st.text('[]{}":,\\a1 ', max_size=80))
def test_no_text_is_an_error_of_another_kind(text: str) -> None:
    """And none is accepted that the standard decoder refuses."""
    try:
        expected = json.loads(text)
    except ValueError:
        with pytest.raises(ValueError):  # noqa: PT011  (the decoder's own words)
            jsontext.loads(text)
    else:
        assert json.dumps(jsontext.loads(text)).replace('"', "") == json.dumps(expected).replace('"', "")


@pytest.mark.parametrize(
    "text", ['"' * 400_001, "\\" * 400_000 + "[" * 300, '"' + "\\" * 400_001 + "[" * 300, '["' * 200_000]
)
def test_hostile_text_takes_linear_time(text: str) -> None:
    """A quadratic scan of these would take minutes; this is a bound, not a measurement."""
    started = time.process_time()
    with pytest.raises(ValueError):  # noqa: PT011  (the decoder's own words)
        jsontext.loads(text)
    assert time.process_time() - started < 10


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("null", "null"),
        ("true", "a boolean"),
        ("1", "a number"),
        ('"a"', "a text"),
        ("[]", "an array"),
        ("{}", "an object"),
    ],
)
def test_kinds_have_their_json_names(text: str, kind: str) -> None:
    assert jsontext.kind_of(jsontext.loads(text)) == kind
