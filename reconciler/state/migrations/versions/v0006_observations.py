"""What was observed is read again: stored observations held whole URLs of objects that are not ours, which may be credentials."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute("PRAGMA secure_delete = ON")  # the bytes themselves go, not only the rows
        op.execute("DELETE FROM observation")
    else:
        op.execute("TRUNCATE observation")
