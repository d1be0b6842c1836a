"""Lets a process die at a named place of a program that knows nothing of it, as a debugger would."""

from __future__ import annotations

import dis
import importlib
import os
import signal
import sys
import threading
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from tests.nursery import Fault

_RETURNS = frozenset({"RETURN_VALUE", "RETURN_CONST"})
"""What a coroutine's code stands at when it ends, and not only waits."""


def code_of(module: str, name: str) -> CodeType:
    """The code of a function, given by module and qualified name (`Class.method`, `function.<locals>.inner`).

    Raises:
        LookupError: there is no such function any more.
    """
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        if part == "<locals>":
            continue
        inside = found.__code__.co_consts if hasattr(found, "__code__") else getattr(found, "co_consts", ())
        inner = [code for code in inside if isinstance(code, CodeType) and code.co_name == part]
        found = inner[0] if inner else getattr(found, part, None)
        if found is None:
            raise LookupError(f"{module} has no {name}: correct the table of steps")
    code = found if isinstance(found, CodeType) else getattr(found, "__code__", None)
    if not isinstance(code, CodeType):
        raise LookupError(f"{module}:{name} is no Python function: correct the table of steps")
    return code


def arm(fault: Fault) -> None:
    """From now on this process dies when it comes to the place; every thread is watched that starts later."""
    code = code_of(fault.module, fault.name)
    counting = threading.Lock()
    seen = 0
    first_step = -1

    def come() -> None:
        nonlocal seen
        with counting:
            seen += 1
            if seen == fault.nth:
                Path(fault.hit).touch()
                os.kill(os.getpid(), signal.SIGKILL)

    def inside(frame: FrameType, event: str, _value: object) -> Any:
        if event == "return" and dis.opname[code.co_code[frame.f_lasti]] in _RETURNS:
            come()
        return inside

    def outside(frame: FrameType, event: str, _value: object) -> Any:
        nonlocal first_step
        if frame.f_code is not code or event != "call":
            return None
        if first_step < 0:
            first_step = frame.f_lasti
        # A coroutine that goes on is called as well, but in its middle.
        if fault.when == "enter" and frame.f_lasti == first_step:
            come()
        frame.f_trace_lines = False
        return inside if fault.when == "leave" else None

    threading.settrace(outside)
    sys.settrace(outside)
