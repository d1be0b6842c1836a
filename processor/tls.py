"""TLS to peers that know us by a certificate, and that we know by their organisation, not by a host name."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from shared.errors import NotSentError
from shared.providers._base import PeerTls

_PEM = "-----BEGIN"
_IN_SERIAL_NUMBER = frozenset({"serialNumber", "2.5.4.5"})
_IN_IDENTIFIER = frozenset({"organizationIdentifier", "2.5.4.97"})
_WHERE = "test certificates work in test environments alone, and real ones in production alone"
# The alerts that blame our certificate. After each of them the peer has not looked at any request.
_REFUSALS = {
    "BAD_CERTIFICATE": "it is damaged, or of a kind that is not taken",
    "UNSUPPORTED_CERTIFICATE": "it is of a kind that is not taken: is it the one for authentication?",
    "CERTIFICATE_REVOKED": "it was revoked",
    "CERTIFICATE_EXPIRED": "it has expired",
    "CERTIFICATE_UNKNOWN": f"it is not known there: {_WHERE}",
    "CERTIFICATE_REQUIRED": "none was shown: set certificate and key",
    "UNKNOWN_CA": f"its issuer is not known there: {_WHERE}",
    "ACCESS_DENIED": "it has no access",
}


def make_context(tls: PeerTls) -> ssl.SSLContext:
    """A context of TLS 1.2 or newer for asynchronous clients.

    Whether the peer is the right organisation is a part of its handshake: when it is not, the handshake
    fails, so that no byte of a request was sent.

    Raises:
        NotSentError: a text is not what it should be; the message says what to do.
    """
    context = _trusting(tls.authorities)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.organisation:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.sslobject_class = _checking(tls.organisation)
    if tls.certificate:
        _load_own(context, tls)
    return context


def why_refused(error: BaseException) -> str | None:
    """Why the peer refused our certificate, when that is what an error says deep inside; else None.

    With TLS 1.3 the peer says so only after the handshake, when the first answer is awaited.
    """
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLError) and "_ALERT_" in (cause.reason or ""):
            refusal = _REFUSALS.get((cause.reason or "").partition("_ALERT_")[2])
            if refusal is not None:
                return f"it refused our certificate: {refusal}"
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _trusting(authorities: str) -> ssl.SSLContext:
    if not authorities:
        return ssl.create_default_context()
    try:
        return ssl.create_default_context(cadata=authorities)
    except (ssl.SSLError, ValueError):
        raise NotSentError(
            "there is no usable certificate among the authorities: give root certificates in PEM, converted "
            "with openssl x509 -inform der -in FILE -out FILE.pem"
        ) from None


def _load_own(context: ssl.SSLContext, tls: PeerTls) -> None:
    key = tls.key or tls.certificate
    if _PEM not in tls.certificate or _PEM not in key:
        raise NotSentError(
            "the certificate or its key is not in PEM: convert a PKCS#12 file with "
            "openssl pkcs12 -in FILE.p12 -nodes -out FILE.pem (-legacy if its ciphers are old)"
        )
    try:
        with _readable(f"{tls.certificate}\n{key}") as path:
            # Without a password given, the library would ask for one at the terminal.
            context.load_cert_chain(path, password=lambda: tls.key_password)
    except ssl.SSLError as error:
        mismatch = error.reason == "KEY_VALUES_MISMATCH"
        problem = "do not belong together" if mismatch else "cannot be read, or the password is wrong"
        raise NotSentError(f"the certificate and its key {problem}: correct them in the settings") from None


@contextmanager
def _readable(text: str) -> Iterator[str]:
    """A path under which the library, which takes no text, can read one; it never touches a disk."""
    descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text.encode())
        file.flush()
        yield f"/proc/self/fd/{descriptor}"


# The organisation


def _checking(organisation: str) -> type[ssl.SSLObject]:
    """A connection whose handshake fails when the peer belongs to another organisation."""

    class OrganisationChecked(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            expect_organisation(self.getpeercert() or {}, organisation)

    return OrganisationChecked


def expect_organisation(certificate: Mapping[str, Any], organisation: str) -> None:
    """Return when a certificate, in the form of `SSLObject.getpeercert`, belongs to an organisation.

    Norwegian certificates name it in `serialNumber`, newer ones as `NTRNO-` and the number in
    `organizationIdentifier`. Names are not compared, since they change.

    Raises:
        ssl.SSLCertVerificationError: it belongs to another one, or to none.
    """
    named = set(_organisations(certificate.get("subject", ())))
    if organisation in named:
        return
    found = f"it names {', '.join(sorted(named))}" if named else "it names none"
    error = ssl.SSLCertVerificationError(
        ssl.SSLErrorNumber.SSL_ERROR_SSL, f"not of organisation {organisation}"
    )
    error.verify_code = 0
    error.verify_message = f"it is not of organisation {organisation}, {found[:80]}"
    error.reason = "CERTIFICATE_VERIFY_FAILED"
    raise error


def _organisations(subject: Iterable[Iterable[tuple[str, str]]]) -> Iterator[str]:
    for parts in subject:
        for name, value in parts:
            if name in _IN_SERIAL_NUMBER:
                yield value
            elif name in _IN_IDENTIFIER and value.startswith("NTRNO-"):
                yield value.removeprefix("NTRNO-")
