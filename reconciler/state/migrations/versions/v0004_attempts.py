"""Attempts are counted before they are made, and which events a connection group took is known for as long as the events are."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "attempt",
        sa.Column("event_id", sa.String(40), primary_key=True),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("holder", sa.String(200), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
    )
    op.create_table(
        "joined",
        sa.Column("event_id", sa.String(40), primary_key=True),
        sa.Column("connection_group", sa.String(400), primary_key=True),
    )
