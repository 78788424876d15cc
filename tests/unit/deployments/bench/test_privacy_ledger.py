"""The ledger's benchmark measures charges that were really accepted."""

from __future__ import annotations

import pytest

from deployments.bench import privacy_ledger


def test_it_gives_three_figures_of_which_one_has_a_goal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SINGLE": 2, "BATCH": 20, "PRICED": 50, "REPEATS": 2}.items():
        monkeypatch.setattr(privacy_ledger, name, value)
    figures = privacy_ledger.figures()
    assert [figure.unit for figure in figures] == ["charges/s", "charges/s", "s"]
    assert [figure.goal for figure in figures] == [None, 1000, None]
    assert all(figure.value > 0 and figure.repeats == 2 for figure in figures)


def test_the_plan_has_room_for_all_that_is_charged() -> None:
    charged = privacy_ledger.REPEATS * (privacy_ledger.SINGLE + privacy_ledger.BATCH)
    assert charged <= privacy_ledger.ROUNDS
    assert len({charge.round_id for charge in privacy_ledger.charges(50)}) == 50
