"""A hospital's approvals on disk: appended, logged, never changed."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from db.site_approvals import SiteApprovals
from db.site_store import SiteStore

NOW = datetime(2026, 1, 2, tzinfo=UTC)
TRAINING, OTHER = UUID(int=1), UUID(int=2)
TERMS = '{"plan":1}'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "site.db"


@pytest.fixture
def store(path: Path) -> SiteStore:
    return SiteStore(path, clock=lambda: NOW)


@pytest.fixture
def approvals(path: Path, store: SiteStore) -> SiteApprovals:
    return SiteApprovals(path, store)


def ask(approvals: SiteApprovals, terms: str = TERMS) -> bool:
    return approvals.ask(TRAINING, terms=terms, shown={"why": "x"}, at=NOW)


def give(approvals: SiteApprovals, terms: str = TERMS) -> None:
    approvals.give(TRAINING, terms=terms, shown={}, signature=b"s", at=NOW)


def test_what_was_asked_and_decided_is_there_after_a_restart(
    approvals: SiteApprovals, path: Path
) -> None:
    assert (approvals.asked(TRAINING), approvals.decision(TRAINING)) == (None, None)
    ask(approvals)
    give(approvals)
    reopened = SiteApprovals(path, SiteStore(path))
    asked, decision = reopened.asked(TRAINING), reopened.decision(TRAINING)
    assert asked is not None
    assert (asked.terms, asked.shown, asked.signature, asked.at) == (TERMS, {"why": "x"}, None, NOW)
    assert decision is not None
    assert (decision.state, decision.signature) == ("given", b"s")
    assert reopened.asked(OTHER) is None


def test_a_round_that_is_tried_again_asks_nothing_new(approvals: SiteApprovals) -> None:
    assert [ask(approvals), ask(approvals), ask(approvals, '{"plan":2}')] == [True, False, True]


def test_other_terms_that_are_asked_leave_an_approval_as_it_is(approvals: SiteApprovals) -> None:
    give(approvals)
    ask(approvals, '{"plan":2}')
    decision = approvals.decision(TRAINING)
    assert decision is not None
    assert (decision.state, decision.terms) == ("given", TERMS)
    assert [row.state for row in approvals.latest()] == ["asked"]


def test_a_revocation_is_the_last_decision_until_another_approval(
    approvals: SiteApprovals,
) -> None:
    give(approvals)
    assert approvals.revoke(TRAINING, at=NOW)
    revoked = approvals.decision(TRAINING)
    assert revoked is not None
    assert revoked.state == "revoked"
    give(approvals)
    again = approvals.decision(TRAINING)
    assert again is not None
    assert again.state == "given"


def test_a_training_that_asked_nothing_can_be_refused_beforehand(
    approvals: SiteApprovals,
) -> None:
    assert not approvals.revoke(OTHER, at=NOW)
    decision = approvals.decision(OTHER)
    assert decision is not None
    assert decision.state == "revoked"


def test_every_step_is_in_the_hospital_s_own_log(
    approvals: SiteApprovals, store: SiteStore
) -> None:
    ask(approvals)
    give(approvals)
    approvals.revoke(TRAINING, at=NOW)
    approvals.revoke(TRAINING, at=NOW)
    entries = store.entries()
    assert [e.event for e in entries] == [*("approval-asked", "approval-given", "approval-revoked")]
    assert entries[1].details == {
        "training": str(TRAINING),
        "terms": {"plan": 1},
        "signature": b"s".hex(),
    }


@pytest.mark.parametrize(
    "statement", ["UPDATE approvals SET state = 'given'", "DELETE FROM approvals"]
)
def test_rows_are_not_changed(approvals: SiteApprovals, path: Path, statement: str) -> None:
    ask(approvals)
    connection = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(statement)
    connection.close()


def test_the_latest_time_of_the_log_is_that_of_any_entry(path: Path) -> None:
    later, earlier = datetime(2030, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
    assert SiteStore(path).latest_time() is None
    SiteStore(path, clock=lambda: later).log("a", {})
    SiteStore(path, clock=lambda: earlier).log("b", {})  # the clock was set back
    assert SiteStore(path).latest_time() == later
