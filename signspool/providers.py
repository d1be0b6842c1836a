"""`signspool providers`: which there are, and what each needs."""

from __future__ import annotations

import inspect
from typing import Annotated, Any

import typer

from shared.errors import SettingsError
from signspool.completion import provider_names
from signspool.context import Config, Json, new_group, settings_of
from signspool.output import complain, print_json, print_table, say

group = new_group("The providers: which there are, which are open, and what each needs.")


@group.command("ls")
def list_providers(context: typer.Context, as_json: Json = False, config: Config = None) -> None:
    """List every provider there is, configured or not.

    Example: signspool providers ls
    """
    rows = _rows(context, config)
    if as_json:
        print_json(rows)
        return
    print_table(
        ("provider", "title", "number", "configured", "door"),
        [
            (
                row["name"],
                row["title"],
                row["number"],
                "yes" if row["configured"] else "no",
                _door(row),
            )
            for row in rows
        ],
    )


def _rows(context: typer.Context, config: Any) -> list[dict[str, Any]]:
    from shared.providers import provider_classes  # noqa: PLC0415
    from shared.settings import build_providers  # noqa: PLC0415

    configured = build_providers(settings_of(context, config))
    return [
        {
            "name": name,
            "title": known.title,
            "number": configured[name].file_number if name in configured else known.number,
            "configured": name in configured,
            "why_closed": configured[name].why_closed() if name in configured else None,
        }
        for name, known in provider_classes().items()
    ]


def _door(row: dict[str, Any]) -> str:
    if not row["configured"]:
        return f"closed: add [providers.{row['name']}] to the settings"
    return f"closed: {row['why_closed']}" if row["why_closed"] else "open"


@group.command("show")
def show_provider(
    context: typer.Context,
    *,
    name: Annotated[
        str, typer.Argument(help="Provider, as `providers ls` shows.", autocompletion=provider_names)
    ],
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Show one provider: what its actions mean, which references it takes, its settings, where it is read up.

    Example: signspool providers show NAME
    """
    from shared.providers import provider_classes  # noqa: PLC0415
    from shared.settings import build_providers  # noqa: PLC0415
    from signspool.settings import masked  # noqa: PLC0415

    settings = settings_of(context, config)
    known = provider_classes().get(name)
    if known is None:
        complain(f"there is no provider {name}; there are: {', '.join(provider_classes())}")
        raise typer.Exit(1)
    provider = build_providers(settings).get(name)
    actions = {**known.event_types, **(provider.settings.actions if provider else {})}
    shown: dict[str, Any] = {
        "name": name,
        "title": known.title,
        "number": provider.file_number if provider else known.number,
        "id_field": known.id_field,
        "configured": provider is not None,
        "why_closed": provider.why_closed() if provider else None,
        "origins": sorted(provider.origins) if provider else [],
        "actions": {
            action: {"event_type": kind.value, "status": kind.status.value if kind.status else None}
            for action, kind in actions.items()
        },
        "references": dict(known.references),
        "settings": masked(provider.settings) if provider else None,
        "about": inspect.cleandoc(inspect.getmodule(known).__doc__ or ""),
    }
    if as_json:
        print_json(shown)
    else:
        _print_provider(shown)


def _print_provider(shown: dict[str, Any]) -> None:
    for line in shown["about"].splitlines():
        say(line)
    say("")
    say(f"{shown['name']}: number {shown['number']} in the spool file, id in {shown['id_field']}")
    say(f"door: {_door(shown)}")
    say(f"fetches from: {', '.join(shown['origins']) or 'nowhere'}")
    say("")
    print_table(
        ("action", "meaning", "status"),
        [
            (action, meaning["event_type"], meaning["status"] or "stays")
            for action, meaning in shown["actions"].items()
        ],
    )
    say("")
    print_table(("reference", "what it is"), list(shown["references"].items()))
    if shown["settings"] is not None:
        say("")
        print_table(("setting", "value"), list(shown["settings"].items()))


def expect_open(settings: Any) -> None:
    """Return when every configured provider may open its door.

    Raises:
        SettingsError: one may not; one line for each.
    """
    from shared.settings import build_providers  # noqa: PLC0415

    closed = [
        f"providers.{name}: {why}"
        for name, provider in build_providers(settings).items()
        if (why := provider.why_closed()) is not None
    ]
    if closed:
        raise SettingsError("\n".join(closed))
