"""Which signed PDFs pass. The checks run in the test's own process, as nobody attacks here."""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.pdf_utils.writer import PdfFileWriter, copy_into_new_writer
from pyhanko.sign.fields import MDPPerm, SigSeedSubFilter

from processor.signatures_process import verdict
from simulator.files import make_pdf
from tests.signing import PERSON, SIGNED_AT, Signing, sign_pdf, stamp_pdf, store_certificates

INTACT, TRUSTED = "intact", "trusted"
Check = Callable[..., int | str]


@pytest.fixture(scope="module")
def signing(tmp_path_factory: pytest.TempPathFactory) -> Signing:
    return Signing.begin(tmp_path_factory.mktemp("signing"))


@pytest.fixture(scope="module")
def signed(signing: Signing) -> bytes:
    return signing.pdf()


@pytest.fixture(scope="module")
def check(signing: Signing, tmp_path_factory: pytest.TempPathFactory) -> Check:
    """Checks a PDF: how many signatures are right, or why it does not pass."""
    path = tmp_path_factory.mktemp("pdf") / "fetched"

    def check(data: bytes, level: str = TRUSTED) -> int | str:
        path.write_bytes(data)
        said = verdict(path, "pdf", signing.trusted.pem.decode() if level == TRUSTED else None, [], {})
        assert len(said) == 1
        found: int | str = said.get("signatures") or said["reason"]
        assert PERSON.partition(":")[0] not in str(found)
        assert PERSON.partition(":")[2] not in str(found)
        return found

    return check


def updated(data: bytes, change: Callable[[IncrementalPdfFileWriter], None]) -> bytes:
    """A PDF with a change written behind its end."""
    writer = IncrementalPdfFileWriter(io.BytesIO(data), strict=False)
    change(writer)
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def change_page(writer: IncrementalPdfFileWriter) -> None:
    page = writer.root["/Pages"]["/Kids"][0]
    content = page["/Contents"]
    content._data = content.data.replace(b"2026-0042", b"9999-9999")
    content._encoded_data = None
    writer.mark_update(page.raw_get("/Contents"))


@pytest.mark.parametrize("level", [INTACT, TRUSTED])
def test_a_signed_pdf_passes(signing: Signing, check: Check, level: str) -> None:
    assert check(signing.pdf(), level) == 1


def test_the_older_form_of_signatures_passes(signing: Signing, check: Check) -> None:
    assert check(signing.pdf(subfilter=SigSeedSubFilter.ADOBE_PKCS7_DETACHED)) == 1


def test_one_byte_changed_after_signing_is_told_by_the_day_of_the_signature(
    signing: Signing, check: Check
) -> None:
    data = signing.pdf().replace(b"Contrato 2026-0042", b"Contrato 2026-0043")
    assert check(data, INTACT) == (
        "the signature of 2026-03-01 in the PDF does not fit its content: it was changed after signing: "
        "look at the document at the provider"
    )


def test_a_pdf_without_signature_does_not_pass(check: Check) -> None:
    assert "carries no signature" in str(check(make_pdf("Contrato"), INTACT))


def test_a_time_stamp_alone_is_nobodys_signature(signing: Signing, check: Check) -> None:
    stamped = stamp_pdf(make_pdf("Contrato"), signing.trusted.time_stamper())
    assert "carries no signature" in str(check(stamped, INTACT))


def test_two_signatures_pass_and_each_is_checked(signing: Signing, check: Check) -> None:
    first = signing.pdf()
    second = sign_pdf(first, signing.stranger, "Signature2")
    assert check(second, INTACT) == 2
    # The stranger came second, then first.
    assert "none of the authorities" in str(check(second))
    other = sign_pdf(signing.pdf(signer=signing.stranger), signing.signer, "Signature2")
    assert "none of the authorities" in str(check(other))
    changed = second.replace(b"Contrato 2026-0042", b"Contrato 2026-0043")
    assert "does not fit its content" in str(check(changed, INTACT))


def test_the_value_of_a_signature_is_checked_with_the_key_of_its_certificate(
    signing: Signing, check: Check
) -> None:
    """The digest inside fits, and somebody else's value stands beside it."""
    data = signing.pdf()
    one = PdfFileReader(io.BytesIO(data)).embedded_signatures[0]
    value = one.signer_info["signature"].native.hex().encode()
    last = data.lower().index(value) + len(value) - 1
    forged = data[:last] + (b"1" if data[last : last + 1] == b"0" else b"0") + data[last + 1 :]
    assert "not made with the key" in str(check(forged, INTACT))


def test_a_page_changed_by_an_update_behind_the_signature_does_not_pass(
    signing: Signing, check: Check
) -> None:
    reason = str(check(updated(signing.pdf(), change_page), INTACT))
    assert "added to the PDF after the signature of 2026-03-01 is covered by no signature" in reason


def test_a_later_signature_does_not_heal_a_changed_page(signing: Signing, check: Check) -> None:
    changed = updated(signing.pdf(), change_page)
    assert "covered by no signature" in str(check(sign_pdf(changed, signing.signer, "Signature2")))


def test_what_long_term_proof_adds_passes(signing: Signing, check: Check) -> None:
    """Certificates, then a document time stamp, then certificates again."""
    data = store_certificates(signing.pdf(), signing.signer.signing_cert)
    data = stamp_pdf(data, signing.trusted.time_stamper())
    data = store_certificates(data, signing.stranger.signing_cert)
    assert check(data) == 1


def test_a_form_filled_in_behind_the_last_signature_does_not_pass(signing: Signing, check: Check) -> None:
    """The standard would allow it; here every word has to be somebody's who signed."""

    def add_field(writer: IncrementalPdfFileWriter) -> None:
        field = generic.DictionaryObject(
            {
                generic.pdf_name("/FT"): generic.pdf_name("/Tx"),
                generic.pdf_name("/T"): generic.pdf_string("Valor"),
                generic.pdf_name("/V"): generic.pdf_string("1"),
            }
        )
        form = generic.DictionaryObject(
            {generic.pdf_name("/Fields"): generic.ArrayObject([writer.add_object(field)])}
        )
        writer.root["/AcroForm"] = form
        writer.update_root()

    def fill(writer: IncrementalPdfFileWriter) -> None:
        field = writer.root["/AcroForm"]["/Fields"].raw_get(0)
        field.get_object()["/V"] = generic.pdf_string("1000000")
        writer.mark_update(field)

    signed = sign_pdf(updated(make_pdf("Contrato"), add_field), signing.signer)
    assert check(signed) == 1
    filled = updated(signed, fill)
    assert "covered by no signature" in str(check(filled))
    assert check(sign_pdf(filled, signing.signer, "Signature2")) == 2


def test_nothing_may_be_added_to_a_pdf_that_was_certified_as_final(signing: Signing, check: Check) -> None:
    final = signing.pdf(certify=True, docmdp_permissions=MDPPerm.NO_CHANGES)
    assert check(final) == 1
    assert "covered by no signature" in str(check(sign_pdf(final, signing.signer, "Signature2")))


def test_the_value_of_a_signature_cannot_make_room_for_a_changed_page(signing: Signing, check: Check) -> None:
    """An update changes the page, and writes the value anew: so padded, and as raw bytes, that by its length
    in digits the signature seems to reach to the end of the file."""

    class Raw(generic.ByteStringObject):
        def write_to_stream(
            self, stream: io.BytesIO, handler: object = None, container: object = None
        ) -> None:
            text = bytes(self)
            for char in (b"\\", b"(", b")"):
                text = text.replace(char, b"\\" + char)
            stream.write(b"(" + text.replace(b"\r", b"\\r") + b")")

    def forged(padding: int) -> tuple[bytes, int]:
        def change(writer: IncrementalPdfFileWriter) -> None:
            change_page(writer)
            place = writer.root["/AcroForm"]["/Fields"][0].raw_get("/V")
            place.get_object()["/Contents"] = Raw(value + bytes(padding))
            writer.mark_update(place)

        data = updated(signed, change)
        return data, signed_bytes + 2 * (len(value) + padding) + 2

    signed = signing.pdf()
    one = PdfFileReader(io.BytesIO(signed)).embedded_signatures[0]
    value, signed_bytes = one.pkcs7_content, int(one.byte_range[1] + one.byte_range[3])
    padding = 0
    for _ in range(5):
        data, seeming_bytes = forged(padding)
        padding += len(data) - seeming_bytes
    assert len(data) == seeming_bytes
    assert b"9999-9999" in data
    assert "leaves out more of the file than itself" in str(check(data, INTACT))


def test_a_file_as_word_writes_it_is_checked_like_any_other(signing: Signing, check: Check) -> None:
    """With references for readers of before 2003 beside those of today."""
    data = sign_pdf(with_two_readings(make_pdf("Contrato 2026-0042")), signing.signer)
    assert check(data) == 1
    assert "covered by no signature" in str(check(updated(data, change_page)))


def test_an_update_that_old_readers_take_otherwise_does_not_pass(signing: Signing, check: Check) -> None:
    data = store_certificates(signing.pdf(), signing.signer.signing_cert)
    assert check(data) == 1
    assert "can be read in two ways" in str(check(with_two_readings(data)))


def with_two_readings(data: bytes) -> bytes:
    """A PDF whose last references are followed by further ones for new readers, to an object 90."""
    table = data.rindex(b"xref\n", 0, data.rindex(b"startxref"))
    hidden = b"90 0 obj\n(hidden)\nendobj\n"
    entry = b"\x01" + table.to_bytes(3) + b"\x00"
    head = b"91 0 obj\n<< /Type /XRef /Size 92 /W [1 3 1] /Index [90 1] /Length 5 >>"
    stream = head + b"\nstream\n%s\nendstream\nendobj\n" % entry
    table_and_trailer, startxref, _ = data[table:].rpartition(b"startxref\n")
    trailer = re.sub(rb"/Size \d+", b"/Size 92 /XRefStm %d" % (table + len(hidden)), table_and_trailer)
    place = b"%d\n%%%%EOF\n" % (table + len(hidden) + len(stream))
    return data[:table] + hidden + stream + trailer + startxref + place


# Trust


def test_a_strangers_signature_is_intact_and_not_trusted(signing: Signing, check: Check) -> None:
    data = signing.pdf(signer=signing.stranger)
    assert check(data, INTACT) == 1
    assert "leads to none of the authorities in signature_authorities" in str(check(data))


def test_a_certificate_counts_as_of_the_time_of_signing(signing: Signing, check: Check) -> None:
    """It expired since, which harms no signature; one that was made later does not pass."""
    signer = signing.trusted.signer(ends_at=SIGNED_AT + timedelta(days=5))
    assert check(signing.pdf(signer=signer)) == 1
    late = signing.pdf(signer=signer, at=SIGNED_AT + timedelta(days=9))
    assert check(late, INTACT) == 1
    assert "the certificate of the signature of 2026-03-10 in the PDF was not valid" in str(check(late))


def test_a_trusted_time_stamp_counts_for_more_than_what_the_signer_says(
    signing: Signing, check: Check
) -> None:
    """The signer says a day of last year, on which the certificate was valid; the stamp knows better."""
    signer = signing.trusted.signer(
        begins_at=SIGNED_AT - timedelta(days=500), ends_at=SIGNED_AT - timedelta(days=200)
    )
    at = SIGNED_AT - timedelta(days=300)
    assert check(signing.pdf(signer=signer, at=at)) == 1
    stamped = signing.pdf(signer=signer, at=at, timestamper=signing.trusted.time_stamper())
    assert "was not valid when it signed" in str(check(stamped))


def test_a_signature_of_the_future_is_not_trusted(signing: Signing, check: Check) -> None:
    data = signing.pdf(at=SIGNED_AT + timedelta(days=3000))
    assert "made later than now" in str(check(data))


def test_a_certificate_for_something_else_is_not_trusted(signing: Signing, check: Check) -> None:
    data = signing.pdf(signer=signing.trusted.signer(purpose="key_encipherment"))
    assert "is not meant for signing" in str(check(data))


# What cannot be read


def encrypted(password: str) -> bytes:
    writer: PdfFileWriter = copy_into_new_writer(PdfFileReader(io.BytesIO(make_pdf("Contrato"))))
    writer.encrypt(owner_pass="owner", user_pass=password)
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def test_an_encrypted_pdf_is_told_apart(check: Check) -> None:
    assert "encrypted with a password" in str(check(encrypted("geheim")))
    # Anybody may read one that is encrypted without a password.
    assert "carries no signature" in str(check(encrypted("")))


def test_a_signature_of_a_form_that_nobody_can_check_is_not_passed_over(
    signing: Signing, check: Check
) -> None:
    data = signing.pdf().replace(b"/ETSI.CAdES.detached", b"/ETSI.CAdES.detachee")
    assert "of a form that cannot be checked" in str(check(data))


@pytest.mark.parametrize(
    "data",
    [
        b"%PDF-1.7\nnothing of a PDF\n%%EOF\n",
        b"%PDF-1.7\nxref\n0 1\n0000000000 65535 f \ntrailer\n<< /Root 1 0 R >>\nstartxref\n9\n%%EOF\n",
        b"%PDF-1.7\n" + b"[" * 100_000 + b"\nstartxref\n9\n%%EOF\n",
        b"%PDF-1.7\nxref\n0 0\ntrailer\n<< /Prev 9 /Root " + b"<<" * 5_000 + b"\nstartxref\n9\n%%EOF\n",
    ],
)
def test_rubbish_is_a_verdict(check: Check, data: bytes) -> None:
    assert "cannot be checked" in str(check(data, INTACT))


def test_a_stream_that_unpacks_to_a_thousand_times_its_size_is_a_verdict(check: Check) -> None:
    packed = zlib.compress(zlib.compress(bytes(32 * 1024 * 1024)))
    head = b"1 0 obj\n<< /Type /XRef /Size 2 /W [1 2 1] /Root 2 0 R /Filter [/FlateDecode /FlateDecode]"
    stream = head + b" /Length %d >>\nstream\n%s\nendstream\nendobj\n" % (len(packed), packed)
    data = b"%PDF-1.7\n" + stream + b"startxref\n9\n%%EOF\n"
    assert "unpacks to too much" in str(check(data, INTACT))


@settings(max_examples=150)
@given(place=st.integers(0, 10**6), removed=st.integers(0, 40), added=st.binary(max_size=40))
def test_whatever_is_changed_it_is_a_verdict_and_what_was_signed_passes_unchanged_alone(
    signed: bytes, check: Check, place: int, removed: int, added: bytes
) -> None:
    at = place % len(signed)
    changed = signed[:at] + added + signed[at + removed :]
    if check(changed, INTACT) == 1:
        one = PdfFileReader(io.BytesIO(signed)).embedded_signatures[0]
        _, first_bytes, second, second_bytes = map(int, one.byte_range)
        assert changed[:first_bytes] == signed[:first_bytes]
        assert changed[second : second + second_bytes] == signed[second:]
