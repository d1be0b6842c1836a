"""Runs a command as a child that does not outlive its parent: `python -m signspool.child PARENT COMMAND...`.

When the parent is killed the kernel sends this process SIGTERM, so that it ends what is in hand and stops.
"""

from __future__ import annotations

import sys

from shared import hangup
from shared.parenthood import end_with


def main() -> None:
    """Tie this process to its parent, then run the command."""
    hangup.hold()
    parent, *arguments = sys.argv[1:]
    end_with(int(parent))
    from signspool.cli import run  # noqa: PLC0415  (takes a second)

    sys.exit(run(arguments))


if __name__ == "__main__":
    main()
