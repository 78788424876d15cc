"""From specification to module and weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fl.architecture_spec import Architecture, Logistic, Mlp
from fl.architectures import build, initial_weights, layout_of, load_weights, weights_of
from fl.contract import DataContract, Label, NumberColumn
from fl.errors import ModelError
from fl.spec import ModelSpec
from fl.weights import encode_weights, flatten, layout


def spec_of(architecture: Architecture, *, columns: int = 5) -> ModelSpec:
    return ModelSpec(
        name="model",
        architecture=architecture,
        contract=DataContract(
            columns=tuple(
                NumberColumn(name=f"x{i}", minimum=-1, maximum=1) for i in range(columns)
            ),
            label=Label(name="y"),
        ),
    )


@pytest.mark.parametrize(
    ("architecture", "parameters"),
    [
        (Logistic(), 6 + 11),
        (Logistic(standardise=False), 6),
        (Mlp(hidden=(4,)), 5 * 4 + 4 + 5 + 11),
        (Mlp(hidden=(4, 3), standardise=False), 24 + 15 + 4),
    ],
)
def test_a_module_gives_one_logit_for_each_row(architecture: Architecture, parameters: int) -> None:
    spec = spec_of(architecture)
    module = build(spec)
    assert module(torch.zeros(7, 5)).shape == (7, 1)
    assert layout_of(module).size == parameters == architecture.parameters((5,))
    assert layout_of(module) == layout(initial_weights(spec, seed=0))


def test_logistic_is_linear_and_an_mlp_is_not() -> None:
    rows = torch.tensor([[-1.0, 0.5, 2.0, -2.0, 1.0], [3.0, -0.5, -2.0, 1.0, 0.0]])
    for architecture, linear in ((Logistic(), True), (Mlp(hidden=(16,)), False)):
        module = build(spec_of(architecture))
        load_weights(module, initial_weights(spec_of(architecture), seed=3))
        middle = module(rows.mean(0, keepdim=True))
        assert torch.allclose(middle, module(rows).mean(0, keepdim=True), atol=1e-5) is linear


def test_initial_weights_follow_from_the_seed_alone() -> None:
    spec = spec_of(Mlp(hidden=(8, 4)))
    first = encode_weights(initial_weights(spec, seed=1))
    torch.rand(3)
    assert encode_weights(initial_weights(spec, seed=1)) == first
    assert encode_weights(initial_weights(spec, seed=2)) != first
    assert len(encode_weights(initial_weights(spec, seed=2**64 - 1))) == len(first)


def test_the_global_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    initial_weights(spec_of(Mlp(hidden=(8, 4))), seed=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_initial_weights_lie_within_the_bound_of_their_layer() -> None:
    weights = initial_weights(spec_of(Mlp(hidden=(200,)), columns=100), seed=1)
    assert 0.095 < np.abs(weights["network.0.weight"]).max() <= 0.1
    assert 0.06 < np.abs(weights["network.2.weight"]).max() <= 200**-0.5
    assert abs(weights["network.0.weight"].mean()) < 0.002


def test_loaded_weights_come_back() -> None:
    spec = spec_of(Mlp(hidden=(3,)))
    module, weights = build(spec), initial_weights(spec, seed=5)
    load_weights(module, weights)
    assert encode_weights(weights_of(module)) == encode_weights(weights)


def test_a_modules_weights_are_copies_both_ways() -> None:
    spec = spec_of(Logistic())
    module, weights = build(spec), initial_weights(spec, seed=5)
    load_weights(module, weights)
    taken = weights_of(module)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    assert flatten(weights).any()
    assert flatten(taken).any()


def test_weights_that_do_not_fit_change_nothing() -> None:
    module = build(spec_of(Logistic()))
    before = encode_weights(weights_of(module))
    other = initial_weights(spec_of(Logistic(), columns=4), seed=1)
    with pytest.raises(ModelError, match=r"'network.weight': shape \(1, 4\), expected \(1, 5\)"):
        load_weights(module, other)
    with pytest.raises(ModelError, match="missing"):
        load_weights(module, {})
    assert encode_weights(weights_of(module)) == before
