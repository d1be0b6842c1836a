"""Waiting until something is so, with an end that comes from our own patience and not from the clock."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

PATIENCE_SECONDS = 90.0
"""With a machine that has much else to do: what works takes a hundredth of it on a quiet one. The clock
counts only where nobody can look again and again, as for an answer or an end."""
_LOOK_SECONDS = 0.02


def wait_until(
    condition: Callable[[], object], what: str | Callable[[], str], seconds: float = PATIENCE_SECONDS
) -> None:
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
