"""The first tables, and the triggers that make the audit record append-only.

Locks: creates new tables only; no existing table is locked.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0001"
down_revision: str | None = None
branch_labels: None = None
depends_on: None = None

_REFUSE_CHANGES = """
CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit_events is append-only: % is refused', TG_OP
        USING ERRCODE = 'insufficient_privilege';
END
$$
"""
# A row trigger would let a statement that matches no row pass in silence.
_TRIGGER = """
CREATE TRIGGER audit_events_append_only
BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_events
FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change()
"""


def upgrade() -> None:
    """Applies the migration."""
    _create_hospitals_and_credentials()
    _create_models_and_trainings()
    _create_rounds()
    _create_audit_events()


def downgrade() -> None:
    """Takes it back: drops every table and all that is in them."""
    for table in (
        "audit_events",
        "messages",
        "participations",
        "rounds",
        "trainings",
        "models",
        "clients",
        "users",
        "hospitals",
    ):
        op.drop_table(table)
    op.execute("DROP FUNCTION refuse_audit_change()")


def _created_at() -> sa.Column[object]:
    return sa.Column(
        "created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False
    )


def _time(name: str, *, nullable: bool = True) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _hash(name: str, *, nullable: bool = True) -> sa.Column[object]:
    return sa.Column(name, sa.String(64), nullable=nullable)


def _is_hash(table: str, column: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(f"{column} ~ '^[0-9a-f]{{64}}$'", name=op.f(f"ck_{table}_{column}"))


def _one_of(table: str, column: str, *values: str) -> sa.CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return sa.CheckConstraint(f"{column} IN ({listed})", name=op.f(f"ck_{table}_{column}"))


def _check(table: str, name: str, condition: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(condition, name=op.f(f"ck_{table}_{name}"))


def _create_hospitals_and_credentials() -> None:
    op.create_table(
        "hospitals",
        sa.Column("id", sa.String(63), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="active", nullable=False),
        _hash("signing_key"),
        _hash("sealing_key"),
        _created_at(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hospitals")),
        sa.UniqueConstraint("signing_key", name=op.f("uq_hospitals_signing_key")),
        sa.UniqueConstraint("sealing_key", name=op.f("uq_hospitals_sealing_key")),
        _one_of("hospitals", "state", "active", "suspended"),
        _check("hospitals", "id", "id ~ '^[a-z0-9][a-z0-9-]{0,62}$'"),
        _is_hash("hospitals", "signing_key"),
        _is_hash("hospitals", "sealing_key"),
        _check("hospitals", "both_keys", "(signing_key IS NULL) = (sealing_key IS NULL)"),
    )
    op.create_table(
        "users",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("username", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        _created_at(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("username", name=op.f("uq_users_username")),
        _one_of("users", "role", "operator", "scientist", "compliance"),
    )
    op.create_table(
        "clients",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("client_id", sa.Text(), nullable=False),
        _hash("secret_digest", nullable=False),
        sa.Column("hospital_id", sa.String(63), nullable=False),
        _created_at(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_clients")),
        sa.UniqueConstraint("client_id", name=op.f("uq_clients_client_id")),
        sa.ForeignKeyConstraint(
            ["hospital_id"], ["hospitals.id"], name=op.f("fk_clients_hospital_id")
        ),
        _is_hash("clients", "secret_digest"),
    )
    op.create_index(op.f("ix_clients_hospital_id"), "clients", ["hospital_id"])


def _create_models_and_trainings() -> None:
    op.create_table(
        "models",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("spec", postgresql.JSONB(), nullable=False),
        _created_at(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_models")),
        sa.UniqueConstraint("name", "version", name=op.f("uq_models_name_version")),
        _check("models", "version", "version >= 1"),
    )
    op.create_table(
        "trainings",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("model_id", sa.Uuid(), nullable=False),
        sa.Column("rounds", sa.Integer(), nullable=False),
        sa.Column("strategy", postgresql.JSONB(), nullable=False),
        sa.Column("plan", postgresql.JSONB(), nullable=False),
        sa.Column("epsilon", sa.Float(), nullable=False),
        sa.Column("delta", sa.Float(), nullable=False),
        sa.Column("least_cohort", sa.Integer(), nullable=False),
        sa.Column("round_deadline_s", sa.Float(), nullable=False),
        sa.Column("state", sa.Text(), server_default="pending", nullable=False),
        sa.Column("reason", sa.Text()),
        _hash("weights"),
        _hash("strategy_state"),
        sa.Column("mlflow_run_id", sa.Text()),
        sa.Column("model_version", sa.Text()),
        sa.Column("flow_run_id", sa.Text()),
        sa.Column("requested_by", sa.Text(), nullable=False),
        _created_at(),
        _time("closed_at"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trainings")),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_trainings_model_id")),
        _one_of("trainings", "state", "pending", "running", "completed", "failed"),
        _is_hash("trainings", "weights"),
        _is_hash("trainings", "strategy_state"),
        _check("trainings", "rounds", "rounds >= 1"),
        _check("trainings", "epsilon", "epsilon >= 0"),
        _check("trainings", "delta", "delta > 0 AND delta < 1"),
        _check("trainings", "least_cohort", "least_cohort >= 3"),
        _check("trainings", "round_deadline_s", "round_deadline_s > 0"),
    )
    op.create_index(op.f("ix_trainings_model_id"), "trainings", ["model_id"])


def _create_rounds() -> None:
    op.create_table(
        "rounds",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("training_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), server_default="training", nullable=False),
        sa.Column("state", sa.Text(), server_default="pending", nullable=False),
        sa.Column("reason", sa.Text()),
        _hash("incoming_weights"),
        _hash("outgoing_weights"),
        _hash("strategy_state"),
        sa.Column("metrics", postgresql.JSONB()),
        sa.Column("epsilon", sa.Float()),
        sa.Column("delta", sa.Float()),
        sa.Column("flow_run_id", sa.Text()),
        _created_at(),
        _time("opened_at"),
        _time("closed_at"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rounds")),
        sa.ForeignKeyConstraint(
            ["training_id"], ["trainings.id"], name=op.f("fk_rounds_training_id")
        ),
        sa.UniqueConstraint("training_id", "number", name=op.f("uq_rounds_training_id_number")),
        _one_of("rounds", "kind", "training", "evaluation"),
        _one_of("rounds", "state", "pending", "open", "completed", "failed"),
        _is_hash("rounds", "incoming_weights"),
        _is_hash("rounds", "outgoing_weights"),
        _is_hash("rounds", "strategy_state"),
        _check("rounds", "number", "number >= 1"),
    )
    op.create_index(
        "uq_rounds_one_open",
        "rounds",
        ["training_id"],
        unique=True,
        postgresql_where=sa.text("state = 'open'"),
    )
    _create_participations()
    _create_messages()


def _create_participations() -> None:
    op.create_table(
        "participations",
        sa.Column("round_id", sa.Uuid(), nullable=False),
        sa.Column("hospital_id", sa.String(63), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), server_default="invited", nullable=False),
        sa.Column("reason_code", sa.Text()),
        sa.Column("reason", sa.Text()),
        sa.Column("flow_run_id", sa.Text()),
        _time("invited_at", nullable=False),
        _time("enrolled_at"),
        _time("uploaded_at"),
        _time("revealed_at"),
        _time("ended_at"),
        sa.PrimaryKeyConstraint("round_id", "hospital_id", name=op.f("pk_participations")),
        sa.ForeignKeyConstraint(
            ["round_id"], ["rounds.id"], name=op.f("fk_participations_round_id")
        ),
        sa.ForeignKeyConstraint(
            ["hospital_id"], ["hospitals.id"], name=op.f("fk_participations_hospital_id")
        ),
        sa.UniqueConstraint("round_id", "index", name=op.f("uq_participations_round_id_index")),
        _one_of(
            *("participations", "state"),
            *("invited", "enrolled", "uploaded", "revealed", "refused", "lost"),
        ),
        _check("participations", "index", "index >= 1"),
    )
    op.create_index(op.f("ix_participations_hospital_id"), "participations", ["hospital_id"])


def _create_messages() -> None:
    op.create_table(
        "messages",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("round_id", sa.Uuid(), nullable=False),
        sa.Column("hospital_id", sa.String(63), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        _hash("digest", nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        _created_at(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_messages")),
        sa.ForeignKeyConstraint(
            ["round_id", "hospital_id"],
            ["participations.round_id", "participations.hospital_id"],
            name=op.f("fk_messages_round_id_hospital_id"),
        ),
        sa.UniqueConstraint(
            *("round_id", "hospital_id", "kind"),
            name=op.f("uq_messages_round_id_hospital_id_kind"),
        ),
        _one_of(
            *("messages", "kind"),
            *("dispatch", "cohort", "survivors", "enrolment", "upload", "reveal", "refusal"),
        ),
        _is_hash("messages", "digest"),
        _check("messages", "size_bytes", "size_bytes >= 0"),
    )


def _create_audit_events() -> None:
    op.create_table(
        "audit_events",
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        _time("at", nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        # JSON keeps the text that was hashed; JSONB would rewrite its numbers.
        sa.Column("details", sa.JSON(), nullable=False),
        _hash("previous", nullable=False),
        _hash("hash", nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_audit_events")),
        _is_hash("audit_events", "previous"),
        _is_hash("audit_events", "hash"),
        _check("audit_events", "seq", "seq >= 1"),
    )
    op.create_index(op.f("ix_audit_events_subject"), "audit_events", ["subject"])
    op.execute(_REFUSE_CHANGES)
    op.execute(_TRIGGER)
