"""A figure: what was measured, what it is compared with in the same run, and what it has to reach."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Reach(StrEnum):
    """On which side of the goal a figure has to lie."""

    AT_LEAST = "at least"
    AT_MOST = "at most"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table.

    `value` is what the goal is about: a ratio (`unit` is then `x`), milliseconds or mebibytes. `measured` and
    `compared` are the two sides of a ratio with their own units, medians of `runs` turns taken one after the
    other, A B A B. `goal` of None means that the figure stands for itself.
    """

    name: str
    value: float
    unit: str
    measured: str
    compared: str = ""
    reach: Reach = Reach.AT_LEAST
    goal: float | None = None
    runs: int = 1
    spread: tuple[float, float] | None = None
    """Least and greatest value among the runs."""

    @property
    def is_met(self) -> bool:
        """Whether the goal was reached; a figure without one always is."""
        if self.goal is None:
            return True
        return self.value >= self.goal if self.reach is Reach.AT_LEAST else self.value <= self.goal

    def as_json(self) -> dict[str, Any]:
        """The figure as the results file keeps it."""
        return {**asdict(self), "met": self.is_met}


def ratio_figure(
    name: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    *,
    unit: str,
    goal: float | None,
    reach: Reach = Reach.AT_LEAST,
) -> Figure:
    """The ratio of two measures that were taken in turn, each pair compared on its own.

    Raises:
        ValueError: the two do not come in pairs.
    """
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    return Figure(
        name=name,
        value=statistics.median(ratios),
        unit="x",
        measured=f"{statistics.median(ours):,.4g} {unit}",
        compared=f"{statistics.median(theirs):,.4g} {unit}",
        reach=reach,
        goal=goal,
        runs=len(ratios),
        spread=(min(ratios), max(ratios)),
    )
