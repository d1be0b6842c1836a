"""What the provider's file asks for lands on disk whole and named, or nothing is left of it."""

from __future__ import annotations

import asyncio
import base64
import json
import stat
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import httpx
import pytest

from processor.download import StoredFile, fetch_files
from processor.signatures import SignatureCheck
from shared.errors import NotReadyError, TransientError
from shared.providers._base import (
    Answer,
    DocumentView,
    FetchedFile,
    FileKind,
    Into,
    Request,
    SignedFile,
    SignedFiles,
    expect_success,
)
from tests.processor.fetching import (
    MIB,
    P7S,
    PDF,
    REPORT,
    Scripted,
    answering,
    digest,
    make_certisign,
    make_outside,
    make_ssign,
    package,
    run,
    zipped,
)

# Raw files


def test_a_streamed_file_lies_in_the_folder_under_a_name_of_ours(tmp_path: Path) -> None:
    """With the provider's label beside it, and nothing else left in the folder."""
    handler = answering(
        PDF,
        content_type="Application/PDF; charset=binary",
        content_disposition="attachment; filename=\"x.pdf\"; filename*=UTF-8''Loca%C3%A7%C3%A3o.pdf",
    )
    [file] = run(tmp_path, make_ssign(), handler)

    path = tmp_path / f"155_signed_1_{digest(PDF)[:12]}.pdf"
    assert file == StoredFile(
        kind=FileKind.SIGNED,
        source="signed:901",
        name="Locação.pdf",
        media_type="application/pdf",
        size_bytes=len(PDF),
        sha256=digest(PDF),
        path=path,
    )
    assert path.read_bytes() == PDF
    assert list(tmp_path.iterdir()) == [path]
    assert stat.S_IMODE(path.stat().st_mode) & 0o111 == 0


def test_a_raw_latin_1_label_is_read(tmp_path: Path) -> None:
    """Old servers send it without any encoding."""
    header = (b"Content-Disposition", 'attachment; filename="Locação.pdf"'.encode("latin-1"))
    [file] = run(tmp_path, make_ssign(), lambda request: httpx.Response(200, headers=[header], content=PDF))
    assert file.name == "Locação.pdf"


def test_a_file_without_label_is_named_after_the_document(tmp_path: Path) -> None:
    """The type comes of the content when the header gives none."""
    [file] = run(tmp_path, make_ssign(), answering(PDF, content_type="no type"), document_id="../155")
    assert (file.name, file.media_type) == ("%2E.%2F155_signed.pdf", "application/pdf")
    assert file.path.parent == tmp_path


def test_fetching_the_same_content_again_gives_the_same_names(tmp_path: Path) -> None:
    """So that a fetch which was repeated after a crash doubles nothing; other content is another file."""
    provider = make_ssign(fetch_report=True)

    def handler(request: httpx.Request) -> httpx.Response:
        is_report = request.url.params["EnvelopeFileSuffix"] == "3"
        return httpx.Response(200, content=REPORT if is_report else PDF)

    first = run(tmp_path, provider, handler)
    again = run(tmp_path, provider, handler)
    other = run(tmp_path, make_ssign(), answering(REPORT))

    assert first == again
    assert [file.path.name.split("_")[1:3] for file in first] == [["signed", "1"], ["report", "1"]]
    assert len({file.path for file in first + other}) == 3
    assert sorted(tmp_path.iterdir()) == sorted({file.path for file in first + other})


def test_files_of_one_kind_are_numbered(tmp_path: Path) -> None:
    """Two equal files of one document stay two."""
    document = DocumentView("155", {"file_ids": "901, 902"})

    async def both() -> list[StoredFile]:
        async with aclosing(make_outside(make_ssign(), answering(PDF))) as outside:
            return await fetch_files(
                make_ssign(), document, outside, tmp_path, max_file_bytes=MIB, signatures=SignatureCheck()
            )

    files = asyncio.run(both())
    assert [file.source for file in files] == ["signed:901", "signed:902"]
    assert [file.path.name[:13] for file in files] == ["155_signed_1_", "155_signed_2_"]
    assert all(file.path.read_bytes() == PDF for file in files)


# Packages


@pytest.mark.parametrize("spelled", [base64.b64encode(PDF).decode(), list(PDF)])
@pytest.mark.parametrize("as_array", [False, True])
def test_a_package_is_decoded_in_either_spelling(tmp_path: Path, spelled: object, as_array: bool) -> None:
    """An object or an array, base64 or numbers."""
    value = package("Contrato 2025-0042.pdf", b"", bytes=spelled)
    text = json.dumps([value] if as_array else value).encode()

    [file] = run(tmp_path, make_certisign(), answering(text, content_type="application/json"))

    assert (file.name, file.source) == ("Contrato 2025-0042.pdf", "signed:b7e9e16ed1ea:1")
    assert (file.sha256, file.path.read_bytes()) == (digest(PDF), PDF)


def test_the_files_of_a_zipped_package_are_kept_and_the_zip_is_not(tmp_path: Path) -> None:
    """The manifest is told from the signed file by its name."""
    archive = zipped(Contrato__pdf=PDF, **{"Contrato-Manifesto__pdf": REPORT})
    text = json.dumps(package("Contrato.zip", archive, "application/zip")).encode()

    files = run(tmp_path, make_certisign(), answering(text))

    assert [(file.kind, file.name) for file in files] == [
        (FileKind.SIGNED, "Contrato.pdf"),
        (FileKind.MANIFEST, "Contrato-Manifesto.pdf"),
    ]
    assert [file.path.read_bytes() for file in files] == [PDF, REPORT]
    assert sorted(tmp_path.iterdir()) == sorted(file.path for file in files)


def test_a_zip_with_a_detached_signature_stays_whole(tmp_path: Path) -> None:
    """Document and signature are worth nothing without each other."""
    archive = zipped(Contrato__pdf=PDF, Contrato__pdf__p7s=P7S)
    text = json.dumps([package("Contrato.zip", archive, "application/zip")]).encode()

    [file] = run(tmp_path, make_certisign(), answering(text))

    assert (file.name, file.media_type) == ("Contrato.zip", "application/zip")
    assert file.path.suffix == ".zip"
    assert file.path.read_bytes() == archive


def test_an_original_that_is_a_zip_inside_is_not_taken_apart(tmp_path: Path) -> None:
    """A word processor's file, which people do send out for signature."""
    docx = zipped(word=b"x" * 100)
    office = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
    parts = [package("Contrato.pdf", PDF), package("Contrato-original.docx", docx, office)]

    files = run(tmp_path, make_certisign(), answering(json.dumps(parts).encode()))

    assert [(file.kind, file.name, file.media_type) for file in files] == [
        (FileKind.SIGNED, "Contrato.pdf", "application/pdf"),
        (FileKind.ORIGINAL, "Contrato-original.docx", office),
    ]


def test_the_provider_is_handed_each_zip_with_its_entries_behind_it(tmp_path: Path) -> None:
    """Tokens tell which entry came out of which zip; heads and digests are those of the content."""
    seen: list[tuple[FetchedFile, ...]] = []

    def script(document: DocumentView) -> SignedFiles:
        answer = yield Request("GET", "https://tenant.example/rest/p", into=Into.JSON_FILES)
        seen.append(answer.files)
        return [SignedFile(answer.files[0], FileKind.SIGNED, "signed:1")]

    archive = zipped(a__pdf=PDF, b__pdf=REPORT)
    text = json.dumps([package("one.pdf", PDF), package("all", archive, "")]).encode()
    run(tmp_path, Scripted(script), answering(text))

    [(one, whole, a, b)] = seen
    assert [file.inside for file in (one, whole, a, b)] == [None, None, whole.token, whole.token]
    assert [file.name for file in (one, whole, a, b)] == ["one.pdf", "all", "a.pdf", "b.pdf"]
    assert (b.sha256, b.head, b.size_bytes) == (digest(REPORT), REPORT[:16], len(REPORT))
    assert len({file.token for file in (one, whole, a, b)}) == 4


# The conversation


def test_a_token_dance_goes_through_memory_and_then_to_disk(tmp_path: Path) -> None:
    """Requests carry what the generator says, and it sees each answer."""
    requests: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        if request.method == "POST":
            return httpx.Response(201, json={"token": "abc"}, headers={"X-Kind": "login"})
        return httpx.Response(200, content=PDF)

    def script(document: DocumentView) -> SignedFiles:
        login = yield Request("POST", "https://tenant.example/rest/login", content=b'{"user": "u"}')
        assert (login.status, login.headers["x-kind"], login.files) == (201, "login", ())
        token = json.loads(login.body)["token"]
        answer = yield Request(
            "GET", "https://tenant.example/rest/file", headers={"Authorization": token}, into=Into.FILE
        )
        assert answer.body == b""
        return [SignedFile(answer.files[0], FileKind.SIGNED, "signed:1")]

    [file] = run(tmp_path, Scripted(script), handler)

    assert file.path.read_bytes() == PDF
    assert [(request.method, request.content) for request in requests] == [
        ("POST", b'{"user": "u"}'),
        ("GET", b""),
    ]
    assert requests[1].headers["authorization"] == "abc"


@pytest.mark.parametrize("into", [Into.FILE, Into.JSON_FILES])
def test_an_answer_that_is_no_success_is_handed_over_with_the_beginning_of_its_body(
    tmp_path: Path, into: Into
) -> None:
    """What the status means is for the provider's file to say, and no file is made of it."""
    answers: list[Answer] = []

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"no " * 1000

    def script(document: DocumentView) -> SignedFiles:
        answer = yield Request("GET", "https://tenant.example/rest/file", into=into)
        answers.append(answer)
        expect_success(answer, "the file")
        return []

    with pytest.raises(TransientError, match="503") as caught:
        run(
            tmp_path,
            Scripted(script),
            lambda request: httpx.Response(503, headers={"Retry-After": "90"}, content=endless()),
        )

    [answer] = answers
    assert (answer.status, answer.files) == (503, ())
    assert 0 < len(answer.body) <= 64 * 1024
    assert caught.value.retry_after_seconds == 90
    assert list(tmp_path.iterdir()) == []


def test_a_provider_without_any_file_is_not_ready(tmp_path: Path) -> None:
    """A completed document with nothing fetched would be forgotten in silence."""

    def script(document: DocumentView) -> SignedFiles:
        yield Request("GET", "https://tenant.example/rest/file", into=Into.FILE)
        return []

    with pytest.raises(NotReadyError):
        run(tmp_path, Scripted(script), answering(PDF))
    assert list(tmp_path.iterdir()) == []
