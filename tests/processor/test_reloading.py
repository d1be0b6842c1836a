"""Other settings for a daemon that runs: where they may come from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from processor.assemble import daemon
from shared.clock import Clock
from shared.errors import SettingsError
from shared.settings import Settings, load_settings
from shared.spool import Spool
from tests.conftest import make_database


@pytest.fixture
def home(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with everything, where a settings file is found that nobody named."""
    monkeypatch.chdir(tmp_path)
    Spool(tmp_path / "data", Clock()).initialise()
    with make_database("sqlite", tmp_path / "data", request):
        yield tmp_path


def settings() -> Settings:
    return load_settings(environ={})


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_settings_file_that_is_gone_at_a_reload_leaves_the_old_ones_in_effect(home: Path) -> None:
    """As in the moment in which an editor replaces it. Without its providers every arrival would be put into
    quarantine."""
    file = home / "signspool.toml"
    file.write_text('[providers.ssign]\nauthentication = "none"\n')
    async with daemon(settings(), read_settings=settings) as running:
        lanes = [lane.name for lane in running.served_lanes]
        assert lanes == ["provider:ssign"]
        away = file.rename(home / "away.toml")
        with pytest.raises(SettingsError, match=r"signspool\.toml is gone"):
            await running.reload(running)
        assert [lane.name for lane in running.served_lanes] == lanes
        away.rename(file)
        await running.reload(running)
        assert [lane.name for lane in running.served_lanes] == lanes


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_first_settings_file_is_taken_over(home: Path) -> None:
    async with daemon(settings(), read_settings=settings) as running:
        assert running.served_lanes == []
        (home / "signspool.toml").write_text('[providers.ssign]\nauthentication = "none"\n')
        await running.reload(running)
        assert [lane.name for lane in running.served_lanes] == ["provider:ssign"]
