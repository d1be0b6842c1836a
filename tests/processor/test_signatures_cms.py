"""Which CMS signatures pass. The checks run in the test's own process, as nobody attacks here."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import timedelta

import pytest
from asn1crypto import cms
from hypothesis import given
from hypothesis import strategies as st

from processor.signatures_process import verdict
from tests.signing import PERSON, SIGNED_AT, Signing, sign_cms

CONTENT = b"Contrato 2026-0042\n" * 20
Check = Callable[..., int | str]


@pytest.fixture(scope="module")
def signing(tmp_path_factory: pytest.TempPathFactory) -> Signing:
    return Signing.begin(tmp_path_factory.mktemp("signing"))


@pytest.fixture(scope="module")
def signed(signing: Signing) -> bytes:
    return sign_cms(CONTENT, signing.signer)


@pytest.fixture(scope="module")
def check(signing: Signing, tmp_path_factory: pytest.TempPathFactory) -> Check:
    """Checks a signature file beside others: how many signatures are right, or why it does not pass."""
    folder = tmp_path_factory.mktemp("cms")

    def check(data: bytes, *others: bytes, trusted: bool = True) -> int | str:
        path = folder / "fetched"
        path.write_bytes(data)
        beside = [folder / str(place) for place in range(len(others))]
        for other, content in zip(beside, others, strict=True):
            other.write_bytes(content)
        said = verdict(path, "p7s", signing.trusted.pem.decode() if trusted else None, beside, {})
        found: int | str = said.get("signatures") or said["reason"]
        assert PERSON.partition(":")[2] not in str(found)
        return found

    return check


def test_a_signature_with_its_content_inside_passes(signing: Signing, check: Check) -> None:
    assert check(sign_cms(CONTENT, signing.signer)) == 1


def test_pem_is_read_like_der(signing: Signing, check: Check) -> None:
    lines = base64.encodebytes(sign_cms(CONTENT, signing.signer)).decode()
    assert check(f"-----BEGIN PKCS7-----\n{lines}-----END PKCS7-----\n".encode()) == 1


def test_content_that_was_changed_is_told(signing: Signing, check: Check) -> None:
    data = sign_cms(CONTENT, signing.signer).replace(b"2026-0042", b"2026-0043", 1)
    assert check(data, trusted=False) == (
        "the signature of 2026-03-01 in the signature file does not fit its content: it was changed after "
        "signing: look at the document at the provider"
    )


def test_each_of_several_signers_is_checked(signing: Signing, check: Check) -> None:
    assert check(sign_cms(CONTENT, signing.signer, signing.trusted.signer())) == 2
    for signers in ((signing.signer, signing.stranger), (signing.stranger, signing.signer)):
        data = sign_cms(CONTENT, *signers)
        assert check(data, trusted=False) == 2
        assert "none of the authorities" in str(check(data))


def test_a_detached_signature_finds_its_content_among_the_files_that_came_with_it(
    signing: Signing, check: Check
) -> None:
    data = sign_cms(CONTENT, signing.signer, signing.trusted.signer(), detached=True)
    assert check(data, b"something else", CONTENT) == 2
    for others in ((), (b"something else",), (CONTENT + b"changed",)):
        assert "fits none of the files that came with it" in str(check(data, *others))


def test_each_signer_of_a_detached_signature_signed_the_same(signing: Signing, check: Check) -> None:
    """The second signer's signature is of another file, which is there, too."""
    one, other = (sign_cms(content, signing.signer, detached=True) for content in (CONTENT, b"other"))
    both = cms.ContentInfo.load(one)
    both["content"]["signer_infos"].append(cms.ContentInfo.load(other)["content"]["signer_infos"][0])
    assert "does not fit its content" in str(check(both.dump(force=True), CONTENT, b"other"))


def test_a_trusted_time_stamp_counts_and_one_of_another_signature_does_not_pass(
    signing: Signing, check: Check
) -> None:
    stamper = signing.trusted.time_stamper()
    signer = signing.trusted.signer(ends_at=SIGNED_AT + timedelta(days=5))
    late = SIGNED_AT + timedelta(days=9)
    stamped = sign_cms(CONTENT, signer, at=late, timestamper=stamper)
    assert check(stamped) == 1
    assert "was not valid" in str(check(sign_cms(CONTENT, signer, at=late)))
    moved = cms.ContentInfo.load(sign_cms(CONTENT, signer))
    signed = cms.ContentInfo.load(stamped)["content"]["signer_infos"][0]
    moved["content"]["signer_infos"][0]["unsigned_attrs"] = signed["unsigned_attrs"]
    assert "time stamp of the signature of 2026-03-01" in str(check(moved.dump(force=True), trusted=False))


def test_a_certificate_put_in_the_place_of_the_signers_does_not_pass_and_names_nobody(
    signing: Signing, check: Check
) -> None:
    """It has the same number, and the same name, which the library would tell."""
    one, other = signing.trusted.signer(serial=4711), signing.trusted.signer(serial=4711)
    data = cms.ContentInfo.load(sign_cms(CONTENT, one))
    data["content"]["certificates"] = [cms.CertificateChoices("certificate", other.signing_cert)]
    assert "cannot be checked" in str(check(data.dump(force=True), trusted=False))


def test_a_digest_that_proves_nothing_any_more_does_not_pass(signing: Signing, check: Check) -> None:
    data = sign_cms(CONTENT, signing.signer, digest="sha1")
    assert "proves nothing any more" in str(check(data, trusted=False))


def test_a_file_without_any_signature_does_not_pass(signing: Signing, check: Check) -> None:
    data = cms.ContentInfo.load(sign_cms(CONTENT, signing.signer))
    data["content"]["signer_infos"] = cms.SignerInfos([])
    assert "carries no signature" in str(check(data.dump(force=True)))


def test_an_unknown_form_of_cms_is_named(check: Check) -> None:
    data = cms.ContentInfo({"content_type": "data", "content": b"x"}).dump()
    assert "of a form that cannot be checked" in str(check(data))


@given(place=st.integers(0, 10**6), removed=st.integers(0, 40), added=st.binary(max_size=40))
def test_whatever_is_changed_it_is_a_verdict_and_other_content_never_passes(
    signed: bytes, check: Check, place: int, removed: int, added: bytes
) -> None:
    at = place % len(signed)
    changed = signed[:at] + added + signed[at + removed :]
    if check(changed, trusted=False) == 1:
        assert CONTENT in changed


def test_a_signature_file_beyond_all_reason_is_a_verdict(check: Check) -> None:
    deep = b"\x30\x80" * 50_000
    assert "cannot be checked" in str(check(deep))
