"""The benchmark of pricing measures what it says."""

from __future__ import annotations

import pytest

from deployments.bench import privacy_pricing


def test_each_kind_of_plan_is_found_and_priced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privacy_pricing, "REPEATS", 1)
    monkeypatch.setattr(privacy_pricing, "ROUNDS", 5)
    measured = privacy_pricing.figures()
    assert len(measured) == 9
    assert {entry.goal for entry in measured} == {1.0}
    exact = [entry for entry in measured if "full batch" in entry.figure]
    assert len(exact) == 6
    assert all(entry.is_met for entry in exact)
