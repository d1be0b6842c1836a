"""Judges the copies of refused callbacks again, as the door would by the settings of now."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from callback_api.intake import bounded_head
from shared.errors import RefusedError, UnjudgeableError
from shared.events import Trust
from shared.names import entry_name
from shared.providers import AnyProvider
from shared.providers._base import Callback, Proof
from shared.record import Receipt, SpoolRecord, digest_of
from shared.spool import Entry


class Judgement(StrEnum):
    """How a copy was judged."""

    ACCEPTED = "accepted"
    """The door would take it now."""
    VOUCHED = "vouched"
    """It cannot be judged, and a person vouches for it."""
    REFUSED = "refused"
    """The door would refuse it still."""
    UNJUDGEABLE = "unjudgeable"
    """What its proof needs is not in the copy."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A judgement with its reason; `entry` and `content` are of the file for `spool/`, when it is let in."""

    judgement: Judgement
    reason: str
    trust: Trust = Trust.REFUSED
    entry: Entry | None = None
    content: bytes = b""


def judge_again(provider: AnyProvider, copy: SpoolRecord, *, now: datetime, vouch: bool) -> Judged:
    """Judge one copy against the time of its receipt; nothing is written.

    The receipt's id stays, so that a copy which is let in twice counts once. `vouch` lets in what cannot be
    judged; what was judged and is wrong stays out, and so does a copy that is not whole.
    """
    receipt, body = copy.receipt, copy.payload
    if receipt is None or receipt.refusal is None:
        return Judged(Judgement.UNJUDGEABLE, "this is no copy that the door made")
    if receipt.refusal.get("truncated"):
        return Judged(Judgement.UNJUDGEABLE, f"only {len(body)} of its {receipt.size_bytes} bytes were kept")
    if digest_of(body) != receipt.sha256:
        return Judged(Judgement.UNJUDGEABLE, "its body is not the one that came: somebody changed the file")
    callback = Callback(
        body=body,
        headers={**receipt.headers, "content-type": receipt.content_type},
        query=receipt.query,
        remote_address=receipt.remote_address,
        received_at=copy.received_at,
    )
    try:
        proof, judgement, reason = _prove(provider, receipt, callback, vouch=vouch)
        head = bounded_head(provider, callback)
    except UnjudgeableError as error:
        return Judged(Judgement.UNJUDGEABLE, str(error))
    except RefusedError as error:
        return Judged(Judgement.REFUSED, str(error))
    accepted = replace(
        receipt,
        trust=proof.trust,
        key_id=proof.key_id,
        refusal=None,
        judged_again={"at": now.isoformat(timespec="seconds"), **_refused_before(receipt)},
    )
    record = replace(
        copy,
        document_id=head.document_id,
        action=head.action,
        provider_number=provider.file_number,
        id_field=provider.id_field,
        receipt=accepted,
    )
    entry = Entry(copy.received_at.date().isoformat(), entry_name(head.document_id, receipt.id))
    return Judged(judgement, reason, proof.trust, entry, record.to_bytes())


def _refused_before(receipt: Receipt) -> dict[str, Any]:
    refusal = receipt.refusal or {}
    return {name: refusal[name] for name in ("status", "title", "detail") if name in refusal}


def _prove(
    provider: AnyProvider, receipt: Receipt, callback: Callback, *, vouch: bool
) -> tuple[Proof, Judgement, str]:
    noted = _noted_proof(receipt)
    if noted is not None:
        return noted, Judgement.ACCEPTED, f"its sender was {noted.trust} when it came"
    try:
        proof = provider.judge_again(callback)
    except UnjudgeableError as error:
        if not vouch:
            raise
        return Proof(Trust.VOUCHED), Judgement.VOUCHED, str(error)
    key = f" by the secret {proof.key_id}" if proof.key_id else ""
    return proof, Judgement.ACCEPTED, f"{proof.trust}{key}"


def _noted_proof(receipt: Receipt) -> Proof | None:
    """The proof that stood when the body alone was refused."""
    refusal = receipt.refusal or {}
    try:
        trust = Trust(refusal.get("trust", Trust.REFUSED))
    except ValueError:
        return None
    key_id = refusal.get("keyId")
    return None if trust is Trust.REFUSED else Proof(trust, key_id if isinstance(key_id, str) else None)
