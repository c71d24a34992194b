"""Events and stages: the inbox, what waits in the queues, executions, outputs and what is reported."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "cursor",
        sa.Column("name", sa.String(length=440), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "event",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("source", sa.String(length=400), nullable=False),
        sa.Column("delivery_id", sa.String(length=220), nullable=False),
        sa.Column("identity", sa.String(length=220), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("received_at", sa.Double(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("event_delivery", "event", ["source", "delivery_id"], unique=True)
    for name, columns, where in (
        ("event_pending", ["id"], "state = 'pending'"),
        ("event_identity", ["source", "identity"], "identity <> ''"),
    ):
        op.create_index(name, "event", columns, unique=False, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
    op.create_table(
        "execution",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("item_id", sa.String(length=40), nullable=False),
        sa.Column("stage", sa.String(length=400), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("integration", sa.String(length=400), nullable=False),
        sa.Column("external_id", sa.String(length=200), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.Double(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("finished_at", sa.Double(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("execution_due", "execution", ["state", "next_at"], unique=False)
    op.create_index("execution_item", "execution", ["item_id"], unique=False)
    op.create_index("execution_run", "execution", ["integration", "external_id"], unique=False)
    op.create_index("execution_stage", "execution", ["stage", "created_at"], unique=False)
    op.create_table(
        "item",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("stage", sa.String(length=400), nullable=False),
        sa.Column("event_id", sa.String(length=40), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("item_event", "item", ["event_id"], unique=False)
    op.create_index("item_stage", "item", ["stage", "state", "created_at"], unique=False)
    op.create_index("item_state", "item", ["state"], unique=False)
    op.create_table(
        "joining",
        sa.Column("connection_group", sa.String(length=400), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("deadline", sa.Double(), nullable=False),
        sa.Column("touched_at", sa.Double(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("connection_group", "key"),
    )
    op.create_index("joining_deadline", "joining", ["deadline"], unique=False)
    op.create_table(
        "output",
        sa.Column("execution_id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("execution_id", "name"),
    )
    op.create_table(
        "pin",
        sa.Column("digest", sa.String(length=80), nullable=False),
        sa.Column("used_at", sa.Double(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_table(
        "rejection",
        sa.Column("event_id", sa.String(length=40), nullable=False),
        sa.Column("target", sa.String(length=400), nullable=False),
        sa.Column("reason", sa.String(length=40), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("event_id", "target"),
    )
    op.create_index("rejection_at", "rejection", ["at"], unique=False)
    op.create_table(
        "report",
        sa.Column("item_id", sa.String(length=40), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.Double(), nullable=False),
        sa.Column("done_at", sa.Double(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("item_id", "kind", "state"),
    )
    op.create_index("report_due", "report", ["done_at", "due_at"], unique=False)
    op.create_table(
        "vote",
        sa.Column("item_id", sa.String(length=40), nullable=False),
        sa.Column("by", sa.String(length=200), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("item_id", "by"),
    )
