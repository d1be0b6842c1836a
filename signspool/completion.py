"""What a shell offers for values that are names: read off the files, since a shell waits for no imports."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


def provider_names(incomplete: str) -> list[str]:
    """The providers there are, of which each is a file, that begin with what is typed."""
    found = find_spec("shared.providers")
    folders = found.submodule_search_locations if found is not None else None
    names = (path.stem for folder in folders or () for path in Path(folder).glob("[!_]*.py"))
    return sorted(name for name in names if name.startswith(incomplete))
