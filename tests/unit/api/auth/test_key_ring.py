from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from api.auth.key_ring import (
    FIRST_KEY,
    FOLDER,
    LOOK_EVERY_S,
    KeyRing,
    drop_retired,
    ensure_key,
    list_keys,
    rotate,
)
from api.auth.keys import SigningKey
from api.auth.secret_files import SecretExposed
from api.auth.tokens import TokenRefused, Tokens

START = datetime(2026, 1, 1, tzinfo=UTC)
LIFETIME_S = 1800


class Time:
    """A clock and a timer that a test moves on."""

    def __init__(self) -> None:
        self.passed_s = 0.0

    def now(self) -> datetime:
        return START + timedelta(seconds=self.passed_s)

    def timer(self) -> float:
        return self.passed_s


@pytest.fixture
def time() -> Time:
    return Time()


def ring_on(directory: Path, time: Time) -> KeyRing:
    return KeyRing(directory, longest_lifetime_s=LIFETIME_S, clock=time.now, timer=time.timer)


def published(ring: KeyRing) -> list[str]:
    return [key["kid"] for key in ring.jwks()["keys"]]


def tokens_with(ring: KeyRing, time: Time) -> Tokens:
    return Tokens(
        ring, issuer="https://x", audience="fedmed", lifetime_s=LIFETIME_S, clock=time.now
    )


def test_the_first_key_is_made_once(tmp_path: Path, time: Time) -> None:
    ensure_key(tmp_path)
    before = (tmp_path / FIRST_KEY).read_bytes()
    ensure_key(tmp_path)
    assert (tmp_path / FIRST_KEY).read_bytes() == before
    ring = ring_on(tmp_path, time)
    assert ring.signing().key_id == SigningKey.from_pem(before).key_id
    assert published(ring) == [ring.signing().key_id]


def test_no_first_key_is_made_beside_a_later_one(tmp_path: Path) -> None:
    ensure_key(tmp_path)
    rotate(tmp_path, now=START)
    (tmp_path / FIRST_KEY).unlink()
    ensure_key(tmp_path)
    assert len(list_keys(tmp_path)) == 1


def test_without_a_key_there_is_no_ring(tmp_path: Path, time: Time) -> None:
    with pytest.raises(ValueError, match="no signing key in"):
        ring_on(tmp_path, time)


def test_a_new_key_is_for_its_owner_only_and_named_by_its_time(tmp_path: Path) -> None:
    path = rotate(tmp_path, now=START)
    assert path.parent == tmp_path / FOLDER
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    key_id = SigningKey.from_pem(path.read_bytes()).key_id
    assert path.name == f"20260101T000000.000000Z-{key_id[:16]}.pem"


def test_two_processes_take_a_new_key_up_without_a_restart(tmp_path: Path, time: Time) -> None:
    ensure_key(tmp_path)
    first, second = ring_on(tmp_path, time), ring_on(tmp_path, time)
    old = tokens_with(first, time).issue(subject="user:ada", scopes=frozenset(), generation=1)
    rotate(tmp_path, now=time.now())
    assert len(published(first)) == 1

    time.passed_s = LOOK_EVERY_S
    new = tokens_with(first, time).issue(subject="user:ada", scopes=frozenset(), generation=1)
    assert first.signing().key_id == published(first)[-1] != published(first)[0]
    time.passed_s = LOOK_EVERY_S - 1  # the second has not looked yet: the unknown key makes it
    for token in (old, new):
        assert tokens_with(second, time).verify(token).subject == "user:ada"
    assert published(second) == published(first)


def test_a_retired_key_verifies_until_the_longest_token_has_expired(
    tmp_path: Path, time: Time
) -> None:
    ensure_key(tmp_path)
    ring = ring_on(tmp_path, time)
    old = ring.signing().key_id
    rotate(tmp_path, now=time.now())
    time.passed_s = LIFETIME_S
    assert ring.find(old) is not None
    assert drop_retired(tmp_path, longest_lifetime_s=LIFETIME_S, now=time.now()) == []

    time.passed_s = LIFETIME_S + 61
    assert ring.find(old) is None
    assert published(ring) == [ring.signing().key_id]
    assert drop_retired(tmp_path, longest_lifetime_s=LIFETIME_S, now=time.now()) == [
        tmp_path / FIRST_KEY
    ]
    assert ring.signing().key_id != old


def test_a_key_that_was_taken_away_verifies_nothing_more(tmp_path: Path, time: Time) -> None:
    ensure_key(tmp_path)
    ring = ring_on(tmp_path, time)
    tokens = tokens_with(ring, time)
    stolen = tokens.issue(subject="user:ada", scopes=frozenset(), generation=1)
    tokens.verify(stolen)
    rotate(tmp_path, now=time.now())
    (tmp_path / FIRST_KEY).unlink()
    time.passed_s = LOOK_EVERY_S
    with pytest.raises(TokenRefused):
        tokens.verify(stolen)


def test_the_newest_signs_though_a_clock_was_set_back(tmp_path: Path, time: Time) -> None:
    paths = [rotate(tmp_path, now=START - timedelta(days=n)) for n in range(3)]
    assert [key.path for key in list_keys(tmp_path)] == paths
    newest = SigningKey.from_pem(paths[-1].read_bytes())
    assert ring_on(tmp_path, time).signing().key_id == newest.key_id


@pytest.mark.parametrize("kid", ["", "another", "../signing-key", "../../etc/passwd", "a\0b"])
def test_no_other_id_finds_a_key(tmp_path: Path, time: Time, kid: str) -> None:
    ensure_key(tmp_path)
    assert ring_on(tmp_path, time).find(kid) is None


def test_a_file_that_is_no_key_is_named_at_the_start(tmp_path: Path, time: Time) -> None:
    path = rotate(tmp_path, now=START)
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=path.name):
        ring_on(tmp_path, time)
    path.rename(path.with_name("mine.pem"))
    with pytest.raises(ValueError, match=r"mine\.pem is not named as a signing key"):
        ring_on(tmp_path, time)


def test_an_open_file_is_refused_at_the_start(tmp_path: Path, time: Time) -> None:
    rotate(tmp_path, now=START).chmod(0o644)
    with pytest.raises(SecretExposed, match="chmod 600"):
        ring_on(tmp_path, time)


def test_what_cannot_be_used_later_is_logged_and_leaves_the_keys(
    tmp_path: Path, time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    ensure_key(tmp_path)
    ring = ring_on(tmp_path, time)
    key = ring.signing()
    new = rotate(tmp_path, now=time.now())
    new.chmod(0o644)
    time.passed_s = LOOK_EVERY_S
    with caplog.at_level(logging.ERROR):
        assert ring.signing() is key
    assert f"{new} has mode 0644" in caplog.text
    new.chmod(0o600)
    time.passed_s *= 2
    assert ring.signing().key_id != key.key_id
