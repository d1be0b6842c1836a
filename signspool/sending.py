"""`signspool documents send` and `cancel`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from shared.errors import UsageError
from signspool.context import Config, Json, settings_of
from signspool.output import complain, count_text, print_json, say, shortened


def send_command(
    context: typer.Context,
    *,
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE]...", help="What is to be signed.")
    ] = None,
    provider: Annotated[str, typer.Option("--provider", help="Provider, as in the settings.")],
    reference: Annotated[
        str,
        typer.Option(
            "--reference", help="Your own reference: the same one is sent once, however often you try."
        ),
    ] = "",
    title: Annotated[
        str, typer.Option("--title", help="What signers read; the first file's name without it.")
    ] = "",
    return_url: Annotated[
        str | None, typer.Option("--return-url", help="Where the signer's browser is sent in the end.")
    ] = None,
    signers: Annotated[
        list[str] | None,
        typer.Option("--signer", metavar="NAME=VALUE,...", help="A person who is to sign; in their order."),
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Option(
            "--option", metavar="NAME=VALUE", help="An option of the provider; several make a list."
        ),
    ] = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option("--metadata", metavar="NAME=VALUE", help="What the provider keeps with the documents."),
    ] = None,
    dms: Annotated[
        list[str] | None,
        typer.Option("--dms", metavar="NAME=VALUE", help="A reference of the document management system."),
    ] = None,
    order: Annotated[
        Path | None,
        typer.Option(
            "--order", help="JSON file with title, reference, return_url, signers, options, metadata."
        ),
    ] = None,
    again: Annotated[
        bool,
        typer.Option("--again", help="Send it although an earlier attempt may have arrived: you looked."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, and send nothing.")] = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Send documents out for signature; they are registered, and what becomes of them is followed.

    The address of the signing page, if there is one, is printed once and kept nowhere: who has it can sign.

    Example: signspool documents send --provider NAME contract.pdf --json
    """
    from signspool.outgoing import Wish, check_wish, provider_of, read_order, send_documents  # noqa: PLC0415

    said = read_order(order) if order is not None else {}
    wish = Wish(
        provider=provider,
        files=files or [],
        reference=reference or str(said.get("reference", "")),
        title=title or str(said.get("title", "")),
        return_url=return_url or said.get("return_url"),
        signers=[*said.get("signers", []), *(_fields("--signer", text) for text in signers or ())],
        options={**said.get("options", {}), **_grouped("--option", options)},
        metadata={**said.get("metadata", {}), **_lists("--metadata", metadata)},
        dms={name: values[-1] for name, values in _lists("--dms", dms).items()},
    )
    settings = settings_of(context, config)
    if dry_run:
        checked, _ = check_wish(provider_of(settings, provider), wish)
        what = f"{count_text(len(checked.files), 'file')}, {count_text(len(checked.signers), 'signer')}"
        say(f"in order: {what}; nothing was sent")
        return
    sending = send_documents(settings, wish, again=again)
    shown = {
        "provider": provider,
        "reference": sending.reference,
        "envelope_id": sending.envelope_id,
        "documents": list(sending.documents),
        "redirect_url": sending.redirect_url or None,
        "was_sent_before": sending.was_sent_before,
    }
    if as_json:
        print_json(shown)
    else:
        _print_sending(shown)
    if sending.unnoted:
        complain(sending.unnoted)
        raise typer.Exit(1)


def _print_sending(shown: Mapping[str, Any]) -> None:
    how = "sent before" if shown["was_sent_before"] else "sent"
    say(f"{shown['provider']} {shortened(shown['envelope_id'])}: {how}")
    say(f"  reference {shortened(shown['reference'])}")
    for document in shown["documents"]:
        say(f"  document {shortened(document['document_id'])} {shortened(document['file'] or '')}".rstrip())
    if shown["redirect_url"]:
        say(f"  signing page {shown['redirect_url']}")


def cancel_command(
    context: typer.Context,
    *,
    provider: Annotated[str, typer.Argument(help="Provider, as in the settings.")],
    document_id: Annotated[str, typer.Argument(metavar="ID", help="The provider's id of the document.")],
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Take back what was sent out for signature. The status changes when the provider says so itself.

    Example: signspool documents cancel PROVIDER 155
    """
    from signspool.outgoing import cancel_document  # noqa: PLC0415  (SQLAlchemy is slow to import)

    words = cancel_document(settings_of(context, config), provider, document_id)
    if as_json:
        print_json({"provider": provider, "document_id": document_id, "said": words})
    else:
        say(f"{provider} {shortened(document_id)}: {words}")


def _fields(option: str, text: str) -> dict[str, str]:
    """`a=b,c=d` as a dictionary."""
    return {name: values[-1] for name, values in _lists(option, text.split(",")).items()}


def _grouped(option: str, texts: Sequence[str] | None) -> dict[str, Any]:
    """Repeated `NAME=VALUE`; a name that comes several times has the list of its values."""
    return {name: values[0] if len(values) == 1 else values for name, values in _lists(option, texts).items()}


def _lists(option: str, texts: Sequence[str] | None) -> dict[str, list[str]]:
    """Repeated `NAME=VALUE` as lists.

    Raises:
        UsageError: one is not of that form.
    """
    found: dict[str, list[str]] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            # What stands there may be a personal number.
            raise UsageError(f"{option}: write it like {option} NAME=VALUE")
        found.setdefault(name.strip(), []).append(value.strip())
    return found
