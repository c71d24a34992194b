"""The tables of notifications; see `reconciler.state.tables`."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, Index, Integer, LargeBinary, Named, String, Table, TypedColumns

from reconciler.state.tables import metadata

_Number = BigInteger().with_variant(Integer, "sqlite")  # as in `reconciler.state.tables`


class IncidentColumns(TypedColumns):
    notification: Named[str] = Column(String(400), primary_key=True)
    key: Named[str] = Column(String(900), primary_key=True)
    id: Named[str] = Column(String(40))
    ended_at: Named[float] = Column(Double)  # 0 while anything of it may still be reported
    payload: Named[bytes] = Column(LargeBinary)


incident = Table(
    "incident", metadata, IncidentColumns, Index("incident_ended", "ended_at"), Index("incident_id", "id", unique=True)
)


class NoticeColumns(TypedColumns):
    seq: Named[int] = Column(_Number, primary_key=True, autoincrement=True)
    notification: Named[str] = Column(String(400))
    incident: Named[str] = Column(String(40))
    phase: Named[str] = Column(String(10))
    due_at: Named[float] = Column(Double)
    done_at: Named[float] = Column(Double)  # 0 while it waits
    refresh_at: Named[float] = Column(Double)  # when a sink that forgets is notified again; 0 for never
    payload: Named[bytes] = Column(LargeBinary)


notice = Table(
    "notice",
    metadata,
    NoticeColumns,
    Index("notice_order", "notification", "done_at", "seq"),
    Index("notice_due", "done_at", "due_at"),
    Index("notice_incident", "incident"),
    Index("notice_refresh", "refresh_at"),
    sqlite_autoincrement=True,
)


class SinkColumns(TypedColumns):
    notification: Named[str] = Column(String(400), primary_key=True)
    payload: Named[bytes] = Column(LargeBinary)


sink = Table("sink", metadata, SinkColumns)


class SinkTargetColumns(TypedColumns):
    incident: Named[str] = Column(String(40), primary_key=True)
    notification: Named[str] = Column(String(400))
    payload: Named[bytes] = Column(LargeBinary)


sink_target = Table("sink_target", metadata, SinkTargetColumns, Index("sink_target_notification", "notification"))


class OccurrenceColumns(TypedColumns):
    seq: Named[int] = Column(_Number, primary_key=True, autoincrement=True)
    payload: Named[bytes] = Column(LargeBinary)


occurrence = Table("occurrence", metadata, OccurrenceColumns)
