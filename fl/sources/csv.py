"""CSV files, block by block.

Arrow parses them, at some hundred megabytes a second. It does not mind an open quote at the end, a
NUL character, or text that is not UTF-8 in a column that is not read, so that these are looked for
here: the bytes pass through `_Checked`, which ends the file with a row of its own. Where an open
quote swallows that row, the last row is another.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import pandas as pd
import pyarrow as pa
import pyarrow.csv

from fl.errors import ContractViolation, Violation
from fl.sources.places import refused

_LAST: Final = "\0"  # no cell is that: a NUL character is refused


def blocks(path: Path, names: Sequence[str], *, block_bytes: int) -> Iterator[pd.DataFrame]:
    """Yields named columns as text; white space around names is no part of them.

    A row with fewer cells than the header is counted, and the rest is read on.

    Args:
        path: a CSV file in UTF-8, with or without a byte order mark, with a header.
        names: the columns to read; others are ignored.
        block_bytes: how much is parsed at once.

    Raises:
        ContractViolation: ``unreadable-file``, ``not-a-csv``, ``empty-table``, ``missing-column``,
            ``repeated-column``, and in the end ``short-row``.
    """
    try:
        with path.open("rb") as raw:
            header = _header(raw, block_bytes)
            raw.seek(0)
            yield from _rows(raw, header, names, block_bytes)
    except OSError:
        raise refused("unreadable-file") from None


def header_violations(found: Sequence[str], names: Sequence[str]) -> list[Violation]:
    """Returns a violation for each name that is not found exactly once."""
    count = Counter(found)
    return [
        Violation(name, "repeated-column" if count[name] else "missing-column")
        for name in names
        if count[name] != 1
    ]


def _rows(
    raw: BinaryIO, header: list[str], names: Sequence[str], block_bytes: int
) -> Iterator[pd.DataFrame]:
    if broken := header_violations([name.strip() for name in header], names):
        raise ContractViolation(broken)
    indexes = {name: [cell.strip() for cell in header].index(name) for name in names}
    checked = _Checked(raw, len(header))
    odd = _OddRows(len(header))
    first, last = True, ""
    for batch in _batches(checked, odd, len(header), list(indexes.values()), block_bytes):
        if first and batch.num_rows:
            # The header is read as a row: Arrow and the standard library must agree on it.
            if [batch[0][0].as_py()] != [header[next(iter(indexes.values()))]]:
                raise refused("not-a-csv")
            batch, first = batch[1:], False
        if batch.num_rows:
            last = batch[0][-1].as_py()
            batch = batch[:-1] if last == _LAST else batch
            frame = batch.to_pandas()
            frame.columns = list(indexes)
            yield frame
    if checked.is_broken or odd.long or last != _LAST:
        raise refused("not-a-csv")
    if odd.short:
        raise refused("short-row", count=odd.short)


def _batches(
    checked: _Checked, odd: _OddRows, columns: int, read: list[int], block_bytes: int
) -> Iterator[pa.RecordBatch]:
    keys = [str(index) for index in range(columns)]
    included = [keys[index] for index in read]
    try:
        reader = pa.csv.open_csv(
            checked,
            read_options=pa.csv.ReadOptions(block_size=block_bytes, column_names=keys),
            parse_options=pa.csv.ParseOptions(
                newlines_in_values=True, invalid_row_handler=odd.handle
            ),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(included, pa.large_string()),
                include_columns=included,
            ),
        )
        yield from reader
    except (ValueError, pa.ArrowException):
        raise refused("not-a-csv") from None


def _header(raw: BinaryIO, block_bytes: int) -> list[str]:
    start = raw.read(block_bytes)
    if not start.strip(b"\xef\xbb\xbf \t\r\n"):
        raise refused("empty-table" if len(start) < block_bytes else "not-a-csv")
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(start)
        return next(row for row in csv.reader(io.StringIO(text, newline=None)) if row)
    except (UnicodeDecodeError, csv.Error, StopIteration):
        raise refused("not-a-csv") from None


class _OddRows:
    """Counts rows that are not as long as the header."""

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self.short = 0
        self.long = 0

    def handle(self, row: Any) -> str:
        if row.actual_columns > self._columns:
            self.long += 1
        elif row.text.strip():
            self.short += 1
        return "skip"


class _Checked(io.RawIOBase):
    """A file's bytes, as far as they are text, and a last row after them."""

    def __init__(self, raw: BinaryIO, columns: int) -> None:
        self._raw = raw
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._end = b"\n" + b",".join([_LAST.encode()] * columns) + b"\n"
        self._ended = False
        self._half = b""
        self.is_broken = False

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while not self._ended:
            piece = self._raw.read(max(1, size - len(self._half)))
            whole = self._half + piece
            self._look_at(piece)
            self._ended = self.is_broken or not piece
            if self.is_broken:
                break
            if not piece:
                return whole + self._end
            # Half a character waits for its other half: a row in which it is would be no text. So
            # does half a line end: Arrow takes a block that is but the other half for the last one.
            self._half, _ = self._decoder.getstate()
            if whole.endswith(b"\r"):
                self._half = b"\r"
            if whole := whole[: len(whole) - len(self._half)]:
                return whole
        return b""

    def _look_at(self, piece: bytes) -> None:
        try:
            self._decoder.decode(piece, final=not piece)
        except UnicodeDecodeError:
            self.is_broken = True
        self.is_broken |= b"\0" in piece
