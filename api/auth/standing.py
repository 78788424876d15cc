"""How the subject of a token stands now, from memory while notices keep that right.

    standings = Standings(engine)
    async with Hub(open_listener, watcher=standings): ...
    standing = standings.known(token) or standings.look_up(token)

Only a good standing is kept in memory. It is dropped when the database notifies of a change, and
nothing is taken from memory while nobody listens. A process hears of a change after the commit, in
about a millisecond; `forget_subject` and `forget_token` make it at once in the one that changed it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final
from uuid import UUID

from cachetools import TTLCache
from sqlalchemy.engine import Engine

from api.auth.tokens import HOSPITAL_PREFIX, USER_PREFIX, AccessToken
from db.notify import REVOKED, STANDING, USERS, Notice
from db.queries import standing
from db.queries.standing import Standing
from db.session import transaction

ACTIVE: Final = "active"
_REMEMBERED: Final = 8192
# A network that drops packets in silence keeps a listener that hears nothing.
_LONGEST_MEMORY_S: Final = 30.0


class Standings:
    """Reads standings, and remembers the good ones while the hub listens.

    Args:
        engine: the coordinator's database.
        timer: seconds, for forgetting.
    """

    def __init__(self, engine: Engine, *, timer: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._listening = False
        # Counts what was forgotten: a reading that began before must not be remembered after.
        self._changes = 0
        self._good: TTLCache[str, tuple[str, Standing]] = TTLCache(
            _REMEMBERED, _LONGEST_MEMORY_S, timer=timer
        )

    def known(self, token: AccessToken) -> Standing | None:
        """Returns the remembered standing of a token's subject, None when there is none."""
        with self._lock:
            if not self._listening:
                return None
            _, remembered = self._good.get(str(token.token_id), (None, None))
            return remembered

    def look_up(self, token: AccessToken) -> Standing | None:
        """Reads the standing of a token's subject; None when there is no such subject.

        Reads the database: not to be called in the event loop.
        """
        with self._lock:
            changes = self._changes
        found = self._read(token)
        if found is not None and is_good(found, token):
            with self._lock:
                if self._listening and self._changes == changes:
                    self._good[str(token.token_id)] = (token.subject, found)
        return found

    def forget_subject(self, subject: str) -> None:
        """Has the next request of a subject's tokens read the database."""
        self._forget(lambda _, remembered: remembered == subject)

    def forget_token(self, token_id: UUID) -> None:
        """Has the next request of a token read the database."""
        self._forget(lambda jti, _: jti == str(token_id))

    def listening(self) -> None:
        """From now on, changes are heard."""
        self._set_listening(True)

    def lost(self) -> None:
        """From now on, changes may be missed."""
        self._set_listening(False)

    def heard(self, notice: Notice) -> None:
        """Forgets what a notice says has changed."""
        if notice.kind == STANDING and notice.hospital_id:
            self.forget_subject(f"{HOSPITAL_PREFIX}{notice.hospital_id}")
        elif notice.kind == STANDING:
            self._forget(lambda _, subject: subject.startswith(HOSPITAL_PREFIX))
        elif notice.kind == USERS:
            self._forget(lambda _, subject: subject.startswith(USER_PREFIX))
        elif notice.kind == REVOKED:
            self._forget(lambda jti, _: jti == notice.hospital_id)

    def _read(self, token: AccessToken) -> Standing | None:
        with transaction(self._engine) as session:
            if token.hospital_id is not None and token.client_id is not None:
                return standing.of_hospital(
                    session,
                    hospital_id=token.hospital_id,
                    client_id=token.client_id,
                    jti=token.token_id,
                )
            username = token.subject.removeprefix(USER_PREFIX)
            return standing.of_user(session, username=username, jti=token.token_id)

    def _set_listening(self, listening: bool) -> None:
        with self._lock:
            self._changes += 1
            self._good.clear()
            self._listening = listening

    def _forget(self, is_meant: Callable[[str, str], bool]) -> None:
        """Forgets the tokens whose id and subject are meant."""
        with self._lock:
            self._changes += 1
            meant = [jti for jti, (subject, _) in self._good.items() if is_meant(jti, subject)]
            for jti in meant:
                self._good.pop(jti, None)


def is_good(standing: Standing, token: AccessToken) -> bool:
    """Whether the token is of the subject's generation, not revoked, and the subject active."""
    return is_current(standing, token) and standing.state == ACTIVE


def is_current(standing: Standing, token: AccessToken) -> bool:
    """Whether the token is of the subject's generation and not revoked."""
    return standing.generation == token.generation and not standing.revoked
