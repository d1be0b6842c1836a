"""What the demo says at its end: tables and a verdict for people, or one JSON object for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from shared.spool import Folder
from signspool.demo.expectations import Expectation
from signspool.demo.facts import Facts
from signspool.demo.script import SSIGN
from signspool.demo.stage import ARCHIVE, SMARTSHARE
from signspool.demo.values import short
from signspool.demo.view import history_text
from signspool.output import count_text, print_table, say

_DIGEST_CHARACTERS = 24


def print_report(facts: Facts, checked: Sequence[Expectation]) -> None:
    """All tables, what did not hold, and the verdict."""
    _print_callbacks(facts)
    _print_documents(facts)
    _print_files(facts)
    _print_folders(facts)
    _print_trouble(facts)
    _print_asking(facts)
    failed = [item for item in checked if not item.holds]
    _heading("Verdict")
    for item in failed:
        say(f"FAILED: {item.text}: {item.found}")
    if failed:
        say(f"{len(failed)} of {count_text(len(checked), 'expectation')} failed, in {facts.seconds:g} s")
        return
    say(
        f"all {len(checked)} expectations hold: {count_text(len(facts.sent), 'callback')}, "
        f"{count_text(len(facts.documents), 'document')}, {len(facts.arrived)} deliveries "
        f"in {facts.seconds:.1f} s"
    )


def as_json(facts: Facts, checked: Sequence[Expectation], kept: Path | None) -> dict[str, Any]:
    """The same as one value."""
    value = asdict(facts)
    value["served"] = [
        {"provider": provider, "document_id": document_id, "sha256": list(digests)}
        for (provider, document_id), digests in facts.served.items()
    ]
    value["advanced"] = [
        {"provider": provider, "document_id": document_id} for provider, document_id in facts.advanced
    ]
    return {
        "ok": all(item.holds for item in checked),
        "kept": str(kept) if kept is not None else None,
        **value,
        "expectations": [asdict(item) for item in checked],
    }


def what_to_try(home: Path) -> list[str]:
    """Lines for whoever kept the folder."""
    data = home / "data"
    return [
        f"kept in {home}; try:",
        f"  ls {data}/*/*",
        f"  jq . {data}/{Folder.REFUSED}/*/*.json",
        f"  signspool --config {home}/signspool.toml documents ls",
    ]


def _print_callbacks(facts: Facts) -> None:
    _heading("Callbacks: what was sent, what the door answered")
    rows = []
    for number, sent in enumerate(facts.sent, start=1):
        answer = "accepted" if sent.status == 200 else sent.words.partition(":")[0]
        name = short((sent.provider, sent.document_id))
        rows.append((number, name, sent.action, sent.note, f"{sent.status} {answer}"))
    print_table(("", "document", "action", "note", "answer"), rows)


def _print_documents(facts: Facts) -> None:
    _heading("Documents: status, and what each callback, or asking, led to")
    rows = [(short(item.name), item.status, history_text(item)) for item in facts.documents]
    print_table(("document", "status", "history"), rows)


def _print_files(facts: Facts) -> None:
    _heading("Signed files: how often each destination holds what the provider served")
    held = Counter((file.provider, file.document_id, file.sha256, file.destination) for file in facts.arrived)
    served = {(*name, sha256) for name, digests in facts.served.items() for sha256 in digests}
    rows = []
    both = served | {key[:3] for key in held}
    for provider, document_id, sha256 in sorted(both, key=lambda item: (item[0] != SSIGN, item)):
        rows.append(
            (
                short((provider, document_id)),
                sha256[:_DIGEST_CHARACTERS]
                + ("" if (provider, document_id, sha256) in served else " ALTERED"),
                *(f"{held[provider, document_id, sha256, place]}x" for place in (SMARTSHARE, ARCHIVE)),
                f"{facts.advanced.count((provider, document_id))}x",
            )
        )
    print_table(("document", "sha-256", SMARTSHARE, ARCHIVE, "advanced"), rows)


def _print_folders(facts: Facts) -> None:
    _heading("Folders: what lies where, and why")
    reasons = Counter((item.folder, item.reason) for item in facts.lying)
    rows = [(f"{folder}/", count, reason) for (folder, reason), count in reasons.items()]
    filled = {folder for folder, _ in reasons}
    rows += [(f"{folder}/", 0, "") for folder in Folder if folder not in filled]
    print_table(("folder", "entries", "reason"), rows)


def _print_trouble(facts: Facts) -> None:
    _heading("Trouble on the way: what waited, what was tried again")
    rows = [
        (f"{item.provider} {item.document_id}", f"seen in {Folder.DEFERRED}/", item.reason)
        for item in facts.waited
    ]
    rows += [(retry.lane, _attempts(facts, retry.task), retry.reason) for retry in facts.retries]
    print_table(("who", "what", "reason"), rows)


def _print_asking(facts: Facts) -> None:
    _heading("Confirmed to the provider, after the file was stored (UTC)")
    rows = [
        (
            short((item.provider, item.document_id)),
            item.status,
            _time(item.stored_at) if item.stored_at is not None else "no file",
            _time(item.confirmed_at),
        )
        for item in facts.confirmed
    ]
    print_table(("document", "update", "stored", "confirmed"), rows)
    _heading("Calls to providers that count them")
    calls = [(item.provider, item.arrived, item.booked, item.limit) for item in facts.quotas]
    print_table(("provider", "came there", "booked", "allowed in a month"), calls)


def _time(instant: str) -> str:
    """Hours to milliseconds of an ISO 8601 instant."""
    return instant[11:23]


def _attempts(facts: Facts, task: str) -> str:
    rows = [row for document in facts.documents for row in document.owed]
    most = max((row.attempts for row in rows if row.task == task), default=0)
    return f"{task}, {count_text(most, 'attempt')}"


def _heading(text: str) -> None:
    say("")
    say(text)
