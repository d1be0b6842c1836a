"""`signspool man`: the manual page, made from the same texts as `--help`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from typing import Any

import typer

_TOLD_ONCE = frozenset({"config", "help"})
"""Options of every command, which stand at the beginning."""
_EXAMPLE = "Example: "
_EXIT_CODES = (
    ("0", "All is well."),
    ("1", "Something is wrong, or was not found."),
    ("2", "Wrong use, or wrong settings."),
    ("130", "Interrupted."),
)


def man(context: typer.Context) -> None:
    """Print the manual page, in the form that man reads.

    Example: signspool man > /usr/local/share/man/man1/signspool.1
    """
    typer.echo(render(context.find_root().command), nl=False)


def render(root: Any) -> str:
    """The manual page of a command with its commands, as roff."""
    from shared.settings.layers import CONFIG_VARIABLE, DEFAULT_FILES, PREFIX  # noqa: PLC0415  (slow to import)

    context = root.make_context("signspool", [], resilient_parsing=True)
    lines = [
        '.TH SIGNSPOOL 1 "" "signspool" "User Commands"',
        ".SH NAME",
        rf"signspool \- {_roff(_paragraphs(root)[0].rstrip('.'))}",
        ".SH SYNOPSIS",
        r".B signspool",
        r"[\fIOPTIONS\fR] \fICOMMAND\fR [\fIARGUMENTS\fR]",
        ".SH DESCRIPTION",
        *_text(_paragraphs(root)),
        ".SH OPTIONS",
        *_parameters(root.get_params(context), context),
        ".SH COMMANDS",
    ]
    for name, command in root.commands.items():
        lines += _command(command, f"signspool {name}", context)
    lines += [".SH EXIT STATUS", *_entries(_EXIT_CODES)]
    lines += [
        ".SH FILES",
        *_entries((str(path), "Settings, where --config names none.") for path in DEFAULT_FILES),
        ".SH ENVIRONMENT",
        *_entries(
            (
                (CONFIG_VARIABLE, "Path of the settings file."),
                (f"{PREFIX}SECTION__KEY", "One setting, stronger than the one in the file."),
                ("CREDENTIALS_DIRECTORY", "Folder of systemd credentials, named as the secrets are."),
            )
        ),
    ]
    return "\n".join(lines) + "\n"


def _command(command: Any, path: str, above: Any) -> Iterator[str]:
    context = command.make_context(path.rpartition(" ")[2], [], parent=above, resilient_parsing=True)
    own = [parameter for parameter in command.get_params(context) if parameter.name not in _TOLD_ONCE]
    below = getattr(command, "commands", {})
    if not below:
        usage = " ".join(command.collect_usage_pieces(context))
        yield ".SS"
        yield rf"\fB{_roff(path)}\fR {_roff(usage)}"
        *told, example = _paragraphs(command)
        yield from _text(told)
        yield from _parameters(own, context)
        yield ".PP"
        yield "Example:"
        yield from (".PP", ".RS 4", ".nf", rf"\&{_roff(example.removeprefix(_EXAMPLE))}", ".fi", ".RE")
        return
    if own:
        yield from (".SS", rf"\fB{_roff(path)}\fR", *_text(_paragraphs(command)))
        yield from _parameters(own, context)
    for name, inner in below.items():
        yield from _command(inner, f"{path} {name}", context)


def _paragraphs(command: Any) -> list[str]:
    """The text of a command, a line a paragraph."""
    text = inspect.cleandoc(command.help or "")
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", text)]


def _text(paragraphs: list[str]) -> Iterator[str]:
    for number, paragraph in enumerate(paragraphs):
        if number:
            yield ".PP"
        yield _roff(paragraph)


def _parameters(parameters: Iterable[Any], context: Any) -> Iterator[str]:
    for parameter in parameters:
        record = parameter.get_help_record(context)
        if record is not None:
            name, told = record
            yield from _entries([(name, told)])


def _entries(entries: Iterable[tuple[str, str]]) -> Iterator[str]:
    for name, told in entries:
        yield ".TP"
        yield rf"\fB{_roff(name)}\fR"
        yield _roff(" ".join(told.split()))


def _roff(text: str) -> str:
    """A text that roff shows as it is."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-")
    return rf"\&{escaped}" if escaped.startswith((".", "'")) else escaped
