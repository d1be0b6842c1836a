"""Checks the signatures inside a PDF (PAdES, and the older adbe.pkcs7.detached).

Runs in the process of `processor.signatures_process`.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from pyhanko.pdf_utils.crypt import AuthStatus, StandardSecurityHandler
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.diff_analysis import ModificationLevel
from pyhanko.sign.fields import enumerate_sig_fields
from pyhanko.sign.validation import async_validate_pdf_signature, async_validate_pdf_timestamp
from pyhanko.sign.validation.pdf_embedded import EmbeddedPdfSignature
from pyhanko.sign.validation.status import ModificationInfo, SignatureCoverageLevel

from processor.signatures_verdict import KEY_USAGE, LOOK, Judge, NotRightError, named

_SIGNATURE, _TIME_STAMP = "/Sig", "/DocTimeStamp"
_FORMS = {
    _SIGNATURE: {"/adbe.pkcs7.detached", "/ETSI.CAdES.detached", "/PBAD.PAdES"},
    _TIME_STAMP: {"/ETSI.RFC3161"},
}
"""The forms that can be checked; /PBAD.PAdES is the Brazilian one."""
_WHOLE = frozenset({SignatureCoverageLevel.ENTIRE_FILE, SignatureCoverageLevel.ENTIRE_REVISION})


async def check_pdf(path: Path, judge: Judge) -> int:
    """How many signatures a PDF carries, all of which are right; document time stamps are not counted.

    Raises:
        NotRightError: one of them is not, or something was added that none of them covers.
        Exception: of whatever kind, it cannot be read.
    """
    with path.open("rb") as file:
        reader = _reader(file)
        found = _signatures(reader)
        if found and _has_two_readings(reader, found[0].signed_revision):
            raise NotRightError(
                f"what was added to the PDF after its first signature can be read in two ways: {LOOK}"
            )
        signatures = [one for one in found if one.sig_object_type == _SIGNATURE]
        for one in found:
            await _check(one, file, judge, is_last=bool(signatures) and one is signatures[-1])
        return len(signatures)


def _reader(file: BinaryIO) -> PdfFileReader:
    reader = PdfFileReader(file)
    if reader.xrefs.hybrid_xrefs_present:
        # Word writes such files, for readers of before 2003 beside those of today. Behind a signature that
        # has no place, see below.
        reader = PdfFileReader(file, strict=False)
    if reader.encrypted:
        if not isinstance(reader.security_handler, StandardSecurityHandler):
            raise NotRightError("the PDF is encrypted for somebody else, so that it cannot be checked")
        if reader.decrypt(b"").status is AuthStatus.FAILED:
            raise NotRightError("the PDF is encrypted with a password, so that it cannot be checked")
    return reader


def _signatures(reader: PdfFileReader) -> list[EmbeddedPdfSignature]:
    """All signatures and document time stamps, the first one first.

    Raises:
        NotRightError: one is of a form that cannot be checked.
    """
    found = []
    for name, value, field in enumerate_sig_fields(reader, filled_status=True):
        signature = value.get_object()
        kind = signature.get("/Type", _SIGNATURE)
        if signature.get("/SubFilter") not in _FORMS.get(kind, ()):
            raise NotRightError(f"a signature in the PDF is of a form that cannot be checked: {LOOK}")
        found.append(EmbeddedPdfSignature(reader, field, name))
    return sorted(found, key=lambda one: one.signed_revision)


def _has_two_readings(reader: PdfFileReader, signed_revision: int) -> bool:
    """Whether an update after a revision says other things to old readers than to new ones."""
    later = range(signed_revision + 1, reader.xrefs.total_revisions)
    return any(reader.xrefs.get_xref_data(revision).hybrid is not None for revision in later)


async def _check(one: EmbeddedPdfSignature, file: BinaryIO, judge: Judge, *, is_last: bool) -> None:
    claimed = _claimed(one)
    name = named(claimed, "PDF")
    if not _leaves_out_itself_alone(one, file):
        raise NotRightError(f"{name} leaves out more of the file than itself: {LOOK}")
    if one.sig_object_type == _TIME_STAMP:
        stamp = await async_validate_pdf_timestamp(one, judge.context(judge.now))
        if not (stamp.intact and stamp.valid):
            raise NotRightError(f"a time stamp in the PDF does not fit its content: {LOOK}")
        changes: ModificationInfo = stamp
    else:
        at = await judge.time_of(name, one.signer_info, claimed, one.compute_digest)
        context = judge.context(at)
        status = await async_validate_pdf_signature(
            one, signer_validation_context=context, key_usage_settings=KEY_USAGE
        )
        judge.judge(name, status)
        if not status.docmdp_ok:
            raise _added_to(name)
        changes = status
    # What was filled in before the last signature is signed by that one.
    allowed = ModificationLevel.LTA_UPDATES if is_last else ModificationLevel.FORM_FILLING
    level = changes.modification_level
    if changes.coverage not in _WHOLE or level is None or level > allowed:
        raise _added_to(name)


def _added_to(name: str) -> NotRightError:
    signature = name.removesuffix(" in the PDF")
    return NotRightError(f"what was added to the PDF after {signature} is covered by no signature: {LOOK}")


def _leaves_out_itself_alone(one: EmbeddedPdfSignature, file: BinaryIO) -> bool:
    """Whether the gap between the two ranges that are signed is the signature's own value and nothing else.

    The library compares lengths. A value that is written shorter than as hexadecimal digits would make room
    for something that nobody signed.
    """
    if len(one.byte_range) != 4:
        return False
    first, first_bytes, second, _ = map(int, one.byte_range)
    digits = len(one.pkcs7_content) * 2
    if first != 0 or second - first_bytes != digits + 2:
        return False
    file.seek(first_bytes)
    gap = file.read(digits + 2)
    try:
        return (
            gap[:1] == b"<"
            and gap[-1:] == b">"
            and bytes.fromhex(gap[1:-1].decode("ascii")) == one.pkcs7_content
        )
    except ValueError:
        return False


def _claimed(one: EmbeddedPdfSignature) -> datetime | None:
    try:
        return one.self_reported_timestamp
    except Exception:  # noqa: BLE001  (a time that cannot be read is none; the rest tells whether all is well)
        return None
