"""Sending documents out for signature and taking them back, for commands and for Python programs."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError

from shared.errors import UsageError
from signspool.context import database_of
from signspool.output import shortened

if TYPE_CHECKING:
    from processor.sending import Sending
    from shared.providers import AnyProvider
    from shared.settings import Settings

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be sent out. `options`, `signers` and the names in them are those of the provider."""

    provider: str
    files: Sequence[Path] = ()
    reference: str = ""
    title: str = ""
    return_url: str | None = None
    signers: Sequence[Mapping[str, Any]] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Sequence[str]] = field(default_factory=dict)
    dms: Mapping[str, str] = field(default_factory=dict)


def send_documents(settings: Settings, wish: Wish, *, again: bool = False) -> Sending:
    """Send documents out for signature and register them, once for each reference.

    Without a reference one is made, so that a repeat is another sending. `again` sends even if an earlier
    attempt may have reached the provider.

    Raises:
        UsageError: something in the wish is none that the provider takes; the message says what.
        HeldError: it may have been sent, and nobody knows.
        SignspoolError: it was not sent.
    """
    from processor.booked import booked  # noqa: PLC0415
    from processor.outsides import outside_of  # noqa: PLC0415  (SQLAlchemy and httpx are slow to import)
    from processor.sending import Dispatch  # noqa: PLC0415
    from shared.clock import Clock  # noqa: PLC0415

    provider = provider_of(settings, wish.provider)
    order, files = check_wish(provider, wish)
    outside, clock = outside_of(provider, settings), Clock.in_zone(settings.spool.timezone)

    async def send(database: Any) -> Sending:
        sender = booked(provider, outside, database=database, clock=clock)
        try:
            dispatch = Dispatch(provider, sender, database, clock)
            return await dispatch.send(order, files, dms=wish.dms, again=again)
        finally:
            await outside.aclose()

    with database_of(settings) as database:
        return asyncio.run(send(database))


def check_wish(provider: AnyProvider, wish: Wish) -> tuple[Any, list[Any]]:
    """The order that a wish makes, and its files; nothing is sent.

    Raises:
        UsageError: it makes none.
    """
    from processor.sending import look_at, make_order  # noqa: PLC0415

    if provider.Options is None:
        raise UsageError(f"{provider.title} cannot be sent anything: no such call is known")
    if wish.signers and provider.Signer is None:
        raise UsageError(f"{provider.title} asks for the signers itself: leave out --signer")
    if wish.dms and not wish.files:
        raise UsageError(
            "--dms goes to the documents, and without files there are none yet: register them when there are"
        )
    options = _validated(provider.Options, wish.options, "--option")
    signers = [
        _validated(provider.Signer, signer, f"--signer {place}")
        for place, signer in enumerate(wish.signers, start=1)
        if provider.Signer is not None
    ]
    files = [look_at(path) for path in wish.files]
    order = make_order(
        provider,
        files,
        reference=wish.reference or str(uuid.uuid4()),
        title=wish.title or (files[0].path.stem if files else ""),
        signers=signers,
        options=options,
        return_url=wish.return_url,
        metadata={name: tuple(values) for name, values in wish.metadata.items()},
    )
    return order, files


def provider_of(settings: Settings, name: str) -> AnyProvider:
    """A configured provider.

    Raises:
        UsageError: there is none of this name.
    """
    from shared.settings import build_providers  # noqa: PLC0415

    provider = build_providers(settings).get(name)
    if provider is None:
        raise UsageError(f"provider {name} is not configured: add [providers.{name}]")
    return provider


def _validated(model: type[M], values: Mapping[str, Any], what: str) -> M:
    """Values as the provider's own class; texts from a command line are read as what is wanted.

    Raises:
        UsageError: one is unknown, missing or wrong; the message never shows a value.
    """
    wanted = {
        name: [text] if isinstance(text, str) and _is_list(model, name) else text
        for name, text in values.items()
    }
    try:
        return model.model_validate(wanted)
    except ValidationError as error:
        known = ", ".join(model.model_fields) or "none"
        faults = [
            f"{what} {'.'.join(map(str, fault['loc']))}: {fault['msg']}"
            for fault in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        raise UsageError("\n".join([*faults, f"known are: {known}"])) from None


def _is_list(model: type[BaseModel], name: str) -> bool:
    found = model.model_fields.get(name)
    return found is not None and get_origin(found.annotation) in (list, tuple, set, frozenset)


def cancel_document(settings: Settings, provider_name: str, document_id: str) -> str:
    """Ask the provider to take a document back, and to be asked how it stands; returns what it said.

    Raises:
        UsageError: the provider has no such call, or the document is not known.
        SignspoolError: it did not work.
    """
    from processor import documents, polls  # noqa: PLC0415
    from processor.booked import booked  # noqa: PLC0415
    from processor.converse import ask_in_memory, converse  # noqa: PLC0415
    from processor.outsides import outside_of  # noqa: PLC0415
    from shared.clock import Clock, utc_now  # noqa: PLC0415
    from shared.providers._base import DocumentView  # noqa: PLC0415

    provider = provider_of(settings, provider_name)
    if not provider.can_cancel:
        raise UsageError(f"{provider.title} cannot take anything back: no such call is known")
    outside = outside_of(provider, settings)

    async def cancel(database: Any, view: DocumentView) -> str:
        sender = booked(provider, outside, database=database, clock=Clock())
        try:
            return await converse(provider.cancel(view), partial(ask_in_memory, sender))
        finally:
            await outside.aclose()

    with database_of(settings) as database:
        with database.reading() as connection:
            known = documents.show(connection, provider_name, document_id)
        if known is None:
            raise UsageError(f"no document {shortened(document_id)} of {provider_name} is known")
        view = DocumentView(document_id, known["references"], known["learned"])
        words = asyncio.run(cancel(database, view))
        ask = provider.document_ask(view)
        if ask is not None:
            with database.transaction() as connection:
                polls.begin(connection, provider_name, [replace(ask, after_seconds=0.0)], utc_now())
    return words


def read_order(path: Path) -> dict[str, Any]:
    """What a JSON file says of an order: title, reference, return_url, signers, options, metadata.

    Raises:
        UsageError: it cannot be read, or says something else.
    """
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"--order {path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise UsageError(f"--order {path} is no JSON") from None
    try:
        wanted = TypeAdapter(_OrderFile).validate_python(found)
    except ValidationError as error:
        [fault, *_] = error.errors(include_url=False, include_context=False, include_input=False)
        where = ".".join(map(str, fault["loc"])) or "the file"
        raise UsageError(f"--order {path}: {where}: {fault['msg']}") from None
    return wanted.model_dump(exclude_unset=True)


class _OrderFile(BaseModel, extra="forbid", hide_input_in_errors=True):
    reference: str = ""
    title: str = ""
    return_url: str | None = None
    signers: list[dict[str, Any]] = []
    options: dict[str, Any] = {}
    metadata: dict[str, list[str]] = {}
