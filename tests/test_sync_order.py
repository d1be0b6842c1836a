"""Every 2xx of the real door began to be sent after the syncs that it needs, as its system calls show."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.forgetful import Answer, Disk, Operation
from tests.nursery import Nursery
from tests.tracedoor import REQUESTS, TracedDoor, traced_door
from tests.tracing import UnreadableTraceError, read_operations

ROOT = Path("/r")
ID = "01a201d1-0410-7442-b46e-20a9a6898a10"
DAY = "/r/spool/2026-11-22"
BEFORE = {"spool": None, ".tmp": None, ".tmp/w": None}
FILE = f"/r/.tmp/w/5_{ID}.json"
HEAD = r"HTTP/1.1 200 OK\r\ncontent-length: 45\r\n\r\n"

STEPS = {
    "make day": f'1 mkdir("{DAY}", 0750) = 0',
    "sync parent": "1 fsync(3</r/spool>) = 0",
    "make": f'1 openat(4</r/.tmp/w>, "5_{ID}.json", O_WRONLY|O_CREAT|O_EXCL|O_CLOEXEC, 0640) = 6<{FILE}>',
    "make always synced": f'1 openat(4</r/.tmp/w>, "5_{ID}.json", O_CREAT|O_DSYNC, 0640) = 6<{FILE}>',
    "write": f'1 write(6<{FILE}>, "{{\\"a\\": 1}}", 8) = 8',
    "write more": f'1 write(6<{FILE}>, "more", 4) = 4',
    "begin to write": f'1 write(6<{FILE}>, "{{\\"a\\": 1}}", 8 <unfinished ...>',
    "end to write": "1 <... write resumed>) = 8",
    "sync data": f"1 fdatasync(6<{FILE}>) = 0",
    "begin to sync data": f"1 fdatasync(6<{FILE}> <unfinished ...>",
    "end to sync data": "1 <... fdatasync resumed>) = 0",
    "fail to sync data": f"1 fdatasync(6<{FILE}>) = -1 EIO (Input/output error)",
    "start writing back": f"1 sync_file_range(6<{FILE}>, 0, 0, SYNC_FILE_RANGE_WRITE) = 0",
    "rename": f'1 renameat(4</r/.tmp/w>, "5_{ID}.json", 7<{DAY}>, "5_{ID}.json") = 0',
    "rename by path": f'1 rename("{FILE}", "{DAY}/5_{ID}.json") = 0',
    "sync data under its new name": f"1 fsync(6<{DAY}/5_{ID}.json>) = 0",
    "sync folder": f"1 fsync(7<{DAY}>) = 0",
    "sync folder's data": f"1 fdatasync(7<{DAY}>) = 0",
    "sync temporary folder": "1 fsync(4</r/.tmp/w>) = 0",
    "sync disk": "1 syncfs(4</r/.tmp/w>) = 0",
    "begin to sync disk": "3 syncfs(3</r/spool> <unfinished ...>",
    "end to sync disk": "3 <... syncfs resumed>) = 0",
    "sync another disk": "1 syncfs(4</other>) = 0",
    "answer": f'2 write(9<socket:[1]>, "{HEAD}{{\\"id\\":\\"{ID}\\"}}", 90) = 90',
    "answer's head": f'2 write(9<socket:[1]>, "{HEAD}", 39) = 39',
    "answer's body": f"2 sendmsg(9<socket:[1]>, {{msg_name=NULL, "
    f'msg_iov=[{{iov_base="{{\\"id\\":", iov_len=6}}, '
    f'{{iov_base="\\"{ID}\\"}}", iov_len=39}}], msg_iovlen=2}}, 0) = 45',
}


def operations(steps: str) -> list[Operation]:
    """The operations of a trace with these steps, separated by commas."""
    return read_operations("\n".join(STEPS[step] for step in steps.split(", ")), ROOT)


def guilty(found: Sequence[Operation], disk: Disk) -> dict[str, list[str]]:
    """What is not safe when its 2xx begins to be sent, by receipt id; empty for an honest door."""
    acknowledged = {
        json.loads(answer.body)["id"]: answer.began
        for answer in found
        if isinstance(answer, Answer) and 200 <= answer.status < 300 and b'"id"' in answer.body
    }
    faults = {receipt_id: disk.faults(receipt_id, at) for receipt_id, at in acknowledged.items()}
    return {receipt_id: said for receipt_id, said in faults.items() if said}


@pytest.mark.parametrize(
    "steps",
    [
        "make day, sync parent, make, write, sync data, rename, sync folder, answer",
        "make day, sync parent, make always synced, write, rename, sync folder, answer",
        "make, write, make day, sync disk, rename, sync folder, answer",
        "make day, sync parent, make, write, rename, sync disk, answer's head, answer's body",
        "make day, make, write, rename by path, begin to sync disk, end to sync disk, answer",
        "make day, sync parent, make, write, rename, sync data under its new name, sync folder, answer",
        "make day, sync parent, make, begin to write, end to write, begin to sync data, end to sync data, "
        "rename, sync folder, answer",
    ],
)
def test_an_honest_writer_is_not_accused_whatever_its_means(steps: str) -> None:
    found = operations(steps)
    assert any(isinstance(operation, Answer) for operation in found)
    assert guilty(found, Disk(ROOT, found, BEFORE)) == {}


@pytest.mark.parametrize(
    "steps",
    [
        "make, write, rename, sync folder, answer",
        "make, sync data, rename, sync folder, answer",
        "make, sync data, write, rename, sync folder, answer",
        "make, write, sync data, write more, rename, sync folder, answer",
        "make, write, rename, sync folder, answer, sync data under its new name",
        "make, begin to sync disk, write, end to sync disk, rename, sync folder, answer",
        "make, begin to write, begin to sync disk, end to write, end to sync disk, rename, sync folder, "
        "answer",
        "make, write, sync another disk, rename, sync folder, answer",
        "make, write, start writing back, rename, sync folder, answer",
        "make, write, fail to sync data, sync data, rename, sync folder, answer",
    ],
)
def test_a_writer_that_is_careless_with_data_is_found_guilty(steps: str) -> None:
    [fault] = faults_of(f"make day, sync parent, {steps}")
    assert fault == f"the data of spool/2026-11-22/5_{ID}.json is not synced"


@pytest.mark.parametrize(
    "steps",
    [
        "make, write, sync data, rename, answer",
        "make, write, sync data, sync folder, rename, answer",
        "make, write, sync data, rename, sync folder's data, answer",
        "make, write, sync data, rename, sync temporary folder, answer",
        "make, write, sync data, rename, answer, sync folder",
        "make, write, sync data, rename, answer's head, sync folder, answer's body",
        "make, write, sync data, begin to sync disk, rename, end to sync disk, answer",
        "make, write, sync data, rename, begin to sync disk, answer, end to sync disk",
    ],
)
def test_a_writer_that_is_careless_with_names_is_found_guilty(steps: str) -> None:
    [fault] = faults_of(f"make day, sync parent, {steps}")
    assert fault == f"the name 5_{ID}.json in spool/2026-11-22 is not synced"


@pytest.mark.parametrize(
    "steps",
    [
        "make day, make, write, sync data, rename, sync folder, answer",
        "sync parent, make day, make, write, sync data, rename, sync folder, answer",
        "make day, make, write, sync data, rename, sync folder, answer, sync parent",
    ],
)
def test_a_writer_that_is_careless_with_a_new_day_is_found_guilty(steps: str) -> None:
    assert faults_of(steps) == ["the name 2026-11-22 in spool is not synced"]


@pytest.mark.parametrize("steps", ["answer", "make day, sync parent, make, write, sync data, answer, rename"])
def test_an_answer_without_a_file_is_found_guilty(steps: str) -> None:
    assert faults_of(steps) == ["no file has its receipt id"]


def test_several_faults_are_all_told() -> None:
    assert len(faults_of("make day, make, write, rename, answer")) == 3


def faults_of(steps: str) -> list[str]:
    found = operations(steps)
    [said] = guilty(found, Disk(ROOT, found, BEFORE)).values()
    return said


def test_a_folder_that_another_process_made_and_did_not_sync_counts_as_not_synced() -> None:
    steps = "make, write, sync data, rename, sync folder, answer"
    before = {**BEFORE, "spool/2026-11-22": None}
    found = operations(steps)
    assert guilty(found, Disk(ROOT, found, before)) == {}
    assert guilty(found, Disk(ROOT, found, before, unsynced=["spool/2026-11-22"]))
    found = operations(f"sync parent, {steps}")
    assert guilty(found, Disk(ROOT, found, before, unsynced=["spool/2026-11-22"])) == {}


def test_what_cannot_be_judged_is_said_and_not_passed_over() -> None:
    for line in (
        "1 io_uring_enter(6<anon_inode:[io_uring]>, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) = 1",
        f"1 mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_SHARED, 6<{FILE}>, 0) = 0x7f0000000000",
        f"1 ftruncate(6<{FILE}>, 0) = 0",
        f'1 write(6<{FILE}>, "cut"..., 4096) = 4096',
    ):
        with pytest.raises(UnreadableTraceError):
            read_operations(line, ROOT)


def test_a_file_that_is_overwritten_in_place_cannot_be_judged() -> None:
    line = '1 openat(AT_FDCWD</>, "/r/spool/x.json", O_WRONLY|O_CREAT|O_TRUNC, 0640) = 6</r/spool/x.json>'
    assert Disk(ROOT, read_operations(line, ROOT), BEFORE)
    with pytest.raises(NotImplementedError):
        Disk(ROOT, read_operations(line, ROOT), {**BEFORE, "spool/x.json": b"{}"})


# The real door


@pytest.fixture(scope="module")
def door(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TracedDoor]:
    with traced_door(nursery, tmp_path_factory.mktemp("door")) as made:
        yield made


def test_every_2xx_of_the_real_door_came_after_its_syncs(door: TracedDoor) -> None:
    """One after the other and 32 at once, of two providers, from the first file of a new day on."""
    found = door.operations()
    acknowledged = {
        json.loads(answer.body)["id"]
        for answer in found
        if isinstance(answer, Answer) and answer.status == 200 and b'"id"' in answer.body
    }
    assert len(acknowledged) == REQUESTS
    assert acknowledged == set(door.acknowledged)
    assert guilty(found, door.disk(found)) == {}


def test_a_day_folder_that_the_daemon_made_is_synced_before_its_first_use(
    nursery: Nursery, tmp_path: Path
) -> None:
    with traced_door(nursery, tmp_path, alone=2, requests=2, days_made=True) as door:
        found = door.operations()
    assert len(door.acknowledged) == 2
    assert guilty(found, door.disk(found)) == {}


def test_the_real_door_is_found_guilty_when_it_is_told_to_be_careless(
    nursery: Nursery, tmp_path: Path
) -> None:
    with traced_door(nursery, tmp_path, durability="rename-only", alone=2, requests=4) as door:
        found = door.operations()
    said = guilty(found, door.disk(found))
    assert set(said) == set(door.acknowledged)
    for faults in said.values():
        assert any("the data of" in fault for fault in faults)
        assert any("is not synced" in fault and "the name" in fault for fault in faults)
