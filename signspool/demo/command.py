"""The command: where the demo plays, how it is shown, and how it ends."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shared.errors import UsageError
from signspool.context import Json
from signspool.output import complain, print_json, say

if TYPE_CHECKING:
    from signspool.demo.hand import View

_INTERRUPTED = 130
_PACE_SECONDS = 0.08
_LOG_LINES = 15


def demo(
    *,
    keep: Annotated[
        Path | None,
        typer.Option(
            "--keep",
            metavar="PATH",
            help="Play in this folder, new or empty, and leave it to be looked into.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show it all on this machine: callbacks arrive, statuses change, signed files are delivered.

    Both tiers run for real, between simulated providers and a simulated SmartShare; it takes some seconds.
    Exit 1 when something is not as it has to be.

    Example: signspool demo --keep /tmp/demo
    """
    with _folder(keep) as home:
        _play(home, kept=keep is not None, as_json=as_json)


def _play(home: Path, *, kept: bool, as_json: bool) -> None:
    from signspool.demo.expectations import check  # noqa: PLC0415  (all of this is slow to import)
    from signspool.demo.play import HungError, Player, StoppedError  # noqa: PLC0415
    from signspool.demo.report import as_json as facts_as_json  # noqa: PLC0415
    from signspool.demo.report import print_report, what_to_try  # noqa: PLC0415
    from signspool.demo.script import make_cast  # noqa: PLC0415

    cast = make_cast()
    try:
        with _view(as_json=as_json) as view:
            pace_seconds = _PACE_SECONDS if sys.stdout.isatty() and not as_json else 0.0
            facts = asyncio.run(Player(home, cast, view, pace_seconds).run())
    except StoppedError:
        complain("the demo was stopped before its end")
        raise typer.Exit(_INTERRUPTED) from None
    except HungError as error:
        complain(f"the demo failed: {error}")
        _show_logs(home)
        raise typer.Exit(1) from None
    checked = check(facts, cast)
    if as_json:
        print_json(facts_as_json(facts, checked, home if kept else None))
    else:
        print_report(facts, checked)
        for line in what_to_try(home) if kept else ():
            say(line)
    if not all(item.holds for item in checked):
        _show_logs(home)
        raise typer.Exit(1)


def _view(*, as_json: bool) -> AbstractContextManager[View]:
    from signspool.demo.view import Lines, Silence, picture  # noqa: PLC0415  (Rich is slow to import)

    if as_json:
        return nullcontext(Silence())
    return picture() if sys.stdout.isatty() else nullcontext(Lines())


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """The folder to play in: the one to keep, else one that is removed at the end.

    Raises:
        UsageError: something lies in the folder to keep.
    """
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="signspool-demo-") as path:
            yield Path(path)
        return
    home = keep.expanduser().absolute()
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(home.iterdir()):
        raise UsageError(f"{home} is not empty: name a new folder with --keep")
    yield home


def _show_logs(home: Path) -> None:
    from signspool.demo.facts import last_lines  # noqa: PLC0415

    for log in sorted((home / "logs").glob("*.log")):
        complain(f"last lines of {log.name}:")
        for line in last_lines(log, _LOG_LINES):
            complain(f"  {line}")
