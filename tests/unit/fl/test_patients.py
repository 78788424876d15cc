"""One patient more, whatever the rows, changes a step's sum by at most the clip norm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray
from torch import nn

from fl.table import Table
from privacy.plan import PrivacyPlan

COLUMNS = 3
CLIP = 0.5


def factored() -> nn.Module:
    return nn.Sequential(nn.Linear(COLUMNS, 4), nn.ReLU(), nn.Linear(4, 1))


class Scale(nn.Module):
    """A layer without a rule, so that Opacus finds the gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(nn.Linear(COLUMNS, 1).weight[0].detach().clone())

    def forward(self, features: Any) -> Any:
        return features * self.factor


def hooked() -> nn.Module:
    return nn.Sequential(Scale(), nn.Linear(COLUMNS, 4), nn.ReLU(), nn.Linear(4, 1))


def table_of(
    features: NDArray[np.float32], patients: list[int], labels: list[float] | None = None
) -> Table:
    rows = np.asarray(features, np.float32).reshape(-1, COLUMNS)
    alternating = np.arange(len(rows)) % 2 if labels is None else labels
    return Table(rows, np.asarray(alternating, np.float32), np.asarray(patients, np.int64))


def rows(n: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).uniform(-1, 1, (n, COLUMNS)).astype(np.float32)


any_value = st.one_of(
    st.floats(-1, 1, width=32),
    st.sampled_from([1e6, -1e6, 1e20, 3e38, np.nan, np.inf, -np.inf]),
)
added_rows = st.integers(1, 9).flatmap(
    lambda n: npst.arrays(np.float32, (n, COLUMNS), elements=any_value)
)


@pytest.mark.parametrize("make", [factored, hooked])
@pytest.mark.parametrize("part_bytes", [1 << 30, 1])
@settings(max_examples=25, deadline=None)
@given(added=added_rows, label=st.sampled_from([0.0, 1.0]))
def test_one_patient_more_changes_the_sum_by_at_most_the_clip_norm(
    clipped_sum: Callable[..., NDArray[np.float64]],
    make: Callable[[], nn.Module],
    part_bytes: int,
    added: NDArray[np.float32],
    label: float,
) -> None:
    there = rows(5)
    before = clipped_sum(make, table_of(there, [0, 0, 1, 2, 2]), part_bytes=part_bytes)
    after = clipped_sum(
        make,
        table_of(
            np.vstack([there, added]),
            [0, 0, 1, 2, 2, *[3] * len(added)],
            [0, 1, 0, 1, 0, *[label] * len(added)],
        ),
        part_bytes=part_bytes,
    )
    assert np.isfinite(after).all()
    assert np.linalg.norm(after - before) <= CLIP * (1 + 1e-5)


@pytest.mark.parametrize("make", [factored, hooked])
def test_a_patients_gradient_is_the_mean_of_its_records(
    clipped_sum: Callable[..., NDArray[np.float64]],
    step_plan: PrivacyPlan,
    make: Callable[[], nn.Module],
) -> None:
    plan = step_plan.model_copy(update={"clip_norm": 1000.0})
    features = rows(4)
    alone = [
        clipped_sum(make, table_of(features[i], [0], [float(i % 2)]), plan=plan) for i in range(4)
    ]
    together = clipped_sum(make, table_of(features, [1, 0, 0, 0]), plan=plan)
    np.testing.assert_allclose(together, alone[0] + sum(alone[1:]) / 3, atol=1e-6)


@pytest.mark.parametrize("make", [factored, hooked])
def test_a_patient_of_one_record_counts_as_a_record_does(
    clipped_sum: Callable[..., NDArray[np.float64]], make: Callable[[], nn.Module]
) -> None:
    table = table_of(rows(6), [3, 1, 0, 5, 2, 4])
    by_record = clipped_sum(make, Table(table.features, table.labels))
    np.testing.assert_allclose(clipped_sum(make, table), by_record, atol=1e-6)


@pytest.mark.parametrize("make", [factored, hooked])
def test_a_record_that_is_not_finite_takes_its_patient_out_and_nobody_else(
    clipped_sum: Callable[..., NDArray[np.float64]], make: Callable[[], nn.Module]
) -> None:
    features = rows(6)
    features[3, 1] = np.nan
    left = table_of(features[[0, 1, 5]], [0, 0, 1], [0, 1, 1])
    np.testing.assert_allclose(
        clipped_sum(make, table_of(features, [0, 0, 1, 1, 1, 2])),
        clipped_sum(make, left),
        atol=1e-6,
    )


def test_the_coins_are_the_patients(
    clipped_sum: Callable[..., NDArray[np.float64]],
    step_plan: PrivacyPlan,
    recorder: type[Any],
) -> None:
    plan = step_plan.model_copy(update={"sampling_rate": 0.25, "noise_multiplier": 1e-9})
    table = table_of(rows(6), [0, 2, 1, 2, 0, 2])
    source = recorder(chosen=[2])
    drawn = clipped_sum(factored, table, plan=plan, source=source)
    assert source.coins == [(3, 0.25)]
    alone = table_of(table.features[[1, 3, 5]], [0, 0, 0], table.labels[[1, 3, 5]].tolist())
    np.testing.assert_allclose(drawn, clipped_sum(factored, alone), atol=1e-6)
