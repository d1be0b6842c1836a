"""Callbacks of Rest PKI Core on their way: sent from a thread, and noted as the panel shows them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx

from simulator.callbacks import Body


@dataclass
class WebhookCall:
    """One callback. `statuses` has one for each try, None where there was no answer."""

    document_id: str
    statuses: list[int | None] = field(default_factory=list)


@dataclass(frozen=True)
class WebhookOrder:
    """What is sent where, and how often it is tried."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: Body = field(repr=False)
    tries: int
    pause_seconds: float
    timeout_seconds: float


def begin(order: WebhookOrder, call: WebhookCall) -> None:
    """Send it, without waiting for that."""
    threading.Thread(target=_send, args=(order, call), name="restpki webhook", daemon=True).start()


def _send(order: WebhookOrder, call: WebhookCall) -> None:
    headers = {"Content-Type": "application/json", **order.headers}
    content = json.dumps(order.body, ensure_ascii=False).encode("utf-8")
    with httpx.Client(timeout=order.timeout_seconds, trust_env=False) as client:
        for number in range(order.tries):
            if number:
                time.sleep(order.pause_seconds)
            try:
                status = client.post(order.url, content=content, headers=headers).status_code
            except httpx.HTTPError:
                call.statuses.append(None)
                continue
            call.statuses.append(status)
            if 200 <= status < 300:
                return
