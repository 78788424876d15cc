"""Public test sets: a file by its hash with a version of a model.

Locks: models, exclusively, for a moment: a column without a default rewrites no row, and the
constraint reads each once.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    """Adds the hash; versions from before have no public test set."""
    op.add_column("models", sa.Column("public_test", sa.String(64), nullable=True))
    op.create_check_constraint(
        op.f("ck_models_public_test"), "models", "public_test ~ '^[0-9a-f]{64}$'"
    )


def downgrade() -> None:
    """Forgets it; the files stay in the blob store."""
    op.drop_constraint(op.f("ck_models_public_test"), "models", type_="check")
    op.drop_column("models", "public_test")
