"""Fetches the files of a document: the provider says what to ask for, this asks, and writes to disk."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from processor.converse import ask_in_memory, converse, whole_content
from processor.jsontree import JsonTreeDecoder
from processor.labels import disposition_name, plain_name
from processor.landing import LandedFile, Landing, remove_leftovers
from processor.sender import Streamed, StreamingSender
from processor.signatures import FileToCheck, SignatureCheck
from processor.unpack import JsonFilesDecoder, Part, expand_zip
from processor.verify import MEDIA_TYPES, check_file, ending_of
from shared.errors import NotReadyError, PermanentError, TransientError
from shared.names import encode_id
from shared.providers._base import (
    Answer,
    DocumentView,
    FetchedFile,
    FileKind,
    Into,
    Provider,
    ProviderSettings,
    Request,
    SignedFile,
)
from shared.spool import unavailable

__all__ = ["StoredFile", "fetch_files", "remove_leftovers"]

T = TypeVar("T")

_PARTIAL = 206
_BLOCK_BYTES = 512 * 1024
"""What is gathered of an answer before a thread writes it to disk."""
_JSON_FACTOR = 16
"""How many bytes of JSON one byte of a file takes at most: three digits, a comma, a new line, an indent."""
_JSON_EXTRA_BYTES = 1024 * 1024
_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,63}/[a-z0-9][a-z0-9!#$&^_.+-]{0,63}")
_ANY_TYPE = "application/octet-stream"
_ZIP_TYPES = frozenset({"application/zip", "application/x-zip-compressed", "application/x-zip"})


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A fetched file in its final place, whole and on disk.

    `name` is a plain file name made of the provider's label; `path` is where the file lies, under a name of
    ours. `signatures` is how many were checked and are right, None where none had to be.
    """

    kind: FileKind
    source: str
    name: str
    media_type: str
    size_bytes: int
    sha256: str
    path: Path
    signatures: int | None = None


class _Whole(NamedTuple):
    """A file that was found whole, where it landed, and the ending that fits it."""

    signed: SignedFile
    landed: LandedFile
    ending: str


async def fetch_files(
    provider: Provider[Any],
    document: DocumentView,
    sender: StreamingSender,
    folder: Path,
    *,
    max_file_bytes: int,
    signatures: SignatureCheck,
) -> list[StoredFile]:
    """Fetch the files of a document into a folder, check them, and bring them to disk.

    Each is named `<id>_<kind>_<n>_<first 12 of sha256>.<ending>`, so that fetching the same content again
    gives the same names. Only whole files ever stand in the folder; until then they are in a subfolder
    `.fetch-*`, which is removed whatever happens.

    Raises:
        WaitingError, PermanentError, TransientError: what the provider's file, `processor.outside`,
            `processor.verify` or `processor.signatures` found.
        SpoolUnavailableError: the folder cannot be written.
    """
    landing = Landing(folder, max_file_bytes=max_file_bytes)
    try:
        chosen = await _converse(provider, document, sender, landing)
        if not chosen:
            raise NotReadyError(f"{provider.title} has no file of this document yet")
        whole = await _in_thread(lambda: [_check(signed, landing) for signed in chosen])
        counts = await _check_signatures(whole, provider.settings, signatures)
        return await _in_thread(lambda: _store(document.document_id, whole, counts, landing))
    finally:
        await _in_thread(landing.remove)


async def _converse(
    provider: Provider[Any], document: DocumentView, sender: StreamingSender, landing: Landing
) -> list[SignedFile]:
    """Send what the provider's generator asks for, and hand it the answers, until it returns its files."""
    return await converse(provider.signed_file(document), lambda request: _ask(sender, request, landing))


async def _ask(sender: StreamingSender, request: Request, landing: Landing) -> Answer:
    if request.into is Into.MEMORY:
        return await ask_in_memory(sender, request)
    async with sender.stream(
        request.method,
        request.url,
        headers=request.headers,
        content=whole_content(request),
        redirects=request.redirects,
        silence_seconds=request.silence_seconds,
    ) as streamed:
        status, headers = streamed.status, streamed.headers
        if not 200 <= status < 300:
            return Answer(status, headers, await streamed.beginning())
        if status == _PARTIAL:
            raise TransientError(
                "the provider sent a part where the whole was asked for: it is fetched again"
            )
        if request.into is Into.FILE:
            return Answer(status, headers, files=(await _receive_file(streamed, landing),))
        if request.into is Into.JSON_TREE:
            tree = JsonTreeDecoder(landing.open_file, request.file_fields)
            await _receive_json(streamed, landing, tree.feed)
            body, found = tree.close()
            return Answer(status, headers, body, tuple(_fetched(Part("", "", file)) for file in found))
        flat = JsonFilesDecoder(landing.open_file)
        await _receive_json(streamed, landing, flat.feed)
        parts = flat.close()
    # The time limit of the answer does not cover the unpacking.
    return Answer(status, headers, files=await _in_thread(lambda: _with_entries(parts, landing)))


async def _receive_file(streamed: Streamed, landing: Landing) -> FetchedFile:
    headers = streamed.headers
    expected_bytes = _length(headers)
    if expected_bytes is not None and expected_bytes > landing.max_file_bytes:
        raise landing.too_large()
    file = landing.open_file()
    await _receive(streamed, file.write)
    name = disposition_name(headers.get("content-disposition", ""))
    return _fetched(Part(name, headers.get("content-type", ""), file))


async def _receive_json(streamed: Streamed, landing: Landing, take: Callable[[bytes], None]) -> None:
    """Hand on a JSON answer as it comes, within what its files may take.

    Raises:
        PermanentError: it is longer.
    """
    limit_bytes = _JSON_FACTOR * landing.max_file_bytes + _JSON_EXTRA_BYTES
    received_bytes = 0

    def feed(chunk: bytes) -> None:
        nonlocal received_bytes
        received_bytes += len(chunk)
        if received_bytes > limit_bytes:
            raise landing.too_large()
        take(chunk)

    await _receive(streamed, feed)


async def _receive(streamed: Streamed, take: Callable[[bytes], None]) -> None:
    """Hand on the body as it comes, in a thread: neither a slow disk nor the decoding holds up the others.

    Raises:
        TransientError: it is shorter or longer than its Content-Length.
    """
    received_bytes = 0
    block = bytearray()
    async with aclosing(streamed.chunks()) as chunks:
        async for chunk in chunks:
            received_bytes += len(chunk)
            block += chunk
            if len(block) >= _BLOCK_BYTES:
                await _in_thread(partial(take, bytes(block)))
                block.clear()
    if block:
        await _in_thread(partial(take, bytes(block)))
    expected_bytes = _length(streamed.headers)
    if expected_bytes not in (None, received_bytes):
        raise TransientError(
            f"{received_bytes} of the {expected_bytes} bytes that were announced came: fetched again"
        )


def _length(headers: Mapping[str, str]) -> int | None:
    """The Content-Length, if there is one and it counts the bytes that we see."""
    value = headers.get("content-length", "")
    if headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        return None
    return int(value) if value.isascii() and value.isdigit() and len(value) < 19 else None


def _with_entries(parts: list[Part[LandedFile]], landing: Landing) -> tuple[FetchedFile, ...]:
    """The files of an answer; behind each zip stand its entries."""
    files = []
    for part in parts:
        fetched = _fetched(part)
        files.append(fetched)
        if _is_zip(fetched):
            entries = expand_zip(part.sink.path, landing.open_file, max_total_bytes=landing.max_file_bytes)
            files += [_fetched(entry, inside=fetched.token) for entry in entries]
    return tuple(files)


def _is_zip(file: FetchedFile) -> bool:
    """Whether a file is a zip by content and by label; a docx or an ASiC container is none."""
    if not file.head.startswith(b"PK"):
        return False
    unlabelled = file.media_type == _ANY_TYPE and not ending_of(file.name)
    return file.media_type in _ZIP_TYPES or ending_of(file.name) == "zip" or unlabelled


def _fetched(part: Part[LandedFile], *, inside: int | None = None) -> FetchedFile:
    file = part.sink
    file.close()
    return FetchedFile(
        token=file.token,
        name=part.name,
        media_type=_media_type(part.media_type),
        size_bytes=file.size_bytes,
        sha256=file.sha256,
        head=file.head,
        inside=inside,
    )


def _media_type(label: str) -> str:
    """A media type without parameters, in lower case; `application/octet-stream` when it is none."""
    value = label.partition(";")[0].strip().lower()
    return value if _MEDIA_TYPE.fullmatch(value) else _ANY_TYPE


async def _check_signatures(
    files: list[_Whole], settings: ProviderSettings, signatures: SignatureCheck
) -> dict[Path, int]:
    """How many signatures each signed file carries; nothing when the provider's are not to be checked."""
    signed = [file for file in files if file.signed.kind is FileKind.SIGNED]
    if settings.signatures == "unchecked" or not signed:
        return {}
    return await signatures.check(
        [FileToCheck(file.signed.source, file.landed.path, file.ending) for file in signed],
        [file.landed.path for file in files if file.signed.kind is not FileKind.SIGNED],
        settings,
    )


def _store(
    document_id: str, files: list[_Whole], counts: Mapping[Path, int], landing: Landing
) -> list[StoredFile]:
    """Move checked files to their places; returns them as they lie there."""
    places: Counter[FileKind] = Counter()
    names = []
    for signed, _, ending in files:
        places[signed.kind] += 1
        stem = f"{encode_id(document_id)}_{signed.kind}_{places[signed.kind]}_{signed.file.sha256[:12]}"
        names.append(f"{stem}.{ending}")
    paths = landing.keep([(file.landed, name) for file, name in zip(files, names, strict=True)])
    return [
        StoredFile(
            kind=signed.kind,
            source=signed.source,
            name=plain_name(signed.file.name, ending, f"{encode_id(document_id)}_{signed.kind}"),
            media_type=MEDIA_TYPES.get(ending, signed.file.media_type),
            size_bytes=signed.file.size_bytes,
            sha256=signed.file.sha256,
            path=path,
            signatures=counts.get(landed.path),
        )
        for (signed, landed, ending), path in zip(files, paths, strict=True)
    ]


def _check(signed: SignedFile, landing: Landing) -> _Whole:
    file, landed = signed.file, landing.file(signed.file.token)
    # People send out for signature whatever they like; it is what comes back signed that has a known form.
    any_kind = signed.kind is FileKind.ORIGINAL
    try:
        with unavailable("check a fetched file", gone_too=True):
            ending = check_file(
                landed.path,
                file.head,
                file.media_type,
                file.name,
                any_kind=any_kind,
                signed=signed.kind is FileKind.SIGNED,
            )
    except PermanentError as error:
        raise PermanentError(f"{signed.source}: {error}") from error
    return _Whole(signed, landed, ending)


async def _in_thread(act: Callable[[], T]) -> T:
    """Do slow file work in a thread. When cancelled, wait for it all the same: it writes into a folder that
    is going to be removed."""
    work = asyncio.ensure_future(asyncio.to_thread(act))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        if not work.cancelled():
            work.exception()
        raise
