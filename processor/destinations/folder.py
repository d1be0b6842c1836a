"""A folder as destination: a copy of each signed file, and beside it a `.json` that says what it is."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from processor.destinations._base import Destination, Parcel, Sending
from processor.destinations._names import fitting, safe_part, with_digest
from processor.destinations._values import Values
from shared import template
from shared.clock import Clock
from shared.errors import PermanentError, TransientError
from shared.settings.destinations import FolderSettings

_PIECE_BYTES = 256 * 1024
# A file system may know no hard links; then a rename is the next best thing.
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV})


class FolderDestination(Destination):
    """Puts each file under its name, whole or not at all; never over a file with other content.

    A second content under the same name is stored beside the first, with a piece of its digest in the name.
    """

    repeatable = True

    def __init__(self, name: str, settings: FolderSettings, clock: Clock) -> None:
        self.name = name
        self.kinds = frozenset(settings.kinds)
        self._settings = settings
        self._clock = clock
        # One at a time, since a file system without hard links cannot refuse a name that is taken.
        self._placing = asyncio.Lock()

    def why_unusable(self) -> str | None:
        root = self._settings.path
        if not root.is_dir():
            return f"{root} is not there: make or mount it"
        if os.statvfs(root).f_flag & os.ST_RDONLY:
            return (
                f"{root} is read-only here: mount it so that it can be written, and under systemd name it in "
                "ReadWritePaths= of signspool-processor and signspool-check"
            )
        if not os.access(root, os.W_OK | os.X_OK):
            return f"{root} cannot be written: give its rights to the user of this service"
        return None

    async def deliver(self, parcel: Parcel, sending: Sending) -> str:
        values = Values.of_parcel(parcel)
        values.require(self._settings.name)
        relative = relative_path(self._settings.name, values)
        target = self._settings.path / relative
        part = target.with_name(f".{parcel.sha256}.{uuid.uuid4()}.part")
        try:
            found = await asyncio.to_thread(self._prepare, parcel, target, part)
            if found is None:
                await sending()
                async with self._placing:
                    found = await asyncio.to_thread(self._place, parcel, target, part)
        finally:
            await asyncio.to_thread(_discard, part)
        await asyncio.to_thread(self._remove_parts, found.parent, parcel.sha256)
        return found.relative_to(self._settings.path).as_posix()

    def _prepare(self, parcel: Parcel, target: Path, part: Path) -> Path | None:
        """Copy the file beside its target; or the path under which it lies there already."""
        root = self._settings.path
        with self._as_transient():
            if not root.is_dir():
                raise TransientError(f"{root} is not there: make or mount it; nothing is written until then")
            _make_folders(root, target.parent)
            for place in (target, with_digest(target, parcel.sha256)):
                if _holds(place, parcel):
                    # The crash that brought us back may have come before this.
                    _sync_folders(root, place.parent)
                    return place
            _copy(parcel, part)
            return None

    def _place(self, parcel: Parcel, target: Path, part: Path) -> Path:
        """Give the copy its name, and the description before it."""
        with self._as_transient():
            for place in (target, with_digest(target, parcel.sha256)):
                if _holds(place, parcel):
                    return place
                if place.exists() or not self._describe(parcel, place):
                    continue
                _appear(part, place)
                _sync_folders(self._settings.path, place.parent)
                return place
        raise PermanentError(
            f"{target.name} and its name with digest hold other content under {self._settings.path}: "
            "find out who changed them, and move them away"
        )

    def _describe(self, parcel: Parcel, place: Path) -> bool:
        """Write the `.json` beside the place, whole or not at all; false when it speaks of other content.

        So it also reserves the name, for a file that a crash kept from appearing too.
        """
        described = place.with_name(place.name + ".json")
        if described.exists():
            return _described_sha256(described) == parcel.sha256
        subject = parcel.subject
        description = {
            "provider": subject.provider,
            "document_id": subject.document_id,
            "status": subject.status.value,
            "kind": parcel.kind.value,
            "sha256": parcel.sha256,
            "size_bytes": parcel.size_bytes,
            "media_type": parcel.media_type,
            "delivered_at": self._clock.now().isoformat(),
            "idempotency_key": parcel.idempotency_key,
        }
        part = place.with_name(f".{parcel.sha256}.{uuid.uuid4()}.part")
        try:
            with part.open("x", encoding="utf-8") as file:
                file.write(json.dumps(description, ensure_ascii=False, indent=1) + "\n")
                _sync_file(file)
            _appear(part, described)
        finally:
            part.unlink(missing_ok=True)
        return True

    def _remove_parts(self, folder: Path, sha256: str) -> None:
        """Remove what attempts at this file left when they were killed, now that it lies in its place.

        Whoever else is at the same file this very moment finds it there when it tries again.
        """
        with self._as_transient():
            for left in folder.glob(f".{sha256}.*.part"):
                left.unlink(missing_ok=True)

    @contextmanager
    def _as_transient(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise TransientError(
                f"{self._settings.path} cannot be written ({error.strerror}): check space, rights and mount"
            ) from error


def relative_path(name: str, values: Values) -> Path:
    """The path under the destination's folder that a template gives.

    Values cannot make folders or leave them: a slash in one is encoded like every other mark that a file
    name should not have. Letters of any script stay.

    Raises:
        PermanentError: nothing is left for the file name.
    """
    rendered = template.parse(name).render(values.lookup, escape=safe_part)
    *folders, last = rendered.split("/")
    if not last:
        raise PermanentError(f"the name template {name!r} gives no file name for this file: correct it")
    return Path(*(fitting(folder) for folder in folders), _not_description(fitting(last)))


def _not_description(name: str) -> str:
    """A name that no `.json` beside another file can have."""
    return f"{name[:-5]}%2E{name[-4:]}" if name.lower().endswith(".json") else name


def _copy(parcel: Parcel, part: Path) -> None:
    """Copy a parcel's file to a new file and sync it.

    Raises:
        TransientError: what was read is not what was fetched.
    """
    digest = hashlib.sha256()
    with parcel.path.open("rb") as source, part.open("xb") as copy:
        while piece := source.read(_PIECE_BYTES):
            digest.update(piece)
            copy.write(piece)
        if digest.hexdigest() != parcel.sha256:
            raise TransientError(f"the fetched file {parcel.path.name} was changed on our disk")
        _sync_file(copy)


def _discard(part: Path) -> None:
    # Another machine that is done with the same file may have removed it; and where the folder itself is not
    # there, or is none, unlink would raise over the error that says so.
    with suppress(FileNotFoundError, NotADirectoryError):
        part.unlink()


def _holds(path: Path, parcel: Parcel) -> bool:
    """Whether a file is there already, with this parcel's content."""
    try:
        if path.stat().st_size != parcel.size_bytes:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == parcel.sha256
    except FileNotFoundError:
        return False


def _described_sha256(description: Path) -> object:
    """The digest of the file that a description is about; None when it is not one of ours."""
    try:
        fields = json.loads(description.read_bytes())
    except ValueError:
        return None
    return fields.get("sha256") if isinstance(fields, dict) else None


def _appear(part: Path, place: Path) -> None:
    """Make the copy visible under its name, in one step, and over nothing that another machine put there."""
    try:
        os.link(part, place)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        part.replace(place)


def _make_folders(root: Path, folder: Path) -> None:
    """Make the folders below root that lead to this one, but never root itself."""
    for part in reversed(_folders(root, folder)[:-1]):
        part.mkdir(exist_ok=True)


def _sync_file(file: IO[bytes] | IO[str]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folders(root: Path, folder: Path) -> None:
    """Make a new name in a folder durable, and the folder's own name, and so on up to root."""
    for part in _folders(root, folder):
        descriptor = os.open(part, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _folders(root: Path, folder: Path) -> list[Path]:
    """The folder, those above it, and root as the last."""
    return [part for part in (folder, *folder.parents) if part.is_relative_to(root)]
