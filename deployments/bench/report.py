"""What a benchmark reports: figures with their goals, on which machine, at which commit."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import psutil
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table


class Figure(BaseModel):
    """A measured figure.

    Attributes:
        figure: what was measured.
        value: the median of the repeats, unless the name says mean.
        unit: its unit; empty for a pure number.
        goal: what it should reach, None without a goal.
        better: which direction is better.
        repeats: number of measurements behind it.
        spread: largest minus smallest of the repeats.
    """

    model_config = ConfigDict(frozen=True)

    figure: str
    value: float
    unit: str
    goal: float | None
    better: Literal["lower", "higher"]
    repeats: int
    spread: float

    @property
    def is_met(self) -> bool | None:
        """Whether the goal is met; None without one."""
        if self.goal is None:
            return None
        return self.value <= self.goal if self.better == "lower" else self.value >= self.goal


class BenchReport(BaseModel):
    """``.fedmed/bench/NAME.json``."""

    model_config = ConfigDict(frozen=True)

    machine: str
    commit: str
    figures: tuple[Figure, ...]


def figure(
    name: str,
    values: Sequence[float],
    *,
    unit: str,
    better: Literal["lower", "higher"],
    goal: float | None = None,
    mean: bool = False,
) -> Figure:
    """Returns the figure of repeated measurements: their median, or their mean."""
    value = statistics.fmean(values) if mean else statistics.median(values)
    return Figure(
        figure=name,
        value=round(value, 4),
        unit=unit,
        goal=goal,
        better=better,
        repeats=len(values),
        spread=round(max(values) - min(values), 4),
    )


def write_report(path: Path, figures: Sequence[Figure]) -> BenchReport:
    """Writes the report; returns it."""
    report = BenchReport(machine=_machine(), commit=_commit(), figures=tuple(figures))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".new")
    temporary.write_text(report.model_dump_json(indent=2) + "\n")
    temporary.replace(path)
    return report


def print_report(report: BenchReport, console: Console) -> None:
    """Prints the report as a table."""
    table = Table(title=f"{report.machine}, commit {report.commit}", title_justify="left")
    for column in ("figure", "value", "goal", "", "repeats", "spread"):
        table.add_column(column, justify="left" if column == "figure" else "right")
    for entry in report.figures:
        goal = (
            ""
            if entry.goal is None
            else f"{'≤' if entry.better == 'lower' else '≥'} {entry.goal:g}"
        )
        met = {None: "", True: "met", False: "missed"}[entry.is_met]
        table.add_row(
            entry.figure,
            f"{entry.value:g} {entry.unit}".strip(),
            goal,
            met,
            str(entry.repeats),
            f"{entry.spread:g}",
        )
    console.print(table)


def _machine() -> str:
    memory_gb = psutil.virtual_memory().total / 1e9
    return f"{platform.machine()}, {os.cpu_count()} cores, {memory_gb:.0f} GB, {platform.system()}"


def _commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"
