"""Reviews of pull requests."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.create_table(
        "review",
        sa.Column("key", sa.String(300), primary_key=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.Double(), nullable=False),
        sa.Column("is_open", sa.Boolean(), nullable=False),
        sa.Column("check_id", sa.String(40), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
    )
    op.create_index("review_due", "review", ["due_at"])
    op.create_index("review_check", "review", ["check_id"])
    op.create_index("review_open", "review", ["is_open"])
