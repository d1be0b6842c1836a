"""What can be done while both tiers run: send out, call, browse, look; and what is known so far."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

import httpx

from processor.sending import Sending
from signspool.demo.looking import look
from signspool.demo.stage import Stage
from signspool.demo.values import BROWSER, Call, Look, Name, Sent, Waited, short
from signspool.outgoing import Wish, send_documents
from simulator.callbacks import send_callback
from simulator.files import make_pdf

_LOOK_SECONDS = 0.1


class View(Protocol):
    """Who is told what happens, while it happens."""

    def sent(self, sent: Sent) -> None:
        """A callback was answered."""

    def looked(self, look: Look) -> None:
        """This is the state of documents and folders now."""

    def said(self, text: str) -> None:
        """Something else that is worth a line."""


@dataclass(slots=True)
class Course:
    """What is known so far."""

    sent: list[Sent] = field(default_factory=list)
    waited: list[Waited] = field(default_factory=list)
    look: Look | None = None

    @property
    def receipts(self) -> set[str]:
        """The receipts that the door gave."""
        return {sent.words for sent in self.sent if sent.status == 200}


@dataclass(slots=True)
class Hand:
    """Does what is done from outside. `pace_seconds` is a pause after each callback, for people."""

    stage: Stage
    client: httpx.AsyncClient
    view: View
    course: Course
    pace_seconds: float

    @property
    def url(self) -> str:
        """Where the door is, as in `http://127.0.0.1:8080`."""
        return self.stage.url

    async def send_out(self, wish: Wish) -> Sending:
        """Send one made file out for signature, titled like its reference, as `documents send` does."""
        file = self.stage.home / "sent" / f"{wish.reference}.pdf"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(make_pdf(wish.reference))
        sending = await asyncio.to_thread(send_documents, self.stage.settings, replace(wish, files=[file]))
        for document in sending.documents:
            self.said(f"{short((wish.provider, document['document_id']))}: sent out, {file.name}")
        return sending

    async def send(self, call: Call) -> None:
        """Send a callback to the door."""
        began = time.monotonic()
        url = self.stage.door_url
        answer = await send_callback(self.client, url, call.provider, call.content, headers=call.headers)
        await self._answered(call.name, call.action, call.note, _Timed(answer, began))

    async def call(self, call: Call) -> None:
        """Send a callback to the door, and wait until it is recorded."""
        await self.send(call)
        await self.until_recorded()

    async def browse(self, name: Name, page: str, button: str) -> None:
        """Open a signing page, press a button, and go where the browser is sent then: to the door."""
        (await self.client.get(page)).raise_for_status()
        pressed = await self.client.post(page, files={"action": (None, button)})
        began = time.monotonic()
        answer = await self.client.get(pressed.headers["location"])
        await self._answered(name, BROWSER, "browser", _Timed(answer, began))

    async def _answered(self, name: Name, action: str, note: str, timed: _Timed) -> None:
        status = timed.answer.status_code
        sent = Sent(*name, action, note, status, _words(timed.answer), timed.milliseconds)
        self.course.sent.append(sent)
        self.view.sent(sent)
        await asyncio.sleep(self.pace_seconds)

    async def until_recorded(self) -> None:
        """Look until every callback that was accepted is recorded."""
        receipts = self.course.receipts
        await self.until(lambda look: receipts <= look.receipts)

    async def until(self, is_so: Callable[[Look], bool]) -> None:
        """Look until something is so."""
        while True:
            self.course.look = now = look(self.stage)
            self.view.looked(now)
            if is_so(now):
                return
            await asyncio.sleep(_LOOK_SECONDS)

    def said(self, text: str) -> None:
        """A line for whoever watches."""
        self.view.said(text)


class _Timed:
    """An answer, and how long it took."""

    def __init__(self, answer: httpx.Response, began: float) -> None:
        self.answer = answer
        self.milliseconds = round((time.monotonic() - began) * 1000, 1)


def _words(answer: httpx.Response) -> str:
    """The receipt's id, or what the problem is; of a browser, where it is sent on to."""
    if answer.is_redirect:
        return f"sent on: {httpx.URL(answer.headers['location']).host}"
    said = json.loads(answer.content)
    return str(said["id"]) if answer.status_code == 200 else f"{said['title']}: {said['detail']}"
