"""What is kept: recorded objects, intents, audit log, statuses. The one package that speaks SQL."""

from reconciler.state.lock import StateLock
from reconciler.state.store import Store
from reconciler.state.values import AuditReport, Fence, FenceLost, StorageFull, StoredObservation

__all__ = ["AuditReport", "Fence", "FenceLost", "StateLock", "StorageFull", "Store", "StoredObservation"]
