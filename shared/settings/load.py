"""Reading the settings: all layers merged, all problems told at once."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from shared.errors import SettingsError
from shared.settings import layers, shape, wording
from shared.settings.layers import Given, Text
from shared.settings.model import NO_FILE, Settings

_DER = b"\x30\x82"
"""How certificates and keys begin that are not in PEM."""
_CONVERT = (
    "the file {path} is not in PEM: convert PKCS#12 with openssl pkcs12 -in FILE -nodes -out FILE.pem "
    "(-legacy if its ciphers are old), a certificate with openssl x509 -inform der -in FILE -out FILE.pem"
)


def load_settings(
    config: Path | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    overrides: Mapping[str, Any] | None = None,
    without: Collection[str] = (),
) -> Settings:
    """Read the settings.

    The file is `config`, else the one that SIGNSPOOL_CONFIG names, else `./signspool.toml`, else
    `/etc/signspool/signspool.toml`, else none. A value in `overrides` (nested, or with dotted keys; None
    is not given) wins over the environment, that over systemd credentials, those over the file. Sections in
    `without` are not looked at, as by a tier that has no business with them and lacks their secrets.

    Raises:
        SettingsError: something is wrong; the text has one problem a line.
    """
    reader = _Reader(shape.shape_of(Settings))
    file = layers.find_file(config, environ)
    named = layers.from_file(file) if file else []
    credentials = layers.from_credentials(environ, reader.root.children)
    called = layers.from_overrides(overrides or {})
    variables = layers.from_environment(environ, [*named, *credentials, *called])
    # From the strongest to the weakest.
    called, variables, credentials, named = (
        [given for given in layer if given.path[0] not in without]
        for layer in (called, variables, credentials, named)
    )
    reader.note_kinds([*called, *variables, *credentials, *named])
    reader.add(called)
    reader.add(variables)
    reader.add(credentials, only_secrets=True)
    reader.add(named)
    settings = reader.validated(place=str(file) if file else NO_FILE)
    settings._source = str(file) if file else NO_FILE  # noqa: SLF001  (set once, here, and read-only after)
    return settings


class _Reader:
    """Gathers values and problems, layer by layer, the strongest layer first."""

    def __init__(self, root: shape.Table) -> None:
        self.root = root
        self.kinds: dict[shape.Path, str] = {}
        self.given: dict[shape.Path, Given] = {}
        self.data: dict[str, Any] = {}
        self.problems: list[str] = []

    def note_kinds(self, layer: Iterable[Given]) -> None:
        """Remember of what kind each table of several kinds is, which tells its other keys."""
        for given in layer:
            *table, last = given.path
            if last == shape.KIND:
                self.kinds.setdefault(tuple(table), str(given.value))

    def add(self, layer: Iterable[Given], *, only_secrets: bool = False) -> None:
        """Add a layer; what a stronger one gave stays."""
        self._add(layer, {}, only_secrets=only_secrets)

    def _add(
        self, layer: Iterable[Given], here: dict[shape.Path, Given], *, only_secrets: bool = False
    ) -> None:
        for given in layer:
            found = shape.find(self.root, given.path, self.kinds)
            if isinstance(found, shape.Unknown):
                origin = given.origin_of(found.path[: found.depth + 1])
                problem = f"{origin}: {wording.unknown_key(self.root, given, found)}"
                # A misspelt table is told once, whatever number of keys it has.
                if problem not in self.problems:
                    self.problems.append(problem)
            elif isinstance(found, shape.Undecided):
                self._put(given.path, given)
            elif only_secrets and not (isinstance(found.node, shape.Leaf) and found.node.secret):
                self._problem(given, "only a secret may be a credential: write it into the settings file")
            elif found.path in here:
                other = here[found.path]
                self._problem(
                    given, f"{other.origin} gives {layers.dotted(found.path)} too: drop one of them"
                )
            else:
                here[found.path] = given
                if found.path not in self.given:
                    self._take(given, found, here, from_file=found.from_file or only_secrets)

    def _take(
        self, given: Given, found: shape.Found, here: dict[shape.Path, Given], *, from_file: bool
    ) -> None:
        """Turn one value into what its key asks for, and put it in its place."""
        node = found.node
        try:
            if not isinstance(node, shape.Leaf):
                self._put_table(given, found.path, here)
                return
            value = _secret_in(given.value) if from_file else _value_for(node, given.value)
        except ValueError as error:
            # The key stays known as given, so that a weaker layer does not hide the mistake.
            self.given[found.path] = given
            self._problem(given, str(error))
        else:
            self._put(found.path, Given(found.path, value, given.origin))

    def _put_table(self, given: Given, path: shape.Path, here: dict[shape.Path, Given]) -> None:
        """Put an empty table, or the JSON object that a variable holds."""
        value = given.value
        if isinstance(value, Text):
            value = _json_object(value)
        elif not isinstance(value, Mapping):
            raise ValueError(f"this is a table, not a single value: write [{layers.dotted(path)}]")
        if not value:
            self._put(path, Given(path, {}, given.origin))
        self._add((Given((*path, key), branch, given.origin) for key, branch in value.items()), here)

    def _put(self, path: shape.Path, given: Given) -> None:
        table = self.data
        for key in path[:-1]:
            table = table.setdefault(key, {})
            if not isinstance(table, dict):
                return
        self.given[path] = given
        if given.value == {} and isinstance(table.get(path[-1]), dict):
            return
        table[path[-1]] = given.value

    def _problem(self, given: Given, text: str) -> None:
        self.problems.append(f"{given.origin}: {text}")

    def validated(self, place: str) -> Settings:
        """The settings that the layers make.

        Raises:
            SettingsError: with every problem of every layer.
        """
        try:
            settings = Settings.model_validate(self.data)
        except ValidationError as error:
            for detail in error.errors(include_url=False, include_input=False):
                self._note_invalid(detail, place)
        if self.problems:
            raise SettingsError("\n".join(self.problems))
        return settings

    def _note_invalid(self, detail: ErrorDetails, place: str) -> None:
        path = shape.path_of(self.root, detail["loc"])
        if detail["type"].startswith("union_tag"):
            path = (*path, shape.KIND)
        if detail["type"] == "missing" and path in self.given:
            # It was given, and what is wrong with it has been said.
            return
        origin = f"{place}: {layers.dotted(path)}"
        for depth in range(len(path), 0, -1):
            if path[:depth] in self.given:
                origin = self.given[path[:depth]].origin
                break
        text = wording.invalid(self.root, path, self.kinds, detail)
        self.problems.append(f"{origin}: {text}")


def _value_for(leaf: shape.Leaf, value: Any) -> Any:
    """What a key is given, with the kind of value that it takes.

    Raises:
        ValueError: it cannot be that.
    """
    if isinstance(value, bool) and leaf.type in (int, float):
        raise ValueError(f"a number is needed, not {str(value).lower()}")
    if leaf.secret and value == "":
        raise ValueError("is empty: give the secret, or leave the key out")
    if isinstance(value, Text):
        return _list_in(value) if leaf.many else str(value)
    return value


def _list_in(text: str) -> list[Any]:
    """The items of a JSON array, or of a text with commas."""
    if not text.lstrip().startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        items = json.loads(text)
    except ValueError:
        raise ValueError('this is not a JSON array: write a,b or ["a", "b"]') from None
    assert isinstance(items, list)
    return items


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ValueError(
            "this is a table: put two underscores and a key after the name, or give a JSON object"
        )
    return value


def _secret_in(path: Any) -> str:
    """The secret in a file, without one newline at its end.

    Raises:
        ValueError: no path, or the file cannot be read or is empty.
    """
    if not isinstance(path, str | Path) or not str(path):
        raise ValueError("the path of a file that holds the secret is needed")
    content = b""
    try:
        content = Path(path).read_bytes()
        text = content.decode("utf-8")
    except OSError as error:
        raise ValueError(f"the file {path} cannot be read: {error.strerror}") from None
    except ValueError:
        if content.startswith(_DER):
            raise ValueError(_CONVERT.format(path=path)) from None
        # Not UTF-8, or a path with a NUL in it.
        raise ValueError(f"the file {path!r} does not hold UTF-8 text") from None
    secret = text.removesuffix("\n").removesuffix("\r")
    if not secret:
        raise ValueError(f"the file {path} is empty: write the secret into it")
    return secret
