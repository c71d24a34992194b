"""Signing keys of the OIDC issuer."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_table(
        "oidc_key",
        sa.Column("number", sa.Integer(), primary_key=True),
        sa.Column("kid", sa.String(64), nullable=False),
        sa.Column("public", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("seal_key_id", sa.String(16), nullable=False),
        sa.Column("published_at", sa.Double(), nullable=False),
        sa.Column("sign_from", sa.Double(), nullable=False),
        sa.Column("revoked_at", sa.Double()),
    )
