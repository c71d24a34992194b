"""Spans of traces that wait for their export."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "trace_span",
        sa.Column("id", number, primary_key=True, autoincrement=True),
        sa.Column("spans", sa.Integer(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sqlite_autoincrement=True,  # a number is never used again: its row may be deleted late
    )
