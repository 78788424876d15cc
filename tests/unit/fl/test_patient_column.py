"""A contract that names patients: what is read, and on which side of the split they fall."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fl.contract import DataContract, Label, NumberColumn
from fl.data import features_of, load_table
from fl.errors import ContractViolation, Violation
from fl.split import split
from fl.table import Split, Table

CONTRACT = DataContract(
    columns=(NumberColumn(name="age", minimum=0, maximum=120),),
    label=Label(name="malignant"),
    patient="case",
)
KEY = b"k" * 32


def write(folder: Path, rows: list[str], *, header: str = "case,age,malignant") -> Path:
    path = folder / "table.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["age", "malignant"])
def test_the_patient_column_is_a_column_of_its_own(name: str) -> None:
    with pytest.raises(ValidationError, match="named twice"):
        DataContract(columns=CONTRACT.columns, label=CONTRACT.label, patient=name)


def test_patients_are_numbered_and_are_no_feature(tmp_path: Path) -> None:
    table = load_table(write(tmp_path, ["7-a,1,0", " Ü 9 ,2,1", "7-a,3,0", "07-a,4,1"]), CONTRACT)
    assert table.features.shape == (4, 1)
    assert table.patients is not None
    assert table.patients.dtype == np.int64
    assert table.patients.tolist() == [0, 1, 0, 2]
    assert table.patient_digests is not None
    assert table.patient_digests.shape == (3, 32)


def test_without_such_a_column_there_are_none(tmp_path: Path) -> None:
    contract = CONTRACT.model_copy(update={"patient": None})
    table = load_table(write(tmp_path, ["a,1,0"]), contract)
    assert (table.patients, table.patient_digests) == (None, None)


def test_a_row_of_nobody_and_a_table_without_the_column_break_the_contract(tmp_path: Path) -> None:
    with pytest.raises(ContractViolation) as caught:
        load_table(write(tmp_path, ["a,1,0", ",2,1", "  ,999,1"]), CONTRACT)
    assert set(caught.value.violations) == {
        Violation("case", "missing-value", 2),
        Violation("age", "out-of-range", 1),
    }
    with pytest.raises(ContractViolation, match="case: missing-column"):
        load_table(write(tmp_path, ["1,0"], header="age,malignant"), CONTRACT)


def test_rows_to_score_need_no_patient() -> None:
    assert features_of(pd.DataFrame({"age": [60.0]}), CONTRACT).tolist() == [[0.0]]


def table_of(rows: list[tuple[str, float, float]]) -> Table:
    names, numbers = [row[0] for row in rows], np.array([row[1:] for row in rows], np.float32)
    numbers = numbers.reshape(-1, 2)
    identifiers, patients = np.unique(np.array(names, "U9"), return_inverse=True)
    digests = [np.frombuffer(i.encode().ljust(32, b"\0"), np.uint8) for i in identifiers.tolist()]
    return Table(
        numbers[:, :1],
        numbers[:, 1],
        patients.astype(np.int64),
        np.array(digests, np.uint8).reshape(-1, 32),
    )


def names_of(table: Table) -> list[str]:
    assert table.patients is not None
    assert table.patient_digests is not None
    return [
        table.patient_digests[patient].tobytes().rstrip(b"\0").decode()
        for patient in table.patients
    ]


ROW = st.tuples(
    st.sampled_from("abcdefghij"), st.floats(-1, 1, width=32), st.sampled_from([0.0, 1.0])
)


def sides(parts: Split) -> tuple[set[str], set[str]]:
    return set(names_of(parts.train)), set(names_of(parts.held_out))


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(ROW, max_size=30), others=st.lists(ROW, max_size=15), random=st.randoms())
def test_a_patient_is_on_one_side_whoever_comes_or_goes(
    rows: list[tuple[str, float, float]], others: list[tuple[str, float, float]], random: object
) -> None:
    train, held_out = sides(split(table_of(rows), key=KEY))
    assert not train & held_out
    assert train | held_out == {name for name, _, _ in rows}
    mixed = rows + others
    random.shuffle(mixed)  # type: ignore[attr-defined]
    parts = split(table_of(mixed), key=KEY)
    assert train <= sides(parts)[0]
    assert held_out <= sides(parts)[1]
    trained_on = [name for name, _, _ in mixed if name in sides(parts)[0]]
    assert sorted(names_of(parts.train)) == sorted(trained_on)


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(ROW, max_size=30), gone=st.sampled_from("abcdefghij"))
def test_one_patient_less_is_at_most_one_held_out_row_less(
    rows: list[tuple[str, float, float]], gone: str
) -> None:
    """So an evaluation's counts change by one, in one place."""

    def held_out(of: list[tuple[str, float, float]]) -> list[tuple[str, float, float]]:
        table = split(table_of(of), key=KEY).held_out
        return sorted(
            zip(names_of(table), table.features[:, 0].tolist(), table.labels.tolist(), strict=True)
        )

    before = held_out(rows)
    assert len({name for name, _, _ in before}) == len(before)
    assert held_out([row for row in rows if row[0] != gone]) == [
        row for row in before if row[0] != gone
    ]


def test_the_share_is_one_of_patients() -> None:
    rows = [(f"p{number}", value, 0.0) for number in range(2000) for value in (0.1, 0.2, 0.3)]
    parts = split(table_of(rows), key=KEY)
    assert 320 < len(parts.held_out) < 480
    assert len(parts.train) == 3 * (2000 - len(parts.held_out))


def test_patients_without_digests_cannot_be_split() -> None:
    table = Table(np.zeros((2, 1), np.float32), np.zeros(2, np.float32), np.array([0, 0]))
    with pytest.raises(ValueError, match="without digests"):
        split(table, key=KEY)
