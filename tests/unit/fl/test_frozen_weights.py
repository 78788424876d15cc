"""Weights that are not trained, as a standardiser's, get neither gradient nor noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from fl import per_sample
from fl.architecture_spec import Mlp
from fl.architectures import build
from fl.contract import DataContract, Label, NumberColumn
from fl.names import CENTRE, RECORDS, SPREAD
from fl.per_sample import Method
from fl.spec import Hyperparameters, ModelSpec
from fl.table import Table
from fl.training import train_locally
from privacy.noise import SecureGenerator
from privacy.plan import PrivacyPlan

COLUMNS = 3
SPEC = ModelSpec(
    name="model",
    architecture=Mlp(hidden=(4,)),
    contract=DataContract(
        columns=tuple(NumberColumn(name=f"x{i}", minimum=-1, maximum=1) for i in range(COLUMNS)),
        label=Label(name="y"),
    ),
)


def train(module: nn.Module, plan: PrivacyPlan, generator: Any, patients: Any = None) -> None:
    random = np.random.default_rng(1)
    features = random.uniform(-1, 1, (5, COLUMNS)).astype(np.float32)
    train_locally(
        module,
        Table(features, np.array([0, 1, 0, 1, 1], np.float32), patients),
        plan=plan,
        hyperparameters=Hyperparameters(learning_rate=1.0, momentum=0.5),
        generator=generator,
        proximal_mu=0.1,
    )


@pytest.mark.parametrize("patients", [None, np.array([0, 0, 1, 2, 2])], ids=["records", "patients"])
@pytest.mark.parametrize("method", list(Method))
def test_they_stay_while_all_others_move(
    monkeypatch: pytest.MonkeyPatch,
    step_plan: PrivacyPlan,
    method: Method,
    patients: NDArray[np.int64] | None,
) -> None:
    monkeypatch.setattr(per_sample, "can_be_factored", lambda _: method is Method.FACTORS)
    module = build(SPEC)
    before = {name: weight.clone() for name, weight in module.state_dict().items()}
    plan = step_plan.model_copy(update={"steps_per_round": 3})
    train(module, plan, SecureGenerator.seeded(1), patients)
    frozen = {name for name, p in module.named_parameters() if not p.requires_grad}
    assert frozen == {CENTRE, SPREAD, RECORDS}
    for name, weight in module.state_dict().items():
        assert torch.equal(weight, before[name]) is (name in frozen), name


def test_no_noise_is_drawn_for_them(recorder: Any, step_plan: PrivacyPlan) -> None:
    source = recorder()
    train(build(SPEC), step_plan, source)
    assert sum(count for count, _ in source.noise) == 4 * COLUMNS + 4 + 4 + 1
