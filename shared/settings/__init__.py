"""Typed settings, read once from file, environment and credentials, and passed down."""

from __future__ import annotations

from shared.settings.changes import changes, expect_same_file
from shared.settings.hidden import secret_values
from shared.settings.load import load_settings
from shared.settings.model import Settings, build_providers
from shared.settings.sections import (
    ApiSettings,
    CheckSettings,
    DatabaseSettings,
    LogSettings,
    MetricsSettings,
    MirrorSettings,
    ProcessorSettings,
    SpoolSettings,
)

__all__ = [
    "ApiSettings",
    "CheckSettings",
    "DatabaseSettings",
    "LogSettings",
    "MetricsSettings",
    "MirrorSettings",
    "ProcessorSettings",
    "Settings",
    "SpoolSettings",
    "build_providers",
    "changes",
    "expect_same_file",
    "load_settings",
    "secret_values",
]
