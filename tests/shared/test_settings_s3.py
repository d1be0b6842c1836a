"""What the settings of an object store accept, and which addresses follow from them."""

from __future__ import annotations

from typing import Any

import pytest

from shared.settings.s3 import S3Settings

ACCOUNT = {
    "kind": "s3",
    "bucket": "contracts",
    "region": "sa-east-1",
    "access_key": "a-key-5512",
    "secret_key": "a-secret-5512",
}


def s3(**changes: Any) -> S3Settings:
    return S3Settings.model_validate({**ACCOUNT, **changes})


@pytest.mark.parametrize(
    ("changes", "url", "origin"),
    [
        (
            {},
            "https://contracts.s3.sa-east-1.amazonaws.com",
            "https://contracts.s3.sa-east-1.amazonaws.com:443",
        ),
        (
            {"region": "cn-north-1", "path_style": True},
            "https://s3.cn-north-1.amazonaws.com.cn/contracts",
            "https://s3.cn-north-1.amazonaws.com.cn:443",
        ),
        (
            {"endpoint": "https://Store.example:9000/"},
            "https://store.example:9000/contracts",
            "https://store.example:9000",
        ),
        (
            {"endpoint": "https://store.example", "path_style": False},
            "https://contracts.store.example",
            "https://contracts.store.example:443",
        ),
        ({"endpoint": "http://[::1]:9000"}, "http://[::1]:9000/contracts", "http://::1:9000"),
        (
            {"bucket": "signed.contracts", "path_style": True},
            "https://s3.sa-east-1.amazonaws.com/signed.contracts",
            "https://s3.sa-east-1.amazonaws.com:443",
        ),
    ],
)
def test_the_address_follows_from_region_endpoint_and_style(
    changes: dict[str, Any], url: str, origin: str
) -> None:
    settings = s3(**changes)
    assert settings.bucket_url == url
    assert settings.origins == {origin}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bucket": "Contracts"}, "lower case"),
        ({"bucket": "s3://contracts"}, "the bucket's name alone"),
        ({"bucket": "contracts/2026"}, "folders belong into key"),
        ({"bucket": "a..b"}, "bucket's name"),
        ({"bucket": "10.0.0.1"}, "bucket's name"),
        ({"bucket": "ab"}, "3 to 63"),
        ({"region": "São Paulo"}, "the code of a region"),
        ({"region": ""}, "the code of a region"),
        ({"endpoint": "https://store.example/contracts"}, "the bucket belongs into bucket"),
        ({"endpoint": "https://store.example/?x=1"}, "end with its host"),
        ({"endpoint": "https://user:word@store.example"}, "without a user name"),
        ({"endpoint": "ftp://store.example"}, "http"),
        ({"endpoint": "https://10.0.0.1", "path_style": False}, "path_style = true"),
        ({"endpoint": "https://[::1]", "path_style": False}, "path_style = true"),
        ({"bucket": "signed.contracts"}, "path_style = true"),
        ({"access_key": "a key-5512"}, "copy it anew"),
        ({"secret_key": "a-secret-5512\nmore"}, "copy it anew"),
        ({"session_token": "ü5512"}, "copy it anew"),
        ({"kms_key_id": "k"}, 'server_side_encryption = "aws:kms"'),
        ({"kms_key_id": "k", "server_side_encryption": "AES256"}, 'server_side_encryption = "aws:kms"'),
        ({"kms_key_id": "a key", "server_side_encryption": "aws:kms"}, "one word"),
        ({"storage_class": "a\r\nb"}, "one word"),
        ({"server_side_encryption": "none"}, "AES256"),
        ({"key": "/${file_name}"}, "begin nor end with a slash"),
        ({"key": "a//${file_name}"}, "two of them in a row"),
        ({"key": "${file_name}/"}, "begin nor end with a slash"),
        ({"key": ""}, "begin nor end"),
        ({"key": "a/../${file_name}"}, "no part that is"),
        ({"key": "./${file_name}"}, "no part that is"),
        ({"key": "a\n${file_name}"}, "control character"),
        ({"key": "${secret_key}"}, r"\$\{secret_key\} is not known here"),
        ({"expires": {"token": "2027-01-31"}}, "access_key, secret_key"),
    ],
)
def test_wrong_settings_are_found_when_they_are_read_and_say_what_to_do(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        s3(**changes)
    assert "5512" not in str(caught.value)


def test_the_end_of_a_key_can_be_noted() -> None:
    assert list(s3(expires={"secret_key": "2027-01-31"}).expires) == ["secret_key"]
