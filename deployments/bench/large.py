"""Eleven million parameters end to end: three hospitals, the whole stack, masks and noise.

``python -m deployments.bench.large``, part of ``make bench-secagg``.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import tenacity
from rich.console import Console

from deployments.bench.report import Figure, figure, print_report, write_report
from deployments.bench.rounds import free_ports
from deployments.demo import PeakMemory, start_once_hospitals_are_there
from deployments.demo_data import deal_out, demo_model
from deployments.operator import OperatorClient
from deployments.settings import StackSettings
from deployments.stack import control
from fl.architecture_spec import Mlp
from fl.spec import Hyperparameters, ModelSpec, TrainingRequest
from privacy.plan import PrivacyRequest

HOSPITALS: Final = 3
ROUNDS: Final = 6
HIDDEN: Final = (3300, 3300)  # 30-3300-3300-1: 10,998,901 parameters
PRIVACY: Final = PrivacyRequest(sampling_rate=0.2, expected_batch_size=32)  # five steps a round
_PORTS: Final = ("FEDMED_PREFECT_PORT", "FEDMED_MLFLOW_PORT", "FEDMED_API_PORT")


def large_model() -> ModelSpec:
    """Returns the demo's model with eleven million parameters."""
    return demo_model().model_copy(
        update={
            "name": "large",
            "architecture": Mlp(hidden=HIDDEN),
            "hyperparameters": Hyperparameters(learning_rate=0.01, momentum=0.0),
        }
    )


def main() -> int:
    """Runs the benchmark; returns 0 whether or not the goals are met."""
    path = StackSettings().home / "bench" / "large.json"
    with tempfile.TemporaryDirectory(prefix="fedmed-bench-") as home:
        os.environ["FEDMED_HOME"] = home
        os.environ.update(zip(_PORTS, map(str, free_ports(3)), strict=True))
        training, peak_mb = run(StackSettings())
    print_report(write_report(path, figures(training, peak_mb)), Console())
    return 0


def run(settings: StackSettings) -> tuple[dict[str, Any], float]:
    """Trains the model on a stack of its own; returns the training and the peak memory in MB."""
    folders = deal_out(Path(settings.home) / "data", hospitals=HOSPITALS, seed=0)
    with (
        control.attached(settings, hospitals=folders, progress=lambda event: None) as stack,
        OperatorClient.connect(settings) as operator,
        PeakMemory(stack.state) as memory,
    ):
        operator.add_model(large_model())
        request = TrainingRequest(model="large", rounds=ROUNDS, privacy=PRIVACY)
        started = start_once_hospitals_are_there(operator, request)
        training: dict[str, Any] = tenacity.Retrying(
            retry=tenacity.retry_if_result(lambda t: t["state"] not in ("completed", "failed")),
            wait=tenacity.wait_fixed(1),
            stop=tenacity.stop_after_delay(400),
        )(operator.training, started["training_id"])
    if training["state"] == "failed":
        raise RuntimeError(f"the training failed: {training['reason']}")
    return training, memory.peak_mb


def figures(training: dict[str, Any], peak_mb: float) -> list[Figure]:
    """Returns the figures of the training."""
    rounds = [r["seconds"] for r in training["rounds"] if r["kind"] == "training"][1:]
    return [
        figure("median round after the first", rounds, unit="s", goal=6, better="lower"),
        figure("slowest round after the first", [max(rounds)], unit="s", better="lower"),
        figure(
            "median closing evaluation, counts alone",
            [
                statistics.median(
                    r["seconds"] for r in training["rounds"] if r["kind"] != "training"
                )
            ],
            unit="s",
            better="lower",
        ),
        figure(
            "peak memory, proportional, all processes",
            [peak_mb],
            unit="MB",
            goal=3000,
            better="lower",
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
