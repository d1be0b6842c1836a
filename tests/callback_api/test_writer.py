"""The writer as its door sees it: a process that may stand still, die, or not start."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from callback_api import writer as writing
from callback_api.orders import packed_order
from callback_api.writer import Writer
from shared.clock import Clock
from shared.commit import NewFile
from shared.errors import SpoolUnavailableError
from shared.spool import Entry, Folder, Spool
from tests.processes import is_running
from tests.waiting import wait_until

DAY = "2041-11-21"
SECONDS = 90
"""Patience with a machine that has much else to do; nothing that works waits so long."""


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    made = Spool(tmp_path / "data", Clock(UTC, lambda: datetime(2041, 11, 21, 12, tzinfo=UTC)))
    made.initialise()
    return made


@asynccontextmanager
async def opened(spool: Spool, **settings: object) -> AsyncIterator[Writer]:
    writer = Writer(spool, **settings)  # type: ignore[arg-type]
    await writer.start()
    try:
        yield writer
    finally:
        async with asyncio.timeout(SECONDS):
            await writer.close()


async def write(writer: Writer, name: str, data: bytes = b"{}", day: str = DAY) -> str:
    """Write a file; returns what went wrong, or nothing."""
    try:
        async with asyncio.timeout(SECONDS):
            await writer.write(Folder.SPOOL, Entry(day, name), data)
    except SpoolUnavailableError as error:
        return str(error)
    return ""


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110  (nobody tells of it)
            await asyncio.sleep(0.001)


def visible(spool: Spool) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in spool.folder(Folder.SPOOL).glob("*/*")}


def is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def test_many_at_once_of_any_size_and_day_are_there_when_it_says_so(spool: Spool) -> None:
    """More than the connection holds at a time, and contents that hold line ends."""
    groups: list[tuple[int, float]] = []
    contents = {f"{n}.json": os.urandom(1 + 7919 * n) + b"\n\n" for n in range(150)}

    async def main() -> None:
        def on_group(files: Sequence[NewFile], seconds: float) -> None:
            groups.append((len(files), seconds))

        async with opened(spool, on_group=on_group) as writer:
            said = await asyncio.gather(
                *(
                    write(writer, name, data, f"2041-11-2{1 + n % 2}")
                    for n, (name, data) in enumerate(contents.items())
                )
            )
            assert set(said) == {""}
            assert visible(spool) == contents

    asyncio.run(main())
    assert sum(number for number, _ in groups) == len(contents)
    assert all(seconds > 0 for _, seconds in groups)


def test_what_fails_is_told_to_those_whose_file_it_was_and_to_no_other(spool: Spool) -> None:
    async def main() -> None:
        (spool.folder(Folder.SPOOL) / "2041-11-22").write_text("in the way")
        failed: list[list[bool]] = []
        async with opened(
            spool, on_group=lambda files, _: failed.append([file.error is not None for file in files])
        ) as writer:
            days = [DAY, "2041-11-22"] * 5
            said = await asyncio.gather(
                *(write(writer, f"{n}.json", b"x", day) for n, day in enumerate(days))
            )
            for day, words in zip(days, said, strict=True):
                assert bool(words) == (day != DAY), said
            assert (
                sorted(visible(spool)) == ["0.json", "2.json", "4.json", "6.json", "8.json", "2041-11-22"][:5]
            )
        assert sum(map(sum, failed)) == 5

    asyncio.run(main())


def test_what_cannot_be_sent_is_refused_and_takes_nobodys_answer(spool: Spool) -> None:
    """As when memory lacks for it: who comes next is told of their own file, and only once it is safe."""

    async def main() -> None:
        async with opened(spool) as writer:
            assert "cannot be handed" in await write(writer, "\udce9.json")
            os.kill(writer.process_id, signal.SIGSTOP)
            later = asyncio.ensure_future(write(writer, "later.json"))
            await asyncio.sleep(0.05)
            echo = asyncio.ensure_future(writer.echo())
            os.kill(writer.process_id, signal.SIGCONT)
            assert await later == ""
            assert visible(spool) == {"later.json": b"{}"}
            await asyncio.wait_for(echo, SECONDS)

    asyncio.run(main())


def test_close_writes_what_was_asked_for_and_takes_no_more(spool: Spool) -> None:
    async def main() -> None:
        writer = Writer(spool)
        await writer.start()
        process = writer.process_id
        asked = [asyncio.ensure_future(write(writer, f"{n}.json")) for n in range(50)]
        await asyncio.sleep(0)
        await writer.close()
        assert await asyncio.gather(*asked) == [""] * 50
        assert len(visible(spool)) == 50
        assert list(spool.temporary.iterdir()) == []
        assert is_gone(process)
        assert "stopping" in await write(writer, "late.json")

    asyncio.run(main())


def test_a_writer_that_was_never_started_can_be_closed(spool: Spool) -> None:
    asyncio.run(Writer(spool).close())


def test_who_gives_up_waiting_harms_nobody(spool: Spool) -> None:
    async def main() -> None:
        async with opened(spool) as writer:
            os.kill(writer.process_id, signal.SIGSTOP)
            impatient = asyncio.ensure_future(writer.write(Folder.SPOOL, Entry(DAY, "a.json"), b"a"))
            patient = asyncio.ensure_future(write(writer, "b.json"))
            await asyncio.sleep(0.05)
            impatient.cancel()
            assert not patient.done()
            os.kill(writer.process_id, signal.SIGCONT)
            assert await patient == ""

    asyncio.run(main())


def test_an_echo_comes_only_from_a_process_that_works(spool: Spool) -> None:
    async def main() -> None:
        async with opened(spool) as writer:
            await asyncio.wait_for(writer.echo(), SECONDS)
            os.kill(writer.process_id, signal.SIGSTOP)
            heard = asyncio.ensure_future(writer.echo())
            await asyncio.wait([heard], timeout=0.2)
            assert not heard.done()
            os.kill(writer.process_id, signal.SIGCONT)
            await asyncio.wait_for(heard, SECONDS)

    asyncio.run(main())


def test_a_writer_that_is_killed_fails_what_it_had_in_hand_and_another_takes_its_place(spool: Spool) -> None:
    """Requests that come meanwhile wait for it, and what the dead one left under `.tmp/` goes."""

    async def main() -> None:
        async with opened(spool) as writer:
            assert await write(writer, "before.json") == ""
            first = writer.process_id
            os.kill(first, signal.SIGSTOP)
            in_hand = [asyncio.ensure_future(write(writer, f"{n}.json")) for n in range(9)]
            silent = asyncio.ensure_future(writer.echo())
            await asyncio.sleep(0.05)
            os.kill(first, signal.SIGKILL)
            assert set(await asyncio.gather(*in_hand)) == {"the writer's process has ended"}
            with pytest.raises(SpoolUnavailableError):
                await silent
            waiting = [asyncio.ensure_future(write(writer, f"later-{n}.json")) for n in range(3)]
            assert await asyncio.gather(*waiting) == [""] * 3
            assert writer.process_id not in (0, first)
            await writer.echo()
            assert set(visible(spool)) == {"before.json", *(f"later-{n}.json" for n in range(3))}
            assert len(list(spool.temporary.iterdir())) == 1

    asyncio.run(main())


def test_a_closed_door_does_not_wait_for_another_writer(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "RESTART_SECONDS", 2.0 * SECONDS)

    async def main() -> None:
        async with opened(spool) as writer:
            os.kill(writer.process_id, signal.SIGKILL)
            await until(lambda: writer.process_id == 0)
            waiting = asyncio.ensure_future(write(writer, "a.json"))
            # Long enough to ask, and not for another process.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert await asyncio.wait_for(waiting, SECONDS) == "the service is stopping"

    asyncio.run(main())


def test_a_process_that_cannot_be_started_is_said_and_tried_again(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "RESTART_SECONDS", 0.05)

    async def main() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "executable", "/nowhere/python")
            with pytest.raises(SpoolUnavailableError, match="cannot be started"):
                await Writer(spool).start()
        async with opened(spool) as writer:
            with monkeypatch.context() as patch:
                patch.setattr(sys, "executable", "/nowhere/python")
                os.kill(writer.process_id, signal.SIGKILL)
                await until(lambda: writer.trouble is not None)
                assert "cannot be started" in await write(writer, "a.json")
                assert "cannot be started" in (writer.trouble or "")
            assert await write(writer, "b.json") == ""
            assert writer.trouble is None

    asyncio.run(main())


def test_a_process_that_ends_at_once_is_said_at_the_start(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/true")

    async def main() -> None:
        writer = Writer(spool)
        with pytest.raises(SpoolUnavailableError, match="has ended"):
            await writer.start()
        await asyncio.wait_for(writer.close(), SECONDS)

    asyncio.run(main())


def test_a_process_that_is_killed_at_its_birth_is_followed_by_another(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = tmp_path / "python"
    die = f'if mkdir "{tmp_path}/born" 2>/dev/null; then kill -9 $$; fi'
    once.write_text(f'#!/bin/sh\n{die}\nexec "{sys.executable}" "$@"\n')
    once.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(once))

    async def main() -> None:
        async with opened(spool) as writer:
            assert await write(writer, "a.json") == ""

    asyncio.run(main())


def test_a_process_that_hangs_is_left_to_itself_once_nobody_waits_for_it(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at the end of the grace time: whoever waited was told to come again."""
    monkeypatch.setattr(writing, "FINISH_SECONDS", 0.2)

    async def main() -> None:
        writer = Writer(spool)
        await writer.start()
        process = writer.process_id
        os.kill(process, signal.SIGSTOP)
        asked = asyncio.ensure_future(write(writer, "a.json"))
        closing = asyncio.ensure_future(writer.close())
        await asyncio.wait([closing], timeout=1)
        assert not closing.done()
        assert not asked.done()
        asked.cancel()
        await asyncio.wait_for(closing, SECONDS)
        assert is_gone(process)

    asyncio.run(main())


def test_a_door_that_dies_takes_its_writer_along_which_first_finishes(spool: Spool) -> None:
    """Whatever had reached it becomes a whole file or nothing."""

    async def main() -> int:
        writer = Writer(spool)
        await writer.start()
        process = writer.process_id
        os.kill(process, signal.SIGSTOP)
        for n in range(20):
            asyncio.ensure_future(write(writer, f"{n}.json", b"whole"))  # noqa: RUF006
        await asyncio.sleep(0.05)
        os.write(told, b"%d" % process)
        os._exit(0)

    heard, told = os.pipe()
    door = os.fork()
    if not door:
        asyncio.run(main())
        os._exit(1)
    process = int(os.read(heard, 20))
    os.waitpid(door, 0)
    os.close(heard)
    os.close(told)
    os.kill(process, signal.SIGCONT)
    wait_until(lambda: not is_running(process), "the writer to end without its door")
    assert set(visible(spool).values()) <= {b"whole"}
    assert list(spool.temporary.iterdir()) == []


def test_what_reached_the_process_is_written_although_the_door_died_without_reading_an_answer(
    spool: Spool,
) -> None:
    """The kernel tells the process of the answer that nobody read; its orders are whole all the same."""
    door, theirs = socket.socketpair()
    with theirs:
        process = writing._process(spool, theirs)
    with process:
        with door:
            door.sendall(packed_order(1, [NewFile(Folder.SPOOL, Entry(DAY, "a.json"), b"a")]))
            assert select.select([door], [], [], SECONDS)[0], "there is no answer"
            os.kill(process.pid, signal.SIGSTOP)
            door.sendall(packed_order(2, [NewFile(Folder.SPOOL, Entry(DAY, "b.json"), b"b")]))
        os.kill(process.pid, signal.SIGCONT)
        assert process.wait(SECONDS) == 0
    assert visible(spool) == {"a.json": b"a", "b.json": b"b"}
    assert list(spool.temporary.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_to_stop_are_for_the_door(spool: Spool, number: int) -> None:
    async def main() -> None:
        async with opened(spool) as writer:
            os.kill(writer.process_id, number)
            assert await write(writer, "a.json") == ""

    asyncio.run(main())
