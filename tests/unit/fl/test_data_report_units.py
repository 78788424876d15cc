"""Numbers in another unit: which are suspected, on what ground, and which are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl.contract import NumberColumn
from fl.unit_suspicion import LEAST_OUTSIDE, UnitCounter, UnitSuspicion
from fl.units import conversions, decimal_shifts

RNG = np.random.default_rng(3)


def suspicion(column: NumberColumn, values: Any) -> UnitSuspicion | None:
    counter = UnitCounter(column)
    counter.take(np.asarray(values, np.float64))
    return counter.suspicion()


def column(name: str, minimum: float, maximum: float, unit: str, **more: Any) -> NumberColumn:
    return NumberColumn(name=name, minimum=minimum, maximum=maximum, unit=unit, **more)


# What a hospital's values look like in its own unit, and the unit that must be named.
MISTAKEN: dict[str, tuple[NumberColumn, Any, str]] = {
    "glucose": (column("glucose", 20, 1000, "mg/dL"), RNG.normal(6, 1.5, 200), "mmol/L"),
    "glucose, the other way": (
        column("Glukose", 1, 50, "mmol/l"),
        RNG.normal(110, 20, 99),
        "mg/dL",
    ),
    "cholesterol": (column("Chol", 30, 1000, "mg/dL"), RNG.normal(5, 1, 200), "mmol/L"),
    "creatinine": (column("s_creatinine", 0.1, 40, "mg/dL"), RNG.normal(90, 15, 99), "µmol/L"),
    "creatinine, the other way": (
        column("Kreatinin", 20, 3500, "umol/L"),
        RNG.normal(1, 0.2, 99),
        "mg/dL",
    ),
    "haemoglobin": (column("hb", 2, 30, "g/dL"), RNG.normal(140, 15, 99), "g/L"),
    "temperature": (column("temp", 25, 45, "°C"), RNG.normal(98.6, 1, 99), "°F"),
    "temperature, the other way": (column("t", 77, 113, "°F"), RNG.normal(37, 0.5, 99), "°C"),
    "height in metres": (column("height", 30, 250, "cm"), RNG.normal(1.7, 0.1, 99), "m"),
    "height in inches": (column("height", 30, 250, "cm"), RNG.normal(67, 3, 99), "in"),
    "weight in pounds": (
        column("weight", 1, 400, "kg", typical=(45, 120)),
        RNG.normal(185, 20, 99),
        "lb",
    ),
    "age in months": (column("age", 0, 120, "years"), RNG.normal(600, 90, 99), "months"),
    "pressure": (column("sbp", 40, 300, "mmHg"), RNG.normal(17, 2, 99), "kPa"),
    "HbA1c": (column("hba1c", 2, 25, "%"), RNG.normal(48, 5, 99), "mmol/mol"),
    "a slip of the point": (column("score", 0, 50, ""), RNG.normal(300, 30, 99), ""),
}


@pytest.mark.parametrize("case", MISTAKEN.values(), ids=MISTAKEN)
def test_values_in_another_unit_are_suspected_and_the_unit_named(
    case: tuple[NumberColumn, Any, str],
) -> None:
    asked, values, unit = case
    found = suspicion(asked, values)
    assert found is not None
    assert found.unit == unit
    assert found.cells > 0.8 * found.of


FITTING: dict[str, tuple[NumberColumn, Any]] = {
    "glucose": (column("glucose", 20, 1000, "mg/dL"), RNG.normal(110, 20, 300)),
    "creatinine in a wide range": (column("creatinine", 0, 40, "mg/dL"), RNG.normal(1, 0.2, 300)),
    "creatinine in µmol/L": (column("creatinine", 5, 3500, "µmol/L"), RNG.normal(90, 15, 300)),
    "height": (column("height", 30, 250, "cm"), RNG.normal(170, 8, 300)),
    "weight": (column("weight", 1, 400, "kg"), RNG.normal(75, 12, 300)),
    "children's weight": (column("weight", 1, 400, "kg"), RNG.normal(12, 2, 300)),
    "temperature": (column("temperature", 25, 45, "°C"), RNG.normal(37, 0.5, 300)),
    "typical": (column("glucose", 1, 1000, "mg/dL", typical=(50, 400)), RNG.normal(90, 9, 300)),
    "one value in all": (column("x", 0, 1, ""), [0.5] * 300),
    "none": (column("x", 0, 1, ""), []),
}


@pytest.mark.parametrize("case", FITTING.values(), ids=FITTING)
def test_values_that_fit_are_not_suspected(case: tuple[NumberColumn, Any]) -> None:
    assert suspicion(*case) is None


def test_a_few_outliers_are_no_other_unit() -> None:
    asked = column("hb", 2, 30, "g/dL")
    assert suspicion(asked, [14.0] * 50 + [140.0] * (LEAST_OUTSIDE - 1)) is None
    found = suspicion(asked, [14.0] * 50 + [140.0] * LEAST_OUTSIDE)
    assert found == UnitSuspicion("g/L", "value ÷ 10", "out-of-range", 3, 3)


def test_values_just_beside_the_range_are_no_slip_of_the_point() -> None:
    assert suspicion(column("radius", 0, 10, ""), np.linspace(1, 25, 120)) is None


def test_a_unit_that_people_use_goes_before_a_bare_factor() -> None:
    """Divided by 10 or 100 these would be in range as well."""
    found = suspicion(column("creatinine", 0.1, 40, "mg/dL"), [80.0] * 30)
    assert found is not None
    assert found.formula == "value ÷ 88.4"


@given(st.sampled_from(["kg", "cm", "a", "mmHg", "g/dL", "mg/dL", "%", "°C", "mmol/L", "µmol/L"]))
def test_each_conversion_has_its_way_back(unit: str) -> None:
    values = np.array([0.5, 37.0, 180.0])
    for name in ("glucose", "cholesterol", "creatinine", "uric acid", "hba1c", "x"):
        for there in conversions(unit, column=name):
            back = [c for c in conversions(there.unit, column=name) if c.unit == unit]
            assert any(np.allclose(c(there(values)), values) for c in back), (name, there)


def test_a_shift_that_is_a_unit_is_named_as_that() -> None:
    named = conversions("g/dL", column="albumin")
    assert [c.unit for c in named] == ["g/L"]
    assert all(not np.isclose(shift.factor, 0.1) for shift in decimal_shifts(named))
