"""What all commands have in common: options, exit codes, messages."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from shared.db.models import State
from shared.providers import provider_classes
from shared.spool import Folder
from signspool.cli import app, run
from signspool.deliveries import DeliveryState
from signspool.manual import render
from tests.nursery import REPOSITORY
from tests.signspool.conftest import MakePlace, Place, clean_environ

PATIENCE_SECONDS = 120.0
"""With a machine that has much else to do."""
WITHOUT_SETTINGS = (["simulate"], ["demo"], ["man"], ["completion"])


def all_commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[list[str]]:
    """Every command as it is typed."""
    below = getattr(command, "commands", None)
    if below is None:
        yield list(path)
        return
    for name, inner in below.items():
        yield from all_commands(inner, (*path, name))


@pytest.mark.parametrize("command", list(all_commands(get_command(app))), ids=" ".join)
def test_every_command_explains_itself_with_an_example(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """`--help` of each command has a sentence and a whole line to type, which the command takes."""
    assert run([*command, "--help"]) == 0
    text = capsys.readouterr().out
    known = get_command(app)
    for word in command:
        known = known.commands[word]  # type: ignore[attr-defined]
    told = " ".join((known.help or "").split())
    example = told.partition("Example: ")[2]
    assert f"Example: {example}\n" in text
    words = shlex.split(example.partition(" > ")[0])
    assert words[: len(command) + 1] == ["signspool", *command]
    known.make_context(command[-1], words[len(command) + 1 :], obj=None)
    assert "--config" in text or command in WITHOUT_SETTINGS


@pytest.mark.parametrize(
    ("shell", "typed", "offered"),
    [
        ("bash", "signspool spool re", {"requeue", "reverify"}),
        ("bash", "signspool spool requeue --dry", {"--dry-run"}),
        ("bash", "signspool spool discard --folder ", {"quarantine", "refused"}),
        ("bash", "signspool spool ls --provider ", set(provider_classes())),
        ("bash", "signspool documents show ", set(provider_classes())),
        ("zsh", "signspool spool requ", {"requeue"}),
        ("fish", "signspool spool requ", {"requeue"}),
    ],
)
def test_the_shell_completes_commands_options_and_values(
    shell: str, typed: str, offered: set[str], capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    """As the scripts ask that `completion` prints."""
    monkeypatch.setenv("_SIGNSPOOL_COMPLETE", f"complete_{shell}")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(typed.count(" ")))
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", typed)
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    assert run([]) == 0
    said = capsys.readouterr().out
    words = ["--dry-run", "requeue", "reverify", "quarantine", "refused", *provider_classes()]
    assert offered == set(re.findall("|".join(words), said))


def test_the_manual_page_is_the_one_that_the_texts_make() -> None:
    """Renew it with `make man`."""
    assert (REPOSITORY / "docs" / "man" / "signspool.1").read_text() == render(get_command(app))


def test_man_shows_the_page_without_a_warning() -> None:
    groff = shutil.which("groff")
    if groff is None:
        pytest.skip("groff is not installed")
    page = REPOSITORY / "docs" / "man" / "signspool.1"
    done = subprocess.run(
        [groff, "-man", "-Tascii", "-ww", str(page)], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    plain = re.sub(r"\x1b\[[0-9;]*m|.\x08", "", done.stdout)
    for command in all_commands(get_command(app)):
        assert f"signspool {' '.join(command)} " in plain
    assert "signspool spool requeue --all --folder quarantine" in plain


def test_help_needs_none_of_the_slow_parts() -> None:
    """`--help` imports neither the database, nor the web framework, nor the settings."""
    probe = (
        "import sys; from signspool.cli import run; run(['--help']); "
        "slow = ('sqlalchemy', 'fastapi', 'pydantic', 'rich', 'httpx'); "
        "print(sorted(sys.modules.keys() & slow))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")


def test_the_settings_file_may_be_named_before_and_behind_the_command(place: Place) -> None:
    """All three places lead to the same file, and the one behind the command wins."""
    config = str(place.config)
    for arguments in (
        ["--config", config, "settings", "show", "--json"],
        ["settings", "--config", config, "show", "--json"],
        ["settings", "show", "--json", "--config", config],
        ["--config", "/nowhere.toml", "settings", "show", "--json", "--config", config],
    ):
        place.capture.readouterr()
        assert run(arguments) == 0
        assert json.loads(place.capture.readouterr().out)["source"] == config


def test_wrong_settings_and_wrong_use_exit_2_in_plain_lines(make_place: MakePlace) -> None:
    """No traceback: each problem is a line that begins with our name."""
    place = make_place('[api]\nprot = 1\nhots = "x"\n', bare=True)
    said = place.real("documents", "ls")
    assert said.code == 2
    lines = said.err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("signspool: ") for line in lines)
    assert "port" in said.err
    assert place.real("spool", "ls", "nonsense").code == 2
    assert place.real("no-such-command").code == 2


def test_a_spool_or_database_that_is_not_there_exits_1_and_is_not_made(make_place: MakePlace) -> None:
    """Looking changes nothing; the message says what to type."""
    place = make_place(bare=True)
    said = place.here("spool", "ls")
    assert (said.code, said.out) == (1, "")
    assert "signspool check --init-spool" in said.err
    said = place.here("documents", "ls")
    assert said.code == 1
    assert "signspool db upgrade" in said.err
    assert not place.spool.root.exists()


def test_an_old_schema_stops_the_processor_with_what_to_type(make_place: MakePlace) -> None:
    """A database without our tables is reported, exit 1, and left as it is."""
    place = make_place(bare=True)
    place.spool.initialise()
    said = place.real("processor")
    assert said.code == 1
    assert "signspool db upgrade" in said.err
    assert "Traceback" not in said.err


def test_a_reader_that_has_enough_ends_a_listing_in_silence(place: Place) -> None:
    """`| head` closes the pipe: no traceback, no message."""
    for number in range(300):
        place.callback(str(number), age_seconds=number)
    command = [
        sys.executable,
        "-m",
        "signspool",
        "spool",
        "ls",
        "--limit",
        "300",
        "--config",
        str(place.config),
    ]
    lister = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=place.home, env=clean_environ()
    )
    assert lister.stdout is not None
    assert lister.stderr is not None
    lister.stdout.close()
    assert lister.stderr.read() == b""
    lister.stderr.close()
    lister.wait(timeout=PATIENCE_SECONDS)


def test_ctrl_c_exits_130_without_a_traceback(place: Place) -> None:
    """Interrupted while it waits for its input."""
    command = [sys.executable, "-m", "signspool", "documents", "import", "-", "--config", str(place.config)]
    waiting = subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=place.home, env=clean_environ()
    )
    assert waiting.stdin is not None
    # More than a pipe holds: once it is written, somebody reads at the other end.
    waiting.stdin.write(b"\n" * 1_000_000)
    waiting.send_signal(signal.SIGINT)
    _, err = waiting.communicate(timeout=PATIENCE_SECONDS)
    assert waiting.returncode == 130
    assert b"Traceback" not in err


def test_ctrl_c_at_a_question_exits_130_and_nothing_is_done(place: Place) -> None:
    """On a terminal, where a change of many things asks."""
    name = place.callback(folder=Folder.QUARANTINE).name
    ours, theirs = pty.openpty()
    command = ["spool", "requeue", "--all", "--folder", "quarantine", "--config", str(place.config)]
    asking = subprocess.Popen(
        [sys.executable, "-m", "signspool", *command],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=place.home,
        env={**clean_environ(), "PYTHONPATH": str(REPOSITORY)},
    )
    os.close(theirs)
    shown, ends_at = "", time.monotonic() + PATIENCE_SECONDS
    while "[y/N]" not in shown:
        ready, _, _ = select.select([ours], [], [], max(0.0, ends_at - time.monotonic()))
        assert ready, f"it does not ask: {shown!r}"
        shown += os.read(ours, 4096).decode("utf-8", "replace")
    asking.send_signal(signal.SIGINT)
    # One that comes a moment before it begins to read is heard with the next key. A second signal would
    # strike one that is already ending.
    for _ in range(30):
        with contextlib.suppress(subprocess.TimeoutExpired):
            asking.wait(3)
            break
        with contextlib.suppress(OSError):
            os.write(ours, b"\n")
    assert asking.returncode == 130
    os.close(ours)
    assert place.names(Folder.QUARANTINE) == [name]


@pytest.mark.parametrize("start", [["-m", "signspool"], ["-c", "from signspool.cli import main; main()"]])
@pytest.mark.parametrize("slow", ["typer", "structlog"])
def test_ctrl_c_while_the_program_is_being_loaded_is_silent_too(
    place: Place, tmp_path: Path, start: list[str], slow: str
) -> None:
    """What is loaded first, and what a command loads for itself, in both ways to start it."""
    (tmp_path / f"{slow}.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    done = subprocess.run(
        [sys.executable, *start, "processor", "--config", str(place.config)],
        capture_output=True,
        check=False,
        cwd=place.home,
        env={**clean_environ(), "PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"},
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_the_states_that_can_be_asked_for_are_those_of_the_outbox() -> None:
    """The command's list is a copy, made so that `--help` needs no database; it must not fall behind."""
    assert [state.value for state in DeliveryState] == [state.value for state in State]
