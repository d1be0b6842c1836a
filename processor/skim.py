"""Asks for JSON whose files nobody needs: they pass by, the rest is kept."""

from __future__ import annotations

import asyncio

from processor.converse import ask_in_memory, whole_content
from processor.jsontree import JsonTreeDecoder
from processor.sender import StreamingSender
from shared.errors import PermanentError
from shared.providers._base import Answer, Into, Request

_BLOCK_BYTES = 512 * 1024


class _Nowhere:
    """Takes the content of a file, and keeps none of it."""

    def write(self, data: bytes, /) -> None:
        """Let bytes pass."""


async def ask_and_skim(sender: StreamingSender, request: Request) -> Answer:
    """Send one request whose answer fits into memory, but for the files of an `Into.JSON_TREE`: in their
    places stand numbers, as always, and `files` is empty.

    Raises:
        PermanentError: the answer wants to be stored elsewhere.
        SignspoolError: what the sender, or reading the JSON, raised.
    """
    if request.into is Into.MEMORY:
        return await ask_in_memory(sender, request)
    if request.into is not Into.JSON_TREE:
        raise PermanentError("asking stores no files: report this")
    async with sender.stream(
        request.method,
        request.url,
        headers=request.headers,
        content=whole_content(request),
        silence_seconds=request.silence_seconds,
    ) as streamed:
        if not 200 <= streamed.status < 300:
            return Answer(streamed.status, streamed.headers, await streamed.beginning())
        tree = JsonTreeDecoder(_Nowhere, request.file_fields)
        block = bytearray()
        async for chunk in streamed.chunks():
            block += chunk
            if len(block) >= _BLOCK_BYTES:
                # In a thread: a hundred megabytes of base64 hold up nobody else.
                await asyncio.to_thread(tree.feed, bytes(block))
                block.clear()
        await asyncio.to_thread(tree.feed, bytes(block))
        body, _ = tree.close()
        return Answer(streamed.status, streamed.headers, body)
