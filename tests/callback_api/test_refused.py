"""What the door turns away: the answer names what is wrong, and only a bounded copy is kept."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog

from callback_api.intake import MAX_HEAD_TEXT_BYTES
from shared.body import Encoding
from shared.clock import Clock
from shared.events import Trust
from shared.record import digest_of
from shared.spool import Folder
from tests.callback_api.door import (
    BODY,
    SECRET,
    URL,
    contents,
    in_process,
    make_settings,
    paths,
    problem,
    records,
)


@pytest.mark.parametrize("headers", [{}, {"X-Callback-Secret": "guessed-secret"}])
def test_an_unproven_sender_is_refused_and_a_copy_is_kept_without_the_secret(
    tmp_path: Path, headers: dict[str, str]
) -> None:
    settings = make_settings(tmp_path)
    with in_process(settings) as door:
        answer = door.ask(headers=headers)
    assert answer.status_code == 401
    assert problem(answer)["title"] == "Not proven"
    assert not paths(settings.spool.root)
    (copy,) = records(settings.spool.root, Folder.REFUSED)
    assert copy.receipt is not None
    assert (copy.document_id, copy.payload, copy.receipt.trust) == ("155", BODY, Trust.REFUSED)
    assert copy.receipt.refusal == {"status": 401, "title": "Not proven", "detail": answer.json()["detail"]}
    assert b"guessed-secret" not in contents(settings.spool.root, Folder.REFUSED)[0]


def test_a_secret_in_the_query_reaches_neither_file_nor_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Right or wrong, accepted or refused."""
    settings = make_settings(
        tmp_path, providers=f'[providers.ssign]\nsecret = "{SECRET}"\nauthentication = "query"\n'
    )
    with (
        caplog.at_level(logging.DEBUG),
        structlog.testing.capture_logs() as lines,
        in_process(settings) as door,
    ):
        assert door.ask(url=f"{URL}&secret={SECRET}").status_code == 200
        assert door.ask(url=f"{URL}&secret=wrong-{SECRET}").status_code == 401
        assert door.ask(url=f"{URL}&secret={SECRET}", content=b"{}").status_code == 422
    kept = contents(settings.spool.root) + contents(settings.spool.root, Folder.REFUSED)
    assert len(kept) == 3
    assert not [content for content in kept if SECRET.encode() in content]
    assert SECRET not in repr(lines)
    ours = [record for record in caplog.records if not record.name.startswith("httpx")]
    assert SECRET not in repr([record.getMessage() for record in ours])


UNUSABLE = {
    b"": "not JSON",
    b"hello": "not JSON",
    b'{"envelopeId": 1, "action": "A"': "not JSON",
    b'{"envelopeId": NaN, "action": "A"}': "NaN is not JSON",
    b"[1]": "an array",
    b"155": "a number",
    b'{"action": "A"}': "envelopeId is missing",
    b'{"envelopeId": 1}': "action is missing",
    b'{"envelopeId": " ", "action": "A"}': "envelopeId is empty",
    b'{"envelopeId": {}, "action": "A"}': "envelopeId must be a text or a whole number, this is an object",
    b'{"envelopeId": 1.5, "action": "A"}': "envelopeId must be",
    b'{"envelopeId": 1, "action": ""}': "action is empty",
    b"\xe9\xff": "not UTF-8",
    b'{"envelopeId": "%b", "action": "A"}'
    % (b"x" * (MAX_HEAD_TEXT_BYTES + 1)): "envelopeId is longer than 65536",
    b'{"envelopeId": "%b", "action": "A"}'
    % ("é".encode() * (MAX_HEAD_TEXT_BYTES // 2) + b"x"): "65536 bytes",
    b'{"envelopeId": %b, "action": "A"}'
    % (b"7" * (MAX_HEAD_TEXT_BYTES + 1)): "envelopeId is longer than 65536",
    b'{"envelopeId": 1, "action": "%b"}' % (b"x" * (MAX_HEAD_TEXT_BYTES + 1)): "action is longer than 65536",
    b"[" * 5000 + b"]" * 5000: "nested deeper",
}


@pytest.mark.parametrize(
    ("body", "said"), UNUSABLE.items(), ids=[key[:30].decode("latin-1") for key in UNUSABLE]
)
def test_an_unusable_body_is_refused_by_naming_what_is_missing(
    tmp_path: Path, body: bytes, said: str
) -> None:
    """And a copy is kept, byte for byte, without an id that is too long."""
    settings = make_settings(tmp_path, spool='refused_max_bytes = "1MiB"')
    with in_process(settings) as door:
        answer = door.ask(content=body)
    assert answer.status_code == 422
    assert said in str(problem(answer)["detail"])
    assert not paths(settings.spool.root)
    (path,) = paths(settings.spool.root, Folder.REFUSED)
    assert path.name.startswith("unknown_")
    (copy,) = records(settings.spool.root, Folder.REFUSED)
    assert (copy.payload, copy.document_id, copy.action) == (body, "", "")
    assert copy.receipt is not None
    assert copy.receipt.refusal is not None
    assert copy.receipt.refusal["status"] == 422


def test_a_body_above_the_limit_is_refused_and_not_kept(tmp_path: Path) -> None:
    """The limit itself is allowed."""
    settings = make_settings(tmp_path, api='max_body = "1KiB"')
    with in_process(settings) as door:
        assert door.ask(content=BODY + b" " * (1024 - len(BODY))).status_code == 200
        answer = door.ask(content=BODY + b" " * (1025 - len(BODY)))
    assert answer.status_code == 413
    assert answer.headers["connection"] == "close"
    assert "1024 bytes" in str(problem(answer)["detail"])
    assert len(paths(settings.spool.root)) == 1
    assert not paths(settings.spool.root, Folder.REFUSED)


def test_a_refused_copy_is_cut_and_says_so(tmp_path: Path) -> None:
    """Its digest and size are those of the whole body."""
    settings = make_settings(tmp_path, spool='refused_max_bytes = "10B"')
    body = b'{"envelopeId": 155, "act'
    with in_process(settings) as door:
        assert door.ask(content=body).status_code == 422
        assert door.ask(content=b"x" + "é".encode() * 9).status_code == 422
    cut, other = records(settings.spool.root, Folder.REFUSED)
    assert cut.receipt is not None
    assert other.receipt is not None
    assert cut.payload == body[:10]
    assert (cut.receipt.sha256, cut.receipt.size_bytes) == (digest_of(body), len(body))
    assert cut.receipt.refusal is not None
    assert cut.receipt.refusal["truncated"] is True
    assert (cut.receipt.encoding, other.receipt.encoding) == (Encoding.TEXT, Encoding.BASE64)


def test_so_many_refused_copies_a_day_and_more_tomorrow(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, spool="refused_max_per_day = 2")
    now = [datetime(2041, 11, 21, 12, tzinfo=UTC)]
    with in_process(settings, clock=Clock(UTC, lambda: now[0])) as door:
        for _ in range(4):
            assert door.ask(headers={}).status_code == 401
        now[0] += timedelta(days=1)
        assert door.ask(headers={}).status_code == 401
    days = [path.parent.name for path in paths(settings.spool.root, Folder.REFUSED)]
    assert sorted(days) == ["2041-11-21", "2041-11-21", "2041-11-22"]


def test_the_refused_copies_of_an_earlier_process_count(tmp_path: Path) -> None:
    """A restart does not begin the day anew."""
    settings = make_settings(tmp_path, spool="refused_max_per_day = 3")
    clock = Clock(UTC, lambda: datetime(2041, 11, 21, 12, tzinfo=UTC))
    kept = []
    for _ in range(3):
        with in_process(settings, clock=clock) as door:
            for _ in range(2):
                assert door.ask(headers={}).status_code == 401
        kept.append(len(paths(settings.spool.root, Folder.REFUSED)))
    assert kept == [2, 3, 3]


def test_no_refused_copy_when_the_settings_want_none(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, spool="keep_refused = false")
    with in_process(settings) as door:
        assert door.ask(headers={}).status_code == 401
    assert not paths(settings.spool.root, Folder.REFUSED)


def test_a_refused_copy_that_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    (settings.spool.root / "refused").rmdir()
    (settings.spool.root / "refused").write_text("in the way")
    with structlog.testing.capture_logs() as lines, in_process(settings) as door:
        assert door.ask(headers={}).status_code == 401
    assert "refused.not_kept" in [line["event"] for line in lines]
