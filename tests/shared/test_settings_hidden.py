"""Every secret of the settings is known to whoever keeps secrets out of what is written."""

from __future__ import annotations

from pathlib import Path

from shared.settings import load_settings, secret_values

_TOML = """
[database]
url = "postgresql://signspool:db%2Dpassword@localhost/signspool"
[database.mirror]
url = "postgresql+psycopg://mirror:mirror-password@localhost/company"
statement = "UPDATE contract SET status = :status"
[providers.ssign]
token = "ssign-token"
secrets = { "2026-10" = "older-secret", "2026-11" = "newer-secret" }
[providers.restpki]
authentication = "basic"
secret = "user:basic-password"
[destinations.dms]
kind = "http"
url = "https://dms.example/files"
token = "dms-token"
"""


def test_secrets_are_found_wherever_they_stand(tmp_path: Path) -> None:
    """The password of an address, and of a pair, also by itself."""
    path = tmp_path / "signspool.toml"
    path.write_text(_TOML)
    found = secret_values(load_settings(path, environ={}))
    assert found >= {
        "db%2Dpassword",
        "db-password",
        "mirror-password",
        "ssign-token",
        "older-secret",
        "newer-secret",
        "user:basic-password",
        "basic-password",
        "dms-token",
    }
    assert "" not in found


def test_without_secrets_there_are_none() -> None:
    assert secret_values(load_settings(environ={"SIGNSPOOL_SPOOL__ROOT": "/nowhere"})) == frozenset()
