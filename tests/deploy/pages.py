"""The commands of docs/operations.md, as they are typed."""

from __future__ import annotations

import re

from tests.deploy.ingredients import REPOSITORY

_PAGE = REPOSITORY / "docs" / "operations.md"


def commands(heading: str) -> list[str]:
    """The shell blocks below a heading of the page, in their order."""
    text = _PAGE.read_text(encoding="utf-8")
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"the page has no heading {heading!r}"
    blocks = re.findall(r"^```sh\n(.*?)^```$", found[1], re.MULTILINE | re.DOTALL)
    assert blocks, f"{heading!r} has no commands"
    return blocks
