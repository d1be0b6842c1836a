"""The reference of all settings, made from the models: `python -m shared.settings.reference` renews it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from enum import Enum
from inspect import cleandoc
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args, get_origin

from pydantic import HttpUrl, SecretStr, ValidationError
from pydantic.fields import FieldInfo

from shared.providers import provider_classes
from shared.settings import shape
from shared.settings.example import default_of, example, to_toml
from shared.settings.model import Settings

ROOT = Path(__file__).parents[2]
TOML_FILE = ROOT / "config" / "signspool.toml"
MARKDOWN_FILE = ROOT / "docs" / "settings.md"

_TOML_HEAD = """\
Every setting of signspool. Copy this file to ./signspool.toml or /etc/signspool/signspool.toml, or name
it with --config or SIGNSPOOL_CONFIG, and remove the one hash before what you change.

Two hashes begin a text. One hash begins a setting: its default, or an example where that is empty.
Sizes are written 10MiB, durations 15m or 1h30m. docs/settings.md says how to set the same by variables,
secret files and systemd credentials."""

_MARKDOWN_HEAD = """\
# Settings

<!-- Made from the models by `python -m shared.settings.reference`; change the models, not this file. -->

signspool works without any settings file: spool root `./data`, SQLite, address 127.0.0.1:8080. What is given
below changes that. [`config/signspool.toml`](../config/signspool.toml) has every key with a comment, to be
copied.

## Where settings come from

The strongest first:

1. the command line, as in `signspool api --port 8081`;
2. the environment, `SIGNSPOOL_<SECTION>__<KEY>` in any letter case, as in `SIGNSPOOL_API__PORT=8081`;
3. systemd credentials, secrets in files named by the key in `$CREDENTIALS_DIRECTORY`, as in
   `LoadCredential=providers.ssign.token:/etc/signspool/token`;
4. the settings file;
5. the default.

The settings file is the one named by `--config`, else by `SIGNSPOOL_CONFIG`, else `./signspool.toml`, else
`/etc/signspool/signspool.toml`, else none. Relative paths start at the working directory.

An unknown key or variable is an error that names the nearest known one. All problems are told at once.

**Variables.** Each level of a table is one part of the name, with two underscores between: `api.port` is
`SIGNSPOOL_API__PORT`, the token of a provider `SIGNSPOOL_PROVIDERS__SSIGN__TOKEN`. An underscore also stands
for a dash in a name that the settings file uses. A list is written `a,b` or as a JSON array, a table as a
JSON object.

**Secrets.** Beside each secret `x` there is a key `x_file`: the path of a file that holds it (one newline at
its end does not count). Its variable ends in `_FILE`, and a table of secrets takes
`"2026-10_file" = "/run/secrets/new"`. `x` and `x_file` in one place are an error. A credential holds the
secret itself.

**Sizes** are bytes: `10MiB`, `64KiB`, `1GB`, or a plain number. **Durations** are seconds: `15m`, `500ms`,
`1h30m`, `90d`, or a plain number."""


@dataclass(frozen=True)
class _Block:
    """One table of the reference. `stands` says that its header may stand in a file as it is."""

    path: shape.Path
    title: str
    table: shape.Table
    stands: bool


_Key: TypeAlias = tuple[str, "shape.Leaf | shape.Named", Any]


def render_toml() -> str:
    """The example settings file: every key commented out."""
    lines = [_comment(_TOML_HEAD)]
    for block in _blocks():
        mark = "" if block.stands else "# "
        lines += ["", "", _comment(block.title), f"{mark}[{'.'.join(block.path)}]"]
        for name, node, default in _keys(block.table):
            required = " Required." if _is_required(node) else ""
            lines += [
                "",
                _comment(f"{_sentence(node.info)}{required}{_secret_hint(name, node)}"),
                f"# {name} = {_value(node, default)}",
            ]
    return "\n".join(lines) + "\n"


def render_markdown() -> str:
    """The page of all settings, one table of keys a section."""
    lines = [_MARKDOWN_HEAD]
    for block in _blocks():
        lines += ["", f"## `[{'.'.join(block.path)}]`", "", block.title, ""]
        lines += ["| key | type | default | what it is |", "|---|---|---|---|"]
        for name, node, default in _keys(block.table):
            cells = (f"`{name}`", _type(node), _default_cell(node, default), _sentence(node.info))
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _blocks() -> Iterator[_Block]:
    root = shape.shape_of(Settings)
    for name, section in root.children.items():
        if name == "providers":
            assert isinstance(section, shape.Table)
            for provider, table in section.children.items():
                title = provider_classes()[provider].title
                yield from _blocks_in((name, provider), table, f"Provider {title}.")
        elif name == "destinations":
            assert isinstance(section, shape.Named)
            assert isinstance(section.item, shape.Choice)
            for kind, table in section.item.tables.items():
                title = f"Destination of the kind {kind}, under a name that you choose. {_doc(table)}"
                yield from _blocks_in((name, kind), table, title)
        else:
            yield from _blocks_in((name,), section, stands=True)


def _blocks_in(
    path: shape.Path, node: shape.Node, title: str = "", *, stands: bool = False
) -> Iterator[_Block]:
    if isinstance(node, shape.Table):
        yield _Block(path, title or _doc(node), node, stands)
        for name, child in node.children.items():
            yield from _blocks_in((*path, name), child)


def _doc(table: shape.Table) -> str:
    return cleandoc(table.model.__doc__ or "").split("\n\n")[0].replace("\n", " ")


def _keys(table: shape.Table) -> Iterator[_Key]:
    """The keys of a table that are not tables of their own, the kind first, with their defaults."""
    defaults = _defaults(table)
    for name, node in sorted(table.children.items(), key=lambda child: child[0] != shape.KIND):
        if isinstance(node, shape.Leaf | shape.Named):
            yield name, node, defaults[name]


def _defaults(table: shape.Table) -> Mapping[str, Any]:
    """The default of each key as it works: a validator may fill in more than the field says."""
    try:
        made = table.model()
    except ValidationError:
        # Something is required, so that there is no table of defaults alone.
        return {name: default_of(node.info) for name, node in table.children.items()}
    return {name: getattr(made, name) for name in table.children}


def _is_required(node: shape.Leaf | shape.Named) -> bool:
    return node.info.is_required()


def _value(node: shape.Leaf | shape.Named, default: Any) -> str:
    """What stands behind `key =` in the example file."""
    if isinstance(node, shape.Leaf):
        return example(node, default)
    if not default and isinstance(node.item, shape.Leaf) and node.item.secret:
        return to_toml({"2026-10": "change-me"})
    return to_toml(default)


def _sentence(info: FieldInfo) -> str:
    text = info.description or ""
    return text[:1].upper() + text[1:].rstrip(".") + "."


def _secret_hint(name: str, node: shape.Leaf | shape.Named) -> str:
    if isinstance(node, shape.Leaf):
        return f" Secret: {name}{shape.FILE_SUFFIX} takes the path of a file instead." if node.secret else ""
    if isinstance(node.item, shape.Leaf) and node.item.secret:
        return f' Secrets: "KEY{shape.FILE_SUFFIX}" takes the path of a file instead.'
    return ""


def _default_cell(node: shape.Leaf | shape.Named, default: Any) -> str:
    if _is_required(node):
        return "**required**"
    if default is None:
        return "none"
    return f"`{to_toml(default, node.unit if isinstance(node, shape.Leaf) else None)}`"


_TYPE_WORDS: Mapping[Any, str] = {
    Any: "any value",
    HttpUrl: "address",
    Path: "path",
    SecretStr: "secret",
    bool: "true or false",
    date: "day",
    float: "number",
    int: "whole number",
}


def _type(node: shape.Node) -> str:
    """What a key takes, in words."""
    if isinstance(node, shape.Named):
        return f"table of {_type(node.item)}"
    if not isinstance(node, shape.Leaf):
        return "table"
    if node.unit is not None:
        word = str(node.unit)
    elif get_origin(node.type) is Literal:
        word = ", ".join(f"`{to_toml(value)}`" for value in get_args(node.type))
    elif isinstance(node.type, type) and issubclass(node.type, Enum):
        word = ", ".join(f"`{to_toml(value)}`" for value in node.type)
    else:
        word = _TYPE_WORDS.get(node.type, "text")
    return f"list of {word}" if node.many else word


def _comment(text: str) -> str:
    return "\n".join(
        f"## {line}".rstrip()
        for paragraph in text.splitlines()
        for line in textwrap.wrap(paragraph, 105, break_on_hyphens=False) or [""]
    )


def main() -> None:
    """Write both files."""
    for path, text in ((TOML_FILE, render_toml()), (MARKDOWN_FILE, render_markdown())):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
