"""Messages of a round that lost a hospital: echoes and their certificate.

Locks: messages, exclusively, while a constraint is replaced and its rows are read once.
"""

from __future__ import annotations

from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: None = None
depends_on: None = None

_CONSTRAINT = "ck_messages_kind"
_BEFORE = ("dispatch", "cohort", "survivors", "enrolment", "upload", "reveal", "refusal")
_AFTER = (
    *("dispatch", "cohort", "survivors", "certificate"),
    *("enrolment", "upload", "echo", "reveal", "refusal"),
)


def upgrade() -> None:
    """Allows the new kinds of messages."""
    _allow(*_AFTER)


def downgrade() -> None:
    """Refuses them again; rounds that have such messages stop it."""
    _allow(*_BEFORE)


def _allow(*kinds: str) -> None:
    op.drop_constraint(op.f(_CONSTRAINT), "messages", type_="check")
    listed = ", ".join(f"'{kind}'" for kind in kinds)
    op.create_check_constraint(op.f(_CONSTRAINT), "messages", f"kind IN ({listed})")
