"""What a training is for.

Locks: trainings, exclusively, for a moment: a constant default rewrites no row, and the constraint
reads each once.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    """Adds the purpose; trainings from before are research."""
    column = sa.Column("purpose", sa.Text(), server_default="research", nullable=False)
    op.add_column("trainings", column)
    op.create_check_constraint(
        op.f("ck_trainings_purpose"), "trainings", "purpose ~ '^[a-z0-9][a-z0-9-]{0,62}$'"
    )


def downgrade() -> None:
    """Forgets it."""
    op.drop_constraint(op.f("ck_trainings_purpose"), "trainings", type_="check")
    op.drop_column("trainings", "purpose")
