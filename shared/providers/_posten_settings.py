"""Settings of Posten signering."""

from __future__ import annotations

from pydantic import Field, HttpUrl, SecretStr, field_validator

from shared.providers._base import ReturnSettings


class Settings(ReturnSettings):
    """Settings of Posten signering."""

    base_url: HttpUrl = Field(
        default=HttpUrl("https://api.signering.posten.no/api"),
        description="root of the API; that of the test environment is "
        "https://api.difitest.signering.posten.no/api",
    )
    sender: str | None = Field(
        default=None,
        description="organisation number of the sender, 9 digits",
        pattern="^[0-9]{9}$",
        examples=["123456789"],
    )
    certificate: SecretStr | None = Field(
        default=None,
        description="enterprise certificate in PEM with its intermediates; usually given as certificate_file",
    )
    key: SecretStr | None = Field(
        default=None, description="its RSA key in PEM; usually given as key_file", min_length=1
    )
    key_password: SecretStr | None = Field(default=None, description="password of the key, if it has one")
    authorities: SecretStr | None = Field(
        default=None,
        description="root certificates in PEM, of Buypass and Commfides, that vouch for the service; "
        "usually given as authorities_file",
    )
    organisation: str = Field(
        default="984661185",
        description="organisation number that the certificate of the service must name",
        pattern="^[0-9]{9}$",
    )
    queues: list[str] = Field(
        default=[""],
        description='queues of the portal flow that are asked; "" is the one without a name',
    )
    direct_queues: list[str] = Field(
        default_factory=list,
        description='queues of the direct flow that are asked; "" is the one without a name',
    )
    fetch_xades: bool = Field(
        default=False, description="fetch each signer's own signature too (XAdES), as kind report"
    )
    exit_url: HttpUrl | None = Field(
        default=None,
        description="public address of the door to which browsers of the direct flow come back",
        examples=["https://signspool.example.com/api/return"],
    )

    @field_validator("base_url")
    @classmethod
    def _https(cls, url: HttpUrl) -> HttpUrl:
        if url.scheme != "https":
            raise ValueError("must be an https address, since our certificate goes along")
        return url
