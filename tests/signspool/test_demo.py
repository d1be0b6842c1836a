"""The demo as people start it, how it ends when it is stopped, and that each of its expectations can fail."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from shared.spool import Folder
from signspool.demo.expectations import check
from signspool.demo.facts import Facts
from signspool.demo.play import HungError, Player
from signspool.demo.report import print_report
from signspool.demo.script import Cast, make_cast
from signspool.demo.stage import ARCHIVE
from signspool.demo.values import Look, short
from signspool.demo.view import Lines, Silence
from simulator.weather import Storm, StormKind
from tests.signspool.demo_alterations import ALTERED, FILES, altered
from tests.waiting import wait_until

_LIMIT_SECONDS = 240.0
"""A multiple of what it takes, for a machine that has much else to do."""


def _environ(home: Path) -> dict[str, str]:
    """The environment without settings of whoever runs the tests, and with temporary files in `home`."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("SIGNSPOOL_")}
    # A setting of the caller's that would break the demo if it got through.
    return {**kept, "TMPDIR": str(home), "SIGNSPOOL_API__MAX_BODY": "1B"}


@contextmanager
def _started(home: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "signspool", "demo", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={**_environ(home), "PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": "1"},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _run(home: Path, *arguments: str) -> tuple[int, str, str]:
    with _started(home, *arguments) as process:
        out, err = process.communicate(timeout=_LIMIT_SECONDS)
        return process.returncode, out, err


def _users_of(home: Path) -> dict[int, list[str]]:
    """The processes whose command line names a folder, and that command line."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().decode("utf-8", "replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if str(home) in command:
            found[int(path.parent.name)] = command.split("\0")
    return found


def _until_nobody_uses(home: Path) -> None:
    wait_until(
        lambda: not _users_of(home), lambda: f"the end of all users: {_users_of(home)}", _LIMIT_SECONDS / 2
    )


class TestTheCommand:
    def test_it_ends_well_and_leaves_nothing_behind(self, tmp_path: Path) -> None:
        """Exit 0, every table, the verdict; no process, no temporary file."""
        code, out, err = _run(tmp_path)
        assert (code, err) == (0, "")
        headings = ("Callbacks", "Documents", "Signed files", "Folders", "Trouble on the way", "Confirmed to")
        for heading in (*headings, "Calls to providers", "Verdict"):
            assert f"\n{heading}" in out
        assert "callback  ssign 158 COMPLETED -> 401  (wrong secret)" in out
        assert "status    certisign 48215: declined" in out
        assert "waits in deferred/: no file ids are registered" in out
        assert out.splitlines()[-1].startswith("all ")
        assert "Traceback" not in out
        assert list(tmp_path.iterdir()) == []
        assert not _users_of(tmp_path)

    def test_json_is_one_value_and_a_kept_folder_holds_what_it_says(self, tmp_path: Path) -> None:
        home = tmp_path / "kept"
        code, out, err = _run(tmp_path, "--json", "--keep", str(home))
        assert (code, err) == (0, "")
        said = json.loads(out)
        assert said["ok"]
        assert said["kept"] == str(home)
        statuses = {
            short((item["provider"], item["document_id"])): item["status"] for item in said["documents"]
        }
        assert statuses == {
            "ssign 155": "completed",
            "ssign 156": "completed",
            "ssign 157": "completed",
            "ssign 158": "expired",
            "ssign 159": "completed",
            "ssign 160": "deleted",
            "ssign 161": "completed",
            "ssign 162": "completed",
            "ssign 163": "pending",
            "certisign 48213": "completed",
            "certisign 48214": "completed",
            "certisign 48215": "declined",
            "certisign 48216": "declined",
            "certisign 48217": "declined",
            "posten 12087": "completed",
            "posten 12088": "declined",
            "arqsign 0e71b22b": "completed",
            "arqsign f4076635": "completed",
            "restpki 8a84738a": "completed",
            "restpki 9b814215": "cancelled",
        }
        [quota] = said["quotas"]
        assert (quota["provider"], quota["limit"]) == ("arqsign", 3000)
        confirmed = sorted(item["status"] for item in said["confirmed"])
        assert confirmed == ["COMPLETED_SUCCESSFULLY", "FAILED", "IN_PROGRESS"]
        origins = Counter(item["origin"] for item in said["lying"] if item["folder"] == "done")
        assert (origins["callback"], origins["return"]) == (32, 1)
        assert len(list((home / "data" / "done").glob("*/*.json"))) == origins.total()
        assert len(list((home / "data" / "refused").glob("*/*.json"))) == 2
        assert len(list((home / "archive").glob("*/*/*.pdf"))) == 15
        assert not _users_of(home)

    def test_a_folder_with_something_in_it_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "mine").touch()
        code, out, err = _run(tmp_path, "--keep", str(tmp_path))
        assert (code, out) == (2, "")
        assert "is not empty" in err
        assert [path.name for path in tmp_path.iterdir()] == ["mine"]

    def test_ctrl_c_stops_everything(self, tmp_path: Path) -> None:
        with _started(tmp_path) as process:
            _read_until(process, "callback ")
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=_LIMIT_SECONDS)
            assert (process.returncode, err) == (130, "signspool: the demo was stopped before its end\n")
        assert list(tmp_path.iterdir()) == []
        assert not _users_of(tmp_path)

    def test_the_death_of_a_tier_ends_it_with_the_last_lines_of_the_logs(self, tmp_path: Path) -> None:
        with _started(tmp_path) as process:
            _read_until(process, "status ")
            (processor,) = [number for number, words in _users_of(tmp_path).items() if "processor" in words]
            os.kill(processor, signal.SIGKILL)
            _, err = process.communicate(timeout=_LIMIT_SECONDS)
            assert process.returncode == 1
        assert "signspool: the demo failed: the processor died 1 time " in err
        assert "signspool: last lines of processor.log:\n" in err
        assert '"event":"' in err
        assert list(tmp_path.iterdir()) == []
        assert not _users_of(tmp_path)

    def test_killed_it_takes_both_tiers_with_it(self, tmp_path: Path) -> None:
        """And the door's writer."""
        with _started(tmp_path) as process:
            _read_until(process, "callback ")
            assert len(_users_of(tmp_path)) == 3
            process.kill()
        _until_nobody_uses(tmp_path)


def _read_until(process: subprocess.Popen[str], start: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(start):
            return
    pytest.fail(f"the demo ended without a line that starts with {start!r}")


Played = tuple[Facts, Cast]


async def _play(home: Path, cast: Cast, deadline_seconds: float = _LIMIT_SECONDS) -> Facts:
    return await Player(home, cast, Silence(), deadline_seconds=deadline_seconds).run()


def _hung(home: Path, seconds: int) -> str:
    """What a demo says in the end that never gets an answer from a provider."""
    home.mkdir()
    cast = make_cast()
    cast.world.weather.add(Storm("certisign", StormKind.STATUS, times=None))
    with pytest.raises(
        HungError, match=f"not at its end within {seconds} s|the door did not answer"
    ) as caught:
        asyncio.run(_play(home, cast, seconds))
    return str(caught.value)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """The facts of one real run."""
    cast = make_cast()
    return asyncio.run(_play(tmp_path_factory.mktemp("demo"), cast)), cast


def _failing(facts: Facts, cast: Cast) -> list[str]:
    return [item.text for item in check(facts, cast) if not item.holds]


class TestTheExpectations:
    def test_all_hold_for_a_real_run(self, played: Played) -> None:
        assert _failing(*played) == []

    @pytest.mark.parametrize(("text", "alter"), ALTERED)
    def test_each_fails_when_its_fact_is_another(
        self, played: Played, text: str, alter: Callable[[Facts], Facts]
    ) -> None:
        facts, cast = played
        assert text in _failing(alter(facts), cast)

    def test_every_kind_of_expectation_is_among_those_altered(self, played: Played) -> None:
        """A new expectation without a case above would be one that nobody has seen failing."""
        cast = played[1]
        named = [*(role.name for role in cast.roles), *(item.name for _, item in cast.followed)]
        names = sorted(map(short, named), key=len, reverse=True)

        def kind(text: str) -> str:
            for name in names:
                text = text.replace(name, "NAME")
            return text.partition(" is ")[0] if text.startswith("NAME is ") else text

        archive_empty = f"{ARCHIVE} holds no file of NAME"
        assert {kind(item.text) for item in check(*played)} == {kind(text) for text, _ in ALTERED} | {
            archive_empty
        }

    def test_what_does_not_hold_is_printed(self, played: Played, capsys: pytest.CaptureFixture[str]) -> None:
        facts, cast = played
        facts = altered(facts, ARCHIVE)
        print_report(facts, check(facts, cast))
        out = capsys.readouterr().out
        assert f"FAILED: {ARCHIVE} {FILES}: " in out
        assert out.splitlines()[-1].startswith("1 of ")
        assert "0" * 24 + " ALTERED" in out


class TestTheFacts:
    def test_a_secret_in_a_file_is_found(self, tmp_path: Path) -> None:
        """A client name that SmartShare also holds for secret stands in the settings file for all to see."""
        cast = make_cast()
        cast = replace(cast, secrets=(*cast.secrets, cast.world.smartshare.client))
        facts = asyncio.run(_play(tmp_path, cast))
        assert facts.exposed == ("signspool.toml",)
        assert _failing(facts, cast) == ["no secret in any file, no personal number in a log"]

    def test_a_provider_that_never_answers_ends_in_words(self, tmp_path: Path) -> None:
        """What hangs is named, together with how often it was tried and why it failed."""
        # On a busy machine it has not come so far in the time that is enough otherwise.
        tried = (_hung(tmp_path / f"{seconds}", seconds) for seconds in (8, 30, 90))
        assert any(re.search("certisign 48213 fetch certisign is due after .* answered", it) for it in tried)
        assert not _users_of(tmp_path)


class TestLines:
    def test_only_what_changed_is_told(self, played: Played, capsys: pytest.CaptureFixture[str]) -> None:
        facts, _ = played
        look = Look(facts.documents, dict.fromkeys(Folder, 0))
        lines = Lines()
        lines.looked(look)
        first = capsys.readouterr().out.splitlines()
        assert first[0] == "status    ssign 155: completed"
        assert first[1] == "delivery  ssign 155: signed files fetched from ssign"
        lines.looked(look)
        assert capsys.readouterr().out == ""
