"""Passwords of people (argon2id) and random secrets of clients (SHA-256).

A password may be weak, so that its hash must be slow. A client's secret has 256 random bits: a fast
hash of it tells nothing, and hospitals ask for tokens often.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import Type

_SECRET_BYTES: Final = 32
LEAST_PASSWORD: Final = 12
"""Characters of a password that a person chooses."""
LONGEST_PASSWORD: Final = 1024


class WrongSecret(Exception):
    """The password or the secret is not the one that is stored, or there is none."""


class Passwords:
    """Hashes and verifies passwords with argon2id, 19 MiB and two passes (OWASP's smallest).

    Who is unknown costs the same work as who is known: the time tells nobody which names exist.
    """

    def __init__(self) -> None:
        self._hasher = PasswordHasher(
            time_cost=2, memory_cost=19 * 1024, parallelism=1, type=Type.ID
        )
        self._nobody = self._hasher.hash(new_secret())

    def hash(self, password: str) -> str:
        """Returns the hash to store."""
        return self._hasher.hash(password)

    def verify(self, stored: str | None, password: str) -> None:
        """Checks a password; ``stored`` is None when there is no such user.

        Raises:
            WrongSecret: it is another one.
        """
        try:
            self._hasher.verify(self._nobody if stored is None else stored, password)
        except (VerificationError, InvalidHashError):
            raise WrongSecret from None
        if stored is None:
            raise WrongSecret


def holds_username(password: str, username: str) -> bool:
    """Whether the name is among the password, in whatever case.

    >>> holds_username("Ada-Lovelace-1815", "ada")
    True
    """
    return username.casefold() in password.casefold()


def new_secret() -> str:
    """Returns 256 random bits as text that needs no escaping in a URL or a form."""
    return secrets.token_urlsafe(_SECRET_BYTES)


def secret_digest(secret: str) -> str:
    """Returns what is stored of a client's secret: its SHA-256, in hex."""
    return hashlib.sha256(secret.encode()).hexdigest()


def verify_secret(stored_digest: str | None, secret: str) -> None:
    """Checks a client's secret in constant time; None when there is no such client.

    Raises:
        WrongSecret: it is another one.
    """
    expected = stored_digest or secret_digest(new_secret())
    if not hmac.compare_digest(expected, secret_digest(secret)):
        raise WrongSecret
