from __future__ import annotations

import pytest

from api.auth.passwords import (
    Passwords,
    WrongSecret,
    holds_username,
    new_secret,
    secret_digest,
    verify_secret,
)


def test_accepts_the_right_password_only() -> None:
    passwords = Passwords()
    stored = passwords.hash("correct horse")
    assert stored.startswith("$argon2id$")
    passwords.verify(stored, "correct horse")
    with pytest.raises(WrongSecret):
        passwords.verify(stored, "correct horse ")


@pytest.mark.parametrize("stored", ["", "plain text", "$argon2id$v=19$m=1,t=1,p=1$AA$AA"])
def test_a_hash_that_is_none_opens_nothing(stored: str) -> None:
    with pytest.raises(WrongSecret):
        Passwords().verify(stored, "plain text")


def test_nobody_has_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.auth.passwords.new_secret", lambda: "guessed")
    with pytest.raises(WrongSecret):
        Passwords().verify(None, "guessed")


def test_nobody_costs_the_same_work() -> None:
    class Counting:
        verified = 0

        def verify(self, stored: str, password: str) -> bool:
            Counting.verified += 1
            return passwords_hasher.verify(stored, password)

    passwords = Passwords()
    passwords_hasher, passwords._hasher = passwords._hasher, Counting()
    with pytest.raises(WrongSecret):
        passwords.verify(None, "whatever")
    assert Counting.verified == 1
    parameters = passwords._nobody.split("$")[:4]
    assert parameters == passwords_hasher.hash("x").split("$")[:4]


def test_secrets_are_random_and_safe_in_a_url() -> None:
    first, second = new_secret(), new_secret()
    assert first != second
    assert len(first) == 43  # 256 bits
    assert first.replace("-", "").replace("_", "").isalnum()


@pytest.mark.parametrize("password", ["ada", "xADAx", "Straße of Ada"])
def test_a_name_is_found_in_a_password_in_whatever_case(password: str) -> None:
    assert holds_username(password, "ada")
    assert not holds_username(password, "adam")


def test_accepts_the_right_secret_only() -> None:
    secret = new_secret()
    verify_secret(secret_digest(secret), secret)
    with pytest.raises(WrongSecret):
        verify_secret(secret_digest(secret), secret + "x")
    with pytest.raises(WrongSecret):
        verify_secret(None, secret)
