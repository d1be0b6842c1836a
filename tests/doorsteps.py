"""The steps of the door, found by watching one callback: each operation on its files, and the answer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.forgetful import Answer, MakeFile, MakeFolder, Operation, Remove, Rename, Sync, Write
from tests.tracing import NEVER, read_calls, read_operations


@dataclass(frozen=True, slots=True)
class DoorStep:
    """The moment before one operation: `what` it is, and its system call, the nth of its thread.

    `of_door` is whether the door's main thread makes it, and not the writer.
    """

    what: str
    call: str
    nth: int
    of_door: bool

    @property
    def inject(self) -> str:
        """What strace is told, so that the kernel kills the door there."""
        return f"inject={self.call}:signal=KILL:when={self.nth}"


def steps_of(trace: str, root: Path, receipt_id: str, main_thread: int) -> list[DoorStep]:
    """The steps of a door that was traced from before its first callback until that was answered."""
    calls = read_calls(trace)
    found = []
    for operation in read_operations(trace, root, ring_allowed=True):
        if isinstance(operation, Answer) and receipt_id.encode() not in operation.body:
            continue
        [call] = [call for call in calls if call.began == operation.began]
        nth = sum(
            one.name == call.name and one.thread == call.thread and one.began <= call.began for one in calls
        )
        found.append(DoorStep(what_is(operation, root), call.name, nth, call.thread == str(main_thread)))
        if isinstance(operation, Answer):
            break
    return found


def died_before(trace: str, root: Path) -> str:
    """The operation that a killed door had just begun."""
    unfinished = [
        operation for operation in read_operations(trace, root, ring_allowed=True) if operation.ended == NEVER
    ]
    return what_is(unfinished[-1], root) if unfinished else "no operation"


def what_is(operation: Operation, root: Path) -> str:
    """An operation in words, without the names that differ from run to run."""
    match operation:
        case MakeFolder(path=path) | MakeFile(path=path) | Remove(path=path) | Rename(target=path):
            return f"{type(operation).__name__} in {_place(Path(path).parent, root)}"
        case Write(path=path):
            return f"Write in {_place(Path(path).parent, root)}"
        case Sync(path=path, kind=kind):
            return f"Sync of {_place(Path(path), root)}, {kind}"
    return type(operation).__name__


def _place(path: Path, root: Path) -> str:
    """The folder under the root, and how deep below it."""
    top, *below = path.relative_to(root).parts or ("root",)
    return "/".join([top, *("*" for _ in below)])
