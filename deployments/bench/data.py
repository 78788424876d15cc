"""What it takes to read a large file: seconds and memory for a CSV file of a gigabyte.

    python -m deployments.bench.data           # 1 GB, 30 numbers, 2 categories, patients
    python -m deployments.bench.data --mb 100 --repeats 1

Each repeat is a process of its own, so that its most memory is its own; that is what the kernel
calls the high-water mark of the resident set (``VmHWM``), libraries included. The file is read from
the kernel's cache, as right after it has been written.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv
import typer
from rich.console import Console

from deployments.bench.report import figure, print_report, write_report
from fl.contract import CategoryColumn, DataContract, Label, NumberColumn

REPORT: Final = Path(".fedmed/bench/data.json")
NUMBERS: Final = 30
CONTRACT: Final = DataContract(
    columns=(
        *(NumberColumn(name=f"x{i}", minimum=0, maximum=100) for i in range(NUMBERS)),
        CategoryColumn(name="sex", categories=("f", "m")),
        CategoryColumn(name="stage", categories=("I", "II", "III", "IV")),
    ),
    label=Label(name="malignant"),
    patient="patient",
)
_BLOCK_ROWS: Final = 50_000


def write_table(path: Path, size_bytes: int, *, seed: int = 0) -> int:
    """Writes a made-up table of at least so many bytes; returns its number of rows.

    Numbers have four decimals; each patient has one row or two.
    """
    rng = np.random.default_rng(seed)
    rows = 0
    with path.open("wb") as file:
        file.write((",".join(CONTRACT.names) + "\n").encode())
        while file.tell() < size_bytes:
            block = _block(rng, start=rows)
            options = pa.csv.WriteOptions(include_header=False, quoting_style="none")
            pa.csv.write_csv(block, file, options)
            rows += len(block)
    return rows


def measure(path: Path) -> dict[str, float]:
    """Reads and splits the table in this process; returns seconds, megabytes and rows."""
    from fl.data import load_table
    from fl.split import split

    began = time.perf_counter()
    table = load_table(path, CONTRACT)
    loaded = {"rows": len(table), "load_s": time.perf_counter() - began, "load_mb": _peak_mb()}
    began = time.perf_counter()
    split(table, key=bytes(32))
    return loaded | {"split_s": time.perf_counter() - began, "split_mb": _peak_mb()}


def main(
    mb: Annotated[int, typer.Option(min=1, help="size of the table, in millions of bytes")] = 1000,
    repeats: Annotated[int, typer.Option(min=1)] = 3,
    report: Annotated[Path, typer.Option(help="where the figures go")] = REPORT,
    table: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Measures how a large table is read and split."""
    if table is not None:
        print(json.dumps(measure(table)))
        return
    with tempfile.TemporaryDirectory(prefix="fedmed-bench-") as folder:
        path = Path(folder, "table.csv")
        rows = write_table(path, mb * 1_000_000)
        found = [_in_a_process(path) for _ in range(repeats)]
    if any(one["rows"] != rows for one in found):
        raise RuntimeError(f"{rows} rows were written, and others read: {found}")
    size = f"{mb / 1000:g} GB CSV"
    whole = mb == 1000  # the goals are those of a gigabyte

    def values(name: str) -> list[float]:
        return [one[name] for one in found]

    figures = [
        figure(
            f"read and check, {size}",
            values("load_s"),
            unit="s",
            better="lower",
            goal=20 if whole else None,
        ),
        figure(
            "most memory while reading",
            values("load_mb"),
            unit="MB",
            better="lower",
            goal=1000 if whole else None,
        ),
        figure("split", values("split_s"), unit="s", better="lower"),
        figure(
            "most memory, split included",
            values("split_mb"),
            unit="MB",
            better="lower",
            goal=1000 if whole else None,
        ),
        figure("rows", values("rows"), unit="", better="higher"),
    ]
    print_report(write_report(report, figures), Console())


def _block(rng: np.random.Generator, *, start: int) -> pa.Table:
    columns = {
        f"x{i}": np.round(rng.normal(50, 10, _BLOCK_ROWS).clip(0, 100), 4) for i in range(NUMBERS)
    }
    columns |= {
        "sex": rng.choice(["f", "m"], _BLOCK_ROWS),
        "stage": rng.choice(["I", "II", "III", "IV"], _BLOCK_ROWS),
        "malignant": rng.integers(0, 2, _BLOCK_ROWS),
        "patient": (start + np.arange(_BLOCK_ROWS)) * 2 // 3,
    }
    return pa.table({name: columns[name] for name in CONTRACT.names})


def _in_a_process(path: Path) -> dict[str, float]:
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "deployments.bench.data", "--table", str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _peak_mb() -> float:
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 1e6


if __name__ == "__main__":
    typer.run(main)
