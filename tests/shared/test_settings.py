"""Settings: where they come from, which wins, and what is said when something is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from shared.errors import SettingsError
from shared.providers import provider_classes
from shared.settings import ApiSettings, Settings, SpoolSettings, build_providers, load_settings
from shared.settings.destinations import SmartshareSettings
from tests.shared.loading import SECRET, load, only_problem, problems

FOLDER = '[destinations.archive]\nkind = "folder"\npath = "/srv/signed"\n'


@pytest.fixture(autouse=True, scope="module")
def _empty_working_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No settings file lies where the tests run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("empty"))
        yield


class TestDefaults:
    """Without any file and any variable."""

    def test_everything_has_a_default(self) -> None:
        settings = load_settings(environ={})
        assert settings.spool == SpoolSettings()
        assert (settings.api.host, settings.api.port) == ("127.0.0.1", 8080)
        assert settings.providers == {}
        assert settings.destinations == {}
        assert settings.source == "no settings file"
        assert settings.spool.retention_done == 90 * 86_400
        assert settings.spool.min_free == 64 * 2**20

    def test_the_database_is_sqlite_under_the_spool_root(self) -> None:
        settings = load('[spool]\nroot = "/var/lib/sign?spool"')
        assert settings.database_url.get_backend_name() == "sqlite"
        assert settings.database_url.database == "/var/lib/sign?spool/signspool.db"

    def test_settings_cannot_be_changed(self) -> None:
        settings = load()
        with pytest.raises(ValidationError):
            settings.api.port = 1  # type: ignore[misc]
        with pytest.raises(ValidationError):
            settings.api = ApiSettings()  # type: ignore[misc]

    def test_the_source_is_no_key(self) -> None:
        assert "unknown section" in only_problem('source = "x"')
        assert "unknown section" in only_problem('_source = "x"')


class TestFile:
    """Which file is read, and what is said when it cannot be."""

    def test_the_argument_wins_over_the_variable_and_that_over_the_working_directory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        for name, port in (("argument", 1), ("variable", 2), ("signspool", 3)):
            (tmp_path / f"{name}.toml").write_text(f"[api]\nport = {port}")
        environ = {"SIGNSPOOL_CONFIG": str(tmp_path / "variable.toml")}
        argument = tmp_path / "argument.toml"
        assert load_settings(argument, environ=environ).api.port == 1
        assert load_settings(environ=environ).api.port == 2
        assert load_settings(environ={}).api.port == 3
        assert load_settings(argument, environ=environ).source == str(argument)
        assert load_settings(environ={}).source == "signspool.toml"

    def test_a_named_file_that_is_missing_is_an_error(self, tmp_path: Path) -> None:
        missing = tmp_path / "none.toml"
        with pytest.raises(SettingsError, match=r"none\.toml: there is no such settings file"):
            load_settings(missing, environ={})
        with pytest.raises(SettingsError, match=r"none\.toml: there is no such settings file"):
            load_settings(environ={"SIGNSPOOL_CONFIG": str(missing)})

    def test_a_folder_is_no_settings_file(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="cannot be read: Is a directory"):
            load_settings(tmp_path, environ={})

    def test_a_file_that_cannot_be_looked_at_is_not_taken_for_missing(self) -> None:
        with pytest.raises(SettingsError, match="cannot be read: File name too long"):
            load_settings(Path("x" * 300), environ={})

    def test_a_syntax_error_is_told_with_line_and_column(self) -> None:
        assert "signspool.toml: this is not TOML" in only_problem("[api]\nport = = 1")
        assert "(at line 2, column 8)" in only_problem("[api]\nport = = 1")

    def test_a_file_that_is_not_utf8_is_told_with_its_line(self, tmp_path: Path) -> None:
        file = tmp_path / "latin.toml"
        file.write_bytes(b"[spool]\nroot = '\xe7'\n")
        with pytest.raises(SettingsError, match="line 2 is not UTF-8"):
            load_settings(file, environ={})

    def test_a_byte_order_mark_is_read_over(self) -> None:
        assert load("\ufeff[api]\nport = 9").api.port == 9


class TestSections:
    """What the sections take."""

    def test_postgresql_is_opened_with_psycopg(self) -> None:
        for scheme in ("postgresql", "postgresql+psycopg", "PostgreSQL"):
            url = load(f'[database]\nurl = "{scheme}://u:{SECRET}@h/n"').database_url
            assert url.drivername == "postgresql+psycopg"
            assert url.password == SECRET
            assert SECRET not in str(url)

    @pytest.mark.parametrize(
        ("url", "said"),
        [
            (f"mysql://u:{SECRET}@h/n", "not supported: write postgresql://"),
            (SECRET, "not supported: write postgresql://"),
            (f"postgresql://u:{SECRET}@h:port/n", "this is not a database address"),
            ("sqlite:///:memory:", "forgets everything"),
            ("", "is empty"),
        ],
    )
    def test_another_database_is_an_error_that_keeps_the_password(self, url: str, said: str) -> None:
        assert said in only_problem(f'[database]\nurl = "{url}"')

    def test_a_mirror_takes_one_statement_with_known_binds(self) -> None:
        statement = (
            "UPDATE c SET s = :status, note = 'a;b' WHERE e = :document_id AND t::date < :occurred_at;"
        )
        mirror = load(f'[database.mirror]\nurl = "mysql://h/n"\nstatement = "{statement}"').database.mirror
        assert mirror is not None
        assert mirror.statement == statement[:-1]

    @pytest.mark.parametrize(
        ("statement", "said"),
        [
            ("UPDATE c SET s = :state", ":state is not known: the statement may bind :provider"),
            ("DELETE FROM a; DELETE FROM b", "exactly one SQL statement"),
            (" ; ", "exactly one SQL statement"),
        ],
    )
    def test_a_mirror_with_another_statement_is_an_error(self, statement: str, said: str) -> None:
        assert said in only_problem(f'[database.mirror]\nurl = "mysql://h/n"\nstatement = "{statement}"')

    def test_a_mirror_needs_both_keys(self) -> None:
        said = only_problem('[database.mirror]\nurl = "mysql://h/n"')
        assert "signspool.toml: database.mirror.statement: is missing: write it like statement = " in said

    @pytest.mark.parametrize("name", ["America/Nowhere", "America", "../../etc/passwd", "", "/etc/localtime"])
    def test_a_time_zone_must_be_known(self, name: str) -> None:
        assert "write an IANA name as in America/Sao_Paulo" in only_problem(f'[spool]\ntimezone = "{name}"')
        assert load('[spool]\ntimezone = "America/Sao_Paulo"').spool.timezone == "America/Sao_Paulo"

    def test_proxies_are_networks(self) -> None:
        settings = load('[api]\ntrusted_proxies = ["10.1.2.3/8", "::1"]')
        assert settings.api.trusted_proxies == ["10.0.0.0/8", "::1/128"]
        assert "write 10.0.0.7 or 10.0.0.0/8" in only_problem('[api]\ntrusted_proxies = ["*"]')

    def test_a_backoff_cap_below_its_base_is_an_error(self) -> None:
        said = only_problem("", {"SIGNSPOOL_PROCESSOR__BACKOFF_CAP": "1s"})
        assert "processor: backoff_cap is shorter than backoff_base" in said

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ('port = "http"', "write it like port = 8080"),
            ("port = 70000", "less than or equal to 65535"),
            ("port = true", "a number is needed, not true"),
            ("port = {}", "write it like port = 8080"),
            ("max_body = 0", "greater than 0"),
            ('max_body = "10Q"', "write it as 10MiB"),
            ('grace = "-1s"', "write it as 15m"),
            ("grace = inf", "longer than a hundred years"),
            ("grace = nan", "longer than a hundred years"),
        ],
    )
    def test_a_wrong_value_is_told_with_what_to_write(self, line: str, said: str) -> None:
        problem = only_problem(f"[api]\n{line}")
        assert said in problem
        assert f"signspool.toml: api.{line.partition(' ')[0]}: " in problem

    def test_a_choice_is_told_with_its_words(self) -> None:
        said = only_problem("", {"SIGNSPOOL_LOG__LEVEL": "loud"})
        assert said.startswith("SIGNSPOOL_LOG__LEVEL: must be 'debug', 'info', 'warning' or 'error'")

    def test_a_section_is_no_single_value(self) -> None:
        assert "api: this is a table, not a single value: write [api]" in only_problem("api = 5")
        assert "api.port takes a single value, not a table" in only_problem("[api.port]\nnumber = 1")


class TestProblems:
    """All problems at once, each with its place."""

    def test_all_problems_are_told_one_a_line(self) -> None:
        text = f"""
        [api]
        prot = 1
        port = "x"
        [spool]
        port = 3
        [providers.sign]
        token = "{SECRET}"
        [providers.ssign]
        token = ["{SECRET}"]
        [destinations.dms]
        kind = "htp"
        password = "{SECRET}"
        [destinations.other]
        path = "/srv"
        [destinations.Up]
        kind = "folder"
        path = "/srv"
        """
        said = [
            line.split("signspool.toml: ")[-1] for line in problems(text, {"SIGNSPOOL_LOG__LEVEL": "loud"})
        ]
        assert said == [
            "api.prot: unknown key: did you mean port?",
            "spool.port: unknown key: did you mean api.port?",
            "providers.sign: unknown provider: did you mean ssign?",
            "api.port: input should be a valid integer, unable to parse string as an integer: "
            "write it like port = 8080",
            "SIGNSPOOL_LOG__LEVEL: must be 'debug', 'info', 'warning' or 'error': "
            'write it like level = "info"',
            'providers.ssign.token: input should be a valid string: write it like token = "change-me"',
            "destinations.dms.kind: unknown kind: did you mean http?",
            "destinations.other.kind: is missing: write one of smartshare, http, folder, s3",
            "destinations.Up: a name may hold small letters, digits, dash and underscore only",
        ]

    def test_a_misspelt_table_is_told_once(self) -> None:
        said = only_problem("[proccessor]\nbatch = 1\nattempts = 2")
        assert said.endswith("signspool.toml: proccessor: unknown section: did you mean processor?")
        said = only_problem("[providers.sign]\nnumber = 1\ntoken = 's'")
        assert said.endswith("signspool.toml: providers.sign: unknown provider: did you mean ssign?")

    def test_keys_that_are_equally_near_are_all_named(self) -> None:
        said = only_problem("[providers.ssign]\nsecretu = 's'")
        assert said.endswith("did you mean secret or secrets?")

    def test_the_command_line_is_named_as_the_place(self) -> None:
        assert only_problem("", {}, {"api": {"port": 70_000}}).startswith("command line: api.port: ")
        assert (
            only_problem("", {}, {"api.prot": 1}) == "command line: api.prot: unknown key: did you mean port?"
        )


class TestProvidersAndDestinations:
    """The sections whose tables are named."""

    def test_the_model_itself_takes_no_unknown_provider(self) -> None:
        with pytest.raises(ValidationError, match=r"providers\.sign\n  Extra inputs"):
            Settings.model_validate({"providers": {"sign": {}}})

    def test_an_empty_table_configures_a_provider(self) -> None:
        settings = load("[providers.ssign]")
        providers = build_providers(settings)
        assert list(providers) == ["ssign"]
        assert isinstance(providers["ssign"], provider_classes()["ssign"])
        assert providers["ssign"].settings is settings.providers["ssign"]

    def test_every_provider_of_the_registry_can_be_configured(self) -> None:
        text = "\n".join(f"[providers.{name}]" for name in provider_classes())
        settings = load(text)
        assert {name: type(section) for name, section in settings.providers.items()} == {
            name: provider.Settings for name, provider in provider_classes().items()
        }

    def test_a_destination_has_the_keys_of_its_kind(self) -> None:
        assert "unknown key" in only_problem(FOLDER + "base_url = 'https://h'")

    def test_a_field_of_any_type_may_be_a_table(self) -> None:
        text = (
            '[destinations.dms]\nkind = "smartshare"\nbase_url = "https://h"\nclient = "c"\nuser = "u"\n'
            'client_key = "k"\npassword = "p"\n'
            '[destinations.dms.document.fields.index]\nname = "a"\nsize = 1\n'
        )
        destination = load(text).destinations["dms"]
        assert isinstance(destination, SmartshareSettings)
        assert destination.document.fields["index"] == {"name": "a", "size": 1}
