"""Callbacks without a pause until standard input ends, by `python load.py URL THREADS SECRET...`; then
says in JSON how it went. One that is refused for its secret is sent again with the next one.

Stands alone, so that any Python can run it. Every second thread makes a new connection for each request, as
most providers do; the others keep theirs, as proxies do.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from itertools import count
from urllib.parse import urlsplit

_PATIENCE_SECONDS = 60.0
_PAUSE_SECONDS = 0.01
"""Some hundred callbacks a second are enough to have one in hand at every moment."""


class Sender(threading.Thread):
    """One that posts callbacks; `done` are the receipts, `failed` what went wrong."""

    def __init__(self, url: str, secrets: list[str], number: int, stop: threading.Event) -> None:
        super().__init__()
        parts = urlsplit(url)
        self._host, self._path = parts.netloc, f"{parts.path}?{parts.query}"
        self._secrets = secrets
        self._number = number
        self._stop_asked = stop
        self.done: list[str] = []
        self.failed: list[str] = []
        self.longest_seconds = 0.0

    def run(self) -> None:
        keeps = self._number % 2 == 1
        connection = None
        for turn in count():
            if self._stop_asked.is_set():
                return
            connection = connection or http.client.HTTPConnection(self._host, timeout=_PATIENCE_SECONDS)
            began = time.monotonic()
            try:
                is_last = self._post(connection, f"{self._number}-{turn}", keeps=keeps)
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(repr(error))
                is_last = True
            self.longest_seconds = max(self.longest_seconds, time.monotonic() - began)
            if is_last:
                connection.close()
                connection = None
            time.sleep(_PAUSE_SECONDS)

    def _post(self, connection: http.client.HTTPConnection, document: str, *, keeps: bool) -> bool:
        """Send one callback; whether its connection is over."""
        body = json.dumps({"envelopeId": document, "action": "EXPIRED"})
        for secret in self._secrets:
            headers = {"X-Callback-Secret": secret, "Connection": "keep-alive" if keeps else "close"}
            connection.request("POST", self._path, body=body, headers=headers)
            answer = connection.getresponse()
            content = answer.read()
            if answer.status != 401:
                break
        if answer.status == 200:
            self.done.append(json.loads(content)["id"])
        else:
            self.failed.append(f"{answer.status} {content[:200]!r}")
        return answer.will_close


def main() -> None:
    url, threads, *secrets = sys.argv[1:]
    stop = threading.Event()
    senders = [Sender(url, secrets, number, stop) for number in range(int(threads))]
    for sender in senders:
        sender.start()
    sys.stdin.read()
    stop.set()
    for sender in senders:
        sender.join()
    print(
        json.dumps(
            {
                "done": [receipt for sender in senders for receipt in sender.done],
                "failed": [error for sender in senders for error in sender.failed],
                "longest_seconds": max(sender.longest_seconds for sender in senders),
            }
        )
    )


if __name__ == "__main__":
    main()
