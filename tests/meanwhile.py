"""Another hand does something exactly between two steps of ours."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

Deed = Callable[[], object]


@contextmanager
def right_before(call: str, which: Callable[[Path], bool], deed: Deed) -> Iterator[None]:
    """The deed is done once: right before the first call of a function of `os` whose path is meant."""
    with _meanwhile(call, which, deed, after=False):
        yield


@contextmanager
def right_after(call: str, which: Callable[[Path], bool], deed: Deed) -> Iterator[None]:
    """As `right_before`, once the call has been made, with success or not."""
    with _meanwhile(call, which, deed, after=True):
        yield


@contextmanager
def _meanwhile(call: str, which: Callable[[Path], bool], deed: Deed, *, after: bool) -> Iterator[None]:
    really, is_done = getattr(os, call), False

    def do_it_once(path: Any) -> None:
        nonlocal is_done
        if not (is_done or isinstance(path, int)) and which(Path(os.fsdecode(path))):
            is_done = True
            deed()

    def interrupted(path: Any = ".", *arguments: Any, **options: Any) -> Any:
        if not after:
            do_it_once(path)
        try:
            return really(path, *arguments, **options)
        finally:
            if after:
                do_it_once(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, call, interrupted)
        yield
    assert is_done, f"nothing came to {call} there, so that nothing was tried"
