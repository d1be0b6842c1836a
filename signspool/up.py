"""`signspool up`: both tiers in one foreground command on this machine."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import shlex
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import typer

from shared.errors import SettingsError, SignspoolError, SpoolUnavailableError
from signspool.context import Config, config_of, settings_of
from signspool.output import complain, printable
from signspool.tiers import Host, Port

if TYPE_CHECKING:
    from shared.settings import Settings

OPENED_BY_UP = ("ssign", "certisign")
"""Providers that `up` opens to anybody on this machine when none is configured: what `up` opens."""

_BACKLOG = 2048
_STOP_MARGIN_SECONDS = 10.0


def up(context: typer.Context, host: Host = None, port: Port = None, config: Config = None) -> None:
    """Run both tiers here until Ctrl-C; makes the spool and the tables where they are missing.

    Without any provider in the settings, two are open without a secret, for this machine alone.

    Example: signspool up --port 8080
    """
    settings = settings_of(context, config, api__host=host, api__port=port)
    opened = () if settings.providers else OPENED_BY_UP
    _expect_sound(settings, opened)
    _make_spool(settings)
    from signspool.database import bring_up_to_date  # noqa: PLC0415  (after what needs no database)

    bring_up_to_date(settings)
    listening = _listen(settings.api.host, settings.api.port)
    address = listening.getsockname()
    _tell_what_runs(settings, address[0], address[1], opened)
    asyncio.run(_supervise(settings, config_of(context, config), listening, opened))
    _tell("stopped")


async def _supervise(
    settings: Settings, config: Path | None, listening: socket.socket, opened: tuple[str, ...]
) -> None:
    from signspool.supervisor import Child, DiesAtOnceError, Supervisor  # noqa: PLC0415

    named = ["--config", str(config)] if config else []
    where = ["--host", settings.api.host, "--port", str(settings.api.port)]
    fd = listening.fileno()
    supervisor = Supervisor(
        [
            Child("api", ["api", *named, *where, "--fd", str(fd)], pass_fds=(fd,)),
            Child("processor", ["processor", *named]),
        ],
        environ={**os.environ, **{_authentication(name): "none" for name in opened}},
        grace_seconds=max(settings.api.grace, settings.processor.grace) + _STOP_MARGIN_SECONDS,
        tell=complain,
        # Held by us, the port stays open while the door is started again; at the end it has to close at once.
        on_stop=listening.close,
    )
    try:
        await supervisor.run()
    except DiesAtOnceError as error:
        raise SignspoolError(str(error)) from None


def _authentication(provider: str) -> str:
    return f"SIGNSPOOL_PROVIDERS__{provider.upper()}__AUTHENTICATION"


def _expect_sound(settings: Settings, opened: tuple[str, ...]) -> None:
    """Return when both tiers can run with these settings.

    Raises:
        SettingsError: they cannot; the message says what to set.
    """
    from signspool.providers import expect_open  # noqa: PLC0415

    expect_open(settings)
    if opened and not _is_loopback(settings.api.host):
        raise SettingsError(
            f"no provider is configured, and without a secret the door opens on this machine alone, not on "
            f"{settings.api.host}: set [providers.{opened[0]}] secret in the settings file, or leave --host "
            "and [api] host out"
        )


def _is_loopback(host: str) -> bool:
    """Whether an address, or every address of a name, is of this machine alone."""
    try:
        found = {str(item[4][0]) for item in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError:
        return False
    return bool(found) and all(ipaddress.ip_address(item.partition("%")[0]).is_loopback for item in found)


def _make_spool(settings: Settings) -> None:
    """Make the spool, unless there is one.

    Raises:
        SpoolUnavailableError: something else is there, or it cannot be made.
    """
    from shared.clock import Clock  # noqa: PLC0415
    from shared.spool import MARKER, Spool  # noqa: PLC0415

    root = settings.spool.root
    spool = Spool(root, Clock.in_zone(settings.spool.timezone))
    if root.exists() and not (root / MARKER).exists() and not _is_as_good_as_empty(settings):
        raise SpoolUnavailableError(
            f"{root} is there, holds other things and is no spool: name another root under [spool], or make "
            "it one with: signspool check --init-spool"
        )
    spool.initialise()


def _is_as_good_as_empty(settings: Settings) -> bool:
    """Whether the root is a folder without anything in it, but perhaps the database that we made there."""
    root = settings.spool.root
    url = settings.database_url
    ours = Path(url.database or "").name if url.get_backend_name() == "sqlite" else ""
    names = {ours, f"{ours}-wal", f"{ours}-shm"} if ours else set()
    return root.is_dir() and all(item.name in names for item in root.iterdir())


def _listen(host: str, port: int) -> socket.socket:
    """Open the door's port.

    Raises:
        SignspoolError: it cannot be had.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        # Of a bind the error's own text repeats the address; a name that is not known has no errno.
        why = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        raise SignspoolError(
            f"port {port} of {host} cannot be had ({why}): stop what uses it, or give another with --port"
        ) from None


def _tell_what_runs(settings: Settings, host: str, port: int, opened: tuple[str, ...]) -> None:
    from shared.providers import provider_classes  # noqa: PLC0415
    from shared.spool import Folder  # noqa: PLC0415

    name = next(iter(settings.providers), *opened[:1])
    base = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    root = settings.spool.root.absolute()
    if opened:
        complain(
            f"WARNING: no provider is configured, so {' and '.join(opened)} are open WITHOUT ANY SECRET, to "
            "whatever runs on this machine; set a secret under [providers.NAME] before anybody relies on it"
        )
    known = provider_classes()[name]
    body = f'{{"{known.id_field}": 155, "action": "{next(iter(known.event_types))}"}}'
    _tell(f"callbacks   {base}/api/callback?provider={name}")
    _tell(f"spool       {root}, folders {', '.join(Folder)}")
    _tell(f"database    {settings.database_url.render_as_string(hide_password=True)}")
    _tell(f"settings    {settings.source}")
    place = _place_of_secret(settings, name)
    if place is not None:
        header, query = place
        url = f"{base}/api/callback?provider={name}{query}"
        _tell(f"try         curl {header}-d '{body}' {shlex.quote(url)}")
        _tell(f"then        signspool documents show {name} 155")
    _tell("Ctrl-C stops both tiers.")


def _place_of_secret(settings: Settings, name: str) -> tuple[str, str] | None:
    """What curl needs to be let in: an option, and the end of the address; at least one is empty.

    None for a provider whose callbacks a person cannot write by hand, since each is signed.
    """
    from shared.providers._verify import SharedSecretSettings  # noqa: PLC0415
    from shared.settings import build_providers  # noqa: PLC0415

    provider = build_providers(settings).get(name)
    if provider is None:
        return "", ""
    if not isinstance(options := provider.settings, SharedSecretSettings):
        return None
    if options.authentication == "none":
        return "", ""
    if options.authentication == "query":
        return "", f"&{quote(options.secret_query, safe='')}=YOUR-SECRET"
    return f"-H {shlex.quote(f'{options.secret_header}: YOUR-SECRET')} ", ""


def _tell(text: str) -> None:
    sys.stdout.write(printable(text) + "\n")
    # People read it while both tiers run, perhaps through a pipe.
    sys.stdout.flush()
