"""The tables: one schema for SQLite and PostgreSQL. Changed only together with a migration; a test proves them equal.

Each table has a class that declares its columns with the Python types of their values, so a row of a query is a typed tuple. A column is
nullable only if its type includes None. The classes are declarations: ``table.c`` has the columns.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Named,
    String,
    Table,
    Text,
    TypedColumns,
    text,
)

metadata = MetaData()

_Number = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts by itself only in INTEGER PRIMARY KEY


class MetaColumns(TypedColumns):
    key: Named[str] = Column(String(100), primary_key=True)
    value: Named[str] = Column(Text)


meta = Table("meta", metadata, MetaColumns)


class ResourceColumns(TypedColumns):
    path: Named[str] = Column(String(400), primary_key=True)
    digest: Named[str] = Column(String(80))
    generation: Named[int] = Column(Integer)
    payload: Named[bytes] = Column(LargeBinary)


resource = Table("resource", metadata, ResourceColumns)


class StatusColumns(TypedColumns):
    path: Named[str] = Column(String(400), primary_key=True)
    payload: Named[bytes] = Column(LargeBinary)


status = Table("status", metadata, StatusColumns)


class ManagedObjectColumns(TypedColumns):
    address: Named[str] = Column(String(900), primary_key=True)
    integration: Named[str] = Column(String(400))
    resource: Named[str] = Column(String(400))
    seen: Named[bool] = Column(Boolean)
    tombstone: Named[bool] = Column(Boolean)
    payload: Named[bytes] = Column(LargeBinary)


managed_object = Table("managed_object", metadata, ManagedObjectColumns, Index("managed_object_integration", "integration"))


class IntentColumns(TypedColumns):
    id: Named[str] = Column(String(40), primary_key=True)
    integration: Named[str] = Column(String(400))
    address: Named[str] = Column(String(900))
    state: Named[str] = Column(String(20))
    created_at: Named[float] = Column(Double)
    payload: Named[bytes] = Column(LargeBinary)


intent = Table(
    "intent", metadata, IntentColumns, Index("intent_state", "state", "integration"), Index("intent_created", "created_at")
)


class ReconcileRequestColumns(TypedColumns):
    integration: Named[str] = Column(String(400), primary_key=True)
    due_at: Named[float] = Column(Double)
    token: Named[str] = Column(String(200))
    # Numbers of requests: the newest, the one that the last reconcile covered, the newest with `force`, the newest with `explicit`.
    number: Named[int] = Column(BigInteger)
    done: Named[int] = Column(BigInteger)
    forced: Named[int] = Column(BigInteger)
    explicit: Named[int] = Column(BigInteger)
    by: Named[str] = Column(String(200))


reconcile_request = Table("reconcile_request", metadata, ReconcileRequestColumns, Index("reconcile_request_due", "due_at"))


class ConnectionColumns(TypedColumns):
    integration: Named[str] = Column(String(400), primary_key=True)
    payload: Named[bytes] = Column(LargeBinary)


connection = Table("connection", metadata, ConnectionColumns)


class ObservationColumns(TypedColumns):
    scope_type: Named[str] = Column(String(100), primary_key=True)
    scope_key: Named[str] = Column(String(400), primary_key=True)
    observed_at: Named[float] = Column(Double)
    payload: Named[bytes] = Column(LargeBinary)


observation = Table("observation", metadata, ObservationColumns)


class BudgetColumns(TypedColumns):
    credential_id: Named[str] = Column(String(900), primary_key=True)
    payload: Named[bytes] = Column(LargeBinary)


budget = Table("budget", metadata, BudgetColumns)


class OidcKeyColumns(TypedColumns):
    number: Named[int] = Column(Integer, primary_key=True)
    kid: Named[str] = Column(String(64))
    public: Named[str] = Column(Text)
    sealed: Named[bytes] = Column(LargeBinary)
    seal_key_id: Named[str] = Column(String(16))
    published_at: Named[float] = Column(Double)
    sign_from: Named[float] = Column(Double)
    revoked_at: Named[float | None] = Column(Double)


oidc_key = Table("oidc_key", metadata, OidcKeyColumns)


class RefusedCredentialColumns(TypedColumns):
    proof: Named[str] = Column(String(64), primary_key=True)
    until: Named[float] = Column(Double)
    payload: Named[bytes] = Column(LargeBinary)


refused_credential = Table("refused_credential", metadata, RefusedCredentialColumns, Index("refused_credential_until", "until"))


class CredentialAlertColumns(TypedColumns):
    integration: Named[str] = Column(String(400), primary_key=True)
    payload: Named[bytes] = Column(LargeBinary)


credential_alert = Table("credential_alert", metadata, CredentialAlertColumns)


class ApprovalColumns(TypedColumns):
    sha256: Named[str] = Column(String(80), primary_key=True)
    by: Named[str] = Column(String(200))
    at: Named[float] = Column(Double)


approval = Table("approval", metadata, ApprovalColumns, Index("approval_at", "at"))


class SuspensionColumns(TypedColumns):
    path: Named[str] = Column(String(400), primary_key=True)
    reason: Named[str] = Column(Text)
    until: Named[str | None] = Column(String(40))


suspension = Table("suspension", metadata, SuspensionColumns)


class RetryColumns(TypedColumns):
    key: Named[str] = Column(String(900), primary_key=True)
    next_at: Named[float] = Column(Double)
    payload: Named[bytes] = Column(LargeBinary)


retry = Table("retry", metadata, RetryColumns)


class JournalColumns(TypedColumns):
    id: Named[int] = Column(_Number, primary_key=True, autoincrement=True)
    path: Named[str] = Column(String(400))
    at: Named[float] = Column(Double)
    payload: Named[bytes] = Column(LargeBinary)


journal = Table("journal", metadata, JournalColumns, Index("journal_path", "path", "id"), Index("journal_at", "at"))


class AuditColumns(TypedColumns):
    seq: Named[int] = Column(_Number, primary_key=True, autoincrement=False)
    prev: Named[str] = Column(String(64))
    hash: Named[str] = Column(String(64))
    resource: Named[str] = Column(String(400))
    payload: Named[bytes] = Column(LargeBinary)
    mac: Named[str] = Column(String(80), server_default="")


audit = Table("audit", metadata, AuditColumns, Index("audit_resource", "resource", "seq"))


class ExecutorColumns(TypedColumns):
    id: Named[str] = Column(String(200), primary_key=True)
    beat: Named[float] = Column(Double)


executor = Table("executor", metadata, ExecutorColumns)


class LeaseColumns(TypedColumns):
    name: Named[str] = Column(String(400), primary_key=True)
    holder: Named[str] = Column(String(200))
    number: Named[int] = Column(BigInteger)
    until: Named[float] = Column(Double)


lease = Table("lease", metadata, LeaseColumns, Index("lease_holder", "holder"))


class EventColumns(TypedColumns):
    id: Named[str] = Column(String(40), primary_key=True)
    source: Named[str] = Column(String(400))
    delivery_id: Named[str] = Column(String(220))
    identity: Named[str] = Column(String(220))
    state: Named[str] = Column(String(20))
    received_at: Named[float] = Column(Double)
    payload: Named[bytes] = Column(LargeBinary)
    body: Named[bytes] = Column(LargeBinary)


event = Table(
    "event",
    metadata,
    EventColumns,
    Index("event_delivery", "delivery_id", "source", unique=True),  # also by the sender's id alone
    # No more than these: a delivery is stored before it is answered, and every index is paid for then.
    Index("event_state", "state", "id"),
    Index("event_source", "source", "state", "id"),
    Index("event_identity", "source", "identity", sqlite_where=text("identity <> ''"), postgresql_where=text("identity <> ''")),
)


class AttemptColumns(TypedColumns):
    event_id: Named[str] = Column(String(40), primary_key=True)
    count: Named[int] = Column(Integer)
    holder: Named[str] = Column(String(200))
    at: Named[float] = Column(Double)


attempt = Table("attempt", metadata, AttemptColumns)


class JoinedColumns(TypedColumns):
    event_id: Named[str] = Column(String(40), primary_key=True)
    connection_group: Named[str] = Column(String(400), primary_key=True)


joined = Table("joined", metadata, JoinedColumns)


class RejectionColumns(TypedColumns):
    event_id: Named[str] = Column(String(40), primary_key=True)
    target: Named[str] = Column(String(400), primary_key=True)
    reason: Named[str] = Column(String(40))
    message: Named[str] = Column(Text)
    at: Named[float] = Column(Double)


rejection = Table("rejection", metadata, RejectionColumns, Index("rejection_at", "at"))


class JoiningColumns(TypedColumns):
    connection_group: Named[str] = Column(String(400), primary_key=True)
    key: Named[str] = Column(String(64), primary_key=True)
    round: Named[int] = Column(Integer)
    deadline: Named[float] = Column(Double)
    touched_at: Named[float] = Column(Double)
    payload: Named[bytes] = Column(LargeBinary)


joining = Table(
    "joining", metadata, JoiningColumns, Index("joining_deadline", "deadline"), Index("joining_touched", "touched_at")
)


class PinColumns(TypedColumns):
    digest: Named[str] = Column(String(80), primary_key=True)
    used_at: Named[float] = Column(Double)
    payload: Named[bytes] = Column(LargeBinary)


pin = Table("pin", metadata, PinColumns, Index("pin_used", "used_at"))


class ItemColumns(TypedColumns):
    id: Named[str] = Column(String(40), primary_key=True)
    stage: Named[str] = Column(String(400))
    event_id: Named[str] = Column(String(40))
    state: Named[str] = Column(String(20))
    created_at: Named[float] = Column(Double)
    payload: Named[bytes] = Column(LargeBinary)


item = Table(
    "item",
    metadata,
    ItemColumns,
    Index("item_stage", "stage", "state", "created_at"),
    Index("item_state", "state", "created_at", "id"),
    Index("item_event", "event_id"),
)


class VoteColumns(TypedColumns):
    item_id: Named[str] = Column(String(40), primary_key=True)
    by: Named[str] = Column(String(200), primary_key=True)
    at: Named[float] = Column(Double)


vote = Table("vote", metadata, VoteColumns)


class ExecutionColumns(TypedColumns):
    id: Named[str] = Column(String(40), primary_key=True)
    item_id: Named[str] = Column(String(40))
    stage: Named[str] = Column(String(400))
    state: Named[str] = Column(String(20))
    integration: Named[str] = Column(String(400))
    external_id: Named[str] = Column(String(200))
    version: Named[int] = Column(Integer)
    next_at: Named[float] = Column(Double)
    created_at: Named[float] = Column(Double)
    finished_at: Named[float] = Column(Double)
    payload: Named[bytes] = Column(LargeBinary)
    result: Named[str] = Column(String(20), server_default="")


execution = Table(
    "execution",
    metadata,
    ExecutionColumns,
    Index("execution_due", "state", "next_at"),
    Index("execution_stage", "stage", "created_at"),
    Index("execution_state", "state", "created_at", "id"),
    Index("execution_list", "stage", "state", "created_at", "id"),
    Index("execution_result", "stage", "result", "finished_at"),
    Index("execution_item", "item_id"),
    Index("execution_run", "integration", "external_id"),
)


class OutputColumns(TypedColumns):
    execution_id: Named[str] = Column(String(40), primary_key=True)
    name: Named[str] = Column(String(64), primary_key=True)
    value: Named[bytes] = Column(LargeBinary)


output = Table("output", metadata, OutputColumns)


class ReportColumns(TypedColumns):
    item_id: Named[str] = Column(String(40), primary_key=True)
    kind: Named[str] = Column(String(20), primary_key=True)
    state: Named[str] = Column(String(20), primary_key=True)
    seq: Named[int] = Column(Integer)
    due_at: Named[float] = Column(Double)
    done_at: Named[float] = Column(Double)
    payload: Named[bytes] = Column(LargeBinary)


report = Table("report", metadata, ReportColumns, Index("report_due", "done_at", "due_at"))


class CursorColumns(TypedColumns):
    name: Named[str] = Column(String(440), primary_key=True)
    value: Named[str] = Column(Text)


cursor = Table("cursor", metadata, CursorColumns)


class ReviewColumns(TypedColumns):
    key: Named[str] = Column(String(300), primary_key=True)
    version: Named[int] = Column(Integer)
    due_at: Named[float] = Column(Double)
    is_open: Named[bool] = Column(Boolean)
    check_id: Named[str] = Column(String(40))
    payload: Named[bytes] = Column(LargeBinary)


review = Table(
    "review",
    metadata,
    ReviewColumns,
    Index("review_due", "due_at"),
    Index("review_check", "check_id"),
    Index("review_open", "is_open"),
)
