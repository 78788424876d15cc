"""A hospital's own figures of the models it has evaluated, one row a training.

    evaluations = SiteEvaluations(Path("site.db"))
    evaluations.keep(training_id, report=text, at=now)

A part of the hospital's own store. What the text means is `fl.local_report`'s affair; it is never
sent anywhere. A later evaluation of the same training takes the place of the earlier one.
"""

from __future__ import annotations

from datetime import datetime
from functools import cached_property
from pathlib import Path
from uuid import UUID

import sqlalchemy as sa

from db.chain import timestamp
from db.site_engine import open_site_database

_metadata = sa.MetaData()
_evaluations = sa.Table(
    "evaluations",
    _metadata,
    sa.Column("training_id", sa.Uuid, primary_key=True),
    sa.Column("report", sa.Text, nullable=False),
    sa.Column("at", sa.Text, nullable=False, index=True),
)


class SiteEvaluations:
    """The figures in the file of a hospital's store; it is opened when they are asked for.

    Every round's run has them at hand, only the last one of a training keeps any.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @cached_property
    def _engine(self) -> sa.Engine:
        return open_site_database(self._path, _metadata, append_only=())

    def keep(self, training_id: UUID, *, report: str, at: datetime) -> None:
        """Keeps the figures of a training, JSON, in place of any that are there."""
        with self._engine.begin() as connection:
            connection.execute(
                _evaluations.delete().where(_evaluations.c.training_id == training_id)
            )
            connection.execute(
                _evaluations.insert().values(
                    training_id=training_id, report=report, at=timestamp(at)
                )
            )

    def kept(self) -> list[str]:
        """Returns the figures of all trainings, the newest first."""
        with self._engine.begin() as connection:
            newest = sa.select(_evaluations.c.report).order_by(
                _evaluations.c.at.desc(), _evaluations.c.training_id
            )
            return list(connection.scalars(newest))
