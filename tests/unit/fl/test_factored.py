"""Factored gradients give what Opacus gives, in the memory of one gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fl import factored
from fl.data import Table
from fl.errors import ModelError
from fl.factored import LinearFactors, worth_factoring
from fl.spec import Hyperparameters
from fl.training import train_locally
from privacy.noise import SecureGenerator
from privacy.plan import PrivacyPlan

PLAN = PrivacyPlan(
    clip_norm=0.5,
    noise_multiplier=1.0,
    sampling_rate=0.5,
    expected_batch_size=8,
    evaluation_noise_multiplier=4.0,
    steps_per_round=6,
    rounds=1,
    delta=1e-5,
)


def a_network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 4, bias=False), nn.Linear(4, 1))


def a_table(rows: int = 24) -> Table:
    generator = np.random.default_rng(1)
    return Table(
        features=generator.normal(0, 1, (rows, 5)).astype(np.float32),
        labels=generator.integers(0, 2, rows).astype(np.float32),
    )


def trained(table: Table, **options: Any) -> tuple[list[np.ndarray], int]:
    module = a_network()
    done = train_locally(
        module,
        table,
        plan=PLAN,
        hyperparameters=Hyperparameters(learning_rate=0.5),
        generator=SecureGenerator.seeded(7),
        **options,
    )
    assert all(p.grad is None and not hasattr(p, "summed_grad") for p in module.parameters())
    return [p.detach().numpy() for p in module.parameters()], done.zeroed_records


@pytest.fixture
def always_factored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factored, "_LARGE_BYTES", 0)


@pytest.mark.parametrize("options", [{}, {"proximal_mu": 0.3}])
def test_they_train_as_opacus_does(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, float]
) -> None:
    by_opacus, _ = trained(a_table(), **options)
    monkeypatch.setattr(factored, "_LARGE_BYTES", 0)
    by_factors, _ = trained(a_table(), **options)
    for ours, theirs in zip(by_factors, by_opacus, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_a_record_that_is_not_finite_is_left_out_as_by_opacus(
    monkeypatch: pytest.MonkeyPatch, bad: float
) -> None:
    table = a_table()
    table.features[4, 2] = bad
    by_opacus, zeroed = trained(table)
    monkeypatch.setattr(factored, "_LARGE_BYTES", 0)
    by_factors, left_out = trained(table)
    assert all(np.isfinite(weights).all() for weights in by_factors)
    if not np.isfinite(bad):
        assert left_out == zeroed > 0
        for ours, theirs in zip(by_factors, by_opacus, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_no_records_take_noise_alone(always_factored: None) -> None:
    before = [p.detach().numpy().copy() for p in a_network().parameters()]
    after, _ = trained(a_table(0))
    assert all((a != b).all() for a, b in zip(after, before, strict=True))


def test_small_models_and_models_with_other_layers_stay_with_opacus() -> None:
    large = nn.Linear(2000, 2000)
    assert worth_factoring(large, records=32)
    assert not worth_factoring(a_network(), records=32)
    assert not worth_factoring(nn.Sequential(large, nn.LayerNorm(2000)), records=32)


def test_a_layer_that_is_used_twice_is_refused() -> None:
    layer = nn.Linear(3, 3)
    with LinearFactors.captured(layer), pytest.raises(ModelError, match="used twice"):
        layer(layer(torch.ones(2, 3)))


def test_the_hooks_are_gone_afterwards() -> None:
    module = a_network()
    with LinearFactors.captured(module):
        pass
    assert not [m for m in module.modules() if m._forward_hooks or m._backward_hooks]


def test_clipping_bounds_what_one_record_adds() -> None:
    module = nn.Linear(4, 1)
    with LinearFactors.captured(module) as factors:
        features = torch.full((1, 4), 100.0, requires_grad=True)
        torch.autograd.backward(module(features).sum())
        assert factors.sum_clipped(0.5) == 0
    summed = torch.cat([module.weight.summed_grad.flatten(), module.bias.summed_grad])  # type: ignore[attr-defined]
    assert 0.499 < float(summed.norm()) <= 0.5
