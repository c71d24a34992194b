"""Every list, and everything that retention drops, is found by an index; the audit log's rows can be signed with the key."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_DROPPED = (
    ("event_pending", "event"),
    ("event_delivery", "event"),
    ("execution_ended", "execution"),
    ("execution_open", "execution"),
    ("item_state", "item"),
)
_MADE = (
    ("event_delivery", "event", ["delivery_id", "source"], True),
    ("event_state", "event", ["state", "id"], False),
    ("event_source", "event", ["source", "state", "id"], False),
    ("execution_state", "execution", ["state", "created_at", "id"], False),
    ("execution_list", "execution", ["stage", "state", "created_at", "id"], False),
    ("execution_result", "execution", ["stage", "result", "finished_at"], False),
    ("item_state", "item", ["state", "created_at", "id"], False),
    ("intent_created", "intent", ["created_at"], False),
    ("approval_at", "approval", ["at"], False),
    ("joining_touched", "joining", ["touched_at"], False),
    ("lease_holder", "lease", ["holder"], False),
    ("pin_used", "pin", ["used_at"], False),
)


def upgrade() -> None:
    op.add_column("execution", sa.Column("result", sa.String(length=20), nullable=False, server_default=""))
    stored = (
        "json_extract(CAST(payload AS TEXT), '$.result')"
        if op.get_bind().dialect.name == "sqlite"
        else "convert_from(payload, 'UTF8')::json ->> 'result'"
    )
    op.execute(f"UPDATE execution SET result = coalesce({stored}, '') WHERE state = 'finished'")  # noqa: S608 - constants only
    op.add_column("audit", sa.Column("mac", sa.String(length=80), nullable=False, server_default=""))
    for name, table in _DROPPED:
        op.drop_index(name, table_name=table)
    for name, table, columns, unique in _MADE:
        op.create_index(name, table, columns, unique=unique)
