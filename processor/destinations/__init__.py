"""Destinations: where signed files go, made from the settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from processor.destinations._base import Destination
from processor.destinations.folder import FolderDestination
from processor.destinations.http import HttpDestination
from processor.destinations.s3 import S3Destination
from processor.destinations.smartshare import SmartshareDestination
from processor.outside import Outside
from shared.clock import Clock
from shared.settings.destinations import DestinationSettings, HttpSettings, SmartshareSettings
from shared.settings.s3 import S3Settings


class OutsideFactory(Protocol):
    """Makes the sender of one destination, with the time limits of the settings."""

    def __call__(self, peer: str, *, origins: frozenset[str], ca_file: Path | None) -> Outside:
        """A sender to `peer`, the destination's name in the settings."""


def build_destinations(
    settings_by_name: Mapping[str, DestinationSettings], *, outside_factory: OutsideFactory, clock: Clock
) -> dict[str, Destination]:
    """The configured destinations by name. No file is touched and no connection opened."""
    return {
        name: _build(name, settings, outside_factory, clock) for name, settings in settings_by_name.items()
    }


def _build(
    name: str, settings: DestinationSettings, outside_factory: OutsideFactory, clock: Clock
) -> Destination:
    if isinstance(settings, SmartshareSettings):
        outside = outside_factory(name, origins=settings.origins, ca_file=settings.ca_file)
        return SmartshareDestination(name, settings, outside)
    if isinstance(settings, HttpSettings):
        outside = outside_factory(name, origins=settings.origins, ca_file=settings.ca_file)
        return HttpDestination(name, settings, outside)
    if isinstance(settings, S3Settings):
        outside = outside_factory(name, origins=settings.origins, ca_file=settings.ca_file)
        return S3Destination(name, settings, outside, clock)
    return FolderDestination(name, settings, clock)
