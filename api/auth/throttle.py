"""Waiting after failures: of an account, a client or an address (OWASP ASVS 5, 6.3.1).

    with throttled(engine, [account(username), address(peer)], now=now, failure=WrongSecret):
        passwords.verify(stored, password)

Who has to wait is refused before anything is checked, and not counted: one who asks too early does
not wait longer. Keys are hashes, so that a password typed in place of a name is not kept.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.engine import Engine

from db.queries import sign_ins
from db.queries.sign_ins import ACCOUNT, ADDRESS, Bound
from db.session import transaction

Failures = type[Exception] | tuple[type[Exception], ...]


class TooManyFailures(Exception):
    """Too many failures in a row; ``retry_after_s`` is when to try again, in whole seconds."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"too many failures in a row: try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttle:
    """Whose failures are counted, and how many are free; ``clears``: a success forgets them."""

    key: str
    bound: Bound
    clears: bool


def account(username: str) -> Throttle:
    """The failures of one person's name, whether there is such a person or not."""
    return Throttle(key=_key("account", username), bound=ACCOUNT, clears=True)


def address(peer: str) -> Throttle:
    """The failures of one address; a success of the same address does not forget them.

    Otherwise who has one account could guess at the others for ever.
    """
    return Throttle(key=_key("address", peer), bound=ADDRESS, clears=False)


def client(client_id: str, peer: str) -> Throttle:
    """The failures of one client at one address.

    A client's secret cannot be guessed: this bounds the load of one that has an old secret, and
    neither its neighbours behind the same address nor the client elsewhere wait for it.
    """
    return Throttle(key=_key("client", client_id, peer), bound=ADDRESS, clears=True)


@contextmanager
def throttled(
    engine: Engine,
    throttles: Sequence[Throttle],
    *,
    now: Callable[[], datetime],
    failure: Failures,
) -> Iterator[None]:
    """Lets the block try, and counts it as a failure when it raises ``failure``.

    Holds no transaction while the block runs.

    Raises:
        TooManyFailures: one of them has to wait; the block did not run.
    """
    require_patience(engine, throttles, now=now())
    try:
        yield
    except failure:
        _record(engine, throttles, now=now())
        raise
    with transaction(engine) as session:
        for throttle in throttles:
            if throttle.clears:
                sign_ins.clear(session, throttle.key)


def require_patience(engine: Engine, throttles: Sequence[Throttle], *, now: datetime) -> None:
    """Refuses who has to wait.

    Raises:
        TooManyFailures: one of them has to wait.
    """
    with transaction(engine) as session:
        longest = max(
            sign_ins.wait_s(session, key=throttle.key, bound=throttle.bound, now=now)
            for throttle in throttles
        )
    if longest > 0:
        raise TooManyFailures(math.ceil(longest))


def _record(engine: Engine, throttles: Sequence[Throttle], *, now: datetime) -> None:
    with transaction(engine) as session:
        # In one order, so that two failures of the same keys do not wait for each other.
        for throttle in sorted(throttles, key=lambda throttle: throttle.key):
            sign_ins.record_failure(session, key=throttle.key, bound=throttle.bound, now=now)
        sign_ins.purge(session, now=now)


def _key(*parts: str) -> str:
    kind, *rest = parts
    digest = hashlib.sha256("\0".join(rest).encode(errors="surrogatepass")).hexdigest()
    return f"{kind}:{digest}"
