"""A ledger and its witness of different times: what heals itself, what a person must repair."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from db.errors import LedgerBroken, LedgerRolledBack
from db.ledger_entry import LedgerEntry
from db.ledger_witness import read_entries
from db.site_ledger import NewEntry, Repair, SiteLedger


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "north"


@pytest.fixture
def reopen(home: Path) -> Callable[[], SiteLedger]:
    return lambda: SiteLedger(home / "ledger.db", witness=home / "witness.jsonl")


def write(ledger: SiteLedger, *numbers: int) -> None:
    ledger.append(lambda _: [("charge", {"n": number}) for number in numbers])


def numbers(entries: Sequence[LedgerEntry]) -> list[int]:
    return [entry.details["n"] for entry in entries if entry.kind == "charge"]


def nothing(entries: Sequence[LedgerEntry], other: Sequence[LedgerEntry]) -> list[NewEntry]:
    raise AssertionError("nothing is to be carried")


def backup(home: Path) -> Path:
    """Copies the files; SQLite has none open between two calls."""
    return Path(shutil.copytree(home, home.with_name(f"backup-{len(list(home.parent.iterdir()))}")))


def restore(home: Path, copy: Path, name: str) -> None:
    shutil.copy(copy / name, home / name)


@pytest.mark.parametrize("torn", ["", '{"at":"2026-'])
@pytest.mark.parametrize("lost", [1, 2, 3])
def test_what_a_crash_kept_from_the_witness_is_added(
    home: Path, reopen: Callable[[], SiteLedger], lost: int, torn: str
) -> None:
    write(reopen(), 1)
    write(reopen(), 2, 3, 4)
    whole = (home / "witness.jsonl").read_text()
    lines = whole.splitlines(keepends=True)
    (home / "witness.jsonl").write_text("".join(lines[:-lost]) + torn)
    assert numbers(reopen().entries()) == [1, 2, 3, 4]
    assert (home / "witness.jsonl").read_text() == whole
    write(reopen(), 5)
    assert numbers(reopen().verified()) == [1, 2, 3, 4, 5]


def test_a_crash_before_the_first_line_is_no_rollback(
    home: Path, reopen: Callable[[], SiteLedger]
) -> None:
    write(reopen(), 1, 2)
    (home / "witness.jsonl").unlink()
    assert numbers(reopen().entries()) == [1, 2]
    assert numbers(read_entries(home / "witness.jsonl")) == [1, 2]


def test_a_restored_database_is_refused_until_it_is_repaired(
    home: Path, reopen: Callable[[], SiteLedger]
) -> None:
    for number in (1, 2):
        write(reopen(), number)
    old = backup(home)
    open_since_then = reopen()
    for number in (3, 4):
        write(open_since_then, number)
    before = open_since_then.entries()
    restore(home, old, "ledger.db")

    for ledger in (reopen(), open_since_then):
        for ask in (ledger.entries, ledger.verified, lambda: write(ledger, 5)):  # noqa: B023
            with pytest.raises(LedgerRolledBack, match="end at entry 2 and 4: the database is"):
                ask()
    assert reopen().repair(nothing) == Repair(database=2, witness=4, restored=2, carried=0)

    entries = reopen().verified()
    assert entries[:4] == before  # every head that anybody holds is still in the chain
    assert entries[4].kind == "recovered"
    assert entries[4].details == {
        "database": {"seq": 2, "hash": before[1].hash},
        "witness": {"seq": 4, "hash": before[3].hash},
        "restored": 2,
        "carried": 0,
    }
    write(reopen(), 5)
    assert numbers(reopen().verified()) == [1, 2, 3, 4, 5]
    assert reopen().repair(nothing) is None


def test_a_lost_database_comes_back_from_the_witness(
    home: Path, reopen: Callable[[], SiteLedger]
) -> None:
    write(reopen(), 1)
    write(reopen(), 2)
    (home / "ledger.db").unlink()
    with pytest.raises(LedgerRolledBack, match="end at entry 0 and 2"):
        reopen().entries()
    assert reopen().repair(nothing) == Repair(0, 2, 2, 0)
    assert numbers(reopen().verified()) == [1, 2]


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_a_restored_or_lost_witness_is_refused_until_it_is_repaired(
    home: Path, reopen: Callable[[], SiteLedger], kept: int
) -> None:
    for number in (1, 2, 3, 4):
        write(reopen(), number)
    lines = (home / "witness.jsonl").read_text().splitlines(keepends=True)
    (home / "witness.jsonl").write_text("".join(lines[:kept]))
    with pytest.raises(LedgerRolledBack, match=f"entry 4 and {kept}: the witness is an older one"):
        write(reopen(), 5)
    assert reopen().repair(nothing) == Repair(4, kept, 0, 0)
    assert numbers(reopen().verified()) == [1, 2, 3, 4]


def test_of_two_histories_none_is_lost(home: Path, reopen: Callable[[], SiteLedger]) -> None:
    write(reopen(), 1)
    old = backup(home)
    write(reopen(), 2)
    write(reopen(), 3)
    newer = backup(home)
    for name in ("ledger.db", "witness.jsonl"):
        restore(home, old, name)
    write(reopen(), 20)  # nothing showed that the whole site was restored
    restore(home, newer, "witness.jsonl")
    with pytest.raises(LedgerRolledBack, match="end at entry 2 and 3"):
        write(reopen(), 21)
    restored = (home / "witness.jsonl").read_bytes()

    def carry(entries: Sequence[LedgerEntry], other: Sequence[LedgerEntry]) -> list[NewEntry]:
        assert (numbers(entries), numbers(other)) == ([1, 20], [2, 3])
        return [("charge", entry.details) for entry in other]

    assert reopen().repair(carry) == Repair(2, 3, 0, 2)
    entries = reopen().verified()
    assert numbers(entries) == [1, 20, 2, 3]
    assert [entry.batch for entry in entries] == [1, 2, 3, 3, 3]
    (kept,) = home.glob("witness.jsonl.3-*")
    assert kept.read_bytes() == restored
    write(reopen(), 21)


def test_histories_of_one_length_are_told_apart(
    home: Path, reopen: Callable[[], SiteLedger]
) -> None:
    write(reopen(), 1)
    old = backup(home)
    write(reopen(), 2)
    other = backup(home)
    for name in ("ledger.db", "witness.jsonl"):
        restore(home, old, name)
    write(reopen(), 20)
    restore(home, other, "witness.jsonl")
    with pytest.raises(LedgerRolledBack, match="hold different histories up to entry 2"):
        reopen().entries()
    with pytest.raises(RuntimeError, match="undecided"):
        reopen().repair(_undecided)
    assert reopen().repair(lambda *_: []) == Repair(2, 2, 0, 0)
    assert numbers(reopen().verified()) == [1, 20]


def _undecided(entries: Sequence[LedgerEntry], other: Sequence[LedgerEntry]) -> list[NewEntry]:
    raise RuntimeError("undecided")


def test_a_repair_mends_no_changed_witness(home: Path, reopen: Callable[[], SiteLedger]) -> None:
    for number in (1, 2):
        write(reopen(), number)
    old = backup(home)
    write(reopen(), 3)
    restore(home, old, "ledger.db")
    witness = home / "witness.jsonl"
    witness.write_text(witness.read_text().replace('"n":3', '"n":0'))
    with pytest.raises(LedgerBroken, match="entry 3 was changed"):
        reopen().repair(nothing)
    with pytest.raises(LedgerRolledBack):
        reopen().entries()
