"""What is asked of one signature, whatever it stands in, and the words for what is wrong with it.

Runs in the process of `processor.signatures_process`. The words name the day of a signature and nobody: a
certificate carries the name and the numbers of a person.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from asn1crypto import cms, x509
from pyhanko.sign.ades.report import AdESIndeterminate
from pyhanko.sign.validation.generic_cms import collect_timing_info, extract_tst_data_iter
from pyhanko.sign.validation.settings import KeyUsageConstraints
from pyhanko.sign.validation.status import SignatureStatus
from pyhanko_certvalidator import ValidationContext

_AHEAD = timedelta(days=1)
"""How far ahead of our clock a signer's may be; some write their local time as if it were UTC."""
_WEAK = {
    AdESIndeterminate.CRYPTO_CONSTRAINTS_FAILURE,
    AdESIndeterminate.CRYPTO_CONSTRAINTS_FAILURE_NO_POE,
}
_OUT_OF_TIME = {
    AdESIndeterminate.OUT_OF_BOUNDS_NO_POE,
    AdESIndeterminate.OUT_OF_BOUNDS_NOT_REVOKED,
    AdESIndeterminate.EXPIRED,
    AdESIndeterminate.NOT_YET_VALID,
}

KEY_USAGE = KeyUsageConstraints(key_usage={"non_repudiation", "digital_signature"})
"""What a signer's certificate has to be for; seals of companies often lack the first."""
LOOK = "look at the document at the provider"


class NotRightError(Exception):
    """A file does not pass; the text is fit to be shown to a person, and names nobody."""


@dataclass(frozen=True, slots=True)
class Judge:
    """How far signatures are checked.

    With `authorities`, the chain of each signer's certificate has to lead to one of them. `now` is aware.
    """

    authorities: tuple[x509.Certificate, ...] | None
    now: datetime

    def context(self, at: datetime) -> ValidationContext:
        """Looks at certificates as they were at an instant; nothing is ever asked of a network."""
        return ValidationContext(
            trust_roots=list(self.authorities or ()),
            moment=at,
            allow_fetching=False,
            revocation_mode="soft-fail",
        )

    async def time_of(
        self, name: str, signer: cms.SignerInfo, claimed: datetime | None, digest: Callable[[str], bytes]
    ) -> datetime:
        """When a signature was made: by its time stamp if that leads to an authority, else as it says itself.

        Raises:
            NotRightError: the time stamp belongs to another signature, or the time has not come yet.
        """
        at = aware(claimed) or self.now
        stamped = [
            token["encap_content_info"]["content"].parsed["gen_time"].native for token in _stamps(signer)
        ]
        timing = await collect_timing_info(signer, self.context(max(stamped, default=self.now)), digest)
        for kind in ("timestamp_validity", "content_timestamp_validity"):
            stamp = timing.get(kind)
            if stamp is not None and not (stamp.intact and stamp.valid):
                raise NotRightError(f"the time stamp of {name} does not fit it: {LOOK}")
        stamp = timing.get("timestamp_validity")
        if stamp is not None and stamp.trusted:
            at = stamp.timestamp
        if self.authorities is not None and at > self.now + _AHEAD:
            raise NotRightError(f"{name} says that it was made later than now: {LOOK}")
        return at

    def judge(self, name: str, status: SignatureStatus) -> None:
        """Let a signature pass that fits its content, and leads to an authority if that is asked for.

        Raises:
            NotRightError: it does not.
        """
        if not status.intact:
            raise NotRightError(f"{name} does not fit its content: it was changed after signing: {LOOK}")
        if not status.valid:
            raise NotRightError(f"{name} was not made with the key of its certificate: {LOOK}")
        problem = status.trust_problem_indic
        if problem in _WEAK:
            raise NotRightError(
                f"{name} was made in a way that proves nothing any more (as SHA-1 does): {LOOK}"
            )
        if self.authorities is None or problem is None:
            return
        if problem is AdESIndeterminate.NO_CERTIFICATE_CHAIN_FOUND:
            why = (
                "leads to none of the authorities in signature_authorities: add its authority if you trust it"
            )
        elif problem in _OUT_OF_TIME:
            why = f"was not valid when it signed: {LOOK}"
        elif problem is AdESIndeterminate.CHAIN_CONSTRAINTS_FAILURE:
            why = f"is not meant for signing documents: {LOOK}"
        else:
            why = f"does not lead to an authority by the rules: {LOOK}"
        raise NotRightError(f"the certificate of {name} {why}")


def named(claimed: datetime | None, container: str) -> str:
    """What a signature is called: by the day on which it says that it was made."""
    return f"the signature {f'of {claimed.date().isoformat()} ' if claimed else ''}in the {container}"


def aware(claimed: datetime | None) -> datetime | None:
    """An instant; one that names no time zone is taken for UTC."""
    return claimed.replace(tzinfo=UTC) if claimed is not None and claimed.tzinfo is None else claimed


def _stamps(signer: cms.SignerInfo) -> list[cms.SignedData]:
    return list(extract_tst_data_iter(signer, signed=False))
