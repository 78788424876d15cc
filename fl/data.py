"""A hospital's data: read, whatever their format, and held to the data contract.

    table = load_table(Path("data/"), contract)
    parts = split(table, key=site_key)
    parts.train.features  # float32, (n, d)

Nothing read from a row leaves this module except as numbers in a `Table`: errors name columns,
rules and counts of rows. ``docs/data.md`` describes formats and contracts. The rules are

=======================  ========================================================================
of the file
``no-such-file``         the path names no file, or a folder without a data file
``several-files``        a folder with more than one data file; counts the files
``unreadable-file``      the system refuses to read the file
``not-a-csv``            not UTF-8, a NUL character, an open quote, or a row longer than the header
``not-a-parquet``        not a Parquet file, or a damaged one
``not-an-npz``           not an archive of arrays, or a damaged one
``no-images``            the contract reads images, and this is neither a folder nor an archive of
                         them
``empty-table``          no header, or no row below it
``short-row``            a row with fewer cells than the header
``uneven-arrays``        arrays of an archive differ in their length
of a column
``missing-column``       a column of the contract is not in the header
``repeated-column``      a column of the contract is in the header twice
``unreadable-column``    neither text nor numbers, such as dates, lists or pickled objects
``not-images``           the array is none of images: (n, h, w), (n, h, w, c) or (n, c, h, w)
of cells
``missing-value``        an empty cell where the contract refuses one
``not-a-number``         text, ``inf`` or the like where the contract has a number
``not-whole``            a number with decimals where the contract has whole ones
``out-of-range``         a number, or an image's pixel, outside the contract's public range
``unknown-category``     a name that is none of the contract's categories
``unknown-label``        neither of the contract's two classes
of images
``no-such-image``        the file is not there
``file-outside-folder``  the file lies outside the folder, or a link leads there
``unreadable-image``     no PNG, JPEG or DICOM, or a damaged one
``too-large-image``      more than 67 million pixels
``several-frames``       a DICOM file of more than one image
``install-extra-dicom``  a DICOM file, and ``pip install fedmed[dicom]`` has not been run
=======================  ========================================================================
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fl import sources
from fl.annotations import Patients, groups_of, labels_of
from fl.contract import DataContract
from fl.encoding import empty_cells, encoded
from fl.errors import ContractViolation, Violation
from fl.row_store import RowStore
from fl.sources.csv import header_violations
from fl.table import Table


def load_table(
    path: Path, contract: DataContract, *, block_bytes: int = sources.BLOCK_BYTES
) -> Table:
    """Reads a hospital's data and holds them to the contract.

    Columns that the contract does not name are ignored; a byte order mark and white space around
    values are tolerated. A file may be larger than the memory: features that are many lie on the
    disk, in the folder for temporary files.

    Args:
        path: a CSV file in UTF-8 with a header, a Parquet file or a NumPy archive; a folder that
            holds exactly one of them; or a folder of images with their ``labels.csv``.
        contract: what the model reads, the label, the patient and the subgroups.
        block_bytes: how much of a CSV file is read at once; it changes nothing of the result.

    Raises:
        ContractViolation: every broken rule at once, with counts. No error of a library that reads
            files travels with it, not even as its context: those quote rows.
    """
    # Errors are raised here, where no local variable holds a row: some log tools show locals.
    outcome = _read(path, contract, block_bytes)
    if isinstance(outcome, Table):
        return outcome
    raise ContractViolation(outcome)


def features_of(frame: pd.DataFrame, contract: DataContract) -> NDArray[np.float32]:
    """Returns a frame's contract columns, checked and scaled: float32, (n, contract.features).

    Args:
        frame: raw columns under the contract's names, as text or numbers; others are ignored.
        contract: the columns; none for images, which are no frame.

    Raises:
        ContractViolation: every broken rule at once, with counts.
    """
    if contract.images is not None:
        raise ContractViolation([Violation("", "no-images")])
    names = [column.name for column in contract.columns]
    if missing := header_violations(list(frame.columns), names):
        raise ContractViolation(missing)
    features, violations = encoded(frame, contract)
    if violations:
        raise ContractViolation(violations)
    return features


def _read(path: Path, contract: DataContract, block_bytes: int) -> Table | list[Violation]:
    try:
        rows = _Rows(contract)
        pixels = None if contract.images is None else sources.pixels(path, contract)
        for frame in sources.blocks(path, contract, block_bytes=block_bytes):
            rows.annotate(frame)
            for features, violations in (
                [encoded(frame, contract)] if pixels is None else pixels(frame)
            ):
                rows.extend(features, violations)
    except ContractViolation as violation:
        broken = list(violation.violations)
        # What breaks off the reading stands alone; the rest would depend on where it was.
        return rows.violations + broken if {v.rule for v in broken} == {"short-row"} else broken
    return rows.violations or rows.table()


class _Rows:
    """The rows read so far, and the rules that they break."""

    def __init__(self, contract: DataContract) -> None:
        self._contract = contract
        self._tokens = empty_cells(contract)
        kind = "float32" if contract.images is None else contract.images.pixel_type
        self._features = RowStore(contract.shape, kind)
        self._labels: list[NDArray[np.float32]] = []
        self._groups: list[NDArray[np.int8]] = []
        self._patients = Patients(contract.patient, self._tokens) if contract.patient else None
        self._broken: Counter[tuple[str, str]] = Counter()

    @property
    def violations(self) -> list[Violation]:
        """Every broken rule of the cells read so far."""
        return [Violation(*rule, count) for rule, count in self._broken.items()]

    def annotate(self, frame: pd.DataFrame) -> None:
        """Adds a block's labels, patients and groups."""
        label = self._contract.label
        labels, violations = labels_of(frame[label.name], label, self._tokens)
        self._labels.append(labels)
        self._count(violations)
        if self._patients is not None:
            self._count(self._patients.add(frame[self._contract.patient]))
        if self._contract.subgroups:
            self._groups.append(groups_of(frame, self._contract))

    def extend(self, features: NDArray[np.generic], violations: list[Violation]) -> None:
        """Adds features, which no table is made of once a rule is broken."""
        self._count(violations)
        if not self._broken:
            self._features.append(features)

    def table(self) -> Table:
        """Returns all rows."""
        patients, digests = (None, None) if self._patients is None else self._patients.numbered()
        return Table(
            self._features.array(),
            np.concatenate(self._labels),
            patients,
            digests,
            np.concatenate(self._groups) if self._groups else None,
        )

    def _count(self, violations: Iterable[Violation]) -> None:
        for violation in violations:
            self._broken[violation.column, violation.rule] += violation.count
