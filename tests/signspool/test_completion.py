"""Real shells complete what is typed, by the scripts that `signspool completion` prints."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from signspool.cli import run
from tests.nursery import REPOSITORY
from tests.signspool.conftest import clean_environ

PATIENCE_SECONDS = 120.0


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with the command in it, as an installation has it on its path."""
    program = tmp_path / "signspool"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m signspool "$@"\n')
    program.chmod(0o755)
    return tmp_path


def environ_of(home: Path) -> dict[str, str]:
    path = f"{home}:{os.environ['PATH']}"
    return {**clean_environ(), "PATH": path, "PYTHONPATH": str(REPOSITORY), "TERM": "dumb", "PS1": "$ "}


def script_for(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert run(["completion", shell]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_for_the_shell_that_was_named_whatever_shell_it_is_typed_in(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    script = script_for(shell, capsys)
    assert f"_SIGNSPOOL_COMPLETE=complete_{shell}" in script
    # zsh passes over a file whose first line is another.
    assert script.startswith("#compdef signspool\n") == (shell == "zsh")


def test_an_unknown_shell_exits_2_and_names_those_that_are_known(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["completion", "tcsh"]) == 2
    assert "bash" in capsys.readouterr().err


def test_bash_completes(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the function that the script defines."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    script = home / "completion"
    script.write_text(script_for("bash", capsys))
    asked = (
        f". {script}; COMP_WORDS=(signspool documents er); COMP_CWORD=2; "
        '_signspool_completion signspool; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        [bash, "-c", asked], capture_output=True, text=True, check=True, env=environ_of(home)
    )
    assert done.stdout.split() == ["erase"]


def test_zsh_completes_at_the_first_key_press(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From a file in its `fpath`, on a terminal."""
    zsh = shutil.which("zsh")
    if zsh is None:
        pytest.skip("zsh is not installed")
    functions = home / "functions"
    functions.mkdir()
    (functions / "_signspool").write_text(script_for("zsh", capsys))
    child, terminal = pty.fork()
    if child == 0:
        os.execve(zsh, [zsh, "-f", "-i"], environ_of(home))
    try:
        begin = (
            f'fpath=({functions} $fpath); autoload -U compinit; compinit -u -d {home}/dump; echo re""ady\n'
        )
        os.write(terminal, begin.encode())
        read_until(terminal, "ready")
        os.write(terminal, b"signspool documents er\t")
        # The rest of the word, and the space that ends it.
        read_until(terminal, "ase ")
    finally:
        os.close(terminal)
        os.waitpid(child, 0)


def read_until(terminal: int, wanted: str) -> None:
    """Read what a terminal shows until something stands there."""
    shown, ends_at = "", time.monotonic() + PATIENCE_SECONDS
    while wanted not in shown:
        ready, _, _ = select.select([terminal], [], [], max(0.0, ends_at - time.monotonic()))
        assert ready, f"{wanted!r} does not come: {shown!r}"
        shown += os.read(terminal, 4096).decode("utf-8", "replace")
