"""The sections that every installation has: spool, api, database, processor, metrics, check, log."""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from shared.settings.units import DAY_SECONDS, GIB, HOUR_SECONDS, KIB, MIB, MINUTE_SECONDS, Duration, Size

MIRROR_BINDS = ("provider", "document_id", "status", "action", "occurred_at")
"""What a mirror's statement may bind, each written with a colon before it."""

_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")


class Section(BaseModel):
    """One table of the settings: typed, frozen, without unknown keys, and silent about its values."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, validate_default=True)


def _known_timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    # A folder of the time zone database, as in "America", is an OSError; a path out of it a ValueError.
    except (KeyError, ValueError, OSError):
        raise ValueError(
            "this is not a known time zone: write an IANA name as in America/Sao_Paulo"
        ) from None
    return name


def _network(text: str) -> str:
    try:
        return str(ip_network(text, strict=False))
    except ValueError:
        raise ValueError("this is neither an address nor a network: write 10.0.0.7 or 10.0.0.0/8") from None


def _stored_url(url: SecretStr) -> SecretStr:
    """A database address with its driver named."""
    text = url.get_secret_value()
    backend, separator, rest = text.partition("://")
    driver = {
        "sqlite": "sqlite",
        "postgresql": "postgresql+psycopg",
        "postgresql+psycopg": "postgresql+psycopg",
    }
    if not separator or backend.lower() not in driver:
        raise ValueError(
            "this database is not supported: write postgresql://USER:PASSWORD@HOST/NAME or sqlite:///PATH"
        )
    if backend.lower() == "sqlite" and rest in ("", "/", "/:memory:"):
        raise ValueError("a database in memory forgets everything: write sqlite:///PATH")
    return _sqlalchemy_url(SecretStr(f"{driver[backend.lower()]}://{rest}"))


def _sqlalchemy_url(url: SecretStr) -> SecretStr:
    # The door reads settings too and has no database, so that it should not carry SQLAlchemy in memory.
    from sqlalchemy.engine import make_url  # noqa: PLC0415
    from sqlalchemy.exc import ArgumentError  # noqa: PLC0415

    try:
        make_url(url.get_secret_value())
    # A port that is no number is a plain ValueError.
    except (ArgumentError, ValueError):
        # The error quotes the address, password included.
        raise ValueError(
            "this is not a database address: write BACKEND://USER:PASSWORD@HOST:PORT/NAME"
        ) from None
    return url


def _mirror_statement(statement: str) -> str:
    from sqlalchemy import text  # noqa: PLC0415

    statement = statement.strip().removesuffix(";").rstrip()
    if not statement or ";" in _QUOTED.sub("", statement):
        raise ValueError("exactly one SQL statement is needed, as in UPDATE contract SET status = :status")
    unknown = sorted(text(statement).compile().params.keys() - set(MIRROR_BINDS))
    if unknown:
        known = ", ".join(f":{name}" for name in MIRROR_BINDS)
        raise ValueError(f":{unknown[0]} is not known: the statement may bind {known}")
    return statement


class SpoolSettings(Section):
    """The folders, and how long what lies in them is kept."""

    root: Path = Field(
        default=Path("./data"), description="Folder that holds spool, done, quarantine and the others."
    )
    timezone: Annotated[str, AfterValidator(_known_timezone)] | None = Field(
        default=None,
        description="IANA time zone of the day folders; the machine's when not given.",
        examples=["America/Sao_Paulo"],
    )
    durability: Literal["full", "rename-only"] = Field(
        default="full",
        description="full syncs data and folder before the answer; rename-only survives a crash of the "
        "program but not of the machine.",
    )
    min_free: Size = Field(
        default=64 * MIB,
        description="Free bytes that must remain on the file system; below it the door says 503.",
    )
    retention_done: Duration = Field(
        default=90 * DAY_SECONDS, description="Time that finished entries are kept; 0 deletes them at once."
    )
    retention_refused: Duration = Field(
        default=30 * DAY_SECONDS, description="Time that copies of refused callbacks are kept."
    )
    retention_reasons: Duration = Field(
        default=90 * DAY_SECONDS,
        description="Time that reasons stay in quarantine whose entry a person has taken away. Entries in "
        "quarantine themselves stay until a person decides.",
    )
    retention_lists: Duration = Field(
        default=3650 * DAY_SECONDS,
        description="Time that the daily lists of digests in done/ are kept; the newest stays in any case.",
    )
    keep_refused: bool = Field(
        default=True, description="Whether a bounded copy of a refused callback is kept to be judged again."
    )
    refused_max_bytes: Size = Field(
        default=64 * KIB, description="Bytes of a refused body that are kept at most."
    )
    refused_max_per_day: int = Field(
        default=1000, ge=0, description="Refused callbacks that are kept in one day at most."
    )

    @model_validator(mode="after")
    def _lists_outlive_what_they_list(self) -> Self:
        if self.retention_lists < self.retention_done:
            raise ValueError(
                "retention_lists is shorter than retention_done, so that files would outlive the lists that "
                "prove them: make it at least as long"
            )
        return self


class ApiSettings(Section):
    """The door."""

    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(default=8080, ge=0, le=65535, description="TCP port to listen on.")
    max_body: Size = Field(
        default=MIB, gt=0, description="Bytes of a callback body that are accepted at most."
    )
    max_requests: int = Field(
        default=512,
        ge=1,
        description="Callbacks that are in hand at once in one worker; above it the door says 503.",
    )
    max_in_hand: Size = Field(
        default=64 * MIB,
        gt=0,
        description="Bytes of callback bodies that are in hand at once in one worker; above it the door says "
        "503.",
    )
    max_connections: int = Field(
        default=1000,
        ge=1,
        description="Connections that one worker has open at once; above it the longest silent is closed.",
    )
    head_timeout: Duration = Field(
        default=30, gt=0, description="Time that the head of a request has to arrive."
    )
    body_timeout: Duration = Field(
        default=60, gt=0, description="Time that the body of a request has to arrive."
    )
    retry_after: Duration = Field(
        default=30,
        description="Time after which a provider is asked to come back when nothing can be stored.",
    )
    grace: Duration = Field(
        default=20, description="Time that requests in hand have to finish after SIGTERM."
    )
    trusted_proxies: list[Annotated[str, AfterValidator(_network)]] = Field(
        default_factory=list,
        description="Addresses or networks of reverse proxies whose X-Forwarded-For is believed.",
        examples=[["127.0.0.1", "10.0.0.0/8"]],
    )

    @model_validator(mode="after")
    def _one_body_fits(self) -> Self:
        if self.max_in_hand < self.max_body:
            raise ValueError(
                "max_in_hand is less than max_body, so that the largest body never fits: raise it"
            )
        return self


class MirrorSettings(Section):
    """A table of the company's own that is kept equal to the document status."""

    url: Annotated[SecretStr, AfterValidator(_sqlalchemy_url)] = Field(
        description="Address of the company's database, any that SQLAlchemy can open.",
        examples=["postgresql+psycopg://USER:PASSWORD@HOST/NAME"],
    )
    statement: Annotated[str, AfterValidator(_mirror_statement)] = Field(
        description="One SQL statement, executed when a status changes; it may bind "
        + ", ".join(f":{name}" for name in MIRROR_BINDS)
        + ".",
        examples=["UPDATE contract SET status = :status WHERE envelope = :document_id"],
    )


class DatabaseSettings(Section):
    """Where documents, events and deliveries are recorded."""

    url: Annotated[SecretStr, AfterValidator(_stored_url)] | None = Field(
        default=None,
        description="Address of the database, PostgreSQL or SQLite; signspool.db under the spool root when "
        "not given.",
        examples=["postgresql://USER:PASSWORD@HOST/NAME"],
    )
    retention_events: Duration = Field(
        default=730 * DAY_SECONDS,
        description="Time that the history of a finished document is kept after its last event. What is left "
        "of it then is its id and its last status.",
    )
    mirror: MirrorSettings | None = Field(
        default=None, description="A table of the company's own, kept equal to the document status."
    )


class ProcessorSettings(Section):
    """The daemon."""

    sweep: Duration = Field(
        default=10, gt=0, description="Time between two looks at the spool when the watcher says nothing."
    )
    look_outbox: Duration = Field(default=1, gt=0, description="Time between two looks at the outbox.")
    batch: int = Field(default=200, ge=1, description="Entries recorded in one transaction at most.")
    grace: Duration = Field(default=25, description="Time that work in hand has to finish after SIGTERM.")
    lease: Duration = Field(
        default=5 * MINUTE_SECONDS,
        gt=0,
        description="Time after which the work of a processor that fell silent is taken over; it is renewed "
        "while work goes on.",
    )
    attempts: int = Field(
        default=30, ge=1, description="Attempts before an entry goes to quarantine; 30 take about a day."
    )
    backoff_base: Duration = Field(
        default=30, gt=0, description="Wait after the first failed attempt; each further one doubles it."
    )
    backoff_cap: Duration = Field(
        default=HOUR_SECONDS, gt=0, description="Longest wait between two attempts."
    )
    breaker_failures: int = Field(
        default=5, ge=1, description="Failures in a row after which a provider or destination is left alone."
    )
    breaker_pause: Duration = Field(
        default=30, gt=0, description="Time that a failing provider or destination is left alone."
    )
    quarantine_streak: int = Field(
        default=100,
        ge=1,
        description="Entries quarantined in a row after which the processor stops taking more.",
    )
    concurrency: int = Field(default=4, ge=1, description="Deliveries at once in one lane.")
    connect_timeout: Duration = Field(
        default=10, gt=0, description="Time that a connection to a provider or destination may take."
    )
    read_timeout: Duration = Field(
        default=60, gt=0, description="Time that the other side may stay silent during an answer."
    )
    total_timeout: Duration = Field(
        default=15 * MINUTE_SECONDS, gt=0, description="Time that one request may take in all."
    )
    max_file: Size = Field(default=GIB, gt=0, description="Bytes of a signed file that are fetched at most.")

    @model_validator(mode="after")
    def _cap_is_no_shorter_than_base(self) -> Self:
        if self.backoff_cap < self.backoff_base:
            raise ValueError("backoff_cap is shorter than backoff_base: make it at least as long")
        return self


class MetricsSettings(Section):
    """The private address of each tier: GET /metrics, /healthz and /readyz, for those who look after it."""

    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address to listen on; it asks for no secret, so keep strangers away from it.",
    )
    api_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="TCP port of the door's private address; there is none when not given.",
        examples=[9464],
    )
    processor_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="TCP port of the processor's private address; there is none when not given.",
        examples=[9465],
    )
    late_after: Duration = Field(
        default=5 * MINUTE_SECONDS,
        gt=0,
        description="Age of the oldest thing that the processor should have done from which on it says that "
        "it is not well.",
    )

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        if self.api_port is not None and self.api_port == self.processor_port:
            raise ValueError("api_port and processor_port are the same: give each tier a port of its own")
        return self


class CheckSettings(Section):
    """What `signspool check` takes for wrong, so that it fails and its timer alarms; 0 switches one off."""

    spool_age: Duration = Field(
        default=10 * MINUTE_SECONDS, description="Time that an entry may wait in spool/ to be recorded."
    )
    deferred_age: Duration = Field(
        default=DAY_SECONDS,
        description="Time that something may be owed for an entry in deferred/. Those that came before "
        "deferred/.seen was touched are known, and fail no check.",
    )
    delivery_age: Duration = Field(
        default=2 * HOUR_SECONDS,
        description="Time for which something owed to a provider or destination may be tried in vain, or be "
        "due without being tried.",
    )
    quarantined: int = Field(
        default=1,
        ge=0,
        description="Entries in quarantine/ that fail the check, that many or more. Those that were there "
        "before quarantine/.seen was touched are known, and are not counted.",
    )
    silence: Duration = Field(
        default=30 * DAY_SECONDS,
        description="Time that a provider which calls back may send no callback.",
    )
    poll_silence: Duration = Field(
        default=2 * DAY_SECONDS,
        description="Time that a provider which is asked may leave unanswered what it is asked.",
    )
    silence_by_provider: dict[str, Duration] = Field(
        default_factory=dict,
        description='In place of both, for a provider that is busy or seldom used, as in { NAME = "3d" }.',
    )
    expiry_warn: Duration = Field(
        default=30 * DAY_SECONDS,
        description="Time before a certificate or a secret ends from which on the check warns of it.",
    )
    expiry_fail: Duration = Field(
        default=14 * DAY_SECONDS,
        description="Time before one of our own ends from which on the check fails.",
    )
    remind: Duration = Field(
        default=DAY_SECONDS,
        description="Time after which check --remember tells again of what still fails.",
    )

    def silence_of(self, provider: str) -> float:
        """Seconds that a provider may send no callback; 0 for any time."""
        return self.silence_by_provider.get(provider, self.silence)

    def poll_silence_of(self, provider: str) -> float:
        """Seconds that a provider may leave unanswered what it is asked; 0 for any time."""
        return self.silence_by_provider.get(provider, self.poll_silence)


class LogSettings(Section):
    """What is written to standard error."""

    format: Literal["auto", "json", "console"] = Field(
        default="auto", description="Form of the log lines; auto is console on a terminal and json elsewhere."
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe lines that are written."
    )
