"""Which method for which model, and how many records at once."""

from __future__ import annotations

import pytest
from torch import nn

from fl.errors import ModelError
from fl.per_sample import Method, method_for, records_at_once


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, 1))


@pytest.mark.parametrize(
    ("module", "method"),
    [
        (mlp(), Method.FACTORS),
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4)), Method.FACTORS),
        (nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4)), Method.FACTORS),
        (nn.Sequential(nn.Conv1d(1, 4, 3), nn.Flatten()), Method.HOOKS),
        (nn.Conv2d(4, 4, 3, groups=4), Method.HOOKS),
    ],
)
def test_factors_where_every_layer_has_a_rule(module: nn.Module, method: Method) -> None:
    assert method_for(module) is method


def test_a_layer_that_mixes_records_is_refused_even_without_weights() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, affine=False), nn.Linear(4, 1))
    with pytest.raises(ModelError, match="BatchNorm1d mixes the records of a batch"):
        method_for(module)


def most(
    module: nn.Module, *shape: int, by_patient: bool = False, part_bytes: int = 1 << 20
) -> int:
    return records_at_once(
        module,
        shape,
        method=method_for(module),
        by_patient=by_patient,
        part_bytes=part_bytes,
    )


def test_memory_decides_how_many_records_are_processed_at_once() -> None:
    # What the three layers write, three times over: (64 + 64 + 1) float32.
    assert most(mlp(), 30) == (1 << 20) // (4 * 3 * 129)
    assert most(mlp(), 30, part_bytes=1) == 1


def test_gradients_that_are_formed_take_more() -> None:
    parameters = sum(p.numel() for p in mlp().parameters())
    assert most(mlp(), 30, by_patient=True) == (1 << 20) // (4 * (3 * 129 + parameters))
    convolution = nn.Conv2d(1, 8, 3)  # 26 x 26 positions, which read 9 values and write 8
    assert most(convolution, 1, 28, 28) == (1 << 20) // (4 * (676 * (9 + 3 * 8) + 8 * 9 + 8))


def test_it_leaves_the_module_as_it_was() -> None:
    module = mlp()
    most(module, 30)
    assert module.training
    assert not any(layer._forward_hooks for layer in module.modules())


def test_features_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ModelError, match=r"does not fit features of shape \(n, 31\)"):
        most(mlp(), 31)
