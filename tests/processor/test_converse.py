"""Conversations: every request is answered or its failure told, and a conversation may outlive a failure."""

from __future__ import annotations

import asyncio

import pytest

from processor.converse import converse
from shared.errors import NoAnswerError, TransientError
from shared.providers._base import Answer, Request, Steps

FIRST, SECOND = Request("GET", "https://x.test/1"), Request("GET", "https://x.test/2")


async def failing_first(request: Request) -> Answer:
    if request is FIRST:
        raise NoAnswerError("silent")
    return Answer(200, {}, b"second")


def patient() -> Steps[bytes]:
    try:
        answer = yield FIRST
    except TransientError:
        answer = yield SECOND
    return answer.body


def impatient() -> Steps[bytes]:
    answer = yield FIRST
    return answer.body


def resigned() -> Steps[str]:
    try:
        yield FIRST
    except TransientError as error:
        return f"without: {error}"
    return "with"


def test_a_conversation_may_go_on_without_an_answer() -> None:
    assert asyncio.run(converse(patient(), failing_first)) == b"second"
    assert asyncio.run(converse(resigned(), failing_first)) == "without: silent"


def test_a_failure_that_it_does_not_expect_ends_it() -> None:
    with pytest.raises(NoAnswerError, match="silent"):
        asyncio.run(converse(impatient(), failing_first))
