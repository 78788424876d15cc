"""A hospital's approvals: which trainings wait for its people, and what these have decided.

    approvals = SiteApprovals(Path("site.db"), store)
    approvals.ask(training_id, terms=text, shown={...})

A part of the hospital's own store. Rows are appended and never changed; each is written together
with its entry in the local log, in one transaction. What the terms mean and who has signed them is
the site guard's affair.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from db.chain import canonical_json, plain, timestamp
from db.site_engine import open_site_database
from db.site_store import SiteStore

ApprovalState = Literal["asked", "given", "revoked"]

_DECISIONS: Final = ("given", "revoked")

_metadata = sa.MetaData()
_approvals = sa.Table(
    "approvals",
    _metadata,
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("training_id", sa.Uuid, nullable=False, index=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("terms", sa.Text, nullable=False),
    sa.Column("shown", sa.Text, nullable=False),
    sa.Column("signature", sa.LargeBinary, nullable=True),
    sa.Column("at", sa.Text, nullable=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """One row: a training that was asked for, or what a person has decided on it.

    Attributes:
        training_id: the training.
        state: ``asked``, ``given`` or ``revoked``.
        terms: what it is bound to, as the text that is signed.
        shown: what a person is shown beside the terms.
        signature: of a given one.
        at: when.
    """

    training_id: UUID
    state: ApprovalState
    terms: str
    shown: dict[str, Any]
    signature: bytes | None
    at: datetime


class SiteApprovals:
    """The approvals in the file of a hospital's store.

    Args:
        path: the store's file.
        store: the store itself, whose local log is written too.
    """

    def __init__(self, path: Path, store: SiteStore) -> None:
        self._store = store
        self._engine = open_site_database(path, _metadata, append_only=(_approvals,))

    def ask(self, training_id: UUID, *, terms: str, shown: Mapping[str, Any], at: datetime) -> bool:
        """Records that a training waits for a person; returns whether that is new.

        The same terms in a row are recorded once: a round that is tried again asks nothing new.
        """
        with self._engine.begin() as connection:
            last = self._last(connection, training_id, ("asked", *_DECISIONS))
            if last is not None and (last.state, last.terms) == ("asked", terms):
                return False
            self._append(connection, training_id, "asked", terms, shown, None, at)
        return True

    def give(
        self,
        training_id: UUID,
        *,
        terms: str,
        shown: Mapping[str, Any],
        signature: bytes,
        at: datetime,
    ) -> None:
        """Records a person's approval."""
        with self._engine.begin() as connection:
            self._append(connection, training_id, "given", terms, shown, signature, at)

    def revoke(self, training_id: UUID, *, at: datetime) -> bool:
        """Records that a person takes a training back; False when it has never asked for one.

        A training that was never asked about is refused from then on all the same.
        """
        with self._engine.begin() as connection:
            last = self._last(connection, training_id, ("asked", *_DECISIONS))
            if last is None:
                self._append(connection, training_id, "revoked", "{}", {}, None, at)
            elif last.state != "revoked":
                self._append(connection, training_id, "revoked", last.terms, last.shown, None, at)
        return last is not None

    def asked(self, training_id: UUID) -> Approval | None:
        """Returns what was asked last for a training."""
        with self._engine.begin() as connection:
            return self._last(connection, training_id, ("asked",))

    def decision(self, training_id: UUID) -> Approval | None:
        """Returns what a person has decided last on a training."""
        with self._engine.begin() as connection:
            return self._last(connection, training_id, _DECISIONS)

    def latest(self) -> list[Approval]:
        """Returns the last row of each training, oldest first."""
        newest = sa.select(sa.func.max(_approvals.c.seq)).group_by(_approvals.c.training_id)
        with self._engine.begin() as connection:
            rows = connection.execute(
                sa.select(_approvals).where(_approvals.c.seq.in_(newest)).order_by(_approvals.c.seq)
            ).all()
        return [_approval(row) for row in rows]

    def _last(
        self, connection: Connection, training_id: UUID, states: tuple[str, ...]
    ) -> Approval | None:
        row = connection.execute(
            sa.select(_approvals)
            .where(_approvals.c.training_id == training_id, _approvals.c.state.in_(states))
            .order_by(_approvals.c.seq.desc())
            .limit(1)
        ).one_or_none()
        return None if row is None else _approval(row)

    def _append(
        self,
        connection: Connection,
        training_id: UUID,
        state: ApprovalState,
        terms: str,
        shown: Mapping[str, Any],
        signature: bytes | None,
        at: datetime,
    ) -> None:
        connection.execute(
            _approvals.insert().values(
                training_id=training_id,
                state=state,
                terms=terms,
                shown=canonical_json(plain(shown)),
                signature=signature,
                at=timestamp(at),
            )
        )
        details = {
            "training": str(training_id),
            "terms": json.loads(terms),
            "signature": None if signature is None else signature.hex(),
        }
        self._store.append(connection, f"approval-{state}", details)


def _approval(row: Any) -> Approval:
    return Approval(
        training_id=row.training_id,
        state=row.state,
        terms=row.terms,
        shown=json.loads(row.shown),
        signature=row.signature,
        at=datetime.fromisoformat(row.at),
    )
