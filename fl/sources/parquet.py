"""Parquet files, block by block: their numbers become text, exactly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fl.cells import as_text
from fl.errors import ContractViolation, Violation
from fl.sources.csv import header_violations
from fl.sources.places import refused

_ROWS: Final = 16_384


def blocks(path: Path, names: Sequence[str]) -> Iterator[pd.DataFrame]:
    """Yields named columns as text, from one row group after the other.

    Raises:
        ContractViolation: ``unreadable-file``, ``not-a-parquet``, ``missing-column``,
            ``repeated-column``, ``unreadable-column``.
    """
    try:
        with pq.ParquetFile(path) as file:
            if broken := header_violations(file.schema_arrow.names, names):
                raise ContractViolation(broken)
            for batch in file.iter_batches(_ROWS, columns=list(names), use_threads=False):
                yield text_frame({name: batch.column(name) for name in names})
    except ContractViolation:
        raise
    except (ValueError, pa.ArrowException):
        raise refused("not-a-parquet") from None
    except OSError:
        # Arrow tells a damaged file and an unreadable one alike.
        raise refused("unreadable-file") from None


def text_frame(arrays: dict[str, pa.Array]) -> pd.DataFrame:
    """Returns typed columns as a frame of text.

    Raises:
        ContractViolation: ``unreadable-column``, for each that is neither text nor numbers.
    """
    texts = {name: as_text(array) for name, array in arrays.items()}
    if broken := [name for name, text in texts.items() if text is None]:
        raise ContractViolation(Violation(name, "unreadable-column") for name in broken)
    return pa.table(texts).to_pandas()
