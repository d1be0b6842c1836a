"""Attempt to seconds."""

from __future__ import annotations

import random
from collections.abc import Callable

_MOST_DOUBLINGS = 60


def backoff_seconds(
    attempt: int,
    *,
    base_seconds: float = 30.0,
    cap_seconds: float = 3_600.0,
    chance: Callable[[], float] = random.random,
) -> float:
    """Seconds to wait after the given failed attempt (the first is 1).

    `base_seconds` doubled for each attempt after the first, never above the cap, then shortened by up to
    10 % at random, so that what failed together does not return together. `chance` gives 0 up to 1.

    Raises:
        ValueError: the attempt is below 1.
    """
    if attempt < 1:
        raise ValueError("the first attempt is 1")
    doublings = min(attempt - 1, _MOST_DOUBLINGS)
    return min(base_seconds * 2.0**doublings, cap_seconds) * (1.0 - chance() / 10.0)
