"""Checks of who sent a callback, for providers to choose from. Every comparison takes constant time."""

from __future__ import annotations

import base64
import hmac
from functools import cached_property
from ipaddress import ip_address
from typing import Literal, TypeVar

from pydantic import Field, IPvAnyNetwork, SecretStr

from shared.errors import NotProvenError, UnjudgeableError
from shared.events import Trust
from shared.providers._base import Callback, Proof, Provider, ProviderSettings

_DIGEST_BYTES = 32


class SecretSettings(ProviderSettings):
    """Settings of a provider that proves itself, if at all, by a secret that both sides know."""

    authentication: str | None = Field(default=None, description="how callbacks are proven")
    secret: SecretStr | None = Field(default=None, description="the secret", min_length=1)
    secrets: dict[str, SecretStr] = Field(
        default_factory=dict,
        description="several valid secrets, key id = secret; the receipt names the one that fitted",
    )
    allow_addresses: list[IPvAnyNetwork] = Field(
        default_factory=list,
        description="networks that callbacks may come from; empty means any",
    )

    def all_secrets(self) -> dict[str, SecretStr]:
        """Every valid secret by key id; the single one has the id `default`."""
        single = {"default": self.secret} if self.secret is not None else {}
        return {**single, **self.secrets}

    @cached_property
    def proofs(self) -> tuple[tuple[bytes, Proof], ...]:
        """Every valid secret as it is compared, and what it proves; made once."""
        return tuple(
            (secret.get_secret_value().encode("utf-8"), Proof(Trust.PROVEN, key_id))
            for key_id, secret in self.all_secrets().items()
        )


class SharedSecretSettings(SecretSettings):
    """Settings of a provider that sends along, if anything, a secret which we chose."""

    authentication: Literal["header", "query", "none"] | None = Field(
        default=None,
        description='where the secret comes: "header" (default), "query", or "none" to accept anybody',
    )
    secret_header: str = Field(
        default="X-Callback-Secret", description="header that carries the secret", min_length=1
    )
    secret_query: str = Field(
        default="secret", description="query parameter that carries the secret", min_length=1
    )


class HmacSettings(SecretSettings):
    """Settings of a provider that signs each body with a secret."""

    authentication: Literal["hmac", "none"] | None = Field(
        default=None,
        description='"hmac" (default): the body is signed with the secret; "none": accept anybody',
    )
    hmac_header: str = Field(
        default="HMAC", description="header that carries the HMAC-SHA256 of the raw body", min_length=1
    )
    hmac_encoding: Literal["base64", "hex"] = Field(
        default="base64", description="how the binary digest is written in the header"
    )


S = TypeVar("S", bound=SharedSecretSettings)


class SharedSecretProvider(Provider[S]):
    """A provider that proves itself, if at all, by a secret which we chose."""

    def why_closed(self) -> str | None:
        return why_closed(self.settings)

    def authenticate(self, callback: Callback) -> Proof:
        return check_shared_secret(self.settings, callback)

    def judge_again(self, callback: Callback) -> Proof:
        if self.settings.authentication == "none":
            return self.authenticate(callback)
        raise UnjudgeableError("its proof was a secret that came along, and secrets are not kept")


def why_closed(settings: SecretSettings) -> str | None:
    """Why a door with these settings may not open, or None."""
    if settings.authentication == "none":
        if settings.all_secrets():
            return 'authentication = "none" and a secret are both set: drop one of them'
        return None
    if not settings.all_secrets():
        return (
            'no secret is set: set secret (or secret_file), or say authentication = "none" in so many words'
        )
    return None


def check_address(settings: SecretSettings, callback: Callback) -> None:
    """Return when the sender's address is allowed.

    Raises:
        NotProvenError: it is not.
    """
    if not settings.allow_addresses:
        return
    try:
        address = ip_address(callback.remote_address)
    except ValueError:
        raise NotProvenError("the sender's address is not known") from None
    if not any(address in network for network in settings.allow_addresses):
        raise NotProvenError("callbacks are not accepted from this address")


def check_shared_secret(settings: SharedSecretSettings, callback: Callback) -> Proof:
    """Compare the secret in the header or in the query with every valid one.

    Raises:
        NotProvenError: missing, wrong, or sent from an address that is not allowed.
    """
    check_address(settings, callback)
    if settings.authentication == "none":
        return Proof(Trust.OPEN)
    if settings.authentication == "query":
        place, given = "query parameter", callback.query.get(settings.secret_query)
        name = settings.secret_query
    else:
        place, given = "header", callback.headers.get(settings.secret_header.lower())
        name = settings.secret_header
    if not given:
        raise NotProvenError(f"the {place} {name} is missing")
    proof = matching_proof(given, settings)
    if proof is None:
        raise NotProvenError(f"the {place} {name} is wrong")
    return proof


def matching_proof(given: str, settings: SecretSettings) -> Proof | None:
    """What the given text proves, or None; it is compared with every secret, whichever fits."""
    found = None
    # A header's bytes reach us read as latin-1, whatever they were; those of a query are UTF-8.
    as_utf8, as_sent = given.encode("utf-8", "surrogateescape"), given.encode("latin-1", "replace")
    for expected, proof in settings.proofs:
        if hmac.compare_digest(as_utf8, expected) | hmac.compare_digest(as_sent, expected):
            found = proof
    return found


def check_hmac(settings: HmacSettings, callback: Callback) -> Proof:
    """Compare the HMAC in the header with that of the raw body under every valid secret.

    Raises:
        NotProvenError: missing, wrong, or sent from an address that is not allowed.
    """
    check_address(settings, callback)
    if settings.authentication == "none":
        return Proof(Trust.OPEN)
    name = settings.hmac_header
    given = callback.headers.get(name.lower())
    if not given:
        raise NotProvenError(f"the header {name} is missing")
    # Hexadecimal digits mean the same in either case; letters of base64 do not.
    as_sent = (given.lower() if settings.hmac_encoding == "hex" else given).encode("latin-1", "replace")
    found = None
    for secret, proof in settings.proofs:
        if hmac.compare_digest(as_sent, _hmac_of(callback.body, secret, settings.hmac_encoding)):
            found = proof
    if found is None:
        raise NotProvenError(f"the header {name} is wrong: is it the HMAC of this body under our secret?")
    return found


def hmac_evidence(settings: HmacSettings, callback: Callback) -> dict[str, str]:
    """The header with the HMAC, for the copy of a refused callback: no secret, and it proves this body alone.

    Whatever else stands there, our own secret by a mistake of the sender's among it, is left out.
    """
    name = settings.hmac_header.lower()
    given = callback.headers.get(name, "")
    if not _is_digest(given) or matching_proof(given, settings) is not None:
        return {}
    return {name: given}


def judge_hmac_again(settings: HmacSettings, callback: Callback) -> Proof:
    """As `check_hmac`, for a callback that was put together from the copy of a refused one.

    Raises:
        NotProvenError: wrong, or sent from an address that is not allowed.
        UnjudgeableError: the copy holds no HMAC.
    """
    if settings.authentication != "none" and settings.hmac_header.lower() not in callback.headers:
        raise UnjudgeableError(
            f"the copy holds no HMAC: the header {settings.hmac_header} did not come, or held something else"
        )
    return check_hmac(settings, callback)


def _is_digest(text: str) -> bool:
    """Whether a text is a SHA-256 digest in hex or base64."""
    try:
        return len(bytes.fromhex(text)) == _DIGEST_BYTES
    except ValueError:
        pass
    try:
        return len(base64.b64decode(text, validate=True)) == _DIGEST_BYTES
    except ValueError:
        return False


def _hmac_of(body: bytes, secret: bytes, encoding: Literal["base64", "hex"]) -> bytes:
    digest = hmac.digest(secret, body, "sha256")
    return digest.hex().encode("ascii") if encoding == "hex" else base64.b64encode(digest)
