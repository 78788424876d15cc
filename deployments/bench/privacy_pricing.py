"""``python -m deployments.bench.privacy_pricing``: seconds to plan and price a hundred rounds.

A person waits for it when a training is asked for, and for what each round spends at its start.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Final

from rich.console import Console

from deployments.bench.report import Figure, figure, print_report, write_report
from deployments.settings import StackSettings
from privacy.calibration import plan_for
from privacy.plan import PrivacyPlan, PrivacyRequest
from privacy.pricing import epsilon_by_round, price

ROUNDS: Final = 100
REPEATS: Final = 5
GOAL_S: Final = 1.0
REQUESTS: Final = {
    "sampling 0.2": PrivacyRequest(epsilon=8, sampling_rate=0.2, steps_per_round=5),
    "full batch": PrivacyRequest(epsilon=8, sampling_rate=1, steps_per_round=1),
    "full batch, shared noise": PrivacyRequest(
        epsilon=8, sampling_rate=1, steps_per_round=1, noise_shares=3
    ),
}


def main() -> int:
    """Runs the benchmark; returns 0 whether or not the goals are met."""
    path = StackSettings().home / "bench" / "privacy_pricing.json"
    print_report(write_report(path, figures()), Console())
    return 0


def figures() -> list[Figure]:
    """Returns the seconds to find the noise of a plan, to price it, and to price it by round."""
    return [entry for case in REQUESTS for entry in _figures_of(case)]


def _figures_of(case: str) -> list[Figure]:
    request = REQUESTS[case]
    plan = plan_for(request, rounds=ROUNDS)

    def timed(what: str, work: Callable[[], object]) -> Figure:
        seconds = [_seconds(work) for _ in range(REPEATS)]
        name = f"{what}, {ROUNDS} rounds, {case}"
        return figure(name, seconds, unit="s", better="lower", goal=GOAL_S)

    return [
        timed("find the noise of a plan", lambda: plan_for(request, rounds=ROUNDS)),
        timed("price a plan", lambda: _priced(plan)),
        timed("price a plan by round", lambda: epsilon_by_round(plan)),
    ]


def _priced(plan: PrivacyPlan) -> None:
    cost = price(plan)
    if not 7.9 < cost.epsilon <= 8:
        raise RuntimeError(f"epsilon {cost.epsilon}: the price is wrong, its seconds say nothing")


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
