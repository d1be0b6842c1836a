"""`signspool settings`: the example file, and what is in effect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from shared.errors import UsageError
from signspool.context import Config, Json, config_of, remember_config, settings_of
from signspool.output import print_json, say

if TYPE_CHECKING:
    from pydantic import BaseModel

    from shared.settings import Settings

MASK = "********"

group = typer.Typer(rich_markup_mode=None)


@group.callback(invoke_without_command=True, help="The settings: an example file, and what is in effect.")
def settings_options(
    context: typer.Context,
    *,
    example: Annotated[
        bool, typer.Option("--example", help="Print an example file with every setting, commented.")
    ] = False,
    config: Config = None,
) -> None:
    """Print the example file, or go on to the command."""
    remember_config(context, config)
    if context.invoked_subcommand is not None:
        return
    if not example:
        raise UsageError("say: signspool settings show, or: signspool settings --example > signspool.toml")
    from shared.settings.reference import render_toml  # noqa: PLC0415  (slow to import)

    typer.echo(render_toml(), nl=False)


@group.command("show")
def show_settings(context: typer.Context, as_json: Json = False, config: Config = None) -> None:
    """Show the settings in effect, from file, environment and defaults; secrets are masked.

    Example: signspool settings show --config /etc/signspool/signspool.toml
    """
    settings = settings_of(context, config_of(context, config))
    values = _tree(settings)
    if as_json:
        print_json({"source": settings.source, "settings": values})
        return
    from shared.settings.example import to_toml  # noqa: PLC0415

    say(f"# {settings.source}, environment and defaults")
    for path, value in _leaves(values):
        say(f"{path} = {'(none)' if value is None else to_toml(value)}")


def masked(section: BaseModel) -> dict[str, Any]:
    """A section as plain values; what is secret is masked."""
    return {name: _plain(value) for name, value in section}


def _tree(settings: Settings) -> dict[str, Any]:
    tree = masked(settings)
    # Of an address, all but the password may be seen.
    tree["database"]["url"] = settings.database_url.render_as_string(hide_password=True)
    if settings.database.mirror is not None:
        from sqlalchemy.engine import make_url  # noqa: PLC0415

        url = make_url(settings.database.mirror.url.get_secret_value())
        tree["database"]["mirror"]["url"] = url.render_as_string(hide_password=True)
    return tree


def _plain(value: Any) -> Any:
    from pydantic import BaseModel, SecretStr  # noqa: PLC0415

    if isinstance(value, SecretStr):
        return MASK
    if isinstance(value, BaseModel):
        return masked(value)
    if isinstance(value, dict):
        return {str(name): _plain(branch) for name, branch in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def _leaves(tree: dict[str, Any], path: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in tree.items():
        place = f"{path}.{name}" if path else name
        found += _leaves(value, place) if isinstance(value, dict) and value else [(place, value)]
    return found
