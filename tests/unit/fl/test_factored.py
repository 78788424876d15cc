"""Factored gradients give what Opacus gives, mostly without forming a record's gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fl import per_sample
from fl.errors import ModelError
from fl.factored import Factors, can_be_factored
from fl.layer_gradients import formed, layer_gradients
from fl.spec import Hyperparameters
from fl.table import Table
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


class Residual(nn.Sequential):
    """Adds what it read to what it wrote."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return super().forward(features) + features


def linear() -> nn.Module:
    return nn.Sequential(
        nn.Linear(64, 7),
        nn.ReLU(),
        nn.LayerNorm(7),
        nn.Linear(7, 4, bias=False),
        nn.Linear(4, 1),
    )


def convolutional() -> nn.Module:
    """Positions few and many, so that one convolution is compared and the others are formed."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 4, 3, stride=2, padding=1),
        nn.GroupNorm(2, 4),
        nn.ReLU(),
        Residual(nn.Conv2d(4, 4, 3, padding=2, dilation=2, bias=False), nn.ReLU()),
        nn.Conv2d(4, 48, 1, stride=2),
        nn.Conv2d(48, 48, 2),
        nn.Flatten(),
        nn.Linear(48, 1),
    )


def of_sequences() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (8, 8)),
        nn.Linear(8, 5),
        nn.LayerNorm((8, 5)),
        nn.Flatten(),
        nn.Linear(40, 1),
    )


def partly_frozen() -> nn.Module:
    network = linear()
    for name in ("0.weight", "2.bias", "4.bias"):
        network.get_parameter(name).requires_grad_(False)
    return network


NETWORKS = (linear, convolutional, of_sequences, partly_frozen)


def a_table(rows: int = 24) -> Table:
    generator = np.random.default_rng(1)
    return Table(
        features=generator.normal(0, 1, (rows, 64)).astype(np.float32),
        labels=generator.integers(0, 2, rows).astype(np.float32),
    )


def trained(
    make: Callable[[], nn.Module], table: Table, **options: Any
) -> tuple[list[np.ndarray], int]:
    torch.manual_seed(3)
    module = make()
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
def by_opacus(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[list[np.ndarray], int]]:
    def train(*arguments: Any, **options: Any) -> tuple[list[np.ndarray], int]:
        with monkeypatch.context() as patch:
            patch.setattr(per_sample, "can_be_factored", lambda module: False)
            return trained(*arguments, **options)

    return train


@pytest.mark.parametrize("options", [{}, {"proximal_mu": 0.3}, {"part_bytes": 1}])
@pytest.mark.parametrize("make", NETWORKS)
def test_they_train_as_opacus_does(
    by_opacus: Callable[..., Any], make: Callable[[], nn.Module], options: dict[str, Any]
) -> None:
    by_factors, _ = trained(make, a_table(), **options)
    expected, _ = by_opacus(make, a_table(), **options)
    for ours, theirs in zip(by_factors, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
@pytest.mark.parametrize("make", [linear, convolutional])
def test_a_record_that_is_not_finite_is_left_out_as_by_opacus(
    by_opacus: Callable[..., Any], make: Callable[[], nn.Module], bad: float
) -> None:
    table = a_table()
    table.features[4, 2] = bad
    weights, left_out = trained(make, table)
    assert all(np.isfinite(values).all() for values in weights)
    if not np.isfinite(bad):
        expected, zeroed = by_opacus(make, table)
        assert left_out == zeroed > 0
        for ours, theirs in zip(weights, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_an_operation_in_place_changes_nothing() -> None:
    def in_place() -> nn.Module:
        network = convolutional()
        for layer in network.modules():
            if isinstance(layer, nn.ReLU):
                layer.inplace = True
        return network

    for one, other in zip(
        trained(in_place, a_table())[0], trained(convolutional, a_table())[0], strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_no_records_take_noise_alone() -> None:
    torch.manual_seed(3)
    before = [p.detach().numpy().copy() for p in linear().parameters()]
    after, _ = trained(linear, a_table(0))
    assert all((a != b).all() for a, b in zip(after, before, strict=True))


def test_a_layer_that_the_loss_does_not_depend_on_takes_noise_alone() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Linear(64, 1), nn.Linear(64, 1)

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            self.idle(features)
            return self.used(features)

    weights, _ = trained(Idle, a_table())
    assert all(np.isfinite(values).all() for values in weights)


@pytest.mark.parametrize("make", [linear, convolutional])
def test_norms_are_those_of_the_gradients_themselves(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(5)
    module = make()
    with Factors.captured(module) as factors:
        factors.backward(module(torch.randn(6, 64)).square().sum())
        for layer, outputs in factors._outputs.items():
            inputs = factors._inputs[layer]
            squares = sum(g.flatten(1).square().sum(1) for _, g in formed(layer, inputs, outputs))
            found = layer_gradients(layer, inputs, outputs).squared_norms()
            torch.testing.assert_close(found, squares, rtol=1e-4, atol=1e-9)


def test_positions_that_cancel_do_not_make_a_record_look_short() -> None:
    """Comparing positions in float32 would lose the small rest of large opposite terms."""
    layer = nn.Conv2d(128, 128, 2, bias=False)
    inputs = torch.zeros(1, 128, 2, 3)
    inputs[:, :, :, 0] = inputs[:, :, :, 2] = 1.0
    outputs = torch.full((1, 128, 1, 2), 1e4)
    outputs[..., 1] = -1e4 + 0.5
    formed_norm = formed(layer, inputs, outputs)[0][1].norm()
    assert type(layer_gradients(layer, inputs, outputs)).__name__ == "_Compared"
    found = layer_gradients(layer, inputs, outputs).squared_norms().sqrt()
    assert float(found) == pytest.approx(float(formed_norm), rel=1e-4)


def test_layers_without_a_rule_and_shared_parameters_stay_with_opacus() -> None:
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    tied[1].weight = tied[0].weight
    assert can_be_factored(convolutional())
    assert not can_be_factored(tied)
    assert not can_be_factored(nn.Sequential(nn.Linear(4, 4), nn.Embedding(4, 4)))
    assert not can_be_factored(nn.Conv2d(4, 4, 3, groups=2))
    assert not can_be_factored(nn.Conv2d(4, 4, 3, padding="same"))
    assert not can_be_factored(nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"))
    with pytest.raises(TypeError, match="Embedding: no rule"):
        formed(nn.Embedding(4, 4), torch.zeros(1), torch.zeros(1))


def test_a_layer_that_is_used_twice_is_refused() -> None:
    layer = nn.Linear(3, 3)
    with Factors.captured(layer), pytest.raises(ModelError, match="used twice"):
        layer(layer(torch.ones(2, 3)))


def test_the_hooks_are_gone_afterwards() -> None:
    module = convolutional()
    with Factors.captured(module):
        pass
    assert not [m for m in module.modules() if m._forward_hooks or m._backward_hooks]


def test_clipping_bounds_what_one_record_adds() -> None:
    module = nn.Linear(4, 1)
    with Factors.captured(module) as factors:
        factors.backward(module(torch.full((1, 4), 100.0)).sum())
        sums, left_out = factors.clipped_sums(0.5)
    summed = torch.cat([values.flatten() for _, values in sums])
    assert left_out == 0
    assert 0.499 < float(summed.norm()) <= 0.5
