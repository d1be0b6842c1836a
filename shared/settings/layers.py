"""Where settings are given: the file, systemd credentials, the environment, the command line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.errors import SettingsError
from shared.settings import shape

PREFIX = "SIGNSPOOL_"
CONFIG_VARIABLE = "SIGNSPOOL_CONFIG"
NESTING = "__"
DEFAULT_FILES = (Path("signspool.toml"), Path("/etc/signspool/signspool.toml"))
_CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"


class Text(str):
    """A value from the environment: it has the type that its key asks for, and is text until then."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Given:
    """One value that somebody gave.

    `origin` is for messages: file and dotted key, or the variable's name.
    """

    path: shape.Path
    value: Any
    origin: str

    def origin_of(self, path: shape.Path) -> str:
        """The origin, for a message about a table that the value stands in."""
        ending = dotted(self.path)
        if isinstance(self.value, Text) or not self.origin.endswith(ending):
            return self.origin
        return self.origin.removesuffix(ending) + dotted(path)


def find_file(config: Path | None, environ: Mapping[str, str]) -> Path | None:
    """The settings file to read, or None when none was named and none lies in the usual places.

    Raises:
        SettingsError: the named file does not exist.
    """
    if config is None and environ.get(CONFIG_VARIABLE):
        config = Path(environ[CONFIG_VARIABLE])
    if config is None:
        return next((path for path in DEFAULT_FILES if _is_there(path)), None)
    if not _is_there(config):
        raise SettingsError(
            f"{config}: there is no such settings file: correct --config or {CONFIG_VARIABLE}"
        )
    return config


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        # Perhaps it is there and we may not look: reading it says so, and no other file is taken instead.
        return True


def from_file(path: Path) -> list[Given]:
    """What a settings file gives.

    Raises:
        SettingsError: it cannot be read, or is not TOML.
    """
    try:
        data = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise SettingsError(f"{path}: line {line} is not UTF-8: save the file as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: this is not TOML: {error}") from None
    return [Given(at, value, f"{path}: {dotted(at)}") for at, value in _leaves(data)]


def from_environment(environ: Mapping[str, str], others: Iterable[Given]) -> list[Given]:
    """What the variables `SIGNSPOOL_<SECTION>__<KEY>` give.

    A shell takes no dash and no letter case in the name of a variable, so that a part of the name also
    stands for a key of `others` that differs from it in these alone.
    """
    spellings: dict[shape.Path, dict[str, set[str]]] = {}
    for given in others:
        for depth, key in enumerate(given.path):
            for spelling in (key, key.removesuffix(shape.FILE_SUFFIX)):
                known = spellings.setdefault(given.path[:depth], {})
                known.setdefault(_folded(spelling), set()).add(spelling)
    return [
        Given(_spelled(name[len(PREFIX) :].lower().split(NESTING), spellings), Text(value), name)
        for name, value in sorted(environ.items())
        if name.upper().startswith(PREFIX) and name != CONFIG_VARIABLE
    ]


def _spelled(parts: list[str], spellings: Mapping[shape.Path, Mapping[str, set[str]]]) -> shape.Path:
    path: shape.Path = ()
    for part in parts:
        known = spellings.get(path, {})
        base = part.removesuffix(shape.FILE_SUFFIX)
        suffix = ""
        same = known.get(_folded(part), set())
        if not same and base != part:
            same, suffix = known.get(_folded(base), set()), shape.FILE_SUFFIX
        path = (*path, next(iter(same)) + suffix if len(same) == 1 else part)
    return path


def _folded(key: str) -> str:
    return key.lower().replace("-", "_")


def from_credentials(environ: Mapping[str, str], sections: Iterable[str]) -> list[Given]:
    """The secrets that systemd hands over: files named by the dotted key.

    Those of a folder that was given to LoadCredential= have its id and an underscore before the key. A
    credential that names no section of ours is for somebody else. The value is the path.

    Raises:
        SettingsError: the folder cannot be read.
    """
    directory = environ.get(_CREDENTIALS_VARIABLE)
    if not directory:
        return []
    ours = re.compile(rf"(?:[^.]*_)?((?:{'|'.join(sections)})\..+)")
    try:
        files = sorted(Path(directory).iterdir())
    except OSError as error:
        raise SettingsError(
            f"{_CREDENTIALS_VARIABLE} {directory}: cannot be read: {error.strerror}"
        ) from None
    return [
        Given(tuple(name[1].split(".")), str(path), f"credential {path.name}")
        for path in files
        if (name := ours.fullmatch(path.name))
    ]


def from_overrides(overrides: Mapping[str, Any]) -> list[Given]:
    """What the command line gives: nested mappings or dotted keys; None stands for not given."""
    return [
        Given(path, value, f"command line: {dotted(path)}")
        for key, branch in overrides.items()
        for path, value in _leaves(branch, tuple(key.split(".")))
        if value is not None
    ]


def _leaves(value: Any, path: shape.Path = ()) -> Iterator[tuple[shape.Path, Any]]:
    """Every value with its path; an empty table is a value too, since it configures a provider."""
    if isinstance(value, Mapping) and (value or not path):
        for key, branch in value.items():
            yield from _leaves(branch, (*path, key))
    else:
        yield path, value


def dotted(path: shape.Path) -> str:
    """A path as it is written in TOML without quotes."""
    return ".".join(path)


def variable(path: shape.Path) -> str:
    """The environment variable that stands for a path."""
    return PREFIX + NESTING.join(part.upper().replace("-", "_") for part in path)
