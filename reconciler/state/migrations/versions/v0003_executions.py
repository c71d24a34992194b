"""What is under way and what ended last is found without looking at every execution that ever was."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    for name, columns, where in (
        ("execution_open", ["stage"], "state <> 'finished'"),
        ("execution_ended", ["stage", "finished_at"], "state = 'finished'"),
    ):
        op.create_index(name, "execution", columns, unique=False, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
