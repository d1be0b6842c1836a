"""`signspool simulate posten` as a person starts it: what it prints can be used as it stands."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.settings import build_providers, load_settings
from tests.waiting import PATIENCE_SECONDS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-m", "signspool", "simulate", "posten", "--port", "0"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("Ctrl-C"):
                break
        yield process, "".join(lines)
        process.kill()
    found = re.search(r'key_file = "(.+)/[^/]+"', "".join(lines))
    assert found is not None
    shutil.rmtree(found[1])


def test_the_printed_settings_are_settings(
    running: tuple[subprocess.Popen[str], str], tmp_path: Path
) -> None:
    _, printed = running
    section = printed.partition("Settings:\n")[2].partition("\n\n")[0]
    file = tmp_path / "signspool.toml"
    file.write_text(textwrap.dedent(section))
    provider = build_providers(load_settings(file, environ={}))["posten"]
    assert provider.why_mute() is None
    assert len(list(provider.standing_asks())) == 1


@pytest.mark.skipif(shutil.which("curl") is None, reason="the printed commands use curl")
def test_the_printed_commands_reach_it_and_it_ends_on_a_signal(
    running: tuple[subprocess.Popen[str], str],
) -> None:
    process, printed = running
    commands = re.findall(r"^  (curl .*)$", printed, re.MULTILINE)
    outputs = [
        subprocess.run(command, shell=True, check=True, capture_output=True, text=True).stdout
        for command in commands
    ]
    assert outputs[0] == "You are 123456789"
    # There is no such job yet, and that is what is said.
    assert all("There is no such job" in output for output in outputs[1:4])
    assert outputs[4] == '{"jobs":[]}'
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, "Traceback" in rest) == (0, False)
