"""Settings of a destination that speaks S3: AWS, and the many stores that speak like it."""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, HttpUrl, SecretStr, field_validator, model_validator

from shared import template
from shared.providers._base import origin_of
from shared.settings.destination_base import DELIVERY_NAMES, DestinationSection

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_REGION = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_WORD = re.compile(r"[!-~]+")


class S3Settings(DestinationSection):
    """A bucket of an object store that speaks S3, as those of AWS, MinIO, Ceph, Cloudflare R2 or Oracle."""

    kind: Literal["s3"] = Field(description='kind of destination: "s3"')
    bucket: str = Field(
        description="bucket to store into; it must exist", examples=["company-signed-contracts"]
    )
    region: str = Field(
        description="region of the bucket; of other stores what they name, often us-east-1 or auto",
        examples=["sa-east-1"],
    )
    access_key: SecretStr = Field(description="access key id", min_length=1)
    secret_key: SecretStr = Field(description="secret access key", min_length=1)
    session_token: SecretStr | None = Field(
        default=None, description="session token of temporary keys", min_length=1
    )
    endpoint: HttpUrl | None = Field(
        default=None,
        description="address of the store, scheme and host; unless given, that of AWS in the region",
        examples=["https://minio.example:9000"],
    )
    path_style: bool | None = Field(
        default=None,
        description="whether the bucket stands in the path of addresses, and not before the host; unless "
        "given true with an endpoint of your own, and false at AWS",
    )
    key: str = Field(
        default="${provider}/${document_id}/${file_name}", description="template of the object's key"
    )
    overwrite: bool = Field(
        default=False,
        description="whether an object that has the key already is written over; false stores other content "
        "beside it, with a piece of its digest in the key, and asks for a store that knows If-None-Match",
    )
    checksum: bool = Field(
        default=True,
        description="whether the file's digest goes along as x-amz-checksum-sha256, too; false for stores "
        "that refuse that header, which still compare the digest that is signed",
    )
    storage_class: str | None = Field(
        default=None, description="storage class; unless given, that of the bucket", examples=["STANDARD_IA"]
    )
    server_side_encryption: Literal["AES256", "aws:kms"] | None = Field(
        default=None,
        description="how the store encrypts; unless given, as the bucket says",
        examples=["aws:kms"],
    )
    kms_key_id: str | None = Field(
        default=None,
        description='key for server_side_encryption = "aws:kms"; unless given, that of the bucket or account',
        examples=["arn:aws:kms:sa-east-1:111122223333:key/KEY-ID"],
    )
    ca_file: Path | None = Field(
        default=None, description="certificate authorities (PEM) to trust in place of the public ones"
    )

    @field_validator("bucket")
    @classmethod
    def _is_bucket(cls, bucket: str) -> str:
        if not _BUCKET.fullmatch(bucket) or ".." in bucket or _is_address(bucket):
            raise ValueError(
                "bucket must be the bucket's name alone, 3 to 63 lower case letters, digits, dashes and "
                "dots, as in company-signed-contracts; folders belong into key"
            )
        return bucket

    @field_validator("region")
    @classmethod
    def _is_region(cls, region: str) -> str:
        if not _REGION.fullmatch(region):
            raise ValueError(
                "region must be the code of a region, as in sa-east-1; many stores want us-east-1"
            )
        return region

    @field_validator("access_key", "secret_key", "session_token")
    @classmethod
    def _fits_a_header(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None and not _WORD.fullmatch(secret.get_secret_value()):
            raise ValueError("it holds a space, a line break or a letter outside ASCII: copy it anew")
        return secret

    @field_validator("storage_class", "kms_key_id")
    @classmethod
    def _is_word(cls, text: str | None) -> str | None:
        if text is not None and not _WORD.fullmatch(text):
            raise ValueError(
                "it must be one word of ASCII letters; remove it to leave the choice to the bucket"
            )
        return text

    @field_validator("endpoint")
    @classmethod
    def _is_origin(cls, endpoint: HttpUrl | None) -> HttpUrl | None:
        if endpoint is None:
            return None
        origin_of(str(endpoint))
        if (
            endpoint.path not in (None, "", "/")
            or endpoint.query is not None
            or endpoint.fragment is not None
        ):
            raise ValueError(
                "endpoint must end with its host or port: the bucket belongs into bucket, folders into key"
            )
        return endpoint

    @field_validator("key")
    @classmethod
    def _is_key(cls, key: str) -> str:
        template.check(key, DELIVERY_NAMES)
        parts = key.split("/")
        if not all(parts):
            raise ValueError("key must neither begin nor end with a slash, nor hold two of them in a row")
        if {".", ".."} & set(parts):
            raise ValueError("key must have no part that is . or .., which proxies take away")
        if not key.isprintable():
            raise ValueError("key holds a line break or another control character: remove it")
        return key

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.kms_key_id is not None and self.server_side_encryption != "aws:kms":
            raise ValueError('kms_key_id needs server_side_encryption = "aws:kms"; set that, or remove it')
        if "." in self.bucket and not self.has_path_style and self._base.startswith("https:"):
            raise ValueError(
                "a bucket with a dot has no valid certificate as part of a host name: set path_style = true"
            )
        if self.endpoint is not None and not self.has_path_style and _is_address(self.endpoint.host or ""):
            raise ValueError("a bucket cannot stand before an address of numbers: set path_style = true")
        return self

    @property
    def has_path_style(self) -> bool:
        """Whether the bucket stands in the path of addresses, and not before the host."""
        return self.endpoint is not None if self.path_style is None else self.path_style

    @property
    def bucket_url(self) -> str:
        """What the address of every object begins with, up to the slash before its key."""
        if self.has_path_style:
            return f"{self._base}/{self.bucket}"
        scheme, _, host = self._base.partition("://")
        return f"{scheme}://{self.bucket}.{host}"

    @property
    def origins(self) -> frozenset[str]:
        """The one origin that requests go to."""
        return frozenset({origin_of(self.bucket_url)})

    @property
    def _base(self) -> str:
        if self.endpoint is not None:
            return str(self.endpoint).rstrip("/")
        china = ".cn" if self.region.startswith("cn-") else ""
        return f"https://s3.{self.region}.amazonaws.com{china}"


def _is_address(host: str) -> bool:
    """Whether a host is an address in numbers; one of IPv6 stands in brackets."""
    try:
        IPv4Address(host)
    except AddressValueError:
        return host.startswith("[")
    return True
