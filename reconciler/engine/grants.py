"""Work that goes on at once when an App is granted what it lacked: its event is known to one process, the work may wait in any.

The process that gets the event makes what waits due. Another process may have the refusal of a token in its memory; it forgets that
when a try fails shortly after the event.
"""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.engine.current import Current
from reconciler.model.resources import ResourceId

_PREFIX = "granted/"
JUST_NOW_S = 5.0
AGAIN_S = 2.0
"""The pause before the try after a grant."""


async def go_on(current: Current, integrations: Sequence[ResourceId]) -> None:
    """Make what waits for ``integrations`` due, and let refused requests for tokens be sent again. Raises `StateError`."""
    store = current.context.store
    now, paths = await store.now(), [identity.path for identity in integrations]
    await store.set_cursors({f"{_PREFIX}{path}": now for path in paths})
    for identity in integrations:
        current.clients.retry_tokens(identity)
    await store.hasten_executions(paths, now)
    await store.hasten_reports(paths, now)


async def granted_just_now(current: Current, integration: ResourceId, now: float) -> bool:
    """Whether ``integration`` was granted something within `JUST_NOW_S`: then a refusal may be an old one, and is forgotten."""
    at: object = await current.context.store.get_cursor(f"{_PREFIX}{integration.path}")
    if not isinstance(at, int | float) or not 0 <= now - at < JUST_NOW_S:
        return False
    current.clients.retry_tokens(integration)
    return True


__all__ = ["AGAIN_S", "go_on", "granted_just_now"]
