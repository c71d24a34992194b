"""The tables: one schema for SQLite and PostgreSQL. Changed only together with a migration; a test proves them equal."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Double, Index, Integer, LargeBinary, MetaData, String, Table, Text

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
)
