"""Makes the installation that the demo runs on: its settings, secrets, spool, database and port."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from shared.clock import Clock
from shared.db.session import Database
from shared.settings import load_settings
from shared.settings.layers import PREFIX
from shared.spool import Spool
from signspool.database import bring_up_to_date
from signspool.demo.acts import keep, quoted
from signspool.demo.script import CERTISIGN, SSIGN, Cast
from signspool.demo.stage import ARCHIVE, Stage

_SETTINGS = """\
# Made by signspool demo. What is quick here is slow, and kinder to others, by default.
[spool]
root = {root}

[api]
port = {port}
grace = "3s"

[processor]
sweep = "1s"
look_outbox = "250ms"
backoff_base = "250ms"
backoff_cap = "2s"
grace = "3s"

[log]
format = "json"

[providers.ssign]
secret_file = {ssign_secret}
base_url = {ssign_url}
token_file = {ssign_token}

[providers.certisign]
secret_file = {certisign_secret}
base_url = {certisign_url}
token_file = {certisign_token}

[destinations.smartshare]
kind = "smartshare"
base_url = {smartshare_url}
client = {client}
client_key_file = {client_key}
user = {user}
password_file = {password}

[destinations.archive]
kind = "folder"
path = {archive}
"""

_BACKLOG = 128
_BUSY_SECONDS = 5.0


@contextmanager
def set_up(home: Path, cast: Cast, simulator_url: str) -> Iterator[Stage]:
    """Make an installation in an empty folder, between the simulated peers at this address."""
    environ = {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}
    for name in ("secrets", "logs", ARCHIVE):
        (home / name).mkdir(mode=0o700)
    with socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG) as listening, ExitStack() as stack:
        for act in cast.acts:
            act.open(stack, home / "secrets")
        config = home / "signspool.toml"
        config.write_text(_settings_text(home, cast, simulator_url, listening.getsockname()[1]))
        settings = load_settings(config, environ=environ)
        spool = Spool(settings.spool.root, Clock.in_zone(settings.spool.timezone))
        spool.initialise()
        bring_up_to_date(settings)
        database = Database(settings.database_url, busy_timeout_seconds=_BUSY_SECONDS)
        try:
            yield Stage(home, settings, spool, database, listening, environ)
        finally:
            database.close()


def _settings_text(home: Path, cast: Cast, simulator_url: str, port: int) -> str:
    world = cast.world
    kept = {
        "ssign_secret": cast.callback_secrets[SSIGN],
        "certisign_secret": cast.callback_secrets[CERTISIGN],
        "ssign_token": world.ssign.token,
        "certisign_token": world.certisign.token,
        "client_key": world.smartshare.client_key,
        "password": world.smartshare.password,
    }
    secrets = home / "secrets"
    texts = {
        "root": str(home / "data"),
        "archive": str(home / ARCHIVE),
        "ssign_url": f"{simulator_url}/ssign/rest",
        "certisign_url": f"{simulator_url}/certisign",
        "smartshare_url": f"{simulator_url}/smartshare/SmartShareAPI/api",
        "client": world.smartshare.client,
        "user": world.smartshare.user,
    }
    files = {name: keep(secrets, name, secret) for name, secret in kept.items()}
    text = _SETTINGS.format(port=port, **{name: quoted(text) for name, text in texts.items()}, **files)
    return text + "".join(act.settings(secrets, simulator_url) for act in cast.acts)
