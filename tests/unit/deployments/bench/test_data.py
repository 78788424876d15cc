"""The benchmark's table fits its contract, and its figures are measured where they are said to."""

from __future__ import annotations

from pathlib import Path

from deployments.bench.data import CONTRACT, measure, write_table
from fl.data import load_table


def test_the_table_fits_its_contract_and_is_as_large_as_asked(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    rows = write_table(path, 100_000)
    assert path.stat().st_size >= 100_000
    table = load_table(path, CONTRACT)
    assert len(table) == rows
    assert table.patients is not None
    assert rows / 2 < table.patients.max() < rows
    found = measure(path)
    assert found["rows"] == rows
    assert found["split_mb"] >= found["load_mb"] > 0
