"""The tables: one schema for SQLite and PostgreSQL. Changed only together with a migration; a test proves them equal."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Double, Index, Integer, LargeBinary, MetaData, String, Table, Text, text

metadata = MetaData()

_Number = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts by itself only in INTEGER PRIMARY KEY

meta = Table("meta", metadata, Column("key", String(100), primary_key=True), Column("value", Text, nullable=False))
resource = Table(
    "resource",
    metadata,
    Column("path", String(400), primary_key=True),
    Column("digest", String(80), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("payload", LargeBinary, nullable=False),
)
status = Table("status", metadata, Column("path", String(400), primary_key=True), Column("payload", LargeBinary, nullable=False))
managed_object = Table(
    "managed_object",
    metadata,
    Column("address", String(900), primary_key=True),
    Column("integration", String(400), nullable=False),
    Column("resource", String(400), nullable=False),
    Column("seen", Boolean, nullable=False),
    Column("tombstone", Boolean, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Index("managed_object_integration", "integration"),
)
intent = Table(
    "intent",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("integration", String(400), nullable=False),
    Column("address", String(900), nullable=False),
    Column("state", String(20), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Index("intent_state", "state", "integration"),
    Index("intent_created", "created_at"),
)
connection = Table(
    "connection", metadata, Column("integration", String(400), primary_key=True), Column("payload", LargeBinary, nullable=False)
)
observation = Table(
    "observation",
    metadata,
    Column("scope_type", String(100), primary_key=True),
    Column("scope_key", String(400), primary_key=True),
    Column("observed_at", Double, nullable=False),
    Column("payload", LargeBinary, nullable=False),
)
budget = Table(
    "budget", metadata, Column("credential_id", String(900), primary_key=True), Column("payload", LargeBinary, nullable=False)
)
approval = Table(
    "approval",
    metadata,
    Column("sha256", String(80), primary_key=True),
    Column("by", String(200), nullable=False),
    Column("at", Double, nullable=False),
    Index("approval_at", "at"),
)
suspension = Table(
    "suspension",
    metadata,
    Column("path", String(400), primary_key=True),
    Column("reason", Text, nullable=False),
    Column("until", String(40)),
)
retry = Table(
    "retry",
    metadata,
    Column("key", String(900), primary_key=True),
    Column("next_at", Double, nullable=False),
    Column("payload", LargeBinary, nullable=False),
)
journal = Table(
    "journal",
    metadata,
    Column("id", _Number, primary_key=True, autoincrement=True),
    Column("path", String(400), nullable=False),
    Column("at", Double, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Index("journal_path", "path", "id"),
    Index("journal_at", "at"),
)
audit = Table(
    "audit",
    metadata,
    Column("seq", _Number, primary_key=True, autoincrement=False),
    Column("prev", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    Column("mac", String(80), nullable=False, server_default=""),
    Column("resource", String(400), nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Index("audit_resource", "resource", "seq"),
)
executor = Table("executor", metadata, Column("id", String(200), primary_key=True), Column("beat", Double, nullable=False))
lease = Table(
    "lease",
    metadata,
    Column("name", String(400), primary_key=True),
    Column("holder", String(200), nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("until", Double, nullable=False),
    Index("lease_holder", "holder"),
)
reconcile_request = Table(
    "reconcile_request",
    metadata,
    Column("integration", String(400), primary_key=True),
    Column("due_at", Double, nullable=False),
    Column("token", String(200), nullable=False),
    # Numbers of requests: the newest, the one that the last reconcile covered, the newest with `force`, the newest with `explicit`.
    Column("number", BigInteger, nullable=False),
    Column("done", BigInteger, nullable=False),
    Column("forced", BigInteger, nullable=False),
    Column("explicit", BigInteger, nullable=False),
    Column("by", String(200), nullable=False),
    Index("reconcile_request_due", "due_at"),
)

event = Table(
    "event",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("source", String(400), nullable=False),
    Column("delivery_id", String(220), nullable=False),
    Column("identity", String(220), nullable=False),
    Column("state", String(20), nullable=False),
    Column("received_at", Double, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index("event_delivery", "delivery_id", "source", unique=True),  # also by the sender's id alone
    # No more than these: a delivery is stored before it is answered, and every index is paid for then.
    Index("event_state", "state", "id"),
    Index("event_source", "source", "state", "id"),
    Index("event_identity", "source", "identity", sqlite_where=text("identity <> ''"), postgresql_where=text("identity <> ''")),
)
attempt = Table(
    "attempt",
    metadata,
    Column("event_id", String(40), primary_key=True),
    Column("count", Integer, nullable=False),
    Column("holder", String(200), nullable=False),
    Column("at", Double, nullable=False),
)
joined = Table(
    "joined",
    metadata,
    Column("event_id", String(40), primary_key=True),
    Column("connection_group", String(400), primary_key=True),
)
rejection = Table(
    "rejection",
    metadata,
    Column("event_id", String(40), primary_key=True),
    Column("target", String(400), primary_key=True),
    Column("reason", String(40), nullable=False),
    Column("message", Text, nullable=False),
    Column("at", Double, nullable=False),
    Index("rejection_at", "at"),
)
joining = Table(
    "joining",
    metadata,
    Column("connection_group", String(400), primary_key=True),
    Column("key", String(64), primary_key=True),
    Column("round", Integer, nullable=False),
    Column("deadline", Double, nullable=False),
    Column("touched_at", Double, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Index("joining_deadline", "deadline"),
    Index("joining_touched", "touched_at"),
)
pin = Table(
    "pin",
    metadata,
    Column("digest", String(80), primary_key=True),
    Column("used_at", Double, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Index("pin_used", "used_at"),
)
item = Table(
    "item",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("stage", String(400), nullable=False),
    Column("event_id", String(40), nullable=False),
    Column("state", String(20), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Index("item_stage", "stage", "state", "created_at"),
    Index("item_state", "state", "created_at", "id"),
    Index("item_event", "event_id"),
)
vote = Table(
    "vote",
    metadata,
    Column("item_id", String(40), primary_key=True),
    Column("by", String(200), primary_key=True),
    Column("at", Double, nullable=False),
)
execution = Table(
    "execution",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("item_id", String(40), nullable=False),
    Column("stage", String(400), nullable=False),
    Column("state", String(20), nullable=False),
    Column("integration", String(400), nullable=False),
    Column("external_id", String(200), nullable=False),
    Column("version", Integer, nullable=False),
    Column("next_at", Double, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("finished_at", Double, nullable=False),
    Column("result", String(20), nullable=False, server_default=""),
    Column("payload", LargeBinary, nullable=False),
    Index("execution_due", "state", "next_at"),
    Index("execution_stage", "stage", "created_at"),
    Index("execution_state", "state", "created_at", "id"),
    Index("execution_list", "stage", "state", "created_at", "id"),
    Index("execution_result", "stage", "result", "finished_at"),
    Index("execution_item", "item_id"),
    Index("execution_run", "integration", "external_id"),
)
output = Table(
    "output",
    metadata,
    Column("execution_id", String(40), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("value", LargeBinary, nullable=False),
)
report = Table(
    "report",
    metadata,
    Column("item_id", String(40), primary_key=True),
    Column("kind", String(20), primary_key=True),
    Column("state", String(20), primary_key=True),
    Column("seq", Integer, nullable=False),
    Column("due_at", Double, nullable=False),
    Column("done_at", Double, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Index("report_due", "done_at", "due_at"),
)
cursor = Table(
    "cursor",
    metadata,
    Column("name", String(440), primary_key=True),
    Column("value", Text, nullable=False),
)
