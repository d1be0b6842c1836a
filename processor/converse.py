"""Sends what a provider's generator asks for, and hands it the answers, until it returns."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

from processor.sender import Sender
from shared.errors import PermanentError, SignspoolError
from shared.providers._base import Answer, FileContent, Request, Steps

T = TypeVar("T")

_SHORTEST_SECRET = 6
"""Shorter words of a request's headers are no secrets, and messages have to stay readable."""


async def converse(steps: Steps[T], ask: Callable[[Request], Awaitable[Answer]]) -> T:
    """Go through a conversation to its end.

    Raises:
        PermanentError: a request holds a letter that cannot be sent.
        SignspoolError: what the generator raised, or `ask` did and the generator let pass.
    """
    try:
        request = next(steps)
        while True:
            try:
                answer = await ask(request)
            except SignspoolError as error:
                # Mostly the end of it; but a conversation may go on without this answer.
                request = steps.throw(error)
            else:
                request = steps.send(_without_secrets(answer, request))
    except StopIteration as stop:
        result: T = stop.value
        return result
    except UnicodeError as error:
        raise PermanentError(
            "a registered reference holds a letter that cannot be sent: register it again"
        ) from error
    finally:
        steps.close()


async def ask_in_memory(sender: Sender, request: Request) -> Answer:
    """Send one request whose answer fits into memory."""
    return await sender.send(
        request.method,
        request.url,
        headers=request.headers,
        content=whole_content(request),
        silence_seconds=request.silence_seconds,
    )


def whole_content(request: Request) -> bytes | None:
    """The body of a request that needs no file.

    Raises:
        PermanentError: it needs one, and there are files in a sending only.
    """
    content = request.content
    if not isinstance(content, tuple):
        return content
    pieces = [piece for piece in content if not isinstance(piece, FileContent)]
    if len(pieces) != len(content):
        raise PermanentError("a request outside of a sending wants a file: report this")
    return b"".join(pieces)


def _without_secrets(answer: Answer, request: Request) -> Answer:
    """The answer, with what it repeats of our request's headers blotted out: its words end in messages."""
    if 200 <= answer.status < 300:
        return answer
    body = answer.body
    for value in request.headers.values():
        for word in (value, *value.split()):
            if len(word) >= _SHORTEST_SECRET:
                body = body.replace(word.encode(), b"***")
    return replace(answer, body=body)
