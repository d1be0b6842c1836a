"""`python -m signspool`, the same as the `signspool` command."""

from __future__ import annotations

from signspool.cli import main

if __name__ == "__main__":
    main()
