"""The `signspool` command, also as `python -m signspool`."""

from __future__ import annotations

from shared import hangup


def main() -> None:
    """The entry point. Loading takes a second, in which SIGHUP must not end a tier that is just starting."""
    hangup.hold()
    from signspool.cli import main as run  # noqa: PLC0415  (this is what takes a second)

    run()


if __name__ == "__main__":
    main()
