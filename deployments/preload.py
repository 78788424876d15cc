"""What a hospital's warm process loads before it forks, so that a round loads nothing."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from types import MappingProxyType
from typing import Final

from deployments.admission import ALLOWED_FLOWS, installed_flows
from fl.code_hash import training_code_hash

_MODULES: Final = (
    "opacus",
    "torch",
    "privacy.pricing",
    "sqlalchemy.dialects.sqlite",
    "sqlite3",
    "deployments.child",
    *(target.split(":")[0] for target in ALLOWED_FLOWS.values()),
)


@cache
def preload() -> Mapping[str, str]:
    """Imports what the allowed flows need; an import that fails fails here, not in a round.

    Returns:
        The hash of each flow's code, of the files that have just been loaded.
    """
    for module in _MODULES:
        import_module(module)
    training_code_hash()  # of what has just been loaded, for all children
    installed = MappingProxyType(installed_flows())
    _warm_up()
    # A child writes to the worker's own log.
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    return installed


def _warm_up() -> None:
    """Takes one private step on made-up rows.

    The first backward pass, the first clipping and the first noise of a process set up what later
    ones find ready, half a second of it. Done here it is done once, not in every child.
    """
    import numpy as np

    from fl.architecture_spec import Mlp
    from fl.architectures import build
    from fl.contract import DataContract, Label, NumberColumn
    from fl.device import CPU
    from fl.spec import ModelSpec
    from fl.split import split
    from fl.table import Table
    from fl.training import train_locally
    from privacy.noise import SecureGenerator
    from privacy.plan import PrivacyPlan

    contract = DataContract(
        columns=tuple(NumberColumn(name=f"x{i}", minimum=-1, maximum=1) for i in range(4)),
        label=Label(name="y"),
    )
    spec = ModelSpec(name="warm-up", architecture=Mlp(hidden=(8, 4)), contract=contract)
    rows = 32
    table = Table(
        features=np.linspace(-1, 1, rows * 4, dtype=np.float32).reshape(rows, 4),
        labels=np.arange(rows, dtype=np.float32) % 2,
    )
    plan = PrivacyPlan(
        clip_norm=1.0,
        noise_multiplier=1.0,
        sampling_rate=0.5,
        expected_batch_size=rows // 2,
        evaluation_noise_multiplier=4.0,
        steps_per_round=2,
        rounds=1,
        delta=1e-5,
    )
    train_locally(
        build(spec),
        split(table, key=bytes(32)).train,
        plan=plan,
        hyperparameters=spec.hyperparameters,
        generator=SecureGenerator.from_os(),
        device=CPU,  # a process that has begun with CUDA cannot fork
    )
