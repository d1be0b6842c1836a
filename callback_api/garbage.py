"""How often Python looks for garbage that refers to itself."""

from __future__ import annotations

import gc

COLLECT_AFTER = 20_000
"""New objects after which there is a look. A request leaves no such garbage, so that the default of 700 means
a look at thousands of lasting objects for every few callbacks."""


def collect_seldom() -> None:
    """Take what was loaded at the start out of the search, which is then short, and make it seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, 20, 20)
