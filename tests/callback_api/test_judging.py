"""A time stamp in a proof counts against the time when the callback came, not when it is judged again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from callback_api.judging import Judgement, judge_again
from shared.body import Encoding
from shared.errors import NotProvenError
from shared.events import Trust
from shared.providers import provider_classes
from shared.providers._base import Callback, Proof, Provider
from shared.record import Receipt, SpoolRecord, digest_of

CAME_AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
BODY = b'{"envelopeId": 155, "action": "COMPLETED"}'


class StampedProvider(provider_classes()["ssign"]):  # type: ignore[misc]  # which class that is, is found at run time
    """Takes only what was sent at most five minutes before it came."""

    def authenticate(self, callback: Callback) -> Proof:
        sent_at = datetime.fromisoformat(callback.headers["x-sent-at"])
        if abs(callback.received_at - sent_at) > timedelta(minutes=5):
            raise NotProvenError("too old")
        return Proof(Trust.PROVEN)

    def judge_again(self, callback: Callback) -> Proof:
        return self.authenticate(callback)


@pytest.mark.parametrize(
    ("age", "judgement"),
    [(timedelta(minutes=4), Judgement.ACCEPTED), (timedelta(minutes=6), Judgement.REFUSED)],
)
def test_the_time_of_the_receipt_decides(age: timedelta, judgement: Judgement) -> None:
    provider: Provider[object] = StampedProvider("ssign", StampedProvider.Settings())  # type: ignore[type-var]
    headers = {"x-sent-at": (CAME_AT - age).isoformat()}
    refusal = {"status": 401, "title": "Not proven", "detail": "wrong"}
    receipt = Receipt(
        "1", "ssign", Encoding.JSON, digest_of(BODY), len(BODY), headers=headers, refusal=refusal
    )
    copy = SpoolRecord(CAME_AT, "155", "COMPLETED", 1, BODY, receipt=receipt)
    judged = judge_again(provider, copy, now=CAME_AT + timedelta(days=10), vouch=False)
    assert judged.judgement is judgement
