"""What the settings of destinations accept, and how calls are laid over their defaults."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from shared.settings import load_settings
from shared.settings.destinations import SmartshareSettings

PAGE = Path(__file__).parents[2] / "docs" / "destinations.md"
ACCOUNT = {
    "kind": "smartshare",
    "base_url": "https://ecm.example/root/api",
    "client": "mobile",
    "client_key": "s3cret-key",
    "user": "integracao",
    "password": "s3cret-password",
}


def smartshare(**changes: Any) -> SmartshareSettings:
    return SmartshareSettings.model_validate({**ACCOUNT, **changes})


@pytest.mark.parametrize(
    "text", re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
)
def test_every_example_of_the_page_can_be_used(text: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    file = tmp_path / "signspool.toml"
    file.write_text(re.sub(r'"/run/secrets/[^"]*"', f'"{secret}"', text), encoding="utf-8")
    assert len(load_settings(file, environ={}).destinations) == 1


def test_what_is_given_is_laid_over_the_defaults_name_by_name() -> None:
    call = smartshare(
        attachment={"headers": {"dsanexo": "signed", "cdTipoAnexo": "", "X-More": "${status}"}},
    ).attachment
    assert call.headers == {
        "dsCliente": "${client}",
        "dsChaveAutenticacao": "${client_key}",
        "tokenUsuario": "${token}",
        "cdFluxo": "${dms.cdFluxo}",
        "cdTarefa": "${dms.cdTarefa}",
        "dsNomeArquivoOriginal": "${file_name}",
        "dsanexo": "signed",
        "X-More": "${status}",
    }


def test_fields_keep_their_types_and_an_empty_text_drops_one() -> None:
    fields = smartshare(
        document={
            "fields": {"cdPasta": 34, "stGerarAprovacao": True, "dtVencimento": "", "n": [1, {"a": "$$"}]}
        }
    ).document.fields
    assert fields["cdPasta"] == 34
    assert fields["stGerarAprovacao"] is True
    assert fields["n"] == [1, {"a": "$$"}]
    assert "dtVencimento" not in fields
    assert fields["file"] == "${file_base64}"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base_url": "https://h/api?x=1"}, "remove what follows"),
        ({"base_url": "https://user:word@h/api"}, "without a user name"),
        ({"login": {"fields": {"x": "${token}"}}}, r"\$\{token\} is not known here"),
        ({"login": {"headers": {"x": "${dms.cdFluxo}"}}}, r"\$\{dms.cdFluxo\} is not known here"),
        ({"login": {"path": "v3"}}, "begin with /"),
        ({"login": {"path": "/x/${password}"}}, r"\$\{password\} is not known here"),
        ({"attachment": {"path": "/x?t=${token}"}}, r"\$\{token\} is not known here"),
        ({"attachment": {"headers": {"Host": "evil"}}}, "Host is made by signspool"),
        ({"attachment": {"headers": {"Content-Type": "a/b"}}}, "Content-Type is made by signspool"),
        ({"attachment": {"headers": {"a: b": "c"}}}, "is not a header name"),
        ({"attachment": {"body": "form"}}, "an upload needs"),
        ({"attachment": {"body": "none"}}, "an upload needs"),
        ({"attachment": {"body": "json"}}, "exactly one field must be"),
        ({"document": {"fields": {"file": ""}}}, "exactly one field must be"),
        ({"document": {"fields": {"again": "${file_base64}"}}}, "exactly one field must be"),
        ({"document": {"fields": {"file": "data:${file_base64}"}}}, "the whole text of a field"),
        ({"document": {"body": "multipart", "fields": {"file": ""}}}, "lstIndicesArray is a list"),
        ({"advance": {"fields": {"file": "${file_base64}"}}}, "the whole text of a field"),
        ({"advance": {"fields": {"name": "${file_name}"}}}, r"\$\{file_name\} is not known here"),
        ({"advance": {"body": "none", "fields": {"more": "1"}}}, 'body = "none" sends none'),
        ({"advance": {"fields": {"a": None}}}, "a field must be"),
        ({"advance_on": {"signed": ""}}, "completed"),
        ({"kinds": []}, "at least 1"),
        ({"kinds": ["pdf"]}, "signed"),
    ],
)
def test_wrong_settings_are_found_at_the_start_and_show_no_secret(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        smartshare(**changes)
    assert "s3cret" not in str(caught.value)


def test_an_attachment_may_be_json() -> None:
    call = smartshare(attachment={"body": "json", "fields": {"arquivo": "${file_base64}"}}).attachment
    assert call.fields == {"arquivo": "${file_base64}"}
