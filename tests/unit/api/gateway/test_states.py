from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from api.gateway.states import NAMES, TERMINAL, may_go, may_set

TYPES = [
    *("SCHEDULED", "PENDING", "RUNNING", "COMPLETED", "FAILED"),
    *("CANCELLED", "CRASHED", "PAUSED", "CANCELLING"),
]
states = st.sampled_from(TYPES)


def test_the_way_of_a_run() -> None:
    for present, proposed in pairwise(TYPES[:4]):
        assert may_go(present, proposed)
    # A child is forked in less time than a state of its own would take.
    assert may_go("SCHEDULED", "RUNNING")
    assert not any(may_go(present, "COMPLETED") for present in ("SCHEDULED", "PENDING"))
    assert not may_go("RUNNING", "PENDING")
    for ended in ("FAILED", "CRASHED", "CANCELLED"):
        assert all(may_go(present, ended) for present in ("SCHEDULED", "PENDING", "RUNNING"))


@given(st.sampled_from(sorted(TERMINAL)), st.one_of(states, st.text()))
def test_nothing_leaves_a_terminal_state(ended: str, proposed: str) -> None:
    assert not may_go(ended, proposed)


@given(st.one_of(st.none(), states, st.text()), st.sampled_from(["SCHEDULED", "PAUSED"]))
def test_nothing_is_scheduled_or_paused_again(present: str | None, proposed: str) -> None:
    assert not may_go(present, proposed)
    assert not may_set(proposed, None)


@given(st.one_of(st.none(), st.text()), st.one_of(states, st.text()))
def test_from_an_unknown_state_nothing_goes(present: str | None, proposed: str) -> None:
    if present not in TYPES:
        assert not may_go(present, proposed)


@given(st.lists(states, max_size=20))
def test_an_ended_run_stays_ended_whatever_is_proposed(proposals: list[str]) -> None:
    present = "SCHEDULED"
    ended = None
    for proposed in proposals:
        if may_set(proposed, None) and may_go(present, proposed):
            present = proposed
        assert ended in (None, present)
        ended = present if present in TERMINAL else ended


@given(states, st.text())
def test_a_name_belongs_to_its_type(state_type: str, name: str) -> None:
    assert may_set(state_type, name) == (name in NAMES.get(state_type, ()))
