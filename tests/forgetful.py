"""A disk that forgets what was not synced, as a model: what may lie on it after a power cut.

The rules, on purpose harsher than any file system people use:

* Data of a file is safe once a sync of that file (or of the whole disk) that began after the write had ended
  has itself ended well. Until then nothing, a part, zeros or all of it may be there.
* A name in a folder is safe once a sync of that folder (or of the whole disk) that began after the change had
  ended has itself ended well. Until then it may be there or not, whatever became of other names; the two
  halves of a rename are two changes.
* A folder is there only if its own name in its parent is.
* After a sync that failed, what it should have made safe never is.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

SyncKind = Literal["data", "all", "disk"]


@dataclass(frozen=True, slots=True)
class Operation:
    """Something a process did; it took effect at some moment between the two positions."""

    began: int
    ended: int


@dataclass(frozen=True, slots=True)
class MakeFolder(Operation):
    """A folder was made."""

    path: str


@dataclass(frozen=True, slots=True)
class MakeFile(Operation):
    """A file was opened, and made if it was not there; `emptied` if it was."""

    path: str
    emptied: bool = False


@dataclass(frozen=True, slots=True)
class Write(Operation):
    """Data was put at the end of a file."""

    path: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Rename(Operation):
    """A name was changed."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Link(Operation):
    """A file got a second name."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Remove(Operation):
    """A name was removed."""

    path: str


@dataclass(frozen=True, slots=True)
class Sync(Operation):
    """A sync: of a file's data, of all that belongs to a file or folder, or of the whole disk."""

    path: str
    kind: SyncKind
    done: bool


@dataclass(frozen=True, slots=True)
class Answer(Operation):
    """An HTTP answer began to be sent."""

    status: int
    body: bytes


@dataclass(slots=True, eq=False)
class _File:
    writes: list[Write] = field(default_factory=list)
    syncs: list[Sync] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _Folder:
    changes: list[_Name] = field(default_factory=list)
    syncs: list[Sync] = field(default_factory=list)
    now: dict[str, _Node] = field(default_factory=dict)

    def change(self, operation: Operation, name: str, node: _Node | None) -> None:
        self.changes.append(_Name(operation.began, operation.ended, name, node))
        if node is None:
            self.now.pop(name, None)
        else:
            self.now[name] = node


_Node = _File | _Folder


@dataclass(frozen=True, slots=True, eq=False)
class _Name(Operation):
    """A name was added to a folder, or removed from it."""

    name: str
    node: _Node | None


State = Mapping[str, bytes | None]
"""What lies on a disk: path relative to the root to content; None for a folder."""

Keep = Callable[[_Name], bool]
Content = Callable[[bytes, bytes], bytes]
"""What a file holds, of its safe data and of the data that may be lost."""


class Disk:
    """The disk under one root, as far as a list of operations tells.

    `before` is what lay there at the beginning, all of it safe but the names in `unsynced`.
    """

    def __init__(
        self,
        root: Path,
        operations: Iterable[Operation],
        before: State | None = None,
        unsynced: Iterable[str] = (),
    ) -> None:
        self._root = str(root)
        self._top = _Folder()
        self._of_all: list[Sync] = []
        doubtful = set(unsynced)
        for path, content in sorted((before or {}).items()):
            self._begin_with(path, content, path not in doubtful)
        for operation in sorted(operations, key=lambda one: one.began):
            self._apply(operation)

    # Replaying

    def _begin_with(self, path: str, content: bytes | None, is_safe: bool) -> None:
        folder, name = self._parent(f"{self._root}/{path}")
        node: _Node = _Folder() if content is None else _File()
        if isinstance(node, _File):
            node.writes.append(Write(-2, -2, path, content or b""))
            node.syncs.append(Sync(-1, -1, path, "all", True))
        folder.changes.append(_Name(-2, -2 if is_safe else -1, name, node))
        folder.now[name] = node
        folder.syncs[:] = [Sync(-1, -1, path, "all", True)]

    def _apply(self, operation: Operation) -> None:
        match operation:
            case MakeFolder():
                self._add(operation, operation.path, _Folder())
            case MakeFile():
                self._make_file(operation)
            case Write():
                file = self._node(operation.path)
                assert isinstance(file, _File), f"written, but never made: {operation.path}"
                file.writes.append(operation)
            case Rename() | Link():
                node = self._node(operation.source)
                assert node is not None, f"renamed, but never made: {operation.source}"
                self._add(operation, operation.target, node)
                if isinstance(operation, Rename):
                    self._add(operation, operation.source, None)
            case Remove():
                self._add(operation, operation.path, None)
            case Sync():
                self._sync(operation)

    def _make_file(self, operation: MakeFile) -> None:
        if self._node(operation.path) is None:
            self._add(operation, operation.path, _File())
        elif operation.emptied:
            raise NotImplementedError(f"overwritten in place, which is not modelled: {operation.path}")

    def _sync(self, operation: Sync) -> None:
        if operation.kind == "disk":
            self._of_all.append(operation)
            return
        node = self._node(operation.path)
        # Of a folder it is the names that matter, and those are no data.
        if isinstance(node, _File) or (node is not None and operation.kind == "all"):
            node.syncs.append(operation)

    def _add(self, operation: Operation, path: str, node: _Node | None) -> None:
        folder, name = self._parent(path)
        folder.change(operation, name, node)

    def _parent(self, path: str) -> tuple[_Folder, str]:
        above, name = os.path.split(path)
        folder = self._node(above)
        assert isinstance(folder, _Folder), f"the trace tells nothing of the folder {above}"
        return folder, name

    def _node(self, path: str) -> _Node | None:
        node: _Node | None = self._top
        for part in Path(path).relative_to(self._root).parts:
            node = node.now.get(part) if isinstance(node, _Folder) else None
        return node

    # Judging

    def _is_safe(self, node: _Node, change: Operation, at: int) -> bool:
        after = [
            sync for sync in (*node.syncs, *self._of_all) if sync.began > change.ended and sync.ended < at
        ]
        return bool(after) and min(after, key=lambda sync: (sync.ended, sync.done)).done

    def faults(self, receipt_id: str, at: int) -> list[str]:
        """What may be lost of the entry with this receipt if the power goes at a position; empty when it is
        safe."""
        found = [
            (path, chain, node)
            for path, chain, node in self._named(self._top, (), at)
            if path.startswith("spool/") and path.endswith(f"{receipt_id}.json")
        ]
        if not found:
            return ["no file has its receipt id"]
        path, chain, node = found[0]
        faults = [
            f"the name {change.name} in {'/'.join(path.split('/')[:depth]) or 'the root'} is not synced"
            for depth, (folder, change) in enumerate(chain)
            if not self._is_safe(folder, change, at)
        ]
        assert isinstance(node, _File)
        if not node.writes or not all(self._is_safe(node, write, at) for write in node.writes):
            faults.append(f"the data of {path} is not synced")
        return faults

    def _named(
        self, folder: _Folder, above: tuple[tuple[_Folder, _Name], ...], at: int
    ) -> Iterator[tuple[str, tuple[tuple[_Folder, _Name], ...], _Node]]:
        """Every file that has a name at a position: its path, the changes that gave it, and the file."""
        latest = {change.name: change for change in folder.changes if change.ended < at}
        for change in latest.values():
            chain = (*above, (folder, change))
            if isinstance(change.node, _Folder):
                yield from self._named(change.node, chain, at)
            elif change.node is not None:
                yield "/".join(one.name for _, one in chain), chain, change.node

    # Power cuts

    def after_cut(self, at: int, keep: Keep, content: Content) -> dict[str, bytes | None]:
        """What lies on the disk after a cut at a position, given what becomes of what was not safe."""
        return dict(self._left(self._top, "", at, keep, content))

    def _left(
        self, folder: _Folder, above: str, at: int, keep: Keep, content: Content
    ) -> Iterator[tuple[str, bytes | None]]:
        names: dict[str, _Node | None] = {}
        for change in folder.changes:
            if change.began < at and (self._is_safe(folder, change, at) or keep(change)):
                names[change.name] = change.node
        for name, node in names.items():
            if isinstance(node, _Folder):
                yield above + name, None
                yield from self._left(node, f"{above}{name}/", at, keep, content)
            elif node is not None:
                yield above + name, self._data(node, at, content)

    def _data(self, file: _File, at: int, content: Content) -> bytes:
        writes = [write for write in file.writes if write.began < at]
        safe = list(itertools.takewhile(lambda write: self._is_safe(file, write, at), writes))
        data = b"".join(write.data for write in writes)
        length = sum(len(write.data) for write in safe)
        return content(data[:length], data[length:])


def _lost(safe: bytes, _rest: bytes) -> bytes:
    return safe


def _zeros(safe: bytes, rest: bytes) -> bytes:
    return safe + bytes(len(rest))


def _half(safe: bytes, rest: bytes) -> bytes:
    return safe + rest[: len(rest) // 2]


def _whole(safe: bytes, rest: bytes) -> bytes:
    return safe + rest


WEATHERS: Mapping[str, tuple[Keep, Content]] = {
    "nothing that was not synced": (lambda _: False, _lost),
    "names without data": (lambda _: True, _lost),
    "names with zeros": (lambda _: True, _zeros),
    "names with half of the data": (lambda _: True, _half),
    "new names, and the old ones too": (lambda change: change.node is not None, _whole),
    "old names gone, new ones missing": (lambda change: change.node is None, _whole),
    "everything": (lambda _: True, _whole),
}
"""What may become of what was not synced: the ends of the range, by what is left."""


def by_chance(chance: random.Random) -> tuple[Keep, Content]:
    """Any subset of the names, and any of the contents."""

    def keep(_change: _Name) -> bool:
        return chance.random() < 0.5

    def content(safe: bytes, rest: bytes) -> bytes:
        return chance.choice((_lost, _zeros, _half, _whole))(safe, rest)

    return keep, content


def snapshot(root: Path) -> dict[str, bytes | None]:
    """What lies under a root now."""
    return {
        str(path.relative_to(root)): None if path.is_dir() else path.read_bytes()
        for path in sorted(root.rglob("*"))
    }


def materialise(state: State, root: Path) -> None:
    """Make real folders and files of a state."""
    root.mkdir()
    for path, content in sorted(state.items()):
        place = root / path
        if content is None:
            place.mkdir()
        else:
            place.write_bytes(content)
