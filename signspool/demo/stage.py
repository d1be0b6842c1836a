"""The installation that the demo runs on: settings, spool, database, port, and the two tiers."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from shared.clock import Clock
from shared.db.session import Database
from shared.settings import Settings, load_settings
from shared.settings.layers import PREFIX
from shared.spool import Spool
from signspool.database import bring_up_to_date
from signspool.demo.acts import keep, quoted
from signspool.demo.script import CERTISIGN, SSIGN, Cast
from signspool.supervisor import Child, Supervisor

SMARTSHARE, ARCHIVE = "smartshare", "archive"
"""The names of the two destinations."""

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
_STOP_SECONDS = 6.0


@dataclass(frozen=True, slots=True)
class Stage:
    """Where everything lies, and what it is reached by. `environ` is for whoever is to use these settings."""

    home: Path
    settings: Settings
    spool: Spool
    database: Database
    listening: socket.socket
    environ: Mapping[str, str]

    @property
    def config(self) -> Path:
        """The settings file."""
        return self.home / "signspool.toml"

    @property
    def secrets(self) -> Path:
        """The one folder in which secrets lie."""
        return self.home / "secrets"

    @property
    def archive(self) -> Path:
        """What the folder destination delivers into."""
        return self.home / ARCHIVE

    @property
    def logs(self) -> Path:
        """What the tiers write to standard error."""
        return self.home / "logs"

    @property
    def url(self) -> str:
        """Where the door is."""
        return f"http://127.0.0.1:{self.settings.api.port}"

    @property
    def door_url(self) -> str:
        """Where callbacks are sent to."""
        return f"{self.url}/api/callback"

    def supervisor(self, tell: Callable[[str], None]) -> Supervisor:
        """Both tiers; the first death of one ends them, since a demo that hides a crash shows nothing."""
        fd = self.listening.fileno()
        named = ["--config", str(self.config)]
        return Supervisor(
            [
                Child("api", ["api", *named, "--fd", str(fd)], pass_fds=(fd,), log=self.logs / "api.log"),
                Child("processor", ["processor", *named], log=self.logs / "processor.log"),
            ],
            environ=self.environ,
            grace_seconds=_STOP_SECONDS,
            tell=tell,
            at_once_seconds=float("inf"),
            at_once_limit=1,
            on_stop=self.listening.close,
        )


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
