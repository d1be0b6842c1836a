"""System calls of a real process, as strace writes them down, read into operations on files and answers.

Positions are twice the line numbers of the trace: what began at a smaller position than another ended at was
not after it. No clock is read.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.processes import family
from tests.forgetful import (
    Answer,
    Link,
    MakeFile,
    MakeFolder,
    Operation,
    Remove,
    Rename,
    Sync,
    SyncKind,
    Write,
)
from tests.nursery import Process
from tests.waiting import PATIENCE_SECONDS, wait_until

NEVER = 1 << 60
"""The end of what did not end: the process died in it."""

_MAKING = "open openat creat mkdir mkdirat rename renameat renameat2 link linkat unlink unlinkat rmdir"
_WRITING = "write pwrite64 writev pwritev pwritev2 sendto sendmsg sendmmsg"
_SYNCING = "fsync fdatasync syncfs sync sync_file_range"
_UNREADABLE = "io_uring_enter mmap sendfile splice copy_file_range truncate ftruncate fallocate symlinkat"
"""Ways to change a file, or to answer, that this module does not read: on a spool they end the test."""

CALLS = f"{_MAKING} {_WRITING} {_SYNCING} {_UNREADABLE}".split()
WATCHING = ("-e", f"trace={','.join(CALLS)},io_uring_setup")
"""Tells strace to follow every call that a spool's safety depends on."""

_LINE = re.compile(r"(?:(\d+) +)?(?:<\.\.\. (?P<resumed>\w+) resumed>|(?P<name>\w+)\()(?P<rest>.*)")
_END = re.compile(r"(.*)\) += (.*)", re.DOTALL)
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"(\.\.\.)?')
_DESCRIPTOR = re.compile(r"(?:\d+|AT_FDCWD)<((?:[^<>\\]|\\.)*)>")
_ESCAPE = re.compile(rb"\\(x[0-9a-f]{2}|[0-7]{1,3}|.)", re.DOTALL)
_LETTERS = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v", b"f": b"\f", b"a": b"\a", b"b": b"\b"}


_NO_RING = ("-e", "inject=io_uring_setup:error=ENOSYS")
"""Through a ring a process acts without system calls; without one, libuv goes the usual way."""


Sent = tuple[int, int, bytes]
"""What one call sent: where it began and ended, and the bytes."""


class UnreadableTraceError(Exception):
    """The process did something that this module cannot judge."""


@dataclass(frozen=True, slots=True)
class Call:
    """One system call of a thread. `ended` is `NEVER` and `result` empty when the process died in it."""

    thread: str
    began: int
    ended: int
    name: str
    arguments: str
    result: str

    @property
    def has_failed(self) -> bool:
        return self.result.startswith("-1 ")


def read_calls(text: str) -> list[Call]:
    """The calls of a trace of `strace -f -y`, in the order in which they began."""
    calls: list[Call] = []
    open_calls: dict[str, tuple[int, str, str]] = {}
    # Counted in twos, so that what follows at once from a call has a position of its own.
    for number, line in zip(itertools.count(step=2), text.splitlines()):
        if not (matched := _LINE.fullmatch(line)):
            continue
        thread, rest = matched[1] or "", matched["rest"]
        began, name, before = number, matched["name"], ""
        if matched["resumed"]:
            began, name, before = open_calls.pop(thread)
        elif rest.endswith("<unfinished ...>"):
            open_calls[thread] = (number, name, rest.removesuffix("<unfinished ...>").rstrip())
            continue
        ended = _END.fullmatch(before + rest)
        if ended is None:
            raise UnreadableTraceError(line)
        died = ended[2].startswith("?")
        calls.append(Call(thread, began, NEVER if died else number, name, ended[1], "" if died else ended[2]))
    calls += [
        Call(thread, began, NEVER, name, arguments, "")
        for thread, (began, name, arguments) in open_calls.items()
    ]
    return sorted(calls, key=lambda call: call.began)


def read_operations(text: str, root: Path, *, ring_allowed: bool = False) -> list[Operation]:
    """What a trace says of the files under a root, and of the HTTP answers, in the order of their beginning.

    `ring_allowed` is for a process that was not traced from its start, so that libuv's ring is in use.

    Raises:
        UnreadableTraceError: a file was changed, or something sent, in a way that is not understood here.
    """
    reader = _Reader(str(root))
    for call in read_calls(text):
        if not (ring_allowed and call.name == "io_uring_enter"):
            reader.take(call)
    return sorted([*reader.operations, *reader.answers()], key=lambda operation: operation.began)


class _Reader:
    def __init__(self, root: str) -> None:
        self._root = root
        self._always_synced: set[str] = set()
        self._sent: dict[str, list[Sent]] = {}
        self.operations: list[Operation] = []

    def take(self, call: Call) -> None:
        if call.name in _UNREADABLE.split():
            self._refuse(call)
        elif call.name in _SYNCING.split():
            self._sync(call)
        elif call.name in _WRITING.split():
            self._write(call)
        elif not call.has_failed:
            self._make(call)

    def _refuse(self, call: Call) -> None:
        by_ring = call.name == "io_uring_enter"
        by_map = call.name == "mmap" and not (
            "MAP_SHARED" in call.arguments and "PROT_WRITE" in call.arguments
        )
        on_spool = any(self._is_ours(path) for path in _paths(call.arguments))
        if by_ring or (on_spool and not by_map):
            raise UnreadableTraceError(f"{call.name} cannot be judged: {call.arguments[:200]}")

    def _sync(self, call: Call) -> None:
        if call.name == "sync_file_range":
            return  # It promises nothing: neither metadata nor the disk's own cache.
        whole = call.name in ("syncfs", "sync")
        path = self._root if call.name == "sync" else _paths(call.arguments)[0]
        if self._is_ours(path):
            kind: SyncKind = "disk" if whole else "data" if call.name == "fdatasync" else "all"
            done = call.result.startswith("0")
            self.operations.append(Sync(call.began, call.ended, path, kind, done))

    def _write(self, call: Call) -> None:
        [path, *_] = _paths(call.arguments) or [""]
        data = b"".join(_strings(call))
        if call.has_failed:
            return
        if call.result:
            data = data[: int(call.result.split()[0])]
        if path.startswith("socket:"):
            self._sent.setdefault(path, []).append((call.began, call.ended, data))
        elif self._is_ours(path):
            if call.name.startswith("p"):
                raise UnreadableTraceError(f"{call.name} with an offset on {path}")
            self.operations.append(Write(call.began, call.ended, path, data))
            if path in self._always_synced:
                self.operations.append(Sync(call.ended + 1, call.ended + 1, path, "data", True))

    def _make(self, call: Call) -> None:
        began, ended, places = call.began, call.ended, self._places(call)
        if not places or not all(map(self._is_ours, places)):
            if any(map(self._is_ours, places)):
                raise UnreadableTraceError(f"{call.name} over the spool's border: {call.arguments[:200]}")
            return
        match call.name:
            case "mkdir" | "mkdirat":
                self.operations.append(MakeFolder(began, ended, places[0]))
            case "rename" | "renameat" | "renameat2":
                self.operations.append(Rename(began, ended, places[0], places[1]))
            case "link" | "linkat":
                self.operations.append(Link(began, ended, places[0], places[1]))
            case "unlink" | "unlinkat" | "rmdir":
                self.operations.append(Remove(began, ended, places[0]))
            case _ if call.name == "creat" or "O_CREAT" in call.arguments:
                emptied = call.name == "creat" or "O_TRUNC" in call.arguments
                self.operations.append(MakeFile(began, ended, places[0], emptied))
        if "O_DSYNC" in call.arguments or "O_SYNC" in call.arguments:
            self._always_synced.add(places[0])

    def _places(self, call: Call) -> list[str]:
        """The paths that a call names, each beside the folder that it is relative to."""
        found = []
        folder = ""
        for descriptor, name in re.findall(
            r'((?:\d+|AT_FDCWD)<(?:[^<>\\]|\\.)*>)?(?:, )?"((?:[^"\\]|\\.)*)"', call.arguments
        ):
            folder = _paths(descriptor)[0] if descriptor else ""
            found.append(os.path.normpath(Path(folder, _decoded(name).decode())))
        return found

    def _is_ours(self, path: str) -> bool:
        return path == self._root or path.startswith(self._root + "/")

    def answers(self) -> list[Answer]:
        return [answer for sent in self._sent.values() for answer in _http_answers(sent)]


def _http_answers(sent: list[Sent]) -> Iterator[Answer]:
    """The answers on one connection; each began when its first byte was about to be sent."""
    stream = b"".join(data for *_, data in sent)
    if not stream.startswith(b"HTTP/"):
        return
    starts = []
    length = 0
    for began, ended, data in sent:
        starts.append((length, began, ended))
        length += len(data)
    place = 0
    while place < len(stream):
        head, _, rest = stream[place:].partition(b"\r\n\r\n")
        announced = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        if announced is None:
            raise UnreadableTraceError(f"an answer without its length: {head!r}")
        _, began, ended = max(start for start in starts if start[0] <= place)
        yield Answer(began, ended, int(head.split()[1]), rest[: int(announced[1])])
        place += len(head) + 4 + int(announced[1])


def _paths(text: str) -> list[str]:
    return [_decoded(found).decode() for found in _DESCRIPTOR.findall(_STRING.sub('""', text))]


def _strings(call: Call) -> list[bytes]:
    found = _STRING.findall(call.arguments)
    if any(cut for _, cut in found):
        raise UnreadableTraceError("strace cut a text: trace with a larger -s")
    return [_decoded(text) for text, _ in found]


def _decoded(text: str) -> bytes:
    def replace(matched: re.Match[bytes]) -> bytes:
        code = matched[1]
        if code[:1] == b"x":
            return bytes([int(code[1:], 16)])
        return bytes([int(code, 8)]) if code.isdigit() else _LETTERS.get(code, code)

    return _ESCAPE.sub(replace, text.encode("utf-8", "surrogateescape"))


# Running strace


def need_strace() -> str:
    """The path of strace; a test that asks for it is skipped where processes cannot be traced."""
    path = shutil.which("strace")
    if path is None:
        pytest.skip("strace is not installed")
    tried = subprocess.run([path, "-o", os.devnull, "true"], capture_output=True, check=False)
    if tried.returncode:
        pytest.skip("processes may not be traced here (ptrace)")
    return path


@contextmanager
def traced(process: Process, trace: Path, *options: str, threads: bool = True) -> Iterator[None]:
    """Trace a process with all that it has started, or its main thread alone, and let it go on if it was
    stopped; on leaving, it has to have ended."""
    pids = family(process.pid) if threads else [process.pid]
    with attached(pids, trace, *options, threads=threads):
        process.send_signal(signal.SIGCONT)
        yield
        assert process.wait(), "the traced process has not ended"


@contextmanager
def attached(pids: Sequence[int], trace: Path, *options: str, threads: bool = True) -> Iterator[None]:
    """Trace processes that run, or the main thread of each alone; they have to have ended soon after the
    block."""
    command = [need_strace(), "-q", "-y", "-s", "1048576", "-e", "signal=none"]
    command += [*(options or WATCHING), *_NO_RING, *(["-f"] if threads else [])]
    command += [argument for pid in pids for argument in ("-p", str(pid))]
    strace = subprocess.Popen([*command, "-o", str(trace)], stderr=subprocess.DEVNULL)
    try:
        _wait_until_attached(pids, strace, threads)
        yield
        strace.wait(PATIENCE_SECONDS)
    finally:
        strace.kill()
        strace.wait()


def _wait_until_attached(pids: Sequence[int], strace: subprocess.Popen[bytes], threads: bool) -> None:
    def is_attached() -> bool:
        assert strace.poll() is None, "strace has ended"
        return not any(
            "TracerPid:\t0\n" in status.read_text()
            for pid in pids
            for status in Path(f"/proc/{pid}/task").glob(f"{'*' if threads else pid}/status")
        )

    wait_until(is_attached, "strace to attach")
