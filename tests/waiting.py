"""Waiting until something is so, with an end that comes from our own patience and not from the clock."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

_LOOK_SECONDS = 0.02


def wait_until(condition: Callable[[], object], what: str | Callable[[], str], seconds: float = 30.0) -> None:
    """Look again and again until a condition is true.

    The end is counted in looks, about `seconds` of them on a quiet machine: one that stands still for a
    minute, or hardly lets us run, cannot use up the time of those that are waited for. `what` is what is
    waited for, or says it in the end.

    Raises:
        AssertionError: it did not come to be so.
    """
    for _ in range(math.ceil(seconds / _LOOK_SECONDS)):
        if condition():
            return
        time.sleep(_LOOK_SECONDS)
    raise AssertionError(f"waited in vain for {what if isinstance(what, str) else what()}")
