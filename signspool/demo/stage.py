"""The installation that the demo runs on: where everything lies, and the two tiers."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from shared.db.session import Database
from shared.settings import Settings
from shared.spool import Spool
from signspool.supervisor import Child, Supervisor

SMARTSHARE, ARCHIVE = "smartshare", "archive"
"""The names of the two destinations."""

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
