"""One form for every line, ours and the libraries'."""

from __future__ import annotations

import json
import os
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
logs.frequent("callback.accepted", provider="ssign", text="line\\nbreak")
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
        "callback.accepted",
        "Started on port",
        "worth knowing",
        "broken",
    ]
    assert [line["level"] for line in lines] == ["info", "info", "info", "warning", "error"]
    assert lines[0]["text"] == "line\nbreak"
    # The short way writes what the long one does.
    assert list(lines[1]) == list(lines[0])
    assert {**lines[1], "timestamp": lines[0]["timestamp"]} == lines[0]
    assert lines[2]["logger"] == "uvicorn.error"
    for line in lines:
        written_at = datetime.fromisoformat(line["timestamp"])
        assert written_at.utcoffset() == timedelta(0)
        assert abs(datetime.now(UTC) - written_at) < timedelta(minutes=2)
    assert "ValueError: said" in lines[4]["exception"]


def test_the_level_is_that_of_the_settings() -> None:
    assert [json.loads(line)["event"] for line in run("json", "warning")] == ["worth knowing", "broken"]
    assert json.loads(run("json", "debug")[2])["event"] == "too.fine"


def test_the_form_for_people_has_no_values_of_variables() -> None:
    """A traceback shows code, never what a variable held."""
    text = "\n".join(run("console"))
    assert text.count("callback.accepted") == 2
    assert "ValueError: said" in text
    assert "\x1b[" not in text
    assert "s3cret" not in text
    assert "│" not in text


_LEAKING = """
import logging, sys
import structlog
from shared import logs
logs.configure(sys.argv[1], "debug", secrets=["hush-hush"])
log = structlog.get_logger()
log.warning("entry.quarantined", entry="52998224725_note.json", reason=["hush-hush", {"a": "529.982.247-25"}])
log.error("failed", error=ValueError("hush-hush"), seen={"hush-hush"})
log.info("callback.accepted", provider="ssign", receipt="01a20287-5f4d-773a-8a9f-59cd0bdebdc2", bytes=5)
logging.getLogger("some.library").warning("GET /?token=%s of %s", "hush-hush", "529.982.247-25")
try:
    raise ValueError("hush-hush and 529.982.247-25")
except ValueError:
    log.exception("broken")
    logging.getLogger("some.library").exception("broken, too")
"""


def run_leaking(form: str, **environ: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _LEAKING, form],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environ},
    )
    return done.stderr


@pytest.mark.parametrize("form", ["json", "console"])
def test_no_line_holds_a_secret_or_a_number_of_a_person(form: str) -> None:
    """Neither in a field at any depth, nor in a message of a library, nor in the text of an error."""
    said = run_leaking(form)
    assert "hush-hush" not in said
    assert "529.982.247-25" not in said
    assert "52998224725_note" not in said
    assert "***_note.json" in said
    assert said.count("ValueError: *** and ***") == 2
    assert "01a20287-5f4d-773a-8a9f-59cd0bdebdc2" in said


def test_in_the_journal_each_line_has_its_priority(tmp_path: Path) -> None:
    """systemd says in the environment which stream is the journal, and takes the mark off again."""
    path = tmp_path / "journal"
    with path.open("wb") as journal:
        status = os.fstat(journal.fileno())
        subprocess.run(
            [sys.executable, "-c", _SCRIPT, "auto", "debug"],
            cwd=REPOSITORY,
            stderr=journal,
            check=True,
            env={**os.environ, "JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"},
        )
    lines = path.read_text().splitlines()
    found = {json.loads(line[3:])["event"]: line[:3] for line in lines}
    assert found == {
        "callback.accepted": "<6>",
        "too.fine": "<7>",
        "Started on port": "<6>",
        "worth knowing": "<4>",
        "broken": "<3>",
    }


def test_a_stream_that_is_not_the_journal_has_no_marks() -> None:
    """As a child of a service, whose own output goes elsewhere, inherits the variable."""
    assert run_leaking("json", JOURNAL_STREAM="1:1").startswith("{")
