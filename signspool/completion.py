"""What a shell offers, and the script by which it asks."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

_ZSH_FIRST_CALL = 'if [[ $funcstack[1] == _signspool ]]; then _signspool_completion "$@"; fi'
"""zsh loads a file of `fpath` at the first key press, as the function that answers it."""


class Shell(StrEnum):
    """The shells that can be served."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(
    context: typer.Context,
    shell: Annotated[Shell, typer.Argument(metavar="bash|zsh|fish", help="The shell it is for.")],
) -> None:
    """Print the script by which a shell completes commands, options and values, for all users of a machine.

    For yourself alone, and the shell you type in: signspool --install-completion

    Example: signspool completion bash > signspool.bash
    """
    from typer.completion import shell_complete  # noqa: PLC0415

    script = io.StringIO()
    with redirect_stdout(script):
        shell_complete(context.find_root().command, {}, "signspool", "_SIGNSPOOL_COMPLETE", f"source_{shell}")
    # zsh looks for its mark on the first line alone.
    typer.echo(script.getvalue().strip())
    if shell is Shell.ZSH:
        typer.echo(_ZSH_FIRST_CALL)


def provider_names(incomplete: str) -> list[str]:
    """The providers there are, each a file, that begin with what is typed; a shell waits for no imports."""
    found = find_spec("shared.providers")
    folders = found.submodule_search_locations if found is not None else None
    names = (path.stem for folder in folders or () for path in Path(folder).glob("[!_]*.py"))
    return sorted(name for name in names if name.startswith(incomplete))
