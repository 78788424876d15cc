"""Units that are mistaken for each other, and how a value in one becomes a value in the other.

    [c.unit for c in conversions("mg/dL", column="glucose")]   # ["mmol/L", "mg/L", "g/L", "µg/dL"]

Masses and amounts of substance convert by the molar mass, g/mol: glucose 180.16, cholesterol
386.65, triglycerides (as triolein) 885.4, creatinine 113.12, bilirubin 584.66, urea 60.06, uric
acid 168.11, calcium 40.08 (PubChem). Haemoglobin A1c by the master equation, NGSP = 0.09148 IFCC +
2.152 (Hoelzel et al. 2004, Clinical Chemistry 50, 166). Lengths and masses by definition.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Conversion:
    """From another unit, or a slipped decimal point, to the unit of a column.

    Attributes:
        unit: the other unit; empty where only the decimal point has slipped.
        formula: how a value becomes one in the column's unit, for a person.
        factor: what a value is multiplied by.
        offset: what is then added.
    """

    unit: str
    formula: str
    factor: float
    offset: float = 0.0

    def __call__(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns values of the other unit in the column's unit."""
        return values * self.factor + self.offset


# (unit, other unit, what one of the other is in the first)
_PLAIN: Final = (
    ("kg", "lb", 0.45359237),
    ("kg", "g", 0.001),
    ("cm", "in", 2.54),
    ("cm", "m", 100.0),
    ("cm", "mm", 0.1),
    ("a", "months", 1 / 12),
    ("a", "days", 1 / 365.25),
    ("mmhg", "kPa", 7.50062),
    ("g/dl", "g/L", 0.1),
    ("mg/dl", "mg/L", 0.1),
    ("mg/dl", "g/L", 100.0),
    ("mg/dl", "µg/dL", 0.001),
    ("%", "fraction", 100.0),
)
# (parts of a column's name, the amount's unit, milligrams a decilitre in one of it)
_SUBSTANCES: Final = (
    (("gluc", "gluk", "sugar", "zucker", "fbs"), "mmol/L", 18.016),
    (("chol", "hdl", "ldl"), "mmol/L", 38.67),
    (("trigl",), "mmol/L", 88.54),
    (("creat", "kreat"), "µmol/L", 1 / 88.4),
    (("bili",), "µmol/L", 1 / 17.1),
    (("urea", "harnstoff"), "mmol/L", 6.006),
    (("uric", "harnsaure", "harnsäure"), "µmol/L", 1 / 59.48),
    (("calcium", "kalzium"), "mmol/L", 4.008),
)
_SAME: Final = {
    "year": "a",
    "years": "a",
    "y": "a",
    "yr": "a",
    "lbs": "lb",
    "inch": "in",
    "inches": "in",
    "degc": "°c",
    "celsius": "°c",
    "degf": "°f",
    "fahrenheit": "°f",
}
_SHIFTS: Final = (10.0, 100.0, 1000.0, 0.1, 0.01, 0.001)


def conversions(unit: str, *, column: str) -> tuple[Conversion, ...]:
    """Returns what values of a column may be in instead of their unit; the likeliest first.

    Args:
        unit: the column's unit, as a data contract has it; empty where it says none.
        column: the column's name, which tells the substance of a concentration.
    """
    return (*_of_substance(unit, column), *_of_unit(unit, column))


def decimal_shifts(named: tuple[Conversion, ...] = ()) -> tuple[Conversion, ...]:
    """Returns the slips of the decimal point by up to three places, but for the named ones."""
    taken = [c.factor for c in named if not c.offset]
    return tuple(
        Conversion("", _times(factor), factor)
        for factor in _SHIFTS
        if not any(np.isclose(factor, other) for other in taken)
    )


def _of_substance(unit: str, column: str) -> list[Conversion]:
    name, own = column.casefold(), _plain(unit)
    found = []
    for parts, amount, milligrams in _SUBSTANCES:
        if not any(part in name for part in parts):
            continue
        if own == "mg/dl":
            found.append(Conversion(amount, _times(milligrams), milligrams))
        if own == _plain(amount):
            found.append(Conversion("mg/dL", _times(1 / milligrams), 1 / milligrams))
    return found


def _of_unit(unit: str, column: str) -> list[Conversion]:
    own = _plain(unit)
    found = []
    for one, other, factor in _PLAIN:
        if own == one:
            found.append(Conversion(other, _times(factor), factor))
        if own == _plain(other):
            found.append(Conversion(_SHOWN.get(one, one), _times(1 / factor), 1 / factor))
    if own == "°c":
        found.append(Conversion("°F", "(value − 32) ÷ 1.8", 1 / 1.8, -32 / 1.8))
    if own == "°f":
        found.append(Conversion("°C", "value × 1.8 + 32", 1.8, 32.0))
    if own == "%" and "a1c" in column.casefold():
        found.append(Conversion("mmol/mol", "value × 0.09148 + 2.152", 0.09148, 2.152))
    if own == "mmol/mol" and "a1c" in column.casefold():
        found.append(Conversion("%", "(value − 2.152) ÷ 0.09148", 1 / 0.09148, -2.152 / 0.09148))
    return found


_SHOWN: Final = {"mg/dl": "mg/dL", "g/dl": "g/dL", "mmhg": "mmHg"}


def _plain(unit: str) -> str:
    text = "".join(unit.split()).casefold().replace("μ", "µ").replace("umol", "µmol")
    return _SAME.get(text, text)


def _times(factor: float) -> str:
    # A table of units says 88.4, never 0.0113.
    return f"value × {factor:.5g}" if factor >= 1 else f"value ÷ {1 / factor:.5g}"
