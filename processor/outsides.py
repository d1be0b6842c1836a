"""The senders of requests to providers and destinations, as the settings want them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from processor.outside import Outside
from shared.providers import AnyProvider
from shared.settings import Settings


def outside_of(
    provider: AnyProvider,
    settings: Settings,
    *,
    on_request: Callable[[str, float], None] = lambda _code, _seconds: None,
) -> Outside:
    """The sender of requests to a provider."""
    ca_file = provider.settings.ca_file
    return outside_factory(settings)(
        provider.name,
        origins=provider.origins,
        ca_file=None if ca_file is None else Path(ca_file),
        tls=provider.tls,
        calls_per_second=provider.calls_per_second,
        on_request=on_request,
    )


def outside_factory(settings: Settings) -> partial[Outside]:
    """Makes senders that wait as long as the settings say."""
    return partial(
        Outside,
        connect_timeout_seconds=settings.processor.connect_timeout,
        read_timeout_seconds=settings.processor.read_timeout,
        total_timeout_seconds=settings.processor.total_timeout,
    )
