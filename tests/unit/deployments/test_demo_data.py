"""The demo's rows: dealt out without loss, the same way each time, within the model's contract."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from deployments.demo_data import LABEL, deal_out, demo_model, hospital_ids
from fl.data import load_table


@pytest.fixture(scope="module")
def dealt(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return deal_out(tmp_path_factory.mktemp("data"), hospitals=3, seed=0)


def read(folders: dict[str, Path]) -> list[pd.DataFrame]:
    return [pd.read_csv(folder / "table.csv") for folder in folders.values()]


def test_each_row_goes_to_one_hospital(dealt: dict[str, Path]) -> None:
    assert tuple(dealt) == hospital_ids(3) == ("hospital-1", "hospital-2", "hospital-3")
    tables = read(dealt)
    assert sum(map(len, tables)) == 569
    together = pd.concat(tables)
    assert len(together.drop_duplicates()) == 569
    assert together[LABEL].sum() == 212  # malignant


def test_hospitals_have_the_same_share_of_malignant_masses(dealt: dict[str, Path]) -> None:
    shares = [table[LABEL].mean() for table in read(dealt)]
    assert max(shares) - min(shares) < 0.01


def test_every_hospital_s_table_fits_the_model_s_contract(dealt: dict[str, Path]) -> None:
    for folder in dealt.values():
        table = load_table(folder, demo_model().contract)
        assert table.features.shape[1] == 30
        assert not table.one_class_only


def test_the_deal_depends_on_the_seed_alone(dealt: dict[str, Path], tmp_path: Path) -> None:
    again = deal_out(tmp_path / "again", hospitals=3, seed=0)
    other = deal_out(tmp_path / "other", hospitals=3, seed=1)
    assert [t.to_csv() for t in read(again)] == [t.to_csv() for t in read(dealt)]
    assert [t.to_csv() for t in read(other)] != [t.to_csv() for t in read(dealt)]


def test_what_is_there_is_left_alone(dealt: dict[str, Path], tmp_path: Path) -> None:
    folders = deal_out(tmp_path, hospitals=3, seed=0)
    own = folders["hospital-1"] / "table.csv"
    own.write_text("edited by hand\n")
    deal_out(tmp_path, hospitals=3, seed=0)
    assert own.read_text() == "edited by hand\n"
