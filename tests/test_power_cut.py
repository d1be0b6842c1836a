"""The power goes at any moment: the daemon finds what was acknowledged, whole, in whatever is left.

The disk is the model of `tests/forgetful.py`, fed with the system calls of the real door; its states are made
into real folders, and the real daemon is started on them. `SIGNSPOOL_TEST_CUTS` sets how many states are
drawn by chance at every cut; `SIGNSPOOL_TEST_SEED` repeats a run.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from shared.record import parse_record
from shared.spool import MARKER, Folder
from tests.forgetful import WEATHERS, Answer, Disk, Operation, State, Write, by_chance, materialise
from tests.nursery import Nursery
from tests.tracedoor import TracedDoor, make_config, traced_door, work_off
from tests.tracing import read_calls, read_operations, traced

CHANCES = int(os.environ.get("SIGNSPOOL_TEST_CUTS", "2"))
SEED = int(os.environ.get("SIGNSPOOL_TEST_SEED", "20261122"))


@dataclass(frozen=True, slots=True)
class Story:
    """What a door did: its disk, the content of every file that it meant to write, and when it said 200."""

    disk: Disk
    whole: Mapping[str, bytes]
    """By receipt id."""
    acknowledged: Mapping[str, int]
    """Receipt id to position."""
    cuts: tuple[int, ...]
    """Every position at which the disk can have changed."""

    def by(self, at: int) -> set[str]:
        """What was acknowledged when the power went."""
        return {receipt_id for receipt_id, began in self.acknowledged.items() if began < at}


def story_of(door: TracedDoor) -> Story:
    operations = door.operations()
    whole: dict[str, bytes] = {}
    for write in operations:
        if isinstance(write, Write) and write.path.endswith(".json"):
            receipt_id = id_in(write.path)
            whole[receipt_id] = whole.get(receipt_id, b"") + write.data
    acknowledged = {
        json.loads(answer.body)["id"]: answer.began
        for answer in operations
        if isinstance(answer, Answer) and answer.status == 200 and b'"id"' in answer.body
    }
    assert set(acknowledged) == set(door.acknowledged) <= set(whole)
    return Story(door.disk(operations), whole, acknowledged, cuts_of(operations))


def cuts_of(operations: list[Operation]) -> tuple[int, ...]:
    """Right after each operation began, and right after it ended."""
    return tuple(sorted({at + 1 for operation in operations for at in (operation.began, operation.ended)}))


def id_in(path: str) -> str:
    return path.rpartition("_")[2].removesuffix(".json")


def damage(story: Story, state: State, at: int) -> list[str]:
    """What a state lacks of the promise: entries that are missing, and entries that are not whole."""
    entries = {id_in(path): content for path, content in state.items() if is_entry(path)}
    lost = [f"{receipt_id} is lost" for receipt_id in story.by(at) - entries.keys()]
    return lost + [
        f"{receipt_id} is not whole"
        for receipt_id, found in entries.items()
        if found != story.whole[receipt_id]
    ]


def is_entry(path: str) -> bool:
    return path.startswith("spool/") and path.endswith(".json")


def states(story: Story) -> Iterator[tuple[int, str, State]]:
    """What the disk may hold, for a cut at every position and every weather."""
    chance = random.Random(SEED)
    for at in story.cuts:
        for weather, (keep, content) in WEATHERS.items():
            yield at, weather, story.disk.after_cut(at, keep, content)
        for number in range(CHANCES):
            yield at, f"by chance, {number}", story.disk.after_cut(at, *by_chance(chance))


@pytest.fixture(scope="module")
def careful(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Story:
    """The door as it is: some callbacks alone, the others together."""
    with traced_door(nursery, tmp_path_factory.mktemp("careful"), alone=3, requests=19) as door:
        return story_of(door)


@pytest.fixture(scope="module")
def careless(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Story:
    """A door that was told not to sync."""
    home = tmp_path_factory.mktemp("careless")
    with traced_door(nursery, home, durability="rename-only", alone=1, requests=4) as door:
        return story_of(door)


def test_whenever_the_power_goes_every_acknowledged_callback_is_left_whole(careful: Story) -> None:
    """And no file that is not whole ever has the name of an entry."""
    bad = [
        (at, weather, said) for at, weather, state in states(careful) if (said := damage(careful, state, at))
    ]
    assert bad == []


def test_a_careless_door_loses_callbacks_on_the_same_disk(careless: Story) -> None:
    """Otherwise the test above would prove nothing."""
    found: dict[str, set[str]] = {}
    for at, weather, state in states(careless):
        found.setdefault(weather, set()).update(
            said.partition(" ")[2] for said in damage(careless, state, at)
        )
    assert found["nothing that was not synced"] == {"is lost"}
    assert found["old names gone, new ones missing"] == {"is lost"}
    for weather in ("names without data", "names with zeros", "names with half of the data"):
        assert found[weather] == {"is not whole"}
    assert found["everything"] == set()


def make_home(home: Path, state: State, migrated_file: Path) -> Path:
    """An installation on what the power cut left; returns its settings file."""
    home.mkdir()
    materialise(state, home / "root")
    for path in (home / "root").rglob("*.json"):
        # Not to be taken for a copy that is still under way.
        os.utime(path, (0, 0))
    shutil.copyfile(migrated_file, home / "signspool.db")
    return make_config(home)[0]


def test_the_daemon_records_every_acknowledged_callback_from_what_is_left(
    careful: Story, tmp_path: Path, migrated_file: Path
) -> None:
    answers = sorted(careful.acknowledged.values())
    moments = (answers[0], answers[len(answers) // 2], answers[-1])
    tried = set()
    for at in (moment + 1 for moment in moments):
        for weather, (keep, content) in WEATHERS.items():
            state = careful.disk.after_cut(at, keep, content)
            if (key := tuple(sorted(state.items()))) in tried:
                continue
            tried.add(key)
            config = make_home(tmp_path / f"{len(tried)}", state, migrated_file)
            recorded, spool = work_off(config)
            assert careful.by(at) <= set(recorded), weather
            assert len(recorded) == len(set(recorded))
            left = {id_in(entry.name): entry for entry in spool.entries(Folder.DONE)}
            assert set(left) == set(recorded), weather
            for receipt_id, entry in left.items():
                assert spool.read(Folder.DONE, entry) == careful.whole[receipt_id]
            assert not any(list(spool.entries(folder)) for folder in Folder if folder is not Folder.DONE)
    assert len(tried) > len(moments)


def test_what_a_careless_door_left_is_never_taken_for_an_entry(
    careless: Story, tmp_path: Path, migrated_file: Path
) -> None:
    """It is lost, but nothing wrong is recorded in its place."""
    at = careless.cuts[-1]
    for weather in ("names without data", "names with zeros", "names with half of the data"):
        state = careless.disk.after_cut(at, *WEATHERS[weather])
        recorded, spool = work_off(make_home(tmp_path / weather, state, migrated_file))
        assert recorded == []
        quarantined = {id_in(entry.name) for entry in spool.entries(Folder.QUARANTINE)}
        assert quarantined == set(careless.acknowledged)


def test_a_move_of_the_daemon_that_the_cut_undid_is_made_again_without_effect(
    careful: Story, tmp_path: Path, migrated_file: Path
) -> None:
    """Its renames are not synced: a file that was finished may lie in `spool/` again."""
    config = make_home(
        tmp_path / "home", careful.disk.after_cut(careful.cuts[-1], *WEATHERS["everything"]), migrated_file
    )
    first, spool = work_off(config)
    for entry in list(spool.entries(Folder.DONE)):
        spool.path(Folder.DONE, entry).rename(spool.path(Folder.SPOOL, entry))
    again, _ = work_off(config)
    assert sorted(again) == sorted(first)
    assert {id_in(entry.name) for entry in spool.entries(Folder.DONE)} == set(first)


def test_no_entry_leaves_the_spool_before_the_database_has_it_on_disk(
    careful: Story, nursery: Nursery, tmp_path: Path, migrated_file: Path
) -> None:
    """SQLite: by the system calls of the real daemon."""
    config = make_home(
        tmp_path / "home", careful.disk.after_cut(careful.cuts[-1], *WEATHERS["everything"]), migrated_file
    )
    process = nursery.start(
        ["processor", "--once", "--config", str(config)], tmp_path / "processor.log", stopped=True
    )
    with traced(process, tmp_path / "trace"):
        assert process.wait()
    calls = read_calls((tmp_path / "trace").read_text())
    log = [call for call in calls if "signspool.db-wal>" in call.arguments]
    renames = [call for call in calls if call.name.startswith("rename") and not call.has_failed]
    moved = [call for call in renames if "/root/spool/" in call.arguments]
    assert len(moved) == len(careful.whole)
    for move in moved:
        receipt_id = id_in(move.arguments.rpartition('"')[0])
        written = [call for call in log if call.name == "pwrite64" and receipt_id in call.arguments]
        assert any(
            sync.name in ("fsync", "fdatasync") and write.ended < sync.began and sync.ended < move.began
            for write in written
            for sync in log
        ), f"{receipt_id} was moved first"


def test_files_that_the_model_calls_whole_are_spool_files(careful: Story) -> None:
    for receipt_id, content in careful.whole.items():
        record = parse_record(content)
        assert record.receipt is not None
        assert record.receipt.id == receipt_id


def test_a_new_spool_survives_however_deep_it_was_made(nursery: Nursery, tmp_path: Path) -> None:
    """Every folder on the way to its root is synced into the one above."""
    disk = tmp_path / "disk"
    disk.mkdir()
    config = tmp_path / "signspool.toml"
    config.write_text(f'[spool]\nroot = "{disk / "var" / "signatures" / "root"}"\n')
    process = nursery.start(
        ["check", "--init-spool", "--config", str(config)], tmp_path / "check.log", stopped=True
    )
    with traced(process, tmp_path / "trace"):
        assert process.wait()
    operations = read_operations((tmp_path / "trace").read_text(), disk)
    left = Disk(disk, operations).after_cut(cuts_of(operations)[-1], *WEATHERS["nothing that was not synced"])
    root = "var/signatures/root"
    assert {f"{root}/{name}" for name in (MARKER, ".tmp", *Folder)} <= left.keys()
    assert json.loads(left[f"{root}/{MARKER}"] or b"")["spool"]
