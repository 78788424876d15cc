"""A sample in parts: the same sum, whole patients, one draw of noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from fl.batches import Batches
from fl.table import Table
from privacy.plan import PrivacyPlan


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 1))


def table_of(patients: list[int] | None, *, rows: int | None = None) -> Table:
    """Features and labels tell each row's number."""
    n = len(patients) if patients is not None else rows or 0
    numbers = np.arange(n, dtype=np.float32)
    known = None if patients is None else np.unique(patients, return_inverse=True)[1]
    return Table(np.repeat(numbers[:, None], 3, axis=1), numbers, known)


def no_coins(n: int, rate: float) -> NDArray[np.bool_]:
    raise AssertionError("a coin was drawn")


class TestFullBatch:
    def test_all_records_are_in_every_step_and_no_coin_is_drawn(
        self, step_plan: PrivacyPlan
    ) -> None:
        batches = Batches(table_of(None, rows=7), plan=step_plan, coins=no_coins, most_records=100)
        for _ in range(3):
            (part,) = batches.next_step()
            assert part.labels.tolist() == list(range(7))

    def test_nothing_of_it_is_drawn_in_a_training(
        self,
        clipped_sum: Callable[..., NDArray[np.float64]],
        step_plan: PrivacyPlan,
        recorder: type[Any],
    ) -> None:
        source = recorder()
        plan = step_plan.model_copy(update={"steps_per_round": 4})
        clipped_sum(network, table_of(None, rows=9), plan=plan, source=source)
        assert source.coins == []


@given(
    patients=st.one_of(st.none(), st.lists(st.integers(0, 6), max_size=40)),
    most=st.integers(1, 12),
    chosen=st.sets(st.integers(0, 6)),
)
def test_parts_hold_the_sample_once_in_whole_patients(
    patients: list[int] | None, most: int, chosen: set[int]
) -> None:
    table = table_of(patients, rows=7)
    units = len(table) if table.patients is None else len(np.unique(table.patients))
    taken = [unit for unit in chosen if unit < units]

    def coins(n: int, rate: float) -> NDArray[np.bool_]:
        assert (n, rate) == (units, 0.5)
        return np.isin(np.arange(n), taken)

    plan = PrivacyPlan(
        clip_norm=1,
        noise_multiplier=1,
        sampling_rate=0.5,
        expected_batch_size=1,
        evaluation_noise_multiplier=1,
        steps_per_round=1,
        rounds=1,
        delta=1e-5,
    )
    parts = list(Batches(table, plan=plan, coins=coins, most_records=most).next_step())
    owners = np.arange(len(table)) if table.patients is None else table.patients
    expected = np.flatnonzero(np.isin(owners, taken))
    assert sorted(row for part in parts for row in part.labels.tolist()) == expected.tolist()
    assert all(len(part.labels) <= most for part in parts)
    assert all(torch.equal(part.features[:, 0], part.labels) for part in parts)
    if patients is None:
        return
    shares = np.zeros(units)
    finished = []
    for part in parts:
        assert part.patients is not None
        of_rows = owners[part.labels.long().numpy()]
        np.add.at(shares, of_rows, part.patients.share.numpy())
        assert len(np.unique(of_rows)) == part.patients.count
        assert len(set(zip(of_rows, part.patients.index.tolist(), strict=True))) == (
            part.patients.count
        )
        if not part.patients.unfinished:
            finished += np.unique(of_rows).tolist()
    np.testing.assert_allclose(shares, np.isin(np.arange(units), taken), atol=1e-5)
    assert sorted(finished) == taken


@pytest.mark.parametrize("patients", [None, [0, 1, 1, 1, 1, 1, 2, 2, 0, 3] * 3])
def test_parts_change_the_sum_by_rounding_alone(
    clipped_sum: Callable[..., NDArray[np.float64]], patients: list[int] | None
) -> None:
    rng = np.random.default_rng(2)
    table = Table(
        rng.uniform(-1, 1, (30, 3)).astype(np.float32),
        rng.integers(0, 2, 30).astype(np.float32),
        None if patients is None else np.asarray(patients),
    )
    whole = clipped_sum(network, table)
    for part_bytes in (1, 600, 2000):
        np.testing.assert_allclose(
            clipped_sum(network, table, part_bytes=part_bytes), whole, atol=1e-5
        )


@pytest.mark.parametrize("rows", [0, 30])
def test_noise_is_drawn_once_a_step_however_many_parts_there_are(
    clipped_sum: Callable[..., NDArray[np.float64]],
    step_plan: PrivacyPlan,
    recorder: type[Any],
    rows: int,
) -> None:
    source = recorder()
    plan = step_plan.model_copy(update={"steps_per_round": 3})
    clipped_sum(network, table_of(None, rows=rows), plan=plan, source=source, part_bytes=1)
    weights = sum(p.numel() for p in network().parameters())
    assert source.noise == [(weights, plan.noise_multiplier * plan.clip_norm)] * 3


def test_a_large_layers_noise_is_drawn_in_pieces_of_as_many_values_in_all(
    clipped_sum: Callable[..., NDArray[np.float64]], recorder: type[Any]
) -> None:
    def large() -> nn.Module:
        return nn.Sequential(nn.Linear(3, 9000), nn.ReLU(), nn.Linear(9000, 1))

    source = recorder()
    clipped_sum(large, table_of(None, rows=2), source=source)
    assert sum(count for count, _ in source.noise) == sum(p.numel() for p in large().parameters())
    assert max(count for count, _ in source.noise) <= 1 << 14
