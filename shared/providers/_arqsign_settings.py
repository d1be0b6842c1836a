"""What can be set of ArqSign: keys, generations of its API, polling, and the quotas of its plans."""

from __future__ import annotations

from typing import Literal, NamedTuple, Self

from pydantic import Field, HttpUrl, SecretStr, field_validator, model_validator

from shared.providers._base import Limits
from shared.providers._verify import HmacSettings

DAY_SECONDS = 86_400.0

_SWITCHES_OFF = frozenset({401, 403, 404})
"""Answers after which ArqSign calls no more, until a person switches the webhook on again."""

_WITH_ID = r"^/.*\{idProcesso\}"

Plan = Literal["small", "middle", "large", "custom", "trial", "old"]


class Quota(NamedTuple):
    """How many calls an account may make; None is no limit that is known."""

    per_second: int | None
    per_minute: int | None
    per_hour: int | None
    per_month: int | None


PLANS: dict[Plan, Quota] = {
    "small": Quota(4, 80, 80, 80),
    "middle": Quota(4, 160, 200, 200),
    "large": Quota(4, 240, 400, 400),
    "custom": Quota(4, 240, 600, 600),
    "trial": Quota(None, None, 5, 25),
    "old": Quota(None, None, 50, 80),
}
"""The manual's tables, which are pictures; where one gives a span, as for the months of the small and the old
plans and for all of the custom one, its lower end. Read 2026-11."""


class Generation(NamedTuple):
    """Where an edition of the API is found."""

    base_url: HttpUrl
    process_path: str
    send_path: str


GENERATIONS = {
    "v2": Generation(
        HttpUrl("https://api-rest.arqsign.com"),
        "/api/v2/processo/{idProcesso}",
        "/api/v2/processo/enviar-documento-para-assinar",
    ),
    "v1": Generation(
        HttpUrl("https://api.arqsign.com"),
        "/api/v1/processo/{idProcesso}",
        "/api/v1/processo/enviar-documento-para-assinar",
    ),
}


SIGNATURE_CODES: dict[str, dict[str, int]] = {
    "v2": {"electronic": 1, "icp_brasil": 3, "certificate": 4},
    "v1": {"electronic": 1, "icp_brasil": 2, "certificate": 4, "none": 5},
}
"""`idTipoAssinatura` for each kind of signature: the manual of v2 allows 1, 3 and 4."""


class Settings(HmacSettings):
    """Settings of ArqSign."""

    webhooks: bool = Field(
        default=True,
        description="accept callbacks; false is for an account that is only polled, and needs no secret",
    )
    refused_status: int = Field(
        default=400,
        description=(
            "answer to a callback that is not proven; "
            "401, 403 and 404 would switch the customer's webhook off"
        ),
        ge=400,
        le=599,
    )
    id_fields: list[str] = Field(
        default=["idProcesso"], description="fields of a callback that name the process", min_length=1
    )
    generation: Literal["v2", "v1"] = Field(
        default="v2",
        description="edition of the API: v2 is current and takes two keys, v1 was announced to end in 2024",
    )
    base_url: HttpUrl | None = Field(default=None, description="API root, when not that of the generation")
    process_path: str | None = Field(
        default=None,
        description="path of the call for a process with its files, when not that of the generation",
        pattern=_WITH_ID,
        examples=["/api/v2/processo/{idProcesso}"],
    )
    status_path: str = Field(
        default="/api/v1/processo/{idProcesso}/status-do-processo",
        description="path of the call for the status of a process",
        pattern=_WITH_ID,
    )
    signers_path: str = Field(
        default="/api/v1/processo/{idProcesso}/dados-signatarios",
        description="path of the call for status, date of expiry and signers of a process, without files",
        pattern=_WITH_ID,
    )
    send_path: str | None = Field(
        default=None,
        description="path of the call that sends a process, when not that of the generation",
        pattern=r"^/",
        examples=["/api/v2/processo/enviar-documento-para-assinar"],
    )
    cancel_path: str = Field(
        default="/api/v1/processo/{idProcesso}/cancelar-processo",
        description="path of the call that cancels a process",
        pattern=_WITH_ID,
    )
    responsible_id: str | None = Field(
        default=None, description="idResponsavel of what is sent, when the sending names none", min_length=1
    )
    folder_id: str | None = Field(
        default=None, description="idPasta of what is sent, when the sending names none", min_length=1
    )
    signature_codes: dict[str, int] = Field(
        default_factory=dict,
        description="idTipoAssinatura for a kind of signature, when not that of the manual: KIND = number",
    )
    app_key: SecretStr | None = Field(default=None, description="the account's AppKey", min_length=1)
    app_key_header: str = Field(default="AppKey", description="header that carries the AppKey", min_length=1)
    subscription_key: SecretStr | None = Field(
        default=None, description="either of the account's two subscription keys; v2 alone", min_length=1
    )
    subscription_key_header: str = Field(
        default="SubscriptionKey", description="header that carries the subscription key", min_length=1
    )
    fetch_record: bool = Field(default=True, description="keep the signature record of each file too")
    not_ready_wait_seconds: float = Field(
        default=900.0,
        description="wait before a process that is not concluded is asked for again; calls are counted",
        ge=0,
    )
    over_quota_statuses: list[int] = Field(
        default=[429, 403], description="answers that mean that the account has used up its calls"
    )
    over_quota_wait_seconds: float = Field(
        default=3600.0, description="wait after such an answer, when it names no time itself", ge=0
    )

    poll: bool = Field(
        default=False,
        description=(
            "ask once a day how each process stands that is not over; for accounts without webhooks, "
            "needs app_key and plan"
        ),
    )
    poll_interval_seconds: float = Field(
        default=DAY_SECONDS,
        description="time between two questions about one process; ArqSign asks for no less than a day",
        gt=0,
    )
    poll_more_often: bool = Field(
        default=False, description="allow poll_interval_seconds to be less than a day, against the manual"
    )
    plan: Plan | None = Field(
        default=None,
        description=(
            "the account's plan, which says how many calls it may make; without it and calls_per_*, "
            "calls are not counted"
        ),
    )
    calls_per_second: int | None = Field(
        default=None, description="calls in a second, when not those of the plan", ge=1
    )
    calls_per_minute: int | None = Field(
        default=None, description="calls in a minute, when not those of the plan", ge=1
    )
    calls_per_hour: int | None = Field(
        default=None, description="calls in an hour, when not those of the plan", ge=1
    )
    calls_per_month: int | None = Field(
        default=None, description="calls in a month, when not those of the plan", ge=1
    )
    month_begins_on: int = Field(
        default=1, description="day on which the calls of a month are counted afresh", ge=1, le=28
    )
    call_reserve: float = Field(
        default=0.2,
        description="share of the calls that polling leaves to fetching and sending",
        ge=0,
        lt=1,
    )

    @field_validator("refused_status")
    @classmethod
    def _harmless(cls, value: int) -> int:
        if value in _SWITCHES_OFF:
            raise ValueError("401, 403 and 404 switch the customer's webhook off: take another, like 400")
        return value

    @model_validator(mode="after")
    def _polling_is_possible(self) -> Self:
        if self.poll and self.app_key is None:
            raise ValueError("poll needs app_key: set it, or drop poll")
        if self.poll and self.limits is None:
            raise ValueError(
                f"poll needs to know how many calls the account may make: set plan ({', '.join(PLANS)}), "
                "or calls_per_month"
            )
        if self.poll_interval_seconds < DAY_SECONDS and not self.poll_more_often:
            raise ValueError(
                "poll_interval_seconds is less than a day, which ArqSign does not want: make it 86400 or "
                "more, or say poll_more_often = true in so many words"
            )
        return self

    @property
    def limits(self) -> Limits | None:
        """What the account may do, by its plan and what is set apart from it; None when neither says."""
        plan = PLANS[self.plan] if self.plan else Quota(None, None, None, None)
        quota = Quota(
            self.calls_per_second or plan.per_second,
            self.calls_per_minute or plan.per_minute,
            self.calls_per_hour or plan.per_hour,
            self.calls_per_month or plan.per_month,
        )
        if not any(quota):
            return None
        return Limits(
            *quota,
            month_begins_on=self.month_begins_on,
            reserve=self.call_reserve,
            ask_interval_seconds=self.poll_interval_seconds,
        )
