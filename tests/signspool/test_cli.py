"""What all commands have in common: options, exit codes, messages."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shared.db.models import State
from signspool.cli import run
from signspool.deliveries import DeliveryState
from tests.signspool.conftest import MakePlace, Place, clean_environ

COMMANDS = [
    ["up"],
    ["api"],
    ["processor"],
    ["check"],
    ["simulate"],
    ["db", "upgrade"],
    ["settings", "show"],
    *(["spool", verb] for verb in ("ls", "show", "requeue", "discard", "shape")),
    *(["documents", verb] for verb in ("ls", "show", "register", "import")),
    *(["deliveries", verb] for verb in ("ls", "retry")),
    *(["providers", verb] for verb in ("ls", "show")),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself_with_an_example(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """`--help` of each command has a sentence and a line to type, which names the command."""
    assert run([*command, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"Example: signspool {' '.join(command)}" in text
    assert "--config" in text or command == ["simulate"]


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
    lister.wait(timeout=30)


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
    _, err = waiting.communicate(timeout=30)
    assert waiting.returncode == 130
    assert b"Traceback" not in err


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
