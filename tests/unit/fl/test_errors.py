from __future__ import annotations

import copy

import pytest

from fl import errors
from fl.errors import ContractViolation, FederationError, Violation


def test_a_contract_violation_lists_all_that_is_wrong():
    error = ContractViolation([Violation("age", "out-of-range", 3), Violation("", "empty-file")])
    assert str(error) == "age: out-of-range (3); table: empty-file (1)"
    assert [violation.column for violation in error.violations] == ["age", ""]


def test_a_contract_violation_survives_a_copy():
    error = ContractViolation([Violation("age", "not-a-number", 2)])
    assert copy.copy(error).violations == error.violations


@pytest.mark.parametrize(
    "name", ["WireError", "ContractViolation", "StrategyError", "ModelError", "RoundError"]
)
def test_all_errors_have_one_base(name):
    assert issubclass(getattr(errors, name), FederationError)
