"""Joining by a one-time code, credentials that can be replaced, tokens that can be revoked.

Locks: hospitals, users and clients, exclusively, for a moment: constant defaults rewrite no row,
and each new constraint reads them once.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: None = None
depends_on: None = None

_STATE = "ck_hospitals_state"


def upgrade() -> None:
    """Adds the states, generations and tables."""
    _allow_states("invited", "active", "suspended", "left")
    for table in ("users", "clients"):
        column = sa.Column("generation", sa.Integer(), server_default="1", nullable=False)
        op.add_column(table, column)
        op.create_check_constraint(op.f(f"ck_{table}_generation"), table, "generation >= 1")
    op.add_column("users", sa.Column("state", sa.Text(), server_default="active", nullable=False))
    op.create_check_constraint(op.f("ck_users_state"), "users", "state IN ('active', 'suspended')")
    _create_join_codes()
    _create_revoked_tokens()
    _create_failed_sign_ins()


def downgrade() -> None:
    """Forgets them; hospitals that are invited or have left stop it."""
    for table in ("failed_sign_ins", "revoked_tokens", "join_codes"):
        op.drop_table(table)
    op.drop_column("users", "state")
    for table in ("clients", "users"):
        op.drop_column(table, "generation")
    _allow_states("active", "suspended")


def _allow_states(*states: str) -> None:
    op.drop_constraint(op.f(_STATE), "hospitals", type_="check")
    listed = ", ".join(f"'{state}'" for state in states)
    op.create_check_constraint(op.f(_STATE), "hospitals", f"state IN ({listed})")


def _create_join_codes() -> None:
    op.create_table(
        "join_codes",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("hospital_id", sa.String(63), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        _time("created_at", nullable=False),
        _time("expires_at", nullable=False),
        _time("used_at", nullable=True),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_join_codes")),
        sa.ForeignKeyConstraint(
            ["hospital_id"], ["hospitals.id"], name=op.f("fk_join_codes_hospital_id")
        ),
        sa.CheckConstraint("digest ~ '^[0-9a-f]{64}$'", name=op.f("ck_join_codes_digest")),
        sa.CheckConstraint("expires_at > created_at", name=op.f("ck_join_codes_expires_at")),
    )
    op.create_index(op.f("ix_join_codes_hospital_id"), "join_codes", ["hospital_id"])


def _create_revoked_tokens() -> None:
    op.create_table(
        "revoked_tokens",
        sa.Column("jti", sa.Uuid(), nullable=False),
        _time("expires_at", nullable=False),
        sa.PrimaryKeyConstraint("jti", name=op.f("pk_revoked_tokens")),
    )
    op.create_index(op.f("ix_revoked_tokens_expires_at"), "revoked_tokens", ["expires_at"])


def _create_failed_sign_ins() -> None:
    op.create_table(
        "failed_sign_ins",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        _time("last_at", nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_failed_sign_ins")),
        sa.CheckConstraint("failures >= 1", name=op.f("ck_failed_sign_ins_failures")),
    )
    op.create_index(op.f("ix_failed_sign_ins_last_at"), "failed_sign_ins", ["last_at"])


def _time(name: str, *, nullable: bool) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)
