"""The pages say what the program does: commands, settings, errors and links are held against the code."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import typer

from callback_api import responses
from processor.status import decide
from shared.errors import SignspoolError
from shared.events import DocumentStatus, Event, EventType, Outcome
from shared.settings import load_settings
from signspool.cli import app

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def commands() -> list[str]:
    """Every command as it is typed."""
    found = []
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        below = getattr(command, "commands", None)
        found += [f"signspool {name} {inner}" for inner in below] if below else [f"signspool {name}"]
    return found


def all_errors(kind: type[SignspoolError]) -> list[type[SignspoolError]]:
    return [kind, *(found for below in kind.__subclasses__() for found in all_errors(below))]


def test_every_command_has_its_place_on_the_page_of_commands() -> None:
    text = page("docs/commands.md")
    assert [name for name in commands() if name.removeprefix("signspool ") not in text] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_that_a_page_types_exists(path: Path) -> None:
    known = {tuple(name.split()[1:]) for name in commands()}
    groups = {words[0] for words in known if len(words) > 1}
    typed = re.findall(
        r"(?:`|\$ |: )signspool ([a-z]+)(?: ([a-z][a-z-]*))?", path.read_text(encoding="utf-8")
    )
    wrong = [
        f"{first} {second}"
        for first, second in typed
        if ((first, second) if first in groups and second else (first,)) not in known | {(g,) for g in groups}
    ]
    assert wrong == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_link_leads_nowhere(path: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#\s]+)", path.read_text(encoding="utf-8"))
    assert [target for target in targets if not (path.parent / target).exists()] == []


def test_every_deliberate_error_stands_in_the_tree_that_opens_its_module() -> None:
    tree = page("shared/errors.py").split('"""')[1]
    ours = [kind for kind in all_errors(SignspoolError) if kind.__module__ == "shared.errors"]
    assert [kind.__name__ for kind in ours if kind.__name__ not in tree] == []


def test_every_problem_of_the_door_stands_on_its_page() -> None:
    text = page("docs/door.md")
    types = set(re.findall(r"/problems/[a-z-]+", page("callback_api/responses.py")))
    assert types
    assert [name for name in sorted(types) if name not in text] == []
    assert responses.__doc__


def test_every_outcome_and_status_stands_in_the_walk() -> None:
    text = page("docs/walk.md")
    words = [*Outcome, *DocumentStatus]
    assert [str(word) for word in words if f"`{word}`" not in text] == []


def test_the_order_of_statuses_in_the_walk_is_that_of_the_code() -> None:
    [line] = [line for line in page("docs/walk.md").splitlines() if line.startswith("`pending` <")]
    written = re.findall(r"`([a-z]+)`", line.partition(". ")[0])
    assert written == [str(status) for status in DocumentStatus]


@pytest.mark.parametrize("kind", [kind for kind in EventType if kind.status is not None])
def test_what_the_walk_says_of_late_callbacks_is_so(kind: EventType) -> None:
    _, after = decide(DocumentStatus.COMPLETED, Event("1", "x", kind, "x"), said_before=False)
    assert after is DocumentStatus.COMPLETED


def test_the_settings_of_the_tour_load(tmp_path: Path) -> None:
    [example] = re.findall(r"\$ cat signspool.toml\n(.*?)\n\$", page("README.md"), re.DOTALL)
    assert tomllib.loads(example)
    (tmp_path / "signspool.toml").write_text(example)
    settings = load_settings(tmp_path / "signspool.toml", environ={})
    assert list(settings.providers) == ["ssign"]
    assert list(settings.destinations) == ["archive"]


def test_the_readme_begins_with_the_two_commands() -> None:
    assert [line.split("#")[0].strip() for line in page("README.md").splitlines()[1:3]] == [
        "make demo",
        "make test",
    ]
