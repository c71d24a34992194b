"""What is kept: recorded objects, intents, audit log, statuses. The one package that speaks SQL."""

from reconciler.state.lock import StateLock
from reconciler.state.rows import AuditReport, Fence, FenceLost, StorageFull, StoredObservation
from reconciler.state.store import Store

__all__ = ["AuditReport", "Fence", "FenceLost", "StateLock", "StorageFull", "Store", "StoredObservation"]
