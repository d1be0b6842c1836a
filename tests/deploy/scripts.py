"""Shell commands, typed where a test wants them: in a booted machine, beside containers."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence


def run_script(
    there: Sequence[str], script: str, *, environment: Mapping[str, str], seconds: float, check: bool
) -> subprocess.CompletedProcess[str]:
    """Run a script, its commands one by one, by way of the command that leads there.

    With `check` the first that fails fails the test, and says what was printed.
    """
    done = subprocess.run(
        [*there, "sh", "-euc", script],
        env=environment,
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert not check or done.returncode == 0, (
        f"{script}\nended with {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    )
    return done
