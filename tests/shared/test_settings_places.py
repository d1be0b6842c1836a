"""The places that settings come from: environment, command line, secret files, credentials."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shared.errors import SettingsError
from shared.settings import load_settings
from shared.settings.destinations import FolderSettings
from tests.shared.loading import SECRET, load, only_problem, problems

FOLDER = '[destinations.archive]\nkind = "folder"\npath = "/srv/signed"\n'


class TestEnvironment:
    """Variables `SIGNSPOOL_<SECTION>__<KEY>`."""

    def test_every_kind_of_value_can_be_given(self) -> None:
        settings = load(
            "",
            {
                "SIGNSPOOL_API__PORT": "9",
                "signspool_spool__Keep_Refused": "false",
                "SIGNSPOOL_PROCESSOR__SWEEP": "1h30m",
                "SIGNSPOOL_PROVIDERS__SSIGN__TOKEN": SECRET,
                "SIGNSPOOL_PROVIDERS__SSIGN__ACTIONS__DONE": "completed",
                "SIGNSPOOL_DESTINATIONS__ARCHIVE__KIND": "folder",
                "SIGNSPOOL_DESTINATIONS__ARCHIVE__PATH": "/srv/signed",
            },
        )
        assert settings.api.port == 9
        assert settings.spool.keep_refused is False
        assert settings.processor.sweep == 5400
        assert settings.providers["ssign"].actions == {"done": "completed"}
        assert settings.providers["ssign"].model_dump()["token"].get_secret_value() == SECRET
        assert isinstance(settings.destinations["archive"], FolderSettings)

    @pytest.mark.parametrize("text", ["127.0.0.1, 10.0.0.0/8", '["127.0.0.1", "10.0.0.0/8"]'])
    def test_a_list_is_json_or_has_commas(self, text: str) -> None:
        settings = load("", {"SIGNSPOOL_API__TRUSTED_PROXIES": text})
        assert settings.api.trusted_proxies == ["127.0.0.1/32", "10.0.0.0/8"]

    def test_a_list_may_be_empty_and_must_not_be_broken(self) -> None:
        assert load("", {"SIGNSPOOL_API__TRUSTED_PROXIES": ""}).api.trusted_proxies == []
        assert 'write a,b or ["a", "b"]' in only_problem("", {"SIGNSPOOL_API__TRUSTED_PROXIES": "[a"})

    def test_a_table_is_a_json_object(self) -> None:
        name = "SIGNSPOOL_PROVIDERS__SSIGN__SECRETS"
        secrets = load("", {name: json.dumps({"2026-10": SECRET})}).providers["ssign"].model_dump()["secrets"]
        assert secrets["2026-10"].get_secret_value() == SECRET
        assert "give a JSON object" in only_problem("", {name: SECRET})

    def test_the_same_key_in_two_variables_is_an_error(self) -> None:
        assert "gives api.port too" in only_problem(
            "", {"SIGNSPOOL_API__PORT": "1", "signspool_api__port": "2"}
        )
        table, item = "SIGNSPOOL_PROVIDERS__SSIGN__SECRETS", "SIGNSPOOL_PROVIDERS__SSIGN__SECRETS__A"
        assert "too: drop one of them" in only_problem("", {table: json.dumps({"a": SECRET}), item: SECRET})

    def test_an_underscore_stands_for_a_dash_of_a_name_in_the_file(self) -> None:
        text = FOLDER.replace("archive", "my-archive")
        settings = load(text, {"SIGNSPOOL_DESTINATIONS__MY_ARCHIVE__PATH": "/srv/other"})
        assert list(settings.destinations) == ["my-archive"]
        assert settings.destinations["my-archive"].model_dump()["path"] == Path("/srv/other")

    @pytest.mark.parametrize(
        ("name", "right"),
        [
            ("SIGNSPOOL_API_PORT", "SIGNSPOOL_API__PORT"),
            ("SIGNSPOOL_API__PROT", "SIGNSPOOL_API__PORT"),
            ("SIGNSPOOL_APPI__PORT", "SIGNSPOOL_API__PORT"),
            ("SIGNSPOOL_CONFG", "SIGNSPOOL_CONFIG"),
            ("signspool_config", "SIGNSPOOL_CONFIG"),
            ("SIGNSPOOL_PROVIDERS__SIGN__TOKEN", "SIGNSPOOL_PROVIDERS__SSIGN__TOKEN"),
            ("SIGNSPOOL_DATABASE__ULR_FILE", "SIGNSPOOL_DATABASE__URL_FILE"),
            ("SIGNSPOOL_DESTINATIONS__ARCHIVE__PAHT", "SIGNSPOOL_DESTINATIONS__ARCHIVE__PATH"),
        ],
    )
    def test_an_unknown_variable_names_the_nearest(self, name: str, right: str) -> None:
        assert only_problem(FOLDER, {name: SECRET}) == f"{name}: unknown variable: did you mean {right}?"

    def test_variables_of_others_are_not_ours(self) -> None:
        assert load("", {"PATH": "/bin", "SIGNSPOOLED": "x"}).model_dump() == load().model_dump()


class TestOverrides:
    """What the program is told on its command line."""

    def test_keys_are_nested_or_dotted_and_none_is_not_given(self) -> None:
        text = "[api]\nport = 9"
        overrides = {"api": {"host": "::1", "port": None}, "spool.root": "/srv", "log.level": None}
        settings = load(text, overrides=overrides)
        assert (settings.api.host, settings.api.port) == ("::1", 9)
        assert settings.spool.root == Path("/srv")
        assert settings.log.level == "info"


class TestSecrets:
    """Secrets from files and from systemd credentials."""

    @pytest.mark.parametrize("end", ["", "\n", "\r\n"])
    def test_a_secret_is_read_from_a_file_without_one_newline(self, tmp_path: Path, end: str) -> None:
        file = tmp_path / "token"
        file.write_bytes(f" {SECRET}\n{end}".encode())
        expected = f" {SECRET}\n" if end else f" {SECRET}"
        for text, environ in (
            (f'[providers.ssign]\ntoken_file = "{file}"', {}),
            ("", {"SIGNSPOOL_PROVIDERS__SSIGN__TOKEN_FILE": str(file)}),
        ):
            token = load(text, environ).providers["ssign"].model_dump()["token"]
            assert token.get_secret_value() == expected

    def test_a_table_of_secrets_takes_files(self, tmp_path: Path) -> None:
        file = tmp_path / "new"
        file.write_text(SECRET)
        text = f'[providers.ssign.secrets]\n"2026-10_file" = "{file}"\n"2026-04" = "old"'
        secrets = load(text).providers["ssign"].model_dump()["secrets"]
        assert {key: value.get_secret_value() for key, value in secrets.items()} == {
            "2026-10": SECRET,
            "2026-04": "old",
        }

    def test_a_variable_replaces_a_secret_file_of_a_table(self, tmp_path: Path) -> None:
        (tmp_path / "new").write_text(SECRET)
        text = f'[providers.ssign.secrets]\n"2026-10_file" = "{tmp_path}/old"'
        for name, value in (("2026_10_FILE", str(tmp_path / "new")), ("2026_10", SECRET)):
            # The file says 2026-10_file, and the key is 2026-10 all the same.
            settings = load(text, {f"SIGNSPOOL_PROVIDERS__SSIGN__SECRETS__{name}": value})
            [(key, secret)] = settings.providers["ssign"].model_dump()["secrets"].items()
            assert (key, secret.get_secret_value()) == ("2026-10", SECRET)

    def test_a_secret_file_that_is_missing_or_empty_is_told_once(self, tmp_path: Path) -> None:
        empty = tmp_path / "empty"
        empty.write_text("\n")
        binary = tmp_path / "binary"
        binary.write_bytes(b"\xff\xfe")
        destination = (
            '[destinations.dms]\nkind = "smartshare"\nbase_url = "https://h"\nclient = "c"\nuser = "u"\n'
            f'client_key = "{SECRET}"\n'
        )
        for path, said in (
            (tmp_path / "none", "cannot be read: No such file or directory"),
            (empty, "is empty: write the secret into it"),
            (binary, "does not hold UTF-8 text"),
        ):
            problem = only_problem(f'{destination}password_file = "{path}"')
            assert "signspool.toml: destinations.dms.password_file: the file" in problem
            assert said in problem

    def test_a_secret_and_its_file_in_one_place_are_an_error(self, tmp_path: Path) -> None:
        said = only_problem(f'[providers.ssign]\ntoken = "{SECRET}"\ntoken_file = "{tmp_path}"')
        assert "providers.ssign.token gives providers.ssign.token too: drop one of them" in said

    def test_a_stronger_place_wins_and_the_weaker_file_is_not_read(self, tmp_path: Path) -> None:
        text = f'[providers.ssign]\ntoken_file = "{tmp_path}/none"'
        settings = load(text, {"SIGNSPOOL_PROVIDERS__SSIGN__TOKEN": SECRET})
        assert settings.providers["ssign"].model_dump()["token"].get_secret_value() == SECRET

    def test_only_secrets_have_file_keys(self) -> None:
        assert "unknown key: did you mean host?" in only_problem('[api]\nhost_file = "/etc/hostname"')

    def test_an_empty_secret_is_an_error(self) -> None:
        assert "is empty: give the secret" in only_problem("", {"SIGNSPOOL_PROVIDERS__SSIGN__TOKEN": ""})

    def test_credentials_are_read_by_their_dotted_key(self, tmp_path: Path) -> None:
        (tmp_path / "providers.ssign.token").write_text(SECRET + "\n")
        (tmp_path / "database.url").write_text(f"postgresql://u:{SECRET}@h/n")
        (tmp_path / "tls.key").write_text("for somebody else")
        settings = load("", {"CREDENTIALS_DIRECTORY": str(tmp_path)})
        assert settings.providers["ssign"].model_dump()["token"].get_secret_value() == SECRET
        assert settings.database_url.password == SECRET

    def test_credentials_of_a_folder_carry_its_id_before_the_key(self, tmp_path: Path) -> None:
        """As LoadCredential=door:/a/folder names them."""
        (tmp_path / "door_providers.ssign.secret").write_text("of-a-folder\n")
        (tmp_path / "other_something.key").write_text("for somebody else")
        settings = load("", {"CREDENTIALS_DIRECTORY": str(tmp_path)})
        assert settings.providers["ssign"].model_dump()["secret"].get_secret_value() == "of-a-folder"

    def test_the_same_secret_given_twice_as_a_credential_is_an_error(self, tmp_path: Path) -> None:
        for name in ("providers.ssign.secret", "door_providers.ssign.secret"):
            (tmp_path / name).write_text("a-secret")
        problem = only_problem("", {"CREDENTIALS_DIRECTORY": str(tmp_path)})
        assert "gives providers.ssign.secret too: drop one of them" in problem

    def test_sections_that_a_tier_has_no_business_with_need_no_secret(self, tmp_path: Path) -> None:
        path = tmp_path / "signspool.toml"
        path.write_text('[destinations.dms]\nkind = "smartshare"\n[database.mirror]\n[processor]\nbad = 1\n')
        without = ("database", "destinations", "processor")
        settings = load_settings(path, environ={"SIGNSPOOL_DATABASE__BAD": "1"}, without=without)
        assert not settings.destinations
        with pytest.raises(SettingsError):
            load_settings(path, environ={})

    def test_a_credential_must_be_a_known_secret(self, tmp_path: Path) -> None:
        environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
        (tmp_path / "providers.ssign.tokn").write_text(SECRET)
        (tmp_path / "api.port").write_text("9")
        assert problems("", environ) == [
            "credential api.port: only a secret may be a credential: write it into the settings file",
            "credential providers.ssign.tokn: unknown key: did you mean token?",
        ]
        assert "cannot be read" in only_problem("", {"CREDENTIALS_DIRECTORY": str(tmp_path / "none")})

    def test_secrets_are_not_shown(self) -> None:
        settings = load(
            f'[providers.ssign]\ntoken = "{SECRET}"\n[database]\nurl = "postgresql://u:{SECRET}@h/n"'
        )
        assert SECRET not in repr(settings)
        assert SECRET not in str(settings)
