"""`python -m benchmarks [NAME ...]`: measures, prints a table, and writes it as JSON too."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.figures import Figure, Reach

MEASURES = ("syncs", "door", "workers", "recording", "nodes", "backlog", "latency", "large_file")
"""Modules of this package; each has `measure(*, quick: bool) -> list[Figure]`."""

_SIGNS = {Reach.AT_LEAST: "≥", Reach.AT_MOST: "≤"}

RESULTS = Path(__file__).parent / "results"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what was asked for; returns 0 when every goal was reached."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MEASURES)}; all by default")
    parser.add_argument(
        "--quick", action="store_true", help="short turns: to see that it works, not to quote"
    )
    chosen = parser.parse_args(arguments)
    if unknown := sorted(set(chosen.names) - set(MEASURES)):
        parser.error(f"no such measure: {', '.join(unknown)}; there are {', '.join(MEASURES)}")
    names = [name for name in MEASURES if not chosen.names or name in chosen.names]
    console = Console()
    figures: list[Figure] = []
    for name in names:
        console.print(f"[dim]measuring {name} …[/dim]")
        figures += importlib.import_module(f"benchmarks.{name}").measure(quick=chosen.quick)
    console.print(table_of(figures))
    path = write_results(names, figures, quick=chosen.quick)
    console.print(f"written to {path.relative_to(Path.cwd())}" if path.is_relative_to(Path.cwd()) else path)
    return 0 if all(figure.is_met for figure in figures) else 1


def machine() -> dict[str, object]:
    """The machine, by what matters to the figures and by nothing that would name it."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memoryGiB": round(memory_bytes / 2**30),
        "python": platform.python_version(),
        "system": platform.system(),
    }


def table_of(figures: Sequence[Figure]) -> Table:
    """The figures for people."""
    table = Table(title="signspool, measured on this machine", box=SIMPLE_HEAD, show_lines=True)
    table.add_column("what", ratio=3)
    table.add_column("figure", justify="right", no_wrap=True)
    table.add_column("goal", no_wrap=True)
    table.add_column("measured, and beside it", ratio=2)
    for figure in figures:
        goal = "" if figure.goal is None else f"{_SIGNS[figure.reach]} {figure.goal:g} {figure.unit}"
        colour = "green" if figure.is_met else "red"
        value = f"[{colour}]{figure.value:.3g} {figure.unit}[/{colour}]"
        beside = f"\n{figure.compared}" if figure.compared else ""
        table.add_row(figure.name, value, goal, figure.measured + beside)
    return table


def write_results(names: Sequence[str], figures: Sequence[Figure], *, quick: bool) -> Path:
    """Keep the figures as `results/<what>.json`; quick ones apart, so that nobody quotes them."""
    what = "all" if len(names) == len(MEASURES) else "-".join(names)
    path = RESULTS / f"{what}{'.quick' if quick else ''}.json"
    path.parent.mkdir(exist_ok=True)
    content = {
        "measuredOn": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "figures": [figure.as_json() for figure in figures],
    }
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return path


if __name__ == "__main__":
    sys.exit(main())
