"""Requested reconciles: what is due, who asked, and which request the last reconcile covered. Due times were cursors before."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "reconcile_request",
        sa.Column("integration", sa.String(400), primary_key=True),
        sa.Column("due_at", sa.Double(), nullable=False),
        sa.Column("token", sa.String(200), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("done", sa.BigInteger(), nullable=False),
        sa.Column("forced", sa.BigInteger(), nullable=False),
        sa.Column("explicit", sa.BigInteger(), nullable=False),
        sa.Column("by", sa.String(200), nullable=False),
    )
    op.create_index("reconcile_request_due", "reconcile_request", ["due_at"])
    op.execute("DELETE FROM cursor WHERE name LIKE 'slice/%'")
