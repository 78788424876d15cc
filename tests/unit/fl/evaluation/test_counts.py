"""Which counts ride along, and what one row adds to them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl.contract import DataContract, Label, NumberColumn
from fl.errors import ModelError
from fl.evaluation import score_histogram
from fl.evaluation.counts import HISTOGRAM, counters, decode, encode, subgroups_of
from fl.subgroups import Subgroup

SUBGROUPS = (
    Subgroup(name="sex", groups=("f", "m")),
    Subgroup(name="age", bands=(0, 40, 65, 120)),
)
CONTRACT = DataContract(
    columns=(NumberColumn(name="x", minimum=0, maximum=1),),
    label=Label(name="y"),
    subgroups=SUBGROUPS,
)
ROWS = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 1), st.integers(-1, 1), st.integers(-1, 2)),
    max_size=30,
)
Row = tuple[float, int, int, int]


def counted(rows: list[Row]) -> np.ndarray:
    groups = np.array([row[2:] for row in rows], np.int8).reshape(len(rows), 2)
    return encode([r[0] for r in rows], [r[1] for r in rows], groups, subgroups=SUBGROUPS)


def test_a_round_counts_the_whole_and_the_closing_evaluation_groups_as_well() -> None:
    assert counters(CONTRACT, "training", evaluate=True) == HISTOGRAM
    assert counters(CONTRACT, "evaluation", evaluate=True) == HISTOGRAM * (1 + 2 + 3)
    assert counters(CONTRACT, "training", evaluate=False) == 0
    assert len(counted([])) == counters(CONTRACT, "evaluation", evaluate=True)
    plain = CONTRACT.model_copy(update={"subgroups": ()})
    assert counters(plain, "evaluation", evaluate=True) == HISTOGRAM
    assert subgroups_of(CONTRACT, "training") == ()


@given(ROWS)
@settings(max_examples=60, deadline=None)
def test_counts_of_a_group_are_the_histogram_of_its_rows(rows: list[Row]) -> None:
    counts = decode(counted(rows), subgroups=SUBGROUPS)
    everybody = score_histogram([r[0] for r in rows], [r[1] for r in rows]).counts()
    assert np.array_equal(counts.overall, everybody)
    assert [part.shape for part in counts.groups] == [(2, HISTOGRAM), (3, HISTOGRAM)]
    for place, part in enumerate(counts.groups, start=2):
        for group, of_group in enumerate(part):
            inside = [r for r in rows if r[place] == group]
            expected = score_histogram([r[0] for r in inside], [r[1] for r in inside])
            assert np.array_equal(of_group, expected.counts())


@given(ROWS.filter(bool), st.data())
@settings(max_examples=60, deadline=None)
def test_a_row_changes_1_and_s_counts_by_one_at_most(rows: list[Row], data: st.DataObject) -> None:
    """The sensitivity that `fl.integer_noise.count_noise_std` reckons with."""
    without = list(rows)
    gone = without.pop(data.draw(st.integers(0, len(rows) - 1)))
    change = counted(rows) - counted(without)
    assert set(change) <= {0, 1}
    assert change.sum() == 1 + (gone[2] >= 0) + (gone[3] >= 0)
    assert np.linalg.norm(change) <= np.sqrt(1 + len(SUBGROUPS))


@given(ROWS, ROWS)
@settings(max_examples=30, deadline=None)
def test_counts_of_hospitals_add_up(one: list[Row], other: list[Row]) -> None:
    assert np.array_equal(counted(one) + counted(other), counted(one + other))


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (None, "groups of shape None"),
        (np.zeros((2, 1), np.int8), r"groups of shape \(2, 1\), expected \(2, 2\)"),
        (np.array([[0, 0], [2, 0]], np.int8), "subgroup 'sex': 1 rows"),
        (np.array([[0, -2], [1, 3]], np.int8), "subgroup 'age': 2 rows"),
    ],
)
def test_groups_that_are_not_the_contract_s_are_refused(
    groups: np.ndarray | None, message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        encode([0.2, 0.8], [0, 1], groups, subgroups=SUBGROUPS)


@pytest.mark.parametrize("size", [0, 1, HISTOGRAM - 1, 2 * HISTOGRAM])
def test_another_number_of_counts_is_refused(size: int) -> None:
    with pytest.raises(ModelError, match="score counts: shape"):
        decode(np.zeros(size, np.int64))
    with pytest.raises(ModelError, match="score counts: shape"):
        decode(np.zeros(size, np.int64), subgroups=SUBGROUPS)
