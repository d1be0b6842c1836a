"""What `signspool check` finds of rights: who else may read callbacks and secrets, or write."""

from __future__ import annotations

import stat
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from shared.settings import Settings
from shared.settings.shape import KIND, Found, find, shape_of
from shared.spool import Folder
from signspool.finding import Finding, fail, ok, warn

_ANYBODY_READS = stat.S_IROTH
_ANYBODY_ENTERS = stat.S_IXOTH
_ANYBODY_WRITES = stat.S_IWOTH


def wrong_modes(settings: Settings) -> Iterator[Finding]:
    """Look at the spool's folders, the database's file, the settings file and the files of secrets."""
    root = settings.spool.root
    folders = [root / name for name in (*Folder, "files", ".tmp")]
    wrong = list(_wrong([root], reading=False))
    # Who cannot get into the root cannot read what lies in it.
    if _mode(root) & _ANYBODY_ENTERS:
        wrong += _wrong(folders, reading=True)
        if (url := settings.database_url).get_backend_name() == "sqlite":
            wrong += _wrong([Path(url.database or "")], reading=True)
    source = Path(settings.source)
    data = _read(source)
    wrong += _wrong([path for path in _secret_files(data) if not _is_public(path)], reading=True)
    wrong += _wrong([source], reading=_has_secret(data))
    yield from wrong
    if not wrong:
        yield ok("modes", "nobody else may read callbacks or secrets, or write")


def _wrong(paths: list[Path], *, reading: bool) -> Iterator[Finding]:
    for path in paths:
        mode = _mode(path)
        if mode & _ANYBODY_WRITES and not mode & stat.S_ISVTX:
            yield fail("modes", f"anybody may write {path} ({stat.filemode(mode)})", f"chmod o= {path}")
        elif reading and mode & _ANYBODY_READS:
            yield warn("modes", f"anybody may read {path} ({stat.filemode(mode)})", f"chmod o= {path}")


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except OSError:
        # What cannot be had at all is told where it is needed.
        return 0


def _read(source: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(source.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        # No settings file; a wrong one would not have been loaded.
        return {}


def _secrets(data: Mapping[str, Any]) -> Iterator[tuple[Found, Any]]:
    """The keys of a settings file that hold a secret, or the path of one, with their values."""
    kinds: dict[tuple[str, ...], str] = {
        ("destinations", name): str(table.get(KIND))
        for name, table in data.get("destinations", {}).items()
        if isinstance(table, dict)
    }
    for path, value in _leaves(data, ()):
        found = find(shape_of(Settings), path, kinds)
        if isinstance(found, Found) and getattr(found.node, "secret", False):
            yield found, value


def _has_secret(data: Mapping[str, Any]) -> bool:
    return any(not found.from_file for found, _ in _secrets(data))


def _secret_files(data: Mapping[str, Any]) -> list[Path]:
    files = (Path(value) for found, value in _secrets(data) if found.from_file and isinstance(value, str))
    return list(dict.fromkeys(files))


def _is_public(path: Path) -> bool:
    """Whether a file holds certificates without a key, which are shown to everybody anyhow."""
    content = _content(path)
    return b"BEGIN CERTIFICATE" in content and b"PRIVATE KEY" not in content


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _leaves(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*path, name))
        else:
            yield (*path, name), value
