"""Running a function in a Python process of its own, so that what it imports goes with it.

    weights = run_apart(initial_weights, spec, seed=seed)

PyTorch takes 200 MB and a second and a half to import; the coordinator needs it for a moment at the
beginning of a training and otherwise never.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def run_apart(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Calls an importable function in a fresh process; returns its result or raises its error."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(function, *args, **kwargs).result()
