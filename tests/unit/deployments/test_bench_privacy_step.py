"""The bench of the private step times the same work by every method."""

from __future__ import annotations

import pytest
import torch

from deployments.bench.networks import CASES, Case
from deployments.bench.privacy_step import OURS, measure
from fl.per_sample import Method, method_for


def test_each_method_is_timed_once_a_repeat() -> None:
    first = CASES[0]
    small = Case(first.name, first.make, first.shape, records=4, steps=1, repeats=2)
    found = measure(small)
    assert set(found) == {OURS, "hooks", "ew", "functorch", "ghost"}
    assert all(len(values) == 2 and min(values) > 0 for values in found.values())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_networks_give_a_logit_a_record_and_are_factored(case: Case) -> None:
    network = case.make()
    assert network(torch.zeros(2, *case.shape)).shape == (2, 1)
    assert method_for(network) is Method.FACTORS
