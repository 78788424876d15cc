"""What each step of a training sees: a Poisson sample or all, cut into parts that fit in memory.

    batches = Batches(table, plan=plan, coins=generator.bernoulli, most_records=512)
    for part in batches.next_step(): ...

The unit that is drawn is the patient where the table names patients, else the record. A part holds
whole patients, so that each can be clipped by itself; a patient of more records than a part may
hold comes in several parts of their own, all but the last marked unfinished. How a sample is cut
depends on private numbers, but shows in nothing: the clipped sums of the parts add up to those of
the whole, and noise is added once a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from fl.device import CPU
from fl.table import Table
from privacy.plan import PrivacyPlan


@dataclass(frozen=True, slots=True, eq=False)
class PatientRows:
    """To whom the n records of a part belong; on the part's device.

    Attributes:
        index: int64, shape (n,): each record's patient, 0 to ``count`` - 1.
        share: float32, shape (n,): one divided by the number of the patient's records, in all.
        count: patients in the part.
        unfinished: whether more records of the part's one patient follow in the next part.
    """

    index: torch.Tensor
    share: torch.Tensor
    count: int
    unfinished: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Records that are processed at once; ``patients`` is None where a record is the unit.

    Features are as in the table, float32 or uint8.
    """

    features: torch.Tensor
    labels: torch.Tensor
    patients: PatientRows | None = None

    def on(self, device: torch.device) -> Part:
        """Returns the part on a device."""
        patients = self.patients
        if patients is not None:
            patients = replace(
                patients, index=patients.index.to(device), share=patients.share.to(device)
            )
        return Part(self.features.to(device), self.labels.to(device), patients)


def taken(
    features: NDArray[np.float32] | NDArray[np.uint8], rows: slice | NDArray[np.int64]
) -> torch.Tensor:
    """Returns rows of a table's features; consecutive ones in memory share it.

    What lies on disk is copied, these rows alone: PyTorch knows no tensor that is read only.
    """
    part = np.asarray(features[rows])
    return torch.from_numpy(part if part.flags.writeable else part.copy())


class Batches:
    """The samples of a table.

    Args:
        table: the training part of the hospital's rows.
        plan: its sampling rate is used; at rate 1 no coin is drawn, since all are taken.
        coins: draws as many coins as asked for, true with the probability given; one for each
            patient or record.
        most_records: records a part may hold, at least 1.
        device: where the parts go. On the CPU a part of consecutive rows in memory is no copy.
    """

    def __init__(
        self,
        table: Table,
        *,
        plan: PrivacyPlan,
        coins: Callable[[int, float], NDArray[np.bool_]],
        most_records: int,
        device: torch.device = CPU,
    ) -> None:
        self._features, self._device = table.features, device
        self._labels = torch.from_numpy(table.labels)
        self._rate, self._coins, self._most = plan.sampling_rate, coins, most_records
        self._units = len(table)
        self._order: NDArray[np.int64] | None = None
        if table.patients is not None:
            self._order = np.argsort(table.patients, kind="stable")
            self._counts = np.bincount(table.patients)
            self._starts = np.cumsum(self._counts) - self._counts
            self._units = len(self._counts)
        # Where the table is in memory its parts stay there; what lies on disk is read part by part.
        keeps = self._rate == 1 and device.type == "cpu" and table.features.flags.writeable
        self._whole = list(self._parts_of(None)) if keeps else None

    def next_step(self) -> Iterable[Part]:
        """Draws the next step's sample; without records in it there are no parts."""
        if self._whole is not None:
            return self._whole
        chosen = None
        if self._rate != 1:
            chosen = np.flatnonzero(self._coins(self._units, self._rate))
        parts = self._parts_of(chosen)
        return parts if self._device.type == "cpu" else (part.on(self._device) for part in parts)

    def _parts_of(self, chosen: NDArray[np.int64] | None) -> Iterator[Part]:
        """The chosen units, or all."""
        if self._order is not None:
            yield from self._parts_of_patients(np.arange(self._units) if chosen is None else chosen)
            return
        for start in range(0, self._units if chosen is None else len(chosen), self._most):
            rows = slice(start, start + self._most)
            units = rows if chosen is None else chosen[rows]
            yield Part(taken(self._features, units), self._labels[units])

    def _parts_of_patients(self, chosen: NDArray[np.int64]) -> Iterator[Part]:
        together: list[int] = []
        records = 0
        for patient in chosen.tolist():
            count = int(self._counts[patient])
            if together and records + count > self._most:
                yield self._part(together)
                together, records = [], 0
            if count > self._most:
                yield from self._parts_of_one(patient)
            else:
                together.append(patient)
                records += count
        if together:
            yield self._part(together)

    def _part(self, patients: list[int]) -> Part:
        counts = self._counts[patients]
        rows = np.concatenate([self._rows_of(patient) for patient in patients])
        index = np.repeat(np.arange(len(patients)), counts)
        return self._of(rows, index=index, share=(1 / counts)[index], count=len(patients))

    def _parts_of_one(self, patient: int) -> Iterator[Part]:
        rows = self._rows_of(patient)
        share = np.full(self._most, 1 / len(rows))
        for start in range(0, len(rows), self._most):
            piece = rows[start : start + self._most]
            yield self._of(
                piece,
                index=np.zeros(len(piece), np.int64),
                share=share[: len(piece)],
                count=1,
                unfinished=start + self._most < len(rows),
            )

    def _of(
        self,
        rows: NDArray[np.int64],
        *,
        index: NDArray[np.int64],
        share: NDArray[np.float64],
        count: int,
        unfinished: bool = False,
    ) -> Part:
        patients = PatientRows(
            torch.from_numpy(index),
            torch.from_numpy(share.astype(np.float32)),
            count,
            unfinished,
        )
        return Part(taken(self._features, rows), self._labels[torch.from_numpy(rows)], patients)

    def _rows_of(self, patient: int) -> NDArray[np.int64]:
        assert self._order is not None  # noqa: S101 - asked of tables that name patients alone
        start = self._starts[patient]
        return self._order[start : start + self._counts[patient]]
