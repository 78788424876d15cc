"""The ledger's store: append-only, chained, on disk twice, and one at a time."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from db.errors import LedgerBroken, LedgerRolledBack
from db.ledger_entry import LedgerEntry
from db.ledger_witness import read_entries
from db.site_ledger import NewEntry, SiteLedger

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hospital" / "ledger.db"


@pytest.fixture
def witness(tmp_path: Path) -> Path:
    return tmp_path / "other-disk" / "witness.jsonl"


@pytest.fixture
def ledger(path: Path, witness: Path) -> SiteLedger:
    return SiteLedger(path, witness=witness, clock=lambda: NOW)


def write(ledger: SiteLedger, *numbers: int) -> tuple[LedgerEntry, ...]:
    return ledger.append(lambda _: [("charge", {"n": number}) for number in numbers])


def numbers(entries: Sequence[LedgerEntry]) -> list[int]:
    return [entry.details["n"] for entry in entries if entry.kind == "charge"]


def tamper(path: Path, *statements: str) -> None:
    """Changes the file as someone with a pen in the database would."""
    connection = sqlite3.connect(path)
    for operation in ("update", "delete"):
        connection.execute(f"DROP TRIGGER entries_no_{operation}")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def test_entries_are_kept_in_order_in_the_database_and_in_the_witness(
    ledger: SiteLedger, path: Path, witness: Path
) -> None:
    assert ledger.entries() == ()
    first = write(ledger, 1)
    batch = write(ledger, 2, 3)
    assert write(ledger) == ()

    reopened = SiteLedger(path, witness=witness)
    assert reopened.entries() == (*first, *batch) == tuple(read_entries(witness))
    assert [(e.seq, e.batch, e.kind, e.details, e.at) for e in reopened.verified()] == [
        (1, 1, "charge", {"n": 1}, NOW),
        (2, 2, "charge", {"n": 2}, NOW),
        (3, 2, "charge", {"n": 3}, NOW),
    ]


def test_who_decides_sees_all_that_was_written_by_others(
    ledger: SiteLedger, path: Path, witness: Path
) -> None:
    write(ledger, 1)
    write(SiteLedger(path, witness=witness), 2)

    def decide(entries: Sequence[LedgerEntry]) -> list[NewEntry]:
        return [("charge", {"n": sum(numbers(entries))})]

    ledger.append(decide)
    assert numbers(ledger.entries()) == [1, 2, 3]


def test_a_refusal_and_what_is_no_json_write_nothing(ledger: SiteLedger) -> None:
    write(ledger, 1)

    def refuse(entries: Sequence[LedgerEntry]) -> list[NewEntry]:
        raise RuntimeError("no room")

    with pytest.raises(RuntimeError, match="no room"):
        ledger.append(refuse)
    with pytest.raises(ValueError, match="plain JSON"):
        ledger.append(lambda _: [("charge", {"n": 2}), ("charge", {"n": float("nan")})])
    assert numbers(ledger.verified()) == [1]


def test_of_many_who_append_none_is_lost_and_none_decides_on_an_old_state(
    ledger: SiteLedger, path: Path, witness: Path
) -> None:
    def next_number(entries: Sequence[LedgerEntry]) -> list[NewEntry]:
        return [("charge", {"n": len(entries)})]

    def append(_: int) -> None:
        SiteLedger(path, witness=witness).append(next_number)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(append, range(30)))
    assert numbers(ledger.verified()) == list(range(30))


@pytest.mark.parametrize("statement", ["UPDATE entries SET kind = 'x'", "DELETE FROM entries"])
def test_the_database_refuses_changes(ledger: SiteLedger, path: Path, statement: str) -> None:
    write(ledger, 1)
    connection = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match="entries is append-only"):
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("UPDATE entries SET kind = 'release' WHERE seq = 2", "entry 2 was changed"),
        ("UPDATE entries SET details = '{\"n\":7}' WHERE seq = 1", "entry 1 was changed"),
        ("UPDATE entries SET batch = 9 WHERE seq = 3", "entry 3 was changed"),
        ("UPDATE entries SET at = 'noon' WHERE seq = 3", "holds what is no entry"),
        ("UPDATE entries SET details = 'none' WHERE seq = 3", "holds what is no entry"),
        ("DELETE FROM entries WHERE seq = 2", "entry 2 is missing"),
        ("DROP TABLE entries", "SQLite: no such table"),
    ],
)
def test_a_changed_database_is_noticed_and_takes_nothing_more(
    ledger: SiteLedger, path: Path, witness: Path, statement: str, named: str
) -> None:
    write(ledger, 1, 2, 3)
    opened = SiteLedger(path, witness=witness)
    opened.entries()
    tamper(path, statement)
    if "DROP" in statement:
        with pytest.raises(LedgerBroken, match=named):
            write(opened, 4)
        return
    with pytest.raises(LedgerBroken, match=named):
        write(SiteLedger(path, witness=witness), 4)
    with pytest.raises(LedgerBroken, match=named):
        opened.verified()
    assert numbers(read_entries(witness)) == [1, 2, 3]


def test_a_file_that_is_no_database_is_noticed(ledger: SiteLedger, path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no database" * 100)
    with pytest.raises(LedgerBroken, match="file is not a database"):
        write(ledger, 1)


@pytest.mark.parametrize(
    ("place", "changed", "named"),
    [
        (0, '"n":1', "entry 1 was changed"),
        (1, None, "entry 2 is missing"),
        (1, "batch", r"entry 2 \(a line that is no entry\)"),
    ],
)
def test_a_changed_witness_is_noticed(
    ledger: SiteLedger, witness: Path, place: int, changed: str | None, named: str
) -> None:
    write(ledger, 1, 2, 3)
    lines = witness.read_text().splitlines(keepends=True)
    line = lines.pop(place)
    if changed is not None:
        lines.insert(
            place, line.replace(changed, changed.replace("1", "7") + " " * ("b" in changed))
        )
    witness.write_text("".join(lines))
    with pytest.raises(LedgerBroken, match=named):
        ledger.verified()


def test_a_last_line_that_is_no_entry_is_noticed_at_once(ledger: SiteLedger, witness: Path) -> None:
    write(ledger, 1)
    witness.write_text(witness.read_text() + "{}\n")
    with pytest.raises(LedgerBroken, match="a line that is no entry"):
        write(ledger, 2)


def test_a_clock_that_goes_back_is_recorded_and_order_stays(path: Path, witness: Path) -> None:
    times = iter([NOW, NOW - timedelta(hours=1), NOW + timedelta(hours=1)])
    ledger = SiteLedger(path, witness=witness, clock=lambda: next(times))
    for number in (1, 2, 3):
        write(ledger, number)
    entries = ledger.verified()
    assert [entry.kind for entry in entries] == ["charge", "clock-went-back", "charge", "charge"]
    assert entries[1].details == {"before": "2026-01-02T00:00:00.000000+00:00"}
    assert numbers(entries) == [1, 2, 3]


def test_only_the_owner_can_read_it(ledger: SiteLedger, path: Path, witness: Path) -> None:
    write(ledger, 1)
    files = [*path.parent.iterdir(), *witness.parent.iterdir()]
    assert {file.name for file in files} >= {"ledger.db", "ledger.lock", "witness.jsonl"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_a_commit_waits_for_the_disk(ledger: SiteLedger) -> None:
    with ledger._engine.connect() as connection:
        pragma = connection.exec_driver_sql("PRAGMA synchronous").scalar_one()
    assert pragma == 2  # FULL


def test_a_long_line_and_many_entries_are_read_from_the_end(
    ledger: SiteLedger, path: Path, witness: Path
) -> None:
    long = "x" * 40_000
    ledger.append(lambda _: [("charge", {"n": 0, "text": long})])
    write(ledger, *range(1, 300))
    ledger.append(lambda _: [("charge", {"n": 300, "text": long})])
    with witness.open("a") as file:
        file.write("{torn" * 10_000)
    reopened = SiteLedger(path, witness=witness)
    write(reopened, 301)
    assert numbers(reopened.verified()) == list(range(302))


def test_nothing_is_appended_while_the_two_disagree(ledger: SiteLedger, path: Path) -> None:
    write(ledger, 1)
    path.unlink()
    for file in path.parent.glob("ledger.db-*"):
        file.unlink()
    fresh = SiteLedger(path, witness=ledger._witness.path)
    with pytest.raises(LedgerRolledBack, match="end at entry 0 and 1: the database is an older"):
        write(fresh, 2)
