"""How long a private step takes, beside each of Opacus's own methods in the same run.

    python -m deployments.bench.privacy_step

A step is all of it: forward, clipped gradients, noise, and the optimizer. Ours is `train_locally`
on a table of one batch, whose noise comes from AES; Opacus's noise is PyTorch's. One thread, as the
stack runs, unless OMP_NUM_THREADS says otherwise. The methods take turns, so that a slow moment of
the machine hits all of them.
"""

from __future__ import annotations

import copy
import os
import time
import warnings
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch
from opacus.grad_sample import (
    GradSampleModule,
    GradSampleModuleExpandedWeights,
    GradSampleModuleFastGradientClipping,
)
from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping
from rich.console import Console
from torch import nn

from deployments.bench.networks import CASES, Case
from deployments.bench.report import Figure, figure, print_report, write_report
from deployments.settings import StackSettings
from fl.spec import Hyperparameters
from fl.table import Table
from fl.training import train_locally
from privacy.noise import SecureGenerator
from privacy.plan import PrivacyPlan

CLIP_NORM: Final = 0.5
NOISE_MULTIPLIER: Final = 4.0
OURS: Final = "ours"

Steps = Callable[[int], None]


def main() -> int:
    """Runs the benchmark; returns 0 whether or not the goals are met."""
    path = StackSettings().home / "bench" / "privacy-step.json"
    print_report(write_report(path, figures()), Console())
    return 0


def figures() -> list[Figure]:
    """Measures all cases; about a minute, where nothing else runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    try:
        return [entry for case in CASES for entry in _figures_of(case)]
    finally:
        torch.set_num_threads(before)


def measure(case: Case) -> dict[str, list[float]]:
    """Returns the milliseconds a step by method, one value for each repeat."""
    methods = _methods(case)
    milliseconds: dict[str, list[float]] = {name: [] for name in methods}
    for repeat in range(case.repeats + 1):
        for name, steps in methods.items():
            started = time.perf_counter()
            steps(case.steps)
            if repeat:  # the first warms up
                elapsed = time.perf_counter() - started
                milliseconds[name].append(1e3 * elapsed / case.steps)
    return milliseconds


def _figures_of(case: Case) -> list[Figure]:
    found = measure(case)
    best = min(
        (name for name in found if name != OURS), key=lambda name: float(np.median(found[name]))
    )
    ratios = [ours / theirs for ours, theirs in zip(found[OURS], found[best], strict=True)]
    return [
        *(
            figure(f"{case.name}: {name}", values, unit="ms", better="lower")
            for name, values in found.items()
        ),
        figure(f"{case.name}: ours to {best}", ratios, unit="", goal=1.0, better="lower"),
    ]


def _methods(case: Case) -> dict[str, Steps]:
    torch.manual_seed(0)
    network = case.make()
    features = torch.rand(case.records, *case.shape) * 2 - 1
    labels = (torch.arange(case.records) % 2).float()
    return {
        OURS: _ours(copy.deepcopy(network), features, labels),
        "hooks": _opacus(GradSampleModule(copy.deepcopy(network)), features, labels),
        "ew": _opacus(GradSampleModuleExpandedWeights(copy.deepcopy(network)), features, labels),
        "functorch": _opacus(
            GradSampleModule(copy.deepcopy(network), force_functorch=True), features, labels
        ),
        "ghost": _ghost(copy.deepcopy(network), features, labels),
    }


def _ours(network: nn.Module, features: torch.Tensor, labels: torch.Tensor) -> Steps:
    table = Table(features.numpy(), labels.numpy())
    generator = SecureGenerator.from_os()

    def steps(count: int) -> None:
        plan = PrivacyPlan(
            clip_norm=CLIP_NORM,
            noise_multiplier=NOISE_MULTIPLIER,
            evaluation_noise_multiplier=NOISE_MULTIPLIER,
            sampling_rate=1.0,
            expected_batch_size=len(table),
            steps_per_round=count,
            rounds=1,
            delta=1e-5,
        )
        train_locally(
            network,
            table,
            plan=plan,
            hyperparameters=Hyperparameters(learning_rate=1e-3),
            generator=generator,
        )

    return steps


def _opacus(wrapped: Any, features: torch.Tensor, labels: torch.Tensor) -> Steps:
    """One of the methods that form each record's gradient."""
    optimizer = DPOptimizer(_sgd(wrapped), **_constants(features))
    criterion = nn.BCEWithLogitsLoss()

    return _steps_of(wrapped, optimizer, criterion, features, labels)


def _ghost(network: nn.Module, features: torch.Tensor, labels: torch.Tensor) -> Steps:
    """Opacus's ghost clipping: a second backward pass instead of each record's gradient."""
    wrapped = GradSampleModuleFastGradientClipping(
        network, max_grad_norm=CLIP_NORM, use_ghost_clipping=True
    )
    optimizer = DPOptimizerFastGradientClipping(_sgd(wrapped), **_constants(features))
    criterion = DPLossFastGradientClipping(wrapped, optimizer, nn.BCEWithLogitsLoss())

    return _steps_of(wrapped, optimizer, criterion, features, labels)


def _steps_of(
    wrapped: Any,
    optimizer: DPOptimizer,
    criterion: Any,
    features: torch.Tensor,
    labels: torch.Tensor,
) -> Steps:
    def steps(count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad(set_to_none=True)
            with _quiet():
                criterion(wrapped(features).squeeze(1), labels).backward()
            optimizer.step()

    return steps


def _sgd(module: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(module.parameters(), lr=1e-3, momentum=0.5)


def _constants(features: torch.Tensor) -> dict[str, Any]:
    return {
        "noise_multiplier": NOISE_MULTIPLIER,
        "max_grad_norm": CLIP_NORM,
        "expected_batch_size": len(features),
    }


def _quiet() -> Any:
    # PyTorch warns of a backward hook on a layer whose input asks for no gradient.
    return warnings.catch_warnings(action="ignore")


if __name__ == "__main__":
    raise SystemExit(main())
