"""`signspool spool verify`: whether anything in `done/` was altered since it was listed."""

from __future__ import annotations

from typing import Annotated

import typer

from signspool.context import Config, Json, settings_of, spool_of
from signspool.output import count_text, print_json, say

_WORDS = {
    "sound": "as listed",
    "erased": "erased on request",
    "expired": "expired with their day",
    "elsewhere": "put back to be handled again",
    "altered": "ALTERED",
    "missing": "MISSING",
}

_NAMED = 20
"""Files that are told by name when they are in no list; with `--json` all are."""


def verify(
    context: typer.Context,
    *,
    since: Annotated[
        str | None, typer.Option("--since", help="Lists of this day and later only, as in 2026-11-21.")
    ] = None,
    only_lists: Annotated[
        bool, typer.Option("--only-lists", help="Whether the lists hang together, and not the files in them.")
    ] = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Verify done/ by its daily lists of digests; exit 1 when a file or a list was altered or is missing.

    Each list, done/DAY.sha256, also has the digest of the list before it, so that the newest vouches for all.
    `cd done && sha256sum -c DAY.sha256` verifies one without signspool; this command also explains why files
    are gone.

    Example: signspool spool verify --since 2026-11-01
    """
    from processor.chain import Chain  # noqa: PLC0415
    from signspool.entries import parse_day  # noqa: PLC0415

    since = parse_day(since, "--since")
    found = Chain(spool_of(settings_of(context, config))).verify(since=since, files=not only_lists)
    if as_json:
        print_json(
            {
                "lists": found.lists,
                "begins_on": found.begins_on,
                "ends_on": found.ends_on,
                "ends_with_sha256": found.ends_with_sha256,
                "files": {state: found.files[state] for state in _WORDS},
                "unlisted": found.unlisted,
                "faults": [{"path": fault.path, "fault": fault.text} for fault in found.faults],
            }
        )
    else:
        for fault in found.faults:
            say(f"done/{fault.path}: {fault.text}")
        days = f", {found.begins_on} to {found.ends_on}" if found.lists else ""
        say(f"{count_text(found.lists, 'list')}{days}")
        for state, words in _WORDS.items():
            if found.files[state]:
                say(f"{count_text(found.files[state], 'file')} {words}")
        for path in found.unlisted[:_NAMED]:
            say(f"done/{path}: in no list yet")
        if found.unlisted:
            say(f"{count_text(len(found.unlisted), 'file')} in no list yet: the next one names what is new")
        if found.ends_with_sha256:
            say(f"sha256 of the newest list: {found.ends_with_sha256}; it is in the log of its making, too")
    if found.faults:
        raise typer.Exit(1)
