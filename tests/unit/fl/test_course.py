"""A training's course: centre and spread over all hospitals, then the model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fl.architecture_spec import Logistic
from fl.architectures import initial_weights
from fl.contract import CategoryColumn, DataContract, Label, NumberColumn
from fl.course import Course
from fl.errors import ModelError, RoundError
from fl.names import CENTRE, RECORDS, SPREAD
from fl.records import decode_record, encode_record
from fl.rehearsal import rehearsed
from fl.rounds import RoundState
from fl.spec import ModelSpec
from fl.standardising import RECORDS_UNIT
from fl.statistics import measure
from fl.strategy_spec import Averaged
from fl.table import Split, Table
from privacy.noise import SecureGenerator
from privacy.plan import PrivacyPlan

SPEC = ModelSpec(
    name="m",
    architecture=Logistic(),
    contract=DataContract(
        columns=(
            NumberColumn(name="age", minimum=0, maximum=120, missing="neutral"),
            NumberColumn(name="flag", minimum=0, maximum=1, whole=True),
            CategoryColumn(name="sex", categories=("f", "m")),
        ),
        label=Label(name="y"),
    ),
)
NO_NOISE = 1e-9


def plan(*, rounds: int = 26, noise: float = NO_NOISE) -> PrivacyPlan:
    kept = PrivacyPlan(
        clip_norm=0.25,
        noise_multiplier=1,
        evaluation_noise_multiplier=1,
        sampling_rate=1,
        expected_batch_size=128,
        steps_per_round=1,
        rounds=rounds,
        delta=1e-5,
    )
    return kept.model_copy(update={"noise_multiplier": noise})


COURSE = Course(SPEC, plan(), Averaged(step=6.0))


def table(rows: int, *, seed: int = 0) -> Table:
    rng = np.random.default_rng(seed)
    labels = (rng.random(rows) < 0.4).astype(np.float32)
    features = np.column_stack(
        [
            -0.4 + 0.2 * rng.standard_normal(rows) + 0.2 * labels,
            np.where(rng.random(rows) < 0.2, 1, -1),
            rng.random(rows) < 0.3,
        ]
    )
    return Table(features.astype(np.float32), labels)


def parts(whole: Table, ends: list[int]) -> list[Split]:
    rows = np.arange(len(whole))
    cut = [whole.rows((rows >= a) & (rows < b)) for a, b in zip([0, *ends], [*ends, len(whole)])]  # noqa: B905
    return [Split(part, part.rows(np.zeros(len(part), bool))) for part in cut]


def states(whole: Table, ends: list[int], course: Course = COURSE) -> list[RoundState]:
    return list(rehearsed(course, parts(whole, ends), seed=1))


def test_centre_and_spread_are_those_of_all_rows_together() -> None:
    whole = table(900)
    weights = states(whole, [500, 700])[8].weights
    centre, spread = whole.features.mean(axis=0), whole.features.std(axis=0)
    assert weights[CENTRE][0] == pytest.approx(centre[0], abs=0.06)
    # Clipping draws the centre of two far values towards the more frequent one, and spreads down.
    np.testing.assert_allclose(weights[CENTRE], centre, atol=0.3)
    assert np.all((weights[SPREAD] > 0.5 * spread) & (weights[SPREAD] < 1.1 * spread))
    assert np.array_equal(np.argsort(weights[SPREAD]), np.argsort(spread))
    assert float(weights[RECORDS][0]) * RECORDS_UNIT == pytest.approx(900, rel=0.01)


def test_how_rows_are_dealt_out_changes_next_to_nothing() -> None:
    whole = table(600)
    one, other = states(whole, [200, 400])[-1].weights, states(whole, [5, 580])[-1].weights
    for name, values in one.items():
        np.testing.assert_allclose(other[name], values, atol=2e-2)


def test_an_empty_cell_says_nothing_of_the_centre() -> None:
    whole = table(600)
    features = whole.features.copy()
    features[:, 0] = np.where(np.arange(600) % 2, np.nan, features[:, 0])
    holey = states(replace(whole, features=features), [200, 400])[8].weights
    expected = np.nanmean(features[:, 0])
    assert holey[CENTRE][0] == pytest.approx(expected, abs=0.06)


def test_a_course_goes_on_from_what_was_stored() -> None:
    split = parts(table(300), [100, 200])
    stored = states(table(300), [100, 200])[14]
    kept = replace(stored, strategy_state=decode_record(encode_record(stored.strategy_state)))
    asked = [COURSE.configure(state, hospitals=3) for state in (stored, kept)]
    assert asked[0].train_config == asked[1].train_config
    update = np.full(sum(v.size for v in stored.weights.values()), 0.01, np.float32)
    one, other = (
        COURSE.aggregate(state, question, mean_update=update, hospitals=len(split)).state.weights
        for state, question in zip((stored, kept), asked, strict=True)
    )
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_a_round_that_trains_leaves_the_standardiser_alone() -> None:
    state = states(table(300), [100, 200])[14]
    asked = COURSE.configure(state, hospitals=3)
    assert "stage" not in asked.train_config
    update = np.ones(sum(v.size for v in state.weights.values()), np.float32)
    after = COURSE.aggregate(state, asked, mean_update=update, hospitals=3).state.weights
    for name in (CENTRE, SPREAD, RECORDS):
        assert np.array_equal(after[name], state.weights[name])
    assert not np.array_equal(after["network.weight"], state.weights["network.weight"])


@pytest.mark.parametrize("update", [np.zeros(3, np.float32), np.full(11, np.nan, np.float32)])
def test_sums_of_another_shape_or_that_are_no_numbers_are_refused(
    update: NDArray[np.float32],
) -> None:
    state = RoundState(1, initial_weights(SPEC, seed=0))
    asked = COURSE.configure(state, hospitals=3)
    with pytest.raises(RoundError, match="round 1"):
        COURSE.aggregate(state, asked, mean_update=update, hospitals=3)


RECORD = st.tuples(*[st.floats(-1, 1, width=32) | st.just(float("nan"))] * 3)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(RECORD, min_size=1, max_size=8),
    kind=st.sampled_from(["centre", "spread"]),
    radius=st.sampled_from([0.25, 1.0]),
)
def test_one_record_more_moves_the_sums_by_the_clip_norm_at_most(
    rows: list[tuple[float, ...]], kind: str, radius: float
) -> None:
    features = np.array(rows, np.float32)
    both = [Table(part, np.zeros(len(part), np.float32)) for part in (features, features[:-1])]
    weights = initial_weights(SPEC, seed=0)

    def sums(part: Table) -> NDArray[np.float64]:
        after = measure(
            weights,
            part,
            kind=kind,  # type: ignore[arg-type]
            radius=radius,
            learning_rate=1.0,
            plan=plan(),
            generator=SecureGenerator.seeded(1),
        )
        changes = [after[name] - weights[name] for name in (CENTRE, SPREAD, RECORDS)]
        return np.concatenate(changes).astype(np.float64) * 128

    moved = np.linalg.norm(sums(both[0]) - sums(both[1]))
    assert moved <= 0.25 * (1 + 1e-4)


def test_measuring_needs_a_standardiser_and_all_rows() -> None:
    sampled = plan().model_copy(update={"sampling_rate": 0.5})
    with pytest.raises(ModelError, match="sampling_rate 1"):
        measure(
            initial_weights(SPEC, seed=0),
            table(5),
            kind="centre",
            radius=1.0,
            learning_rate=1.0,
            plan=sampled,
            generator=SecureGenerator.seeded(1),
        )
