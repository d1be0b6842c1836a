"""One form for every line, ours and the libraries'."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
_SCRIPT = """
import logging, sys
import structlog
from shared import logs
logs.configure(sys.argv[1], sys.argv[2])
structlog.get_logger().info("callback.accepted", provider="ssign", text="line\\nbreak")
structlog.get_logger().debug("too.fine")
logging.getLogger("uvicorn.error").info("Started on %s", "port")
logging.getLogger("httpx").info("HTTP Request: GET https://host/?token=s3cret")
logging.getLogger("httpx").warning("worth knowing")
try:
    secret = "in-a-variable"
    raise ValueError("said")
except ValueError:
    structlog.get_logger().exception("broken")
"""


def run(form: str, level: str = "info") -> list[str]:
    """The lines that a process writes to standard error; it is no terminal here."""
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, form, level],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == ""
    return done.stderr.splitlines()


@pytest.mark.parametrize("form", ["json", "auto"])
def test_every_line_is_one_json_object(form: str) -> None:
    """Requests of httpx, which carry whole addresses, are silent; its warnings are not."""
    lines = [json.loads(line) for line in run(form)]
    assert [line["event"] for line in lines] == [
        "callback.accepted",
        "Started on port",
        "worth knowing",
        "broken",
    ]
    assert [line["level"] for line in lines] == ["info", "info", "warning", "error"]
    assert lines[0]["text"] == "line\nbreak"
    assert lines[1]["logger"] == "uvicorn.error"
    for line in lines:
        written_at = datetime.fromisoformat(line["timestamp"])
        assert written_at.utcoffset() == timedelta(0)
        assert abs(datetime.now(UTC) - written_at) < timedelta(minutes=2)
    assert "ValueError: said" in lines[3]["exception"]


def test_the_level_is_that_of_the_settings() -> None:
    assert [json.loads(line)["event"] for line in run("json", "warning")] == ["worth knowing", "broken"]
    assert json.loads(run("json", "debug")[1])["event"] == "too.fine"


def test_the_form_for_people_has_no_values_of_variables() -> None:
    """A traceback shows code, never what a variable held."""
    text = "\n".join(run("console"))
    assert "callback.accepted" in text
    assert "ValueError: said" in text
    assert "\x1b[" not in text
    assert "s3cret" not in text
    assert "│" not in text
