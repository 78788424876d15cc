from __future__ import annotations

import sqlite3
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from db.errors import AuditChainBroken, Conflict
from db.site_store import SiteStore

NOW = datetime(2026, 1, 2, tzinfo=UTC)
TRAINING = UUID(int=1)
KEYS = {"signing_key": "a" * 64, "sealing_key": "b" * 64}
OTHER_KEYS = {"signing_key": "c" * 64, "sealing_key": "b" * 64}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hospital" / "site.db"


@pytest.fixture
def store(path: Path) -> SiteStore:
    return SiteStore(path, clock=lambda: NOW)


def tamper(path: Path, *statements: str) -> None:
    """Changes the file as someone with a pen in the database would."""
    connection = sqlite3.connect(path)
    for table in ("log", "rounds"):
        connection.execute(f"DROP TRIGGER {table}_no_update")
        connection.execute(f"DROP TRIGGER {table}_no_delete")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def test_a_round_is_begun_once_even_after_a_restart(store: SiteStore, path: Path) -> None:
    store.begin_round(training_id=TRAINING, number=1, round_id=UUID(int=9), now=NOW)
    store.begin_round(training_id=TRAINING, number=2, round_id=UUID(int=10), now=NOW)

    reopened = SiteStore(path)
    for number, round_id in [(1, UUID(int=9)), (1, UUID(int=11)), (3, UUID(int=9))]:
        with pytest.raises(Conflict, match="begun here before") as refused:
            reopened.begin_round(training_id=TRAINING, number=number, round_id=round_id, now=NOW)
        assert refused.value.rule == "round-reused"


def test_of_many_processes_one_begins_a_round(path: Path, store: SiteStore) -> None:
    def begin(_: int) -> bool:
        try:
            SiteStore(path).begin_round(training_id=TRAINING, number=1, round_id=uuid4(), now=NOW)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(begin, range(6))) == 1


def test_keys_are_pinned_when_first_seen(store: SiteStore) -> None:
    store.pin_identity("north", **KEYS)
    store.pin_identity("north", **KEYS)
    store.pin_identity("south", **OTHER_KEYS)

    with pytest.raises(Conflict, match="north has other keys"):
        store.pin_identity("north", **OTHER_KEYS)


def test_only_a_person_replaces_pinned_keys(store: SiteStore) -> None:
    store.pin_identity("north", **KEYS)

    store.accept_identity("north", **OTHER_KEYS)

    store.pin_identity("north", **OTHER_KEYS)
    with pytest.raises(Conflict):
        store.pin_identity("north", **KEYS)
    assert [(e.event, e.details["signing"][0]) for e in store.entries()] == [
        ("identity-pinned", "a"),
        ("identity-accepted", "c"),
    ]


def test_a_person_accepts_keys_that_were_never_seen(store: SiteStore, path: Path) -> None:
    assert store.pinned_identities() == {}

    store.accept_identity("north", **KEYS)
    store.pin_identity("south", **OTHER_KEYS)

    assert SiteStore(path).pinned_identities() == {
        "north": tuple(KEYS.values()),
        "south": tuple(OTHER_KEYS.values()),
    }
    store.pin_identity("north", **KEYS)
    assert [e.event for e in store.entries()] == ["identity-accepted", "identity-pinned"]


def test_the_log_keeps_what_happened_in_order(store: SiteStore, path: Path) -> None:
    store.log("refused", {"code": "contract", "columns": ["age"]})
    SiteStore(path, clock=lambda: NOW).log("answered", {"number": 2})

    assert [(e.seq, e.at, e.event, e.details) for e in store.entries()] == [
        (1, NOW, "refused", {"code": "contract", "columns": ["age"]}),
        (2, NOW, "answered", {"number": 2}),
    ]


@pytest.mark.parametrize("statement", ["UPDATE log SET event = 'x'", "DELETE FROM log"])
def test_the_log_refuses_changes(store: SiteStore, path: Path, statement: str) -> None:
    store.log("answered", {})
    connection = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    ("statement", "seq"),
    [
        ("UPDATE log SET event = 'other' WHERE seq = 2", 2),
        ("UPDATE log SET details = '{\"n\":7}' WHERE seq = 1", 1),
        ("UPDATE log SET at = '2026-01-02T00:00:00.000001+00:00' WHERE seq = 3", 3),
        ("DELETE FROM log WHERE seq = 2", 2),
    ],
)
def test_a_changed_log_is_noticed(store: SiteStore, path: Path, statement: str, seq: int) -> None:
    for number in range(3):
        store.log("answered", {"n": number})
    tamper(path, statement)

    with pytest.raises(AuditChainBroken) as broken:
        store.entries()
    assert broken.value.seq == seq


def test_details_that_are_not_json_are_refused(store: SiteStore) -> None:
    with pytest.raises(ValueError, match="plain JSON"):
        store.log("answered", {"score": float("nan")})
    assert store.entries() == []


def test_only_the_owner_can_read_it(store: SiteStore, path: Path) -> None:
    store.log("answered", {})
    holding_journal_open = sqlite3.connect(path)
    holding_journal_open.execute("SELECT count(*) FROM log").fetchall()

    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    holding_journal_open.close()

    assert {"site.db", "site.db-wal"} <= set(modes)
    assert set(modes.values()) == {0o600}


def test_a_file_open_to_others_is_closed(path: Path) -> None:
    path.parent.mkdir()
    path.touch(mode=0o644)
    SiteStore(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_commit_waits_for_the_disk(store: SiteStore) -> None:
    with store._engine.connect() as connection:
        pragmas = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous")
        ]
    assert pragmas == ["wal", 2]  # 2: FULL
