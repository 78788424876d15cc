"""What can go wrong in ``db``, one class per cause.

::

    DatabaseError
    ├── NotFound              no row under this key
    ├── AlreadyExists         a row under this key is there already
    ├── Conflict              a rule that the request would break
    │   └── RoundClosed           the round has ended: nothing more is taken
    ├── JoinCodeRefused       no code with which a hospital may join
    ├── TooFewHospitals       fewer invitable hospitals than the training's least cohort
    ├── AuditChainBroken      the audit record was changed
    ├── LedgerBroken          a hospital's ledger was changed, or cannot be read
    ├── LedgerRolledBack      a hospital's ledger and its witness are not of the same time
    ├── BlobMissing           no blob under this digest
    ├── BlobCorrupt           stored bytes that do not have the digest they are stored under
    ├── ListenerLost          the connection that notices arrive on is gone
    └── ServerFailed          the embedded server did not start or stop
"""

from __future__ import annotations

from pathlib import Path
from uuid import UUID


class DatabaseError(Exception):
    """Base of all errors of this package."""


class NotFound(DatabaseError):
    """No row of this kind under this key."""

    def __init__(self, kind: str, key: object) -> None:
        super().__init__(f"no {kind} {str(key)!r}")
        self.kind = kind
        self.key = str(key)


class AlreadyExists(DatabaseError):
    """A row of this kind under this key is there already."""

    def __init__(self, kind: str, key: object) -> None:
        super().__init__(f"{kind} {str(key)!r} exists already")
        self.kind = kind
        self.key = str(key)


class Conflict(DatabaseError):
    """A rule that the request would break; ``rule`` is a stable name, ``detail`` a sentence."""

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(f"{rule}: {detail}")
        self.rule = rule
        self.detail = detail


class RoundClosed(Conflict):
    """The round has ended; ``state`` and ``reason`` say how."""

    def __init__(self, round_id: UUID, *, state: str, reason: str | None) -> None:
        why = f" ({reason})" if reason else ""
        super().__init__("round-closed", f"round {round_id} is {state}{why}: it takes nothing more")
        self.round_id = round_id
        self.state = state
        self.reason = reason


class JoinCodeRefused(DatabaseError):
    """The code is unknown, used, replaced or expired; who sent it is not told which."""

    def __init__(self) -> None:
        super().__init__("this join code cannot be used: it is wrong, used, replaced or expired")


class TooFewHospitals(DatabaseError):
    """Fewer invitable hospitals than the training's least cohort; nothing was run.

    The refusal is already written to the caller's session as a failed round: leave the transaction
    normally, so that it is committed, and raise this on afterwards.
    """

    def __init__(self, *, least: int, found: int, round_id: UUID) -> None:
        super().__init__(
            f"a round needs {least} hospitals that are active and have published their keys, "
            f"there are {found}"
        )
        self.least = least
        self.found = found
        self.round_id = round_id


class AuditChainBroken(DatabaseError):
    """The audit record was changed; ``seq`` is the first event that does not fit."""

    def __init__(self, seq: int, why: str) -> None:
        super().__init__(f"audit event {seq}: {why}")
        self.seq = seq
        self.why = why


class LedgerBroken(DatabaseError):
    """A hospital's ledger was changed, or cannot be read; ``seq`` is the first entry, if known."""

    def __init__(self, where: str, seq: int | None, why: str) -> None:
        entry = "" if seq is None else f"entry {seq} "
        super().__init__(f"{where}: {entry}{why}")
        self.where = where
        self.seq = seq
        self.why = why


class LedgerRolledBack(DatabaseError):
    """A hospital's ledger and its witness differ by more than a crash can explain."""


class BlobMissing(DatabaseError):
    """No blob under this digest."""

    def __init__(self, digest: str) -> None:
        super().__init__(f"no blob {digest}")
        self.digest = digest


class BlobCorrupt(DatabaseError):
    """Stored bytes that do not have the digest they are stored under."""

    def __init__(self, digest: str, found: str) -> None:
        super().__init__(f"blob {digest} is corrupt: its bytes have the digest {found}")
        self.digest = digest
        self.found = found


class ListenerLost(DatabaseError):
    """The connection that notices arrive on is gone: open a new listener and read the tables."""


class ServerFailed(DatabaseError):
    """The embedded server did not start or stop."""

    def __init__(self, directory: Path, why: str) -> None:
        super().__init__(f"embedded PostgreSQL in {directory}: {why}")
        self.directory = directory
        self.why = why
