"""The table of spans that wait for their export; see `reconciler.state.tables`."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, Named, Table, TypedColumns

from reconciler.state.tables import metadata

_Number = BigInteger().with_variant(Integer, "sqlite")  # as in `reconciler.state.tables`


class TraceSpanColumns(TypedColumns):
    id: Named[int] = Column(_Number, primary_key=True, autoincrement=True)
    spans: Named[int] = Column(Integer)
    payload: Named[bytes] = Column(LargeBinary)


trace_span = Table("trace_span", metadata, TraceSpanColumns, sqlite_autoincrement=True)
