"""``make bench``: the demo's work, three times, beside the same work in one plain process.

Three hospitals, the demo's model, ten rounds of its recipe, with differential privacy; the stack
with masking, the floor without. Each repeat deals the rows out anew and starts
from an empty state directory; stack and floor alternate.
"""

from __future__ import annotations

import logging
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console

from deployments.bench.held_out import HeldOut, exact_figures
from deployments.bench.report import Figure, figure, print_report, write_report
from deployments.demo import DemoReport
from deployments.demo_data import deal_out, demo_model
from deployments.settings import StackSettings

SEEDS: Final = (0, 1, 2)
ROUNDS: Final = 10
HOSPITALS: Final = 3


@dataclass(frozen=True, slots=True)
class DemoRun:
    """What a demo reports, and what its model is worth without the noise on its evaluation."""

    report: DemoReport
    held_out: HeldOut


@dataclass(frozen=True, slots=True)
class FloorRun:
    """The same training in one process, without Prefect, exchange or masks."""

    round_s: tuple[float, ...]


def main() -> int:
    """Runs the benchmark; returns 0 whether or not the goals are met."""
    logging.getLogger("flwr").setLevel(logging.WARNING)  # two lines a round of the floor
    console = Console()
    demos: list[DemoRun] = []
    floors: list[FloorRun] = []
    for seed in SEEDS:
        console.print(f"seed {seed}: the stack …")
        demos.append(run_demo(seed))
        console.print(f"seed {seed}: the floor …")
        floors.append(run_floor(seed))
    path = StackSettings().home / "bench" / "rounds.json"
    print_report(write_report(path, figures(demos, floors)), console)
    return 0


def run_demo(seed: int) -> DemoRun:
    """Runs ``fedmed demo`` on an empty state directory and free ports."""
    with tempfile.TemporaryDirectory(prefix="fedmed-bench-") as home:
        ports = dict(zip(("PREFECT", "MLFLOW", "API"), free_ports(3), strict=True))
        subprocess.run(  # noqa: S603 - our own argument vector
            [
                *(sys.executable, "-m", "deployments.cli", "demo"),
                *("--rounds", str(ROUNDS), "--hospitals", str(HOSPITALS), "--seed", str(seed)),
            ],
            env={
                **os.environ,
                "FEDMED_HOME": home,
                **{f"FEDMED_{name}_PORT": str(port) for name, port in ports.items()},
            },
            stdout=subprocess.DEVNULL,
            check=True,
        )
        report = (Path(home) / "demo" / "report.json").read_bytes()
        return DemoRun(DemoReport.model_validate_json(report), exact_figures(Path(home)))


def run_floor(seed: int) -> FloorRun:
    """Trains the same rounds on the same rows in this process."""
    from fl.course import Course
    from fl.data import load_table
    from fl.recipes import completed
    from fl.rehearsal import rehearsed
    from fl.spec import TrainingRequest
    from fl.split import split
    from privacy.calibration import plan_for
    from privacy.settings import PrivacySettings

    spec = demo_model()
    asked = TrainingRequest(model=spec.name, rounds=ROUNDS, privacy=PrivacySettings().request())
    request = completed(asked, spec.architecture)
    plan = plan_for(request.privacy, rounds=request.rounds)
    with tempfile.TemporaryDirectory(prefix="fedmed-bench-") as directory:
        folders = deal_out(Path(directory), hospitals=HOSPITALS, seed=seed)
        parts = [
            split(load_table(folder, spec.contract), key=bytes(32)) for folder in folders.values()
        ]
    seconds: list[float] = []
    started = time.perf_counter()
    for _ in rehearsed(Course(spec, plan, request.strategy), parts, seed=seed):
        seconds.append(time.perf_counter() - started)
        started = time.perf_counter()
    return FloorRun(tuple(seconds))


def figures(runs: list[DemoRun], floors: list[FloorRun]) -> list[Figure]:
    """Returns the figures of the README."""
    demos = [run.report for run in runs]
    return [
        figure(
            "median round after the first",
            [statistics.median(demo.round_s[1:]) for demo in demos],
            unit="s",
            goal=1.0,
            better="lower",
        ),
        figure(
            "median from one round's opening to the next",
            [demo.round_period_s for demo in demos],
            unit="s",
            better="lower",
        ),
        figure(
            "median round of the floor, one plain process",
            [statistics.median(floor.round_s[1:]) for floor in floors],
            unit="s",
            better="lower",
        ),
        figure(
            "demo, start to report", [d.wall_s for d in demos], unit="s", goal=75, better="lower"
        ),
        figure("stack start", [d.stack_start_s for d in demos], unit="s", better="lower"),
        figure(
            "peak memory, proportional, all processes",
            [d.peak_memory_mb for d in demos],
            unit="MB",
            goal=2500,
            better="lower",
        ),
        figure(
            "AUC on held-out rows, mean of seeds",
            [run.held_out.auc for run in runs],
            unit="",
            goal=0.96,
            better="higher",
            mean=True,
        ),
        figure(
            "accuracy on held-out rows, mean of seeds",
            [run.held_out.accuracy for run in runs],
            unit="",
            better="higher",
            mean=True,
        ),
        figure(
            "AUC as the platform sees it, through noised counts, mean of seeds",
            [d.auc or 0.0 for d in demos],
            unit="",
            better="higher",
            mean=True,
        ),
        figure(
            "epsilon at delta 1e-5", [d.epsilon for d in demos], unit="", goal=8, better="lower"
        ),
    ]


def free_ports(count: int) -> list[int]:
    """Returns ports that are free now; all are held at once, so that they differ."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for entry in sockets:
            entry.bind(("127.0.0.1", 0))
        return [entry.getsockname()[1] for entry in sockets]


if __name__ == "__main__":
    sys.exit(main())
