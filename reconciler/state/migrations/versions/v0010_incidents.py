"""Incidents, the outbox of their messages, and what the sinks answered."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "incident",
        sa.Column("notification", sa.String(400), primary_key=True),
        sa.Column("key", sa.String(900), primary_key=True),
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
    )
    op.create_index("incident_ended", "incident", ["ended_at"])
    op.create_index("incident_id", "incident", ["id"], unique=True)
    op.create_table(
        "notice",
        sa.Column("seq", number, primary_key=True, autoincrement=True),
        sa.Column("notification", sa.String(400), nullable=False),
        sa.Column("incident", sa.String(40), nullable=False),
        sa.Column("phase", sa.String(10), nullable=False),
        sa.Column("due_at", sa.Double(), nullable=False),
        sa.Column("done_at", sa.Double(), nullable=False),
        sa.Column("refresh_at", sa.Double(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sqlite_autoincrement=True,  # a number is never used again: a message that was deleted may still be on its way
    )
    op.create_index("notice_order", "notice", ["notification", "done_at", "seq"])
    op.create_index("notice_due", "notice", ["done_at", "due_at"])
    op.create_index("notice_incident", "notice", ["incident"])
    op.create_index("notice_refresh", "notice", ["refresh_at"])
    op.create_table(
        "sink",
        sa.Column("notification", sa.String(400), primary_key=True),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "sink_target",
        sa.Column("incident", sa.String(40), primary_key=True),
        sa.Column("notification", sa.String(400), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
    )
    op.create_index("sink_target_notification", "sink_target", ["notification"])
    op.create_table(
        "occurrence",
        sa.Column("seq", number, primary_key=True, autoincrement=True),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
    )
