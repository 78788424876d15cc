"""When the champion of a model changes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl.champion import DEFAULT_MARGIN, Contender, decide

CHAMPION = Contender(version="3", purpose="research", contract="c" * 64, auc=0.90)
NEW = replace(CHAMPION, version="4", auc=0.91)
PUBLIC = {"public_test": "d" * 64}

aucs = st.floats(0, 1)
margins = st.floats(0, 1)


def test_the_first_version_with_an_auc_is_the_champion() -> None:
    decision = decide(NEW, None, margin=DEFAULT_MARGIN)
    assert decision.moves
    assert decision.reason == "version 4 is the first: AUC of the closing evaluation 0.9100"


def test_a_better_version_is_the_champion_and_the_reason_has_both_figures() -> None:
    decision = decide(NEW, CHAMPION, margin=0.005)
    assert decision.moves
    assert decision.reason == (
        "better: AUC of the closing evaluation 0.9100 of version 4, 0.9000 of version 3, "
        "the champion; margin 0.005"
    )


@pytest.mark.parametrize(
    ("auc", "margin", "moves"),
    [
        (0.905, 0.005, True),  # the margin itself is enough
        (0.9049, 0.005, False),
        (0.90, 0.0, False),  # an equal model is no reason to change
        (0.9001, 0.0, True),
        (0.89, 0.0, False),
    ],
)
def test_better_means_by_the_margin(auc: float, margin: float, moves: bool) -> None:
    decision = decide(replace(NEW, auc=auc), CHAMPION, margin=margin)
    assert decision.moves is moves
    assert decision.reason.startswith("better: " if moves else "not better: ")


@given(new=aucs, old=aucs, margin=margins)
def test_of_two_versions_at_most_one_replaces_the_other(
    new: float, old: float, margin: float
) -> None:
    one, other = replace(NEW, auc=new), replace(CHAMPION, auc=old)
    there, back = decide(one, other, margin=margin), decide(other, one, margin=margin)
    assert not (there.moves and back.moves)
    if there.moves:
        assert new > old


@given(champion=st.sampled_from([None, CHAMPION, replace(CHAMPION, auc=None)]), margin=margins)
def test_a_version_without_an_auc_never_moves_it(champion: Contender | None, margin: float) -> None:
    decision = decide(replace(NEW, auc=None), champion, margin=margin)
    assert not decision.moves
    assert "version 4 has no AUC of the closing evaluation" in decision.reason


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"purpose": "screening"}, "purpose research of version 4, screening of version 3"),
        ({"contract": "e" * 64}, "data contract cccccccccccc of version 4, eeeeeeeeeeee"),
        ({"contract": ""}, "data contract cccccccccccc of version 4, unknown of version 3"),
        ({"auc": None}, "version 3, the champion, has no AUC of the closing evaluation"),
    ],
)
def test_what_cannot_be_compared_does_not_move_it_and_says_so(
    change: dict[str, str | None], said: str
) -> None:
    decision = decide(replace(NEW, auc=1.0), replace(CHAMPION, **change), margin=0)
    assert not decision.moves
    assert said in decision.reason


def test_with_a_public_test_set_its_figures_decide() -> None:
    worse = replace(NEW, auc=0.99, public_auc=0.80, **PUBLIC)
    champion = replace(CHAMPION, public_auc=0.85, **PUBLIC)
    assert not decide(worse, champion, margin=0).moves
    better = replace(worse, auc=0.1, public_auc=0.90)
    decision = decide(better, champion, margin=0)
    assert decision.moves
    assert "AUC on the public test set 0.9000 of version 4, 0.8500 of version 3" in decision.reason
    assert not decide(replace(better, public_auc=None), champion, margin=0).moves


@pytest.mark.parametrize("other", [None, "e" * 64])
def test_figures_on_different_public_test_sets_are_not_compared(other: str | None) -> None:
    new = replace(NEW, public_auc=0.99, **PUBLIC)
    champion = replace(CHAMPION, public_test=other, public_auc=0.5)
    decision = decide(new, champion, margin=0)
    assert not decision.moves
    assert "was not scored on the public test set dddddddddddd" in decision.reason
