"""Which request a storm strikes, and which storms can be asked for."""

from __future__ import annotations

import pytest

from simulator.weather import Storm, StormKind, Weather, storms_from


def kind_of(storm: Storm | None) -> StormKind | None:
    return storm.kind if storm else None


def test_a_storm_strikes_its_peer_as_often_as_it_says() -> None:
    weather = Weather()
    weather.add(Storm("ssign", StormKind.STATUS, times=2, status=500))
    assert weather.next("dms", "/dms/files?") is None
    struck = weather.next("ssign", "/a?")
    assert struck is not None
    assert struck.status == 500
    assert [storm.times for storm in weather.storms] == [1]
    assert weather.next("ssign", "/a?") is not None
    assert weather.next("ssign", "/a?") is None
    assert weather.storms == []


def test_a_storm_without_times_strikes_until_the_weather_is_cleared() -> None:
    weather = Weather()
    weather.add(Storm("ssign", StormKind.RESET, times=None))
    assert all(weather.next("ssign", "/a?") for _ in range(10))
    weather.clear()
    assert weather.next("ssign", "/a?") is None


def test_a_storm_may_be_limited_to_a_path_or_a_query_and_others_wait_their_turn() -> None:
    weather = Weather()
    weather.add(Storm("ssign", StormKind.HTML, path="FileId=9002"), Storm("ssign", StormKind.RESET))
    assert kind_of(weather.next("ssign", "/file?FileId=9001")) is StormKind.RESET
    assert weather.next("ssign", "/file?FileId=9001") is None
    assert kind_of(weather.next("ssign", "/file?FileId=9002")) is StormKind.HTML


def test_a_field_that_means_nothing_to_the_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="status means nothing to delay, which takes seconds"):
        Storm("ssign", StormKind.DELAY, status=500)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"peer": "ssign", "kind": "status", "staus": 500}, ["storm 1", "'staus'", "known are peer"]),
        ([{"peer": "dms", "kind": "reset"}, {"peer": "x", "kind": "reset"}], ["storm 2", "'peer'"]),
        ({"kind": "reset"}, ["storm 1", "'peer'"]),
        ({"peer": "dms", "kind": "hail"}, ["'kind'", "drip"]),
        ({"peer": "dms", "kind": "reset", "times": 0}, ["'times'"]),
        ({"peer": "dms", "kind": "html", "seconds": 1}, ["seconds means nothing to html"]),
        ("reset", ["storm 1"]),
    ],
)
def test_a_wrong_storm_is_refused_by_the_name_of_its_wrong_key(value: object, words: list[str]) -> None:
    with pytest.raises(ValueError, match="storm") as caught:
        storms_from(value)
    for word in words:
        assert word in str(caught.value)
