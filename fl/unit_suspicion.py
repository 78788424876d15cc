"""Whether a column's numbers look as if they were in another unit than the contract's.

    counter = UnitCounter(column)
    counter.take(values)            # as often as there are blocks
    counter.suspicion()             # UnitSuspicion(unit="mmol/L", …), or None

A suspicion is a hint to a person, never a broken rule. What is kept are counts, so that they are
the same in whatever order rows come:

1. Most values out of range would be in range after a conversion: the other unit, or a slip of the
   decimal point.
2. With a typical range: few values lie in it, and most would after a conversion.
3. Without one: nearly all values fill a sliver of the range, and after a conversion they would all
   be in range and nearer its middle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from fl.contract import NumberColumn
from fl.units import Conversion, conversions, decimal_shifts

LEAST_OUTSIDE: Final = 3  # a single outlier is a slip, not a unit
LEAST_VALUES: Final = 20
_FEW, _MOST, _NEARLY_ALL = 0.2, 0.8, 0.99
_SLIVER: Final = 0.15
_BINS: Final = 2000


@dataclass(frozen=True, slots=True)
class UnitSuspicion:
    """What a column's numbers may be in instead.

    Attributes:
        unit: the other unit; empty where the decimal point seems to have slipped.
        formula: how a value would become one in the contract's unit.
        ground: what the suspicion rests on.
        cells: how many values would then fit.
        of: how many were looked at: those out of range, or all.
    """

    unit: str
    formula: str
    ground: Literal["out-of-range", "typical", "sliver"]
    cells: int
    of: int


class UnitCounter:
    """Counts of one column, of a size that does not grow with its rows."""

    def __init__(self, column: NumberColumn) -> None:
        self._column = column
        self._named = conversions(column.unit, column=column.name)
        self._shifts = decimal_shifts(self._named)
        self._values = self._outside = self._typical = 0
        candidates = (*self._named, *self._shifts)
        self._outside_fit = dict.fromkeys(candidates, 0)
        self._fit = dict.fromkeys(self._named, 0)
        self._typical_fit = dict.fromkeys(self._named, 0)
        self._bins = np.zeros(_BINS, np.int64)

    def take(self, values: NDArray[np.float64]) -> None:
        """Counts finite values: float64, shape (n,)."""
        inside = self._in_range(values)
        outside = values[~inside]
        self._values += len(values)
        self._outside += len(outside)
        self._typical += self._count_typical(values)
        for shift in self._shifts:
            # What half a shift brings into range lies beside it: an outlier, no slip of the point.
            beside = self._in_range(outside * math.sqrt(shift.factor))
            self._outside_fit[shift] += int((self._in_range(shift(outside)) & ~beside).sum())
        for named in self._named:
            self._outside_fit[named] += int(self._in_range(named(outside)).sum())
            converted = named(values)
            self._fit[named] += int(self._in_range(converted).sum())
            self._typical_fit[named] += self._count_typical(converted)
        low, high = self._column.minimum, self._column.maximum
        self._bins += np.histogram(values[inside], bins=_BINS, range=(low, high))[0]

    def suspicion(self) -> UnitSuspicion | None:
        """Returns the first ground on which the values seem to be in another unit."""
        return self._by_outside() or self._by_typical() or self._by_sliver()

    def _by_outside(self) -> UnitSuspicion | None:
        if self._outside < LEAST_OUTSIDE:
            return None
        # A unit that people use says more than a bare factor, even one that fits a few more.
        for group in (self._named, self._shifts):
            best = max(group, key=lambda c: self._outside_fit[c], default=None)
            if best is not None and 2 * self._outside_fit[best] > self._outside:
                return _suspicion(best, "out-of-range", self._outside_fit[best], self._outside)
        return None

    def _by_typical(self) -> UnitSuspicion | None:
        if self._column.typical is None or self._values < LEAST_VALUES or not self._named:
            return None
        best = max(self._named, key=lambda c: self._typical_fit[c])
        few = self._typical < _FEW * self._values
        if few and self._typical_fit[best] >= _MOST * self._values:
            return _suspicion(best, "typical", self._typical_fit[best], self._values)
        return None

    def _by_sliver(self) -> UnitSuspicion | None:
        inside = self._values - self._outside
        if self._column.typical is not None or inside < max(
            LEAST_VALUES, _NEARLY_ALL * self._values
        ):
            return None
        first, middle, last = (self._quantile(share) for share in (0.01, 0.5, 0.99))
        width = self._column.maximum - self._column.minimum
        if last - first > _SLIVER * width:
            return None
        centre = self._column.minimum + width / 2
        for named in self._named:
            (converted,) = named(np.array([middle]))
            nearer = abs(converted - centre) < abs(middle - centre)
            if nearer and self._fit[named] >= _NEARLY_ALL * self._values:
                return _suspicion(named, "sliver", self._fit[named], self._values)
        return None

    def _quantile(self, share: float) -> float:
        reached = int(np.searchsorted(np.cumsum(self._bins), share * self._bins.sum()))
        width = (self._column.maximum - self._column.minimum) / _BINS
        return self._column.minimum + (reached + 0.5) * width

    def _in_range(self, values: NDArray[np.float64]) -> NDArray[np.bool_]:
        return (values >= self._column.minimum) & (values <= self._column.maximum)

    def _count_typical(self, values: NDArray[np.float64]) -> int:
        if self._column.typical is None:
            return 0
        low, high = self._column.typical
        return int(((values >= low) & (values <= high)).sum())


def _suspicion(
    found: Conversion, ground: Literal["out-of-range", "typical", "sliver"], cells: int, of: int
) -> UnitSuspicion:
    return UnitSuspicion(found.unit, found.formula, ground, cells, of)
