"""A folder as destination, on a real file system."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from processor.destinations.folder import FolderDestination
from shared.clock import Clock
from shared.errors import PermanentError, TransientError, WaitingError
from shared.settings.destinations import FolderSettings
from tests.meanwhile import right_before

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 11, 21, 20, 31, tzinfo=UTC)

Make = Callable[..., FolderDestination]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "archive"
    root.mkdir()
    return root


@pytest.fixture
def make(root: Path) -> Make:
    def make(**changes: Any) -> FolderDestination:
        settings = FolderSettings.model_validate({"kind": "folder", "path": root, **changes})
        return FolderDestination("archive", settings, Clock(now=lambda: NOW))

    return make


def remove(folder: Path) -> None:
    folder.rmdir()


def traces_under(root: Path) -> list[tuple[Path, int, int]]:
    return [(path, path.stat().st_mtime_ns, path.stat().st_ino) for path in sorted(root.rglob("*"))]


def files_under(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


async def test_the_file_lies_under_its_name_with_a_description_beside_it(
    root: Path, make: Make, make_parcel: Any, mark: Any
) -> None:
    parcel = make_parcel(b"signed bytes", name="Contrato ação (1).pdf")
    reference = await make().deliver(parcel, mark)
    assert reference == "ssign/155/Contrato ação (1).pdf"
    assert files_under(root) == [reference, reference + ".json"]
    assert (root / reference).read_bytes() == b"signed bytes"
    assert json.loads((root / (reference + ".json")).read_text()) == {
        "provider": "ssign",
        "document_id": "155",
        "status": "completed",
        "kind": "signed",
        "sha256": parcel.sha256,
        "size_bytes": 12,
        "media_type": "application/pdf",
        "delivered_at": "2026-11-21T20:31:00+00:00",
        "idempotency_key": parcel.idempotency_key,
    }
    assert len(mark.seen) == 1


async def test_the_same_file_again_is_a_success_that_writes_nothing(
    root: Path, make: Make, make_parcel: Any, mark: Any
) -> None:
    destination, parcel = make(), make_parcel()
    reference = await destination.deliver(parcel, mark)
    before = traces_under(root)
    assert await destination.deliver(parcel, mark) == reference
    assert traces_under(root) == before
    assert len(mark.seen) == 1


async def test_other_content_under_the_same_name_stands_beside_the_first(
    root: Path, make: Make, make_parcel: Any, mark: Any
) -> None:
    destination = make()
    first = await destination.deliver(make_parcel(b"first"), mark)
    parcel = make_parcel(b"second")
    second = await destination.deliver(parcel, mark)
    assert second == f"ssign/155/contrato.{parcel.sha256[:16]}.pdf"
    assert (root / first).read_bytes() == b"first"
    assert (root / second).read_bytes() == b"second"
    assert json.loads((root / (second + ".json")).read_text())["sha256"] == parcel.sha256
    assert await destination.deliver(parcel, mark) == second


async def test_a_stored_file_that_was_tampered_with_is_reported_and_left(
    root: Path, make: Make, make_parcel: Any, mark: Any
) -> None:
    destination, parcel = make(), make_parcel(b"second")
    folder = root / "ssign" / "155"
    folder.mkdir(parents=True)
    (folder / "contrato.pdf").write_bytes(b"first")
    (folder / f"contrato.{parcel.sha256[:16]}.pdf").write_bytes(b"changed")
    with pytest.raises(PermanentError, match="other content"):
        await destination.deliver(parcel, mark)
    assert len(files_under(root)) == 2


async def test_two_contents_under_one_name_at_once_keep_their_own_descriptions(
    root: Path, make: Make, make_parcel: Any, mark: Any, tmp_path: Path
) -> None:
    destination = make()
    parcels = []
    for content in (b"first", b"second", b"third"):
        parcel = make_parcel(content)
        parcels.append(replace(parcel, path=parcel.path.rename(tmp_path / content.decode())))
    references = await asyncio.gather(*(destination.deliver(parcel, mark) for parcel in parcels))
    assert len(set(references)) == 3
    for reference, parcel in zip(references, parcels, strict=True):
        digest = hashlib.sha256((root / reference).read_bytes()).hexdigest()
        described = json.loads((root / f"{reference}.json").read_text())["sha256"]
        assert digest == described == parcel.sha256


async def test_each_name_appears_only_after_what_it_stands_for_is_on_the_disk(
    root: Path, make: Make, make_parcel: Any, mark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def ending(path: Any) -> str:
        name = os.fspath(path)
        return "part" if name.endswith(".part") else Path(name).relative_to(root.parent).as_posix()

    def spy(function: str) -> None:
        real = getattr(os, function)

        def call(first: Any, *rest: Any, **options: Any) -> Any:
            shown = rest[0] if rest else Path(f"/proc/self/fd/{first}").readlink()
            calls.append(f"{function} {ending(shown)}")
            return real(first, *rest, **options)

        monkeypatch.setattr(os, function, call)

    for function in ("fsync", "link"):
        spy(function)
    destination, parcel = make(), make_parcel()
    await destination.deliver(parcel, mark)
    folders = ["fsync archive/ssign/155", "fsync archive/ssign", "fsync archive"]
    assert calls == [
        "fsync part",
        "fsync part",
        "link archive/ssign/155/contrato.pdf.json",
        "link archive/ssign/155/contrato.pdf",
        *folders,
    ]
    calls.clear()
    await destination.deliver(parcel, mark)
    assert calls == folders, "the crash that made us repeat may have come before they were synced"


async def test_a_file_system_without_hard_links_serves_too(
    root: Path, make: Make, make_parcel: Any, mark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_source: Path, _target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    reference = await make().deliver(make_parcel(), mark)
    assert files_under(root) == [reference, f"{reference}.json"]


async def test_a_name_that_another_machine_took_in_between_is_not_overwritten(
    root: Path, make: Make, make_parcel: Any
) -> None:
    """The next attempt finds it and goes beside it."""
    destination, parcel = make(), make_parcel(b"ours")
    real = os.link

    def too_late(source: Path, target: Path) -> None:
        if target.suffix == ".pdf":
            target.write_bytes(b"theirs")
        real(source, target)

    async def nothing_to_note() -> None:
        pass

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "link", too_late)
        with pytest.raises(TransientError, match="File exists"):
            await destination.deliver(parcel, nothing_to_note)
    reference = await destination.deliver(parcel, nothing_to_note)
    assert (root / reference).read_bytes() == b"ours"
    assert (root / "ssign/155/contrato.pdf").read_bytes() == b"theirs"


@pytest.mark.parametrize("leftover", ['{"sha256": "0000"}', "[]", "not JSON"])
async def test_a_name_whose_description_speaks_of_another_file_is_taken(
    root: Path, make: Make, make_parcel: Any, mark: Any, leftover: str
) -> None:
    """So is the name of a file that a crash, on whatever machine, kept from appearing."""
    folder = root / "ssign" / "155"
    folder.mkdir(parents=True)
    (folder / "contrato.pdf.json").write_text(leftover)
    parcel = make_parcel()
    reference = await make().deliver(parcel, mark)
    assert reference == f"ssign/155/contrato.{parcel.sha256[:16]}.pdf"
    assert (folder / "contrato.pdf.json").read_text() == leftover


async def test_a_file_whose_description_a_crash_left_alone_takes_its_place(
    root: Path, make: Make, make_parcel: Any, mark: Any
) -> None:
    destination, parcel = make(), make_parcel()
    reference = await destination.deliver(parcel, mark)
    (root / reference).unlink()
    assert await destination.deliver(parcel, mark) == reference
    assert files_under(root) == [reference, f"{reference}.json"]


async def test_a_folder_that_is_not_mounted_is_waited_for_and_not_made(
    root: Path, make: Make, make_parcel: Any, mark: Any
) -> None:
    destination = make()
    remove(root)
    with pytest.raises(TransientError, match="mount"):
        await destination.deliver(make_parcel(), mark)
    assert mark.seen == []
    assert "mount" in (destination.why_unusable() or "")


async def test_a_folder_that_is_a_file_says_so(
    tmp_path: Path, make: Make, make_parcel: Any, mark: Any
) -> None:
    with pytest.raises(TransientError, match="is not there"):
        await make(path=tmp_path / "fetched.bin").deliver(make_parcel(), mark)


async def test_a_name_taken_by_a_folder_is_an_error_and_leaves_nothing(
    root: Path, make: Make, make_parcel: Any, mark: Any
) -> None:
    (root / "ssign").write_text("in the way")
    with pytest.raises(TransientError, match="cannot be written"):
        await make().deliver(make_parcel(), mark)
    assert files_under(root) == ["ssign"]


async def test_a_file_that_changed_on_our_disk_is_not_delivered(
    root: Path, make: Make, make_parcel: Any, mark: Any
) -> None:
    parcel = make_parcel(b"signed")
    parcel.path.write_bytes(b"signeD")
    with pytest.raises(TransientError, match="changed"):
        await make().deliver(parcel, mark)
    assert files_under(root) == []
    assert mark.seen == []


async def test_a_delivery_that_cannot_be_marked_leaves_nothing_behind(
    root: Path, make: Make, make_parcel: Any
) -> None:
    async def lost_database() -> None:
        assert [name for name in files_under(root) if not name.endswith(".part")] == []
        raise ConnectionError("database gone")

    with pytest.raises(ConnectionError):
        await make().deliver(make_parcel(), lost_database)
    assert files_under(root) == []


async def test_what_killed_attempts_left_is_removed_once_the_file_lies_in_its_place(
    root: Path, make: Make, make_parcel: Any, mark: Any
) -> None:
    """They are hidden copies of a contract, and nobody else would ever remove them."""
    destination, parcel = make(), make_parcel()
    folder = root / "ssign" / "155"
    folder.mkdir(parents=True)
    left, other = (folder / f".{digest}.1.part" for digest in (parcel.sha256, "0" * 64))
    for _ in ("first", "found there"):
        for path in (left, other):
            path.write_bytes(b"half")
        await destination.deliver(parcel, mark)
        assert [left.exists(), other.exists()] == [False, True]


async def test_an_attempt_whose_copy_another_one_removed_is_made_again(
    root: Path, make: Make, make_parcel: Any
) -> None:
    """Two machines may be at the same file."""
    destination, parcel = make(), make_parcel()

    async def other_machine() -> None:
        [mine] = (root / "ssign" / "155").glob(".*.part")
        mine.unlink()

    async def nothing_to_note() -> None:
        pass

    with pytest.raises(TransientError):
        await destination.deliver(parcel, other_machine)
    reference = await destination.deliver(parcel, nothing_to_note)
    assert files_under(root) == [reference, f"{reference}.json"]


@pytest.mark.parametrize(
    ("file_name", "stored"),
    [
        ("../../etc/passwd", "%2E.%2F..%2Fetc%2Fpasswd"),
        ("..", "%2E%2E"),
        (".hidden", "%2Ehidden"),
        ("-rf", "%2Drf"),
        ("a\x00b\n\\c:d.pdf", "a%00b%0A%5Cc%3Ad.pdf"),
        ("100%.pdf", "100%25.pdf"),
        ("a. ", "a.%20"),
        ("ac\u0327a\u0303o.pdf", "ação.pdf"),
        ("contrato.pdf.json", "contrato.pdf%2Ejson"),
        ("\ud800.pdf", "%3F.pdf"),
    ],
)
async def test_a_file_name_cannot_leave_its_folder_or_hide(
    root: Path, make: Make, make_parcel: Any, mark: Any, *, file_name: str, stored: str
) -> None:
    reference = await make(name="in/${file_name}").deliver(make_parcel(name=file_name), mark)
    assert reference == f"in/{stored}"
    assert files_under(root) == sorted([reference, f"{reference}.json"])


async def test_what_is_left_of_a_folder_name_cannot_lead_out_either(
    root: Path, make: Make, make_parcel: Any, mark: Any
) -> None:
    destination = make(name="..${dms.none|}/${dms.none|}/${file_name}")
    assert await destination.deliver(make_parcel(), mark) == "%2E%2E/contrato.pdf"
    with pytest.raises(PermanentError, match="gives no file name"):
        await make(name="a/${dms.none|}").deliver(make_parcel(), mark)


async def test_long_names_are_cut_without_merging_and_keep_their_ending(
    root: Path, make: Make, make_parcel: Any, mark: Any
) -> None:
    destination = make()
    references = {await destination.deliver(make_parcel(name="ç" * 300 + f"{n}.pdf"), mark) for n in range(2)}
    assert len(references) == 2
    for reference in references:
        assert reference.endswith(".pdf")
        assert len(Path(reference).name.encode()) <= 200


async def test_names_use_what_was_registered_and_say_what_is_missing(
    root: Path, make: Make, make_parcel: Any, mark: Any
) -> None:
    destination = make(name="${dms.cdFluxo}/${dms.area|general}/${kind}.pdf")
    assert await destination.deliver(make_parcel(), mark) == "1042/general/signed.pdf"
    with pytest.raises(WaitingError, match=r"dms\.cdFluxo must be registered first"):
        await destination.deliver(make_parcel(dms={}), mark)


async def test_a_file_of_50_mb_does_not_pass_through_memory(
    root: Path, make: Make, make_parcel: Any, mark: Any
) -> None:
    parcel = make_parcel(b"%PDF" * (50 * 1024 * 1024 // 4))
    destination = make()
    tracemalloc.start()
    try:
        reference = await destination.deliver(parcel, mark)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (root / reference).stat().st_size == parcel.size_bytes
    assert peak_bytes < 4 * 1024 * 1024


@pytest.mark.parametrize("name", ["/etc/${file_name}", "../${file_name}", "a/../../b", "a/", "", "${secret}"])
def test_a_name_template_that_leaves_the_folder_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        FolderSettings.model_validate({"kind": "folder", "path": "/srv/archive", "name": name})


def test_a_usable_folder_gives_no_complaint(make: Make) -> None:
    assert make().why_unusable() is None


async def test_a_copy_that_another_machine_clears_away_at_the_end_is_delivered_all_the_same(
    root: Path, make: Make, make_parcel: Any, mark: Any
) -> None:
    """It had the same file to deliver, and found it in its place."""
    parcel, parts = make_parcel(b"signed bytes"), count(1)

    def clear() -> None:
        for path in root.rglob("*.part"):
            path.unlink()

    # The first is the description's.
    with right_before("unlink", lambda path: path.suffix == ".part" and next(parts) == 2, clear):
        reference = await make().deliver(parcel, mark)
    assert files_under(root) == [reference, f"{reference}.json"]
