"""Checks CMS signatures (p7s, p7m, CAdES), with their content inside or in a file beside them.

Runs in the process of `processor.signatures_process`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from asn1crypto import cms, core, pem
from pyhanko.sign.general import NonexistentAttributeError, find_unique_cms_attribute
from pyhanko.sign.validation import async_validate_cms_signature
from pyhanko.sign.validation.generic_cms import extract_self_reported_ts

from processor.signatures_verdict import KEY_USAGE, LOOK, Judge, NotRightError, named

_CONTAINER = "signature file"


async def check_cms(path: Path, judge: Judge, beside: Sequence[Path]) -> tuple[int, Path | None]:
    """How many signatures a file carries, all of which are right, and the file of `beside` that they are of.

    None in place of the latter says that their content is inside.

    Raises:
        NotRightError: one of them is not, or their content is nowhere.
        Exception: of whatever kind, it cannot be read.
    """
    signed = _signed_data(path)
    signers = list(signed["signer_infos"])
    if not signers:
        raise NotRightError(f"the signature file carries no signature: {LOOK}")
    content = signed["encap_content_info"]["content"]
    source = _source_of(signers[0], beside) if isinstance(content, core.Void) else None
    for signer in signers:
        await _check(signed, signer, source, judge)
    return len(signers), source


def _signed_data(path: Path) -> cms.SignedData:
    data = path.read_bytes()
    if pem.detect(data):
        _, _, data = pem.unarmor(data)
    content = cms.ContentInfo.load(data, strict=True)
    if content["content_type"].native != "signed_data":
        raise NotRightError(f"the signature file is of a form that cannot be checked: {LOOK}")
    return content["content"]


def _source_of(signer: cms.SignerInfo, beside: Sequence[Path]) -> Path:
    """The file that a detached signature is of.

    Raises:
        NotRightError: there is none.
    """
    try:
        digest = find_unique_cms_attribute(signer["signed_attrs"], "message_digest").native
    except NonexistentAttributeError:
        # Without signed attributes only its own value tells, and that needs the content first.
        raise NotRightError(f"the signature file is of a form that cannot be checked: {LOOK}") from None
    algorithm = signer["digest_algorithm"]["algorithm"].native
    for path in beside:
        if _digest(path, algorithm) == digest:
            return path
    claimed = extract_self_reported_ts(signer)
    raise NotRightError(
        f"{named(claimed, _CONTAINER)} fits none of the files that came with it: the file was changed after "
        f"signing, or it is not fetched: {LOOK}"
    )


async def _check(signed: cms.SignedData, signer: cms.SignerInfo, source: Path | None, judge: Judge) -> None:
    claimed = extract_self_reported_ts(signer)
    name = named(claimed, _CONTAINER)
    content = signed["encap_content_info"]["content"]

    def digest(algorithm: str) -> bytes:
        if source is not None:
            return _digest(source, algorithm)
        return hashlib.new(algorithm, bytes(content)).digest()

    at = await judge.time_of(name, signer, claimed, digest)
    status = await async_validate_cms_signature(
        _with_one_signer(signed, signer),
        raw_digest=None if source is None else digest(signer["digest_algorithm"]["algorithm"].native),
        validation_context=judge.context(at),
        key_usage_settings=KEY_USAGE,
    )
    judge.judge(name, status)


def _with_one_signer(signed: cms.SignedData, signer: cms.SignerInfo) -> cms.SignedData:
    """The same for one of several people who signed: the library takes them one at a time."""
    if len(signed["signer_infos"]) == 1:
        return signed
    one = cms.SignedData(
        {name: signed[name] for name in ("version", "digest_algorithms", "encap_content_info")}
    )
    one["certificates"] = signed["certificates"]
    one["signer_infos"] = cms.SignerInfos([signer])
    return one


def _digest(path: Path, algorithm: str) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).digest()
