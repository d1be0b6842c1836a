"""Templates: what is filled in, what stays, and what is refused."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import template

VALUES = {"name": "v", "dms.cdFluxo": "1042", "ref.a-b.c_d": "x/y", "empty": ""}


def rendered(text: str) -> str:
    return template.parse(text).render(lambda name: VALUES.get(name, ""))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("plain {text}", "plain {text}"),
        ("a${name}b${dms.cdFluxo}", "avb1042"),
        ("${ref.a-b.c_d}", "x/y"),
        ("$${name} costs $$5", "${name} costs $5"),
        ("$$$${name}$$", "$${name}$"),
        ("${dms.none|a default text}", "a default text"),
        ("${dms.cdFluxo|unused}", "1042"),
        ("${empty|given}", "given"),
        ("${dms.none|}", ""),
    ],
)
def test_places_are_filled_in(text: str, expected: str) -> None:
    assert rendered(text) == expected


@pytest.mark.parametrize(
    "text", ["$", "$name", "${", "${}", "${Name}", "${a b}", "${x.y}", "${dms.}", "a$$$"]
)
def test_a_dollar_that_begins_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"write \$\$ for a dollar"):
        template.parse(text)


def test_only_what_is_filled_in_is_escaped() -> None:
    found = template.parse("/a/${ref.a-b.c_d}/${dms.none|d/e}")
    assert found.render(lambda name: VALUES.get(name, ""), escape=lambda text: quote(text, safe="")) == (
        "/a/x%2Fy/d%2Fe"
    )


def test_a_value_is_never_read_as_a_template() -> None:
    assert template.parse("${name}").render(lambda _name: "${password} $$") == "${password} $$"


@given(st.text())
def test_any_text_can_be_written(text: str) -> None:
    assert rendered(text.replace("$", "$$")) == text


def test_unknown_names_are_told_with_the_known_ones() -> None:
    with pytest.raises(
        ValueError, match=r"\$\{nmae\} is not known here; known are name, dms\.NAME, ref\.NAME"
    ):
        template.check("${nmae}", {"name"})
    with pytest.raises(ValueError, match=r"\$\{dms\.x\} is not known here; known are name$"):
        template.check("${dms.x}", {"name"}, registered=False)
