"""Transfer of records between Integrations: a source refers to another Integration, or the Integration was renamed.

If both use the same account, the object at the provider is the same. It belongs to the Integration that its
resource refers to now, so that the former one does not delete what the new one has adopted.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from reconciler.engine.compile import integration_of
from reconciler.engine.revision import ActiveRevision
from reconciler.model.objects import Intent, RecordedObject
from reconciler.model.resources import ResourceId
from reconciler.model.values import Address
from reconciler.state import Store

Row = TypeVar("Row", RecordedObject, Intent)


def known_of(
    integration: ResourceId, twins: Iterable[ResourceId], live: ActiveRevision, store: Store
) -> tuple[tuple[RecordedObject, ...], tuple[Intent, ...]]:
    """Return records and open intents of ``integration``. ``twins``: other Integrations of the same account."""
    others = tuple(sorted(twins))
    recorded = _share(integration, others, live, {path: store.recorded(path) for path in (integration, *others)})
    intents = _share(integration, others, live, {path: store.unsettled(path) for path in (integration, *others)})
    return recorded, intents


def _share(
    integration: ResourceId, others: tuple[ResourceId, ...], live: ActiveRevision, rows: dict[ResourceId, tuple[Row, ...]]
) -> tuple[Row, ...]:
    if not others:
        return rows[integration]
    own = tuple(row for row in rows[integration] if _home(row.address, live) not in others)
    return own + tuple(row for other in others for row in rows[other] if _home(row.address, live) == integration)


def _home(address: Address, live: ActiveRevision) -> ResourceId | None:
    """Return the Integration that the resource of ``address`` refers to now; None if it is not declared."""
    resource = live.resources.get(ResourceId.from_path(address.partition("#")[0]))
    return integration_of(resource) if resource is not None else None
