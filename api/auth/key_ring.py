"""The signing keys of the secrets directory: the newest signs, all that may still be needed verify.

    rotate(secrets, now=now)                               # fedmed auth rotate-key
    ring = KeyRing(secrets, longest_lifetime_s=1800, clock=now)
    ring.signing()                                         # takes a new key up without a restart

The first key is ``signing-key.pem``; later ones lie in ``signing-keys/`` and carry the time at
which they were made in their name, which a backup does not change as it does a file's times.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Final

from api.auth import secret_files
from api.auth.keys import PublicKey, SigningKey
from api.auth.secret_files import SecretExposed

FIRST_KEY: Final = "signing-key.pem"
FOLDER: Final = "signing-keys"
LOOK_EVERY_S: Final = 3.0
# Until all processes have seen a newer key, and for clocks that differ.
_GRACE_S: Final = 60.0
_TIME: Final = "%Y%m%dT%H%M%S.%fZ"
_NAME: Final = re.compile(r"(\d{8}T\d{6}\.\d{6}Z)-[0-9a-f]{16}\.pem")
_EARLIEST: Final = datetime.min.replace(tzinfo=UTC)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, order=True)
class KeyFile:
    """A file with a private key, and when the key was made; sorts by that."""

    made_at: datetime
    path: Path


@dataclass(frozen=True, slots=True)
class _Held:
    """A key with the moment from which nothing it has signed can be valid; None for the newest."""

    key: SigningKey
    retired_at: datetime | None


def ensure_key(directory: Path) -> None:
    """Makes the first key when there is none.

    Raises:
        SecretExposed: the key or its directory is open to others.
        ValueError: a file that is not named as keys are.
    """
    if not list_keys(directory):
        path = directory / FIRST_KEY
        secret_files.read_or_create(path, SigningKey.generate_pem)
        _log.warning("made the key that signs access tokens: %s", path)


def list_keys(directory: Path) -> list[KeyFile]:
    """Returns the files with keys, the newest last.

    Raises:
        ValueError: a file that is not named as keys are.
    """
    first = directory / FIRST_KEY
    found = [KeyFile(_made_at(path), path) for path in (directory / FOLDER).glob("[!.]*.pem")]
    return sorted([*found, *([KeyFile(_EARLIEST, first)] if first.exists() else [])])


def rotate(directory: Path, *, now: datetime) -> Path:
    """Makes a new key, which signs from now on; returns its file.

    Raises:
        SecretExposed: the directory is open to others.
        ValueError: a file that is not named as keys are.
    """
    keys = list_keys(directory)
    # The newest signs: a clock that was set back must not make a key that never does.
    made_at = max([now, *(key.made_at + timedelta(microseconds=1) for key in keys)])
    pem = SigningKey.generate_pem()
    name = f"{made_at.strftime(_TIME)}-{SigningKey.from_pem(pem).key_id[:16]}.pem"
    path = directory / FOLDER / name
    secret_files.read_or_create(path, lambda: pem)
    return path


def drop_retired(directory: Path, *, longest_lifetime_s: float, now: datetime) -> list[Path]:
    """Removes the keys of which no token can be valid any more; returns their files."""
    keys = list_keys(directory)
    retired = [
        key.path for key, newer in pairwise(keys) if _retired_at(newer, longest_lifetime_s) <= now
    ]
    for path in retired:
        path.unlink()
    return retired


class KeyRing:
    """The keys of a directory, as they are now.

    Args:
        directory: the secrets directory.
        longest_lifetime_s: seconds that a token lives at most.
        clock: the time, in UTC.
        timer: seconds, for looking at the directory every few of them.

    Raises:
        SecretExposed: a key or the directory is open to others.
        ValueError: a file that holds no key, or there is none.
    """

    def __init__(
        self,
        directory: Path,
        *,
        longest_lifetime_s: float,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = directory
        self._longest_lifetime_s = longest_lifetime_s
        self._clock = clock
        self._timer = timer
        self._lock = threading.Lock()
        self._files = list_keys(directory)
        self._held = self._load(self._files)
        self._looked_at = timer()

    def signing(self) -> SigningKey:
        """Returns the newest key."""
        self._look_if_due()
        return self._held[-1].key

    def find(self, key_id: str) -> SigningKey | None:
        """Returns the key of this id; None when it is unknown or retired."""
        self._look_if_due()
        found = self._held_under(key_id)
        if found is None:
            # Another process may have begun to sign with a new key: looking is cheaper than being
            # wrong for seconds.
            self._look()
            found = self._held_under(key_id)
        return found

    def jwks(self) -> dict[str, list[PublicKey]]:
        """Returns the public halves of all keys that verify (RFC 7517)."""
        self._look_if_due()
        return {"keys": [held.key.jwk() for held in self._held if not self._is_retired(held)]}

    def _held_under(self, key_id: str) -> SigningKey | None:
        for held in self._held:
            if held.key.key_id == key_id and not self._is_retired(held):
                return held.key
        return None

    def _is_retired(self, held: _Held) -> bool:
        return held.retired_at is not None and held.retired_at <= self._clock()

    def _look_if_due(self) -> None:
        if self._timer() - self._looked_at >= LOOK_EVERY_S:
            self._look()

    def _look(self) -> None:
        """Takes up what has changed in the directory; what cannot be used leaves the keys as is."""
        with self._lock:
            self._looked_at = self._timer()
            try:
                files = list_keys(self._directory)
                if files != self._files:
                    self._held = self._load(files)
                    self._files = files
            except (SecretExposed, ValueError, OSError) as error:
                _log.error("the signing keys in %s stay as they were: %s", self._directory, error)

    def _load(self, files: list[KeyFile]) -> tuple[_Held, ...]:
        if not files:
            raise ValueError(f"there is no signing key in {self._directory}")
        retired = [_retired_at(newer, self._longest_lifetime_s) for newer in files[1:]]
        return tuple(
            _Held(_read(file.path), retired_at)
            for file, retired_at in zip(files, [*retired, None], strict=True)
        )


def _read(path: Path) -> SigningKey:
    try:
        return SigningKey.from_pem(secret_files.read(path))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _made_at(path: Path) -> datetime:
    named = _NAME.fullmatch(path.name)
    if named is None:
        raise ValueError(f"{path} is not named as a signing key is; `fedmed auth rotate-key` does")
    return datetime.strptime(named[1], _TIME).replace(tzinfo=UTC)


def _retired_at(newer: KeyFile, longest_lifetime_s: float) -> datetime:
    return newer.made_at + timedelta(seconds=longest_lifetime_s + _GRACE_S)
