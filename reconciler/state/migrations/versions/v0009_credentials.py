"""Refused credentials, and what was announced of each credential, which were rows of ``meta``: its keys are too short for long names."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_table(
        "refused_credential",
        sa.Column("proof", sa.String(64), primary_key=True),
        sa.Column("until", sa.Double(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
    )
    op.create_index("refused_credential_until", "refused_credential", ["until"])
    op.create_table(
        "credential_alert",
        sa.Column("integration", sa.String(400), primary_key=True),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
    )
    stored = "CAST(value AS BLOB)" if op.get_bind().dialect.name == "sqlite" else "convert_to(value, 'UTF8')"
    op.execute(
        f"INSERT INTO credential_alert SELECT substr(key, 12), {stored} FROM meta WHERE key LIKE 'credential.%'"  # noqa: S608 - constants only
    )
    op.execute("DELETE FROM meta WHERE key LIKE 'credential.%'")
