"""`signspool api`, `processor` and `simulate`: one tier each, in the foreground."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from shared import hangup
from signspool.context import Config, Json, config_of, read_settings, settings_of
from signspool.output import print_json, say

if TYPE_CHECKING:
    from processor.pipeline import Tally
    from shared.settings import Settings


Host = Annotated[str | None, typer.Option("--host", help="Address to listen on.", show_default=False)]
Port = Annotated[
    int | None, typer.Option("--port", min=0, max=65_535, help="TCP port to listen on.", show_default=False)
]


def api(
    context: typer.Context,
    *,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes that share the port.")] = 1,
    fd: Annotated[
        int | None,
        typer.Option(
            "--fd",
            min=0,
            help="Listening socket that is open already, as systemd's first one: 3.",
            show_default=False,
        ),
    ] = None,
    host: Host = None,
    port: Port = None,
    config: Config = None,
) -> None:
    """Run the door: take callbacks, write them down durably, answer.

    Example: signspool api --workers 2 --port 8080
    """
    from callback_api.server import NOT_THE_DOORS, run  # noqa: PLC0415  (only this command needs the door)
    from shared.settings.layers import CONFIG_VARIABLE, PREFIX  # noqa: PLC0415

    settings = settings_of(context, config, without=NOT_THE_DOORS, api__host=host, api__port=port)
    # Workers are processes of their own that read the settings again, as everybody does at a reload.
    named = config_of(context, config)
    given = {CONFIG_VARIABLE: named, f"{PREFIX}API__HOST": host, f"{PREFIX}API__PORT": port}
    os.environ.update({name: str(value) for name, value in given.items() if value is not None})
    run(settings, workers=workers, fd=fd)


def processor(
    context: typer.Context,
    *,
    once: Annotated[
        bool, typer.Option("--once", help="Record and deliver what is due now, say what was done, and end.")
    ] = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Run the daemon: record callbacks, fetch signed files, deliver them, settle.

    Example: signspool processor --once
    """
    settings = settings_of(context, config)
    if not once:
        asyncio.run(_run(settings, lambda: read_settings(context, config)))
        return
    hangup.release()
    tally, owed = asyncio.run(_run_once(settings))
    done = {"recorded": tally.recorded, "quarantined": tally.quarantined, "left": tally.skipped, "owed": owed}
    if as_json:
        print_json(done)
        return
    still = ", ".join(f"{count} {state}" for state, count in sorted(owed.items())) or "nothing"
    say(
        f"recorded {tally.recorded}, quarantined {tally.quarantined}, left for later {tally.skipped}; "
        f"still owed: {still}"
    )


async def _run(settings: Settings, read_settings: Callable[[], Settings]) -> None:
    from processor.assemble import daemon  # noqa: PLC0415
    from processor.private import private_address  # noqa: PLC0415
    from shared.notify import Notifier  # noqa: PLC0415

    notifier = Notifier.from_environment()
    async with (
        daemon(settings, notifier=notifier, read_settings=read_settings) as running,
        private_address(running, settings),
    ):
        await running.run()


async def _run_once(settings: Settings) -> tuple[Tally, dict[str, int]]:
    from processor.assemble import daemon  # noqa: PLC0415
    from processor.operator import owed_by_state  # noqa: PLC0415

    async with daemon(settings) as running:
        tally = await running.run_once()
        with running.database.reading() as connection:
            return tally, owed_by_state(connection)


def simulate(
    peer: Annotated[
        Literal["all", "arqsign", "certisign", "posten", "restpki", "ssign"],
        typer.Argument(help="`all`, or one provider alone, with what to try there."),
    ] = "all",
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65_535, help="TCP port to listen on.")] = 8090,
) -> None:
    """Run the simulator: the providers and the DMS as they are documented, with bad weather on request.

    `posten` makes its certificates in a new folder, and says where they lie.

    Example: signspool simulate restpki --port 8090
    """
    if peer == "posten":
        from simulator.posten_server import run_posten  # noqa: PLC0415

        run_posten(host, port, Path(tempfile.mkdtemp(prefix="signspool-posten-")))
        return
    from simulator.server import run  # noqa: PLC0415

    run(host, port, only=None if peer == "all" else peer)
