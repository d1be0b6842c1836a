"""All settings in one frozen value, and the providers that they configure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Self, TypeAlias

from pydantic import ConfigDict, Field, PrivateAttr, StringConstraints, model_validator, with_config
from typing_extensions import TypedDict

from shared.providers import AnyProvider, provider_classes
from shared.providers._base import ProviderSettings
from shared.settings.destinations import DestinationSettings
from shared.settings.sections import (
    ApiSettings,
    CheckSettings,
    DatabaseSettings,
    LogSettings,
    MetricsSettings,
    ProcessorSettings,
    Section,
    SpoolSettings,
)

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

    ProviderSections: TypeAlias = dict[str, ProviderSettings]
else:
    # The registry decides which tables may stand under [providers]; each is validated by its own class.
    ProviderSections = with_config(ConfigDict(extra="forbid"))(
        TypedDict(
            "ProviderSections",
            {name: provider.Settings for name, provider in provider_classes().items()},
            total=False,
        )
    )

DestinationName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]+$", max_length=64)]
NO_FILE = "no settings file"


class Settings(Section):
    """All settings, read once and passed down."""

    spool: SpoolSettings = Field(default_factory=SpoolSettings)
    api: ApiSettings = Field(default_factory=ApiSettings)
    database: DatabaseSettings = Field(default_factory=DatabaseSettings)
    processor: ProcessorSettings = Field(default_factory=ProcessorSettings)
    metrics: MetricsSettings = Field(default_factory=MetricsSettings)
    check: CheckSettings = Field(default_factory=CheckSettings)
    log: LogSettings = Field(default_factory=LogSettings)
    providers: ProviderSections = Field(default_factory=dict)
    destinations: dict[DestinationName, DestinationSettings] = Field(default_factory=dict)

    _source: str = PrivateAttr(default=NO_FILE)

    @model_validator(mode="after")
    def _silence_of_known_providers(self) -> Self:
        for name in self.check.silence_by_provider:
            if name not in provider_classes():
                known = ", ".join(provider_classes())
                raise ValueError(f"silence_by_provider under [check] names {name}; known are: {known}")
        return self

    @property
    def source(self) -> str:
        """The path of the settings file, or `no settings file`."""
        return self._source

    @property
    def database_url(self) -> URL:
        """Where the database is; its `str` hides the password, so hand over the object itself."""
        from sqlalchemy.engine import URL, make_url  # noqa: PLC0415  (the door has no database)

        if self.database.url is not None:
            return make_url(self.database.url.get_secret_value())
        return URL.create("sqlite", database=str(self.spool.root / "signspool.db"))


def build_providers(settings: Settings) -> dict[str, AnyProvider]:
    """The configured providers by name."""
    classes = provider_classes()
    return {name: classes[name](name, section) for name, section in settings.providers.items()}
