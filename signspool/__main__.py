"""`python -m signspool`, the same as the `signspool` command."""

from __future__ import annotations

if __name__ == "__main__":
    from signspool.cli import main

    main()
