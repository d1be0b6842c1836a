"""Starts a container by the runtime that the first argument names, within the limits that this machine has.

podman asks for limits that only a process with CAP_SYS_RESOURCE can have, and some machines lack that.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path
from typing import Any


def bound(process: dict[str, Any]) -> None:
    """Lower each limit of the process to what its starter has."""
    for limit in process.get("rlimits") or []:
        hard = resource.getrlimit(getattr(resource, limit["type"]))[1]
        if hard != resource.RLIM_INFINITY:
            limit["hard"] = min(limit["hard"], hard)
            limit["soft"] = min(limit["soft"], hard)


def main() -> None:
    """Become the true runtime, once what it will read asks for little."""
    runtime, *words = sys.argv[1:]
    if "--bundle" in words:
        path = Path(words[words.index("--bundle") + 1], "config.json")
        settings = json.loads(path.read_text())
        bound(settings["process"])
        path.write_text(json.dumps(settings))
    if "--process" in words:
        path = Path(words[words.index("--process") + 1])
        process = json.loads(path.read_text())
        bound(process)
        path.write_text(json.dumps(process))
    os.execv(runtime, [Path(runtime).name, *words])


if __name__ == "__main__":
    main()
