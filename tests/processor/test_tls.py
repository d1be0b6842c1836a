"""Mutual TLS to a peer that has an organisation number in place of a host name."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from processor.outside import Outside
from processor.tls import expect_organisation, make_context, why_refused
from shared.errors import AccessError, NotSentError
from shared.providers._base import PeerTls
from simulator.certificates import Authority, pem_of
from tests.processor.tls_server import END, TlsServer
from tests.waiting import PATIENCE_SECONDS

POSTEN, OTHER = "984661185", "984661186"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("Rot for virksomheter")


@pytest.fixture(scope="module")
def stranger() -> Authority:
    return Authority("En annen rot")


@pytest.fixture
def options(authority: Authority) -> PeerTls:
    """How a sender is set up whose certificate is all right."""
    return make_options(authority, trusted=authority)


def make_options(issuer: Authority, *, trusted: Authority, **changes: Any) -> PeerTls:
    certificate, key = issuer.issue("AVSENDER AS", organisation="123456789", **changes)
    return PeerTls(
        certificate=pem_of(certificate).decode(),
        key=pem_of(key).decode(),
        authorities=pem_of(trusted.certificate).decode(),
        organisation=POSTEN,
    )


def ask(server: TlsServer, options: PeerTls) -> str:
    """Send one request as `processor.outside` does, with what must not reach the wrong one."""

    async def run() -> str:
        async with httpx.AsyncClient(
            verify=make_context(options), trust_env=False, timeout=PATIENCE_SECONDS
        ) as client:
            answer = await client.post(server.url, headers={"x-secret": "s3cret"}, content=END)
            return answer.text

    return asyncio.run(run())


def refusal(server: TlsServer, options: PeerTls) -> BaseException:
    """The error deep inside with which a request fails."""
    with pytest.raises((httpx.HTTPError, ssl.SSLError)) as raised:
        ask(server, options)
    cause: BaseException = raised.value
    while cause.__cause__ or cause.__context__:
        cause = cause.__cause__ or cause.__context__ or cause
    return cause


@pytest.mark.parametrize("seid", ["1", "2"])
@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_right_organisation_is_accepted_by_either_generation_of_certificates(
    tmp_path: Path, authority: Authority, options: PeerTls, seid: Any, newest: ssl.TLSVersion
) -> None:
    leaf = authority.issue("POSTEN BRING AS", organisation=POSTEN, seid=seid)
    with TlsServer(tmp_path, leaf, clients=authority.certificate, newest=newest) as server:
        assert ask(server, options) == "ok"
        assert server.closed.wait(PATIENCE_SECONDS)
        assert b"s3cret" in server.heard[0]


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("organisation", "seid", "said"),
    [
        (OTHER, "1", f"names {OTHER}"),
        (OTHER, "2", f"names {OTHER}"),
        (f"9{POSTEN}", "2", "names 9"),
        ("", "none", "names none"),
    ],
)
def test_another_organisation_is_refused_before_any_byte_of_a_request(
    tmp_path: Path,
    authority: Authority,
    options: PeerTls,
    newest: ssl.TLSVersion,
    organisation: str,
    seid: Any,
    said: str,
) -> None:
    # Of the right name, and by the right authority.
    leaf = authority.issue("POSTEN BRING AS", organisation=organisation, seid=seid)
    with TlsServer(tmp_path, leaf, clients=authority.certificate, newest=newest) as server:
        error = refusal(server, options)
        assert isinstance(error, ssl.SSLCertVerificationError)
        assert said in error.verify_message
        assert POSTEN in error.verify_message
        assert server.closed.wait(PATIENCE_SECONDS)
        assert server.heard == [b""]


def test_another_root_is_refused(
    tmp_path: Path, authority: Authority, stranger: Authority, options: PeerTls
) -> None:
    leaf = stranger.issue("POSTEN BRING AS", organisation=POSTEN)
    with TlsServer(tmp_path, leaf) as server:
        error = refusal(server, options)
        assert isinstance(error, ssl.SSLCertVerificationError)
        assert "unable to get local issuer" in error.verify_message
        assert server.closed.wait(PATIENCE_SECONDS)
        assert server.heard == [b""]


def test_an_expired_certificate_is_refused(tmp_path: Path, authority: Authority, options: PeerTls) -> None:
    leaf = authority.issue("POSTEN BRING AS", organisation=POSTEN, expired=True)
    with TlsServer(tmp_path, leaf, clients=authority.certificate) as server:
        error = refusal(server, options)
        assert isinstance(error, ssl.SSLCertVerificationError)
        assert "expired" in error.verify_message
        assert server.closed.wait(PATIENCE_SECONDS)
        assert server.heard == [b""]


def test_without_an_organisation_the_host_name_counts(
    tmp_path: Path, authority: Authority, options: PeerTls
) -> None:
    usual = replace(options, organisation="")
    leaf = authority.issue("POSTEN BRING AS", organisation=POSTEN)
    with TlsServer(tmp_path, leaf, clients=authority.certificate) as server:
        error = refusal(server, usual)
        assert isinstance(error, ssl.SSLCertVerificationError)
        assert "127.0.0.1" in error.verify_message


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_refused_client_certificate_is_said_to_be_refused(
    tmp_path: Path, authority: Authority, stranger: Authority, newest: ssl.TLSVersion
) -> None:
    """With TLS 1.3 the alert comes only when the answer is awaited."""
    leaf = authority.issue("POSTEN BRING AS", organisation=POSTEN)
    unknown = make_options(stranger, trusted=authority)
    expired = make_options(authority, trusted=authority, expired=True)
    with TlsServer(tmp_path, leaf, clients=authority.certificate, newest=newest) as server:
        assert "its issuer is not known there" in (why_refused(refusal(server, unknown)) or "")
        assert "it has expired" in (why_refused(refusal(server, expired)) or "")
        assert b"".join(server.heard) == b""


def test_no_client_certificate_is_said_to_be_missing(
    tmp_path: Path, authority: Authority, options: PeerTls
) -> None:
    leaf = authority.issue("POSTEN BRING AS", organisation=POSTEN)
    bare = PeerTls(authorities=options.authorities, organisation=POSTEN)
    with TlsServer(tmp_path, leaf, clients=authority.certificate) as server:
        assert "set certificate and key" in (why_refused(refusal(server, bare)) or "")


def test_other_errors_blame_no_certificate() -> None:
    assert why_refused(OSError("reset")) is None
    handshake = ssl.SSLError(1, "[SSL: SSLV3_ALERT_HANDSHAKE_FAILURE]")
    handshake.reason = "SSLV3_ALERT_HANDSHAKE_FAILURE"
    assert why_refused(handshake) is None


@pytest.mark.parametrize(
    "subject",
    [
        (),
        ((("serialNumber", f"NTRNO-{POSTEN}"),),),
        ((("organizationIdentifier", POSTEN),),),
        ((("organizationIdentifier", f"VATNO-{POSTEN}"),),),
        ((("organizationIdentifier", f"NTRNO-{POSTEN}1"),),),
        ((("commonName", POSTEN), ("organizationName", POSTEN)),),
    ],
)
def test_a_number_counts_only_where_it_belongs(subject: Any) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        expect_organisation({"subject": subject}, POSTEN)


def test_one_of_several_parts_of_a_name_is_enough() -> None:
    several = ((("countryName", "NO"), ("2.5.4.97", f"NTRNO-{POSTEN}")),)
    expect_organisation({"subject": several}, POSTEN)


def outside(server: TlsServer, options: PeerTls) -> Outside:
    return Outside(
        "Posten",
        origins=frozenset({server.url}),
        connect_timeout_seconds=60,
        read_timeout_seconds=60,
        total_timeout_seconds=120,
        tls=options,
    )


def sent(server: TlsServer, options: PeerTls) -> int:
    """The status that the daemon's own sender hears."""

    async def run() -> int:
        sender = outside(server, options)
        try:
            return (await sender.send("POST", f"{server.url}/api", content=END)).status
        finally:
            await sender.aclose()

    return asyncio.run(run())


def test_the_daemons_sender_says_who_refused_whom(
    tmp_path: Path, authority: Authority, stranger: Authority, options: PeerTls
) -> None:
    right = authority.issue("POSTEN BRING AS", organisation=POSTEN)
    with TlsServer(tmp_path, right, clients=authority.certificate) as server:
        assert sent(server, options) == 200
        with pytest.raises(AccessError, match="Posten cannot be asked: it refused our certificate"):
            sent(server, make_options(stranger, trusted=authority))
        assert outside(server, options).why_unusable() is None
        assert "PEM" in (outside(server, replace(options, key="x")).why_unusable() or "")
    wrong = authority.issue("POSTEN BRING AS", organisation=OTHER)
    with TlsServer(tmp_path, wrong, clients=authority.certificate) as server:
        with pytest.raises(NotSentError, match=f"not of organisation {POSTEN}, it names {OTHER}"):
            sent(server, options)
        assert server.closed.wait(PATIENCE_SECONDS)
        assert server.heard == [b""]


# What the settings give


def test_what_is_not_pem_is_refused_with_the_command_that_converts_it(options: PeerTls) -> None:
    for wrong in (replace(options, certificate="MIIK"), replace(options, key="MIIK")):
        with pytest.raises(NotSentError, match="openssl pkcs12 -in"):
            make_context(wrong)


def test_a_locked_key_needs_its_password_and_never_asks_for_it(
    authority: Authority, options: PeerTls
) -> None:
    certificate, key = authority.issue("AVSENDER AS", organisation="123456789")
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"s3cret"))
    both = replace(options, certificate=(pem_of(certificate) + locked).decode(), key="")
    make_context(replace(both, key_password="s3cret"))
    for wrong in ("", "wrong-s3cret"):
        with pytest.raises(NotSentError, match="password is wrong") as refused:
            make_context(replace(both, key_password=wrong))
        assert "s3cret" not in str(refused.value)
    assert "s3cret" not in repr(replace(options, key_password="s3cret"))
    assert "PRIVATE" not in repr(options)


def test_what_does_not_fit_is_said(authority: Authority, options: PeerTls) -> None:
    _, key = authority.issue("EN ANNEN AS", organisation="111111111")
    damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    for wrong, words in (
        (replace(options, key=pem_of(key).decode()), "do not belong together"),
        (replace(options, certificate=damaged), "cannot be read"),
        (replace(options, authorities=damaged), "among the authorities"),
        (replace(options, authorities="MIIK"), "among the authorities"),
    ):
        with pytest.raises(NotSentError, match=words):
            make_context(wrong)


def test_keys_are_left_neither_open_nor_on_disk(options: PeerTls) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    make_context(options)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
