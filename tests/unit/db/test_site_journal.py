from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from db.errors import Conflict
from db.site_store import SiteStore, TrainingJournal

NOW = datetime(2026, 1, 2, tzinfo=UTC)
TRAINING, OTHER_TRAINING = UUID(int=1), UUID(int=2)
ONE, OTHER = b"1" * 32, b"2" * 32
STEPS = ("enrolled", "uploaded", "survivors", "revealed")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "site.db"


@pytest.fixture
def journal(path: Path) -> TrainingJournal:
    return SiteStore(path, clock=lambda: NOW).journal(TRAINING)


@pytest.mark.parametrize("step", STEPS)
def test_a_step_is_recorded_once_even_after_a_restart(
    journal: TrainingJournal, path: Path, step: str
) -> None:
    journal.record(7, step, ONE)
    for reopened in (journal, SiteStore(path).journal(TRAINING)):
        with pytest.raises(Conflict, match=f"the journal holds the step '{step}' already") as found:
            reopened.record(7, step, OTHER)
        assert found.value.rule == "round-reused"
        assert reopened.recorded(7) == {step: ONE}


def test_only_the_same_survivors_may_be_recorded_again(journal: TrainingJournal) -> None:
    journal.record(7, "survivors", ONE)
    journal.record(7, "survivors", ONE)
    with pytest.raises(Conflict):
        journal.record(7, "survivors", OTHER)
    journal.record(7, "revealed", ONE)
    with pytest.raises(Conflict):
        journal.record(7, "revealed", ONE)


def test_steps_come_back_in_the_order_they_were_taken(journal: TrainingJournal) -> None:
    for step in STEPS:
        journal.record(7, step, ONE)
    assert tuple(journal.recorded(7)) == STEPS


def test_rounds_and_trainings_are_kept_apart(journal: TrainingJournal, path: Path) -> None:
    journal.record(7, "enrolled", ONE)
    journal.record(8, "enrolled", OTHER)
    SiteStore(path).journal(OTHER_TRAINING).record(7, "enrolled", OTHER)
    assert journal.recorded(7) == {"enrolled": ONE}
    assert journal.recorded(8) == {"enrolled": OTHER}
    assert journal.recorded(9) == {}


def test_of_many_processes_one_takes_a_step(journal: TrainingJournal, path: Path) -> None:
    def record(number: int) -> bool:
        try:
            SiteStore(path).journal(TRAINING).record(7, "uploaded", bytes([number]) * 32)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        taken = list(pool.map(record, range(6)))
    assert taken.count(True) == 1
    assert journal.recorded(7) == {"uploaded": bytes([taken.index(True)]) * 32}


@pytest.mark.parametrize("statement", ["UPDATE journal SET digest = x''", "DELETE FROM journal"])
def test_the_journal_refuses_changes(journal: TrainingJournal, path: Path, statement: str) -> None:
    journal.record(7, "enrolled", ONE)
    connection = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match="journal is append-only"):
        connection.execute(statement)
    connection.close()


def test_a_step_says_when_it_was_taken(journal: TrainingJournal, path: Path) -> None:
    journal.record(7, "enrolled", ONE)
    connection = sqlite3.connect(path)
    ((at,),) = connection.execute("SELECT at FROM journal").fetchall()
    connection.close()
    assert datetime.fromisoformat(at) == NOW
