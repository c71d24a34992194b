"""Apps that Integrations have left for a token: their webhook counts until the webhooks of the repositories take its place.

Without that, an event between the new revision and the last new webhook would be refused, and nobody would send it again. An event that
comes by both webhooks is one event, since the provider gives it the same id.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping

import msgspec

from reconciler.drivers.connection import Connection
from reconciler.drivers.wire import matches
from reconciler.engine.connections import Client
from reconciler.engine.context import Context
from reconciler.model.codec import from_json, to_json
from reconciler.model.objects import ManagedObject, RecordedObject
from reconciler.model.resources import ResourceId
from reconciler.model.values import JsonObject

_PREFIX = "app-use/"
OVERLAP_S = 3600.0
"""How long the App's webhook counts after the last webhook took its place: deliveries may be minutes late, and are recovered."""


class AppUse(msgspec.Struct, frozen=True):
    """How an Integration uses or has used an App."""

    connection: JsonObject
    """Its connection as an App: references to secrets only."""
    at: float = 0.0
    """When everything that replaces the App's webhook was there (epoch seconds); 0 before."""


def _cursor(integration: ResourceId) -> str:
    return f"{_PREFIX}{integration.path}"


async def keep_use(client: Client, deps: Context) -> None:
    """Store how an Integration uses an App, for the time after it."""
    apps = client.driver.apps
    if apps is None or apps.installation_of(client.connection) is None:
        return
    use = {"connection": to_json(client.connection), "at": 0.0}
    name = _cursor(client.connection.integration)
    if await deps.store.get_cursor(name) != use:
        await deps.store.set_cursors({name: use})


async def note_replaced(
    client: Client, desired: Iterable[ManagedObject], recorded: Iterable[RecordedObject], deps: Context
) -> None:
    """Store that everything that replaces the webhook of a former App is there, once that is so; forget the App after `OVERLAP_S`."""
    apps = client.driver.apps
    if apps is None or apps.installation_of(client.connection) is not None:
        return
    name, now = _cursor(client.connection.integration), deps.clock()
    use = matches(await deps.store.get_cursor(name), AppUse)
    if use is None:
        return
    there = {record.address for record in recorded if not record.tombstone}
    if not use.at and all(each.address in there for each in desired):
        await deps.store.set_cursors({name: {"connection": use.connection, "at": now}})
    elif use.at and now - use.at > OVERLAP_S:
        await deps.store.set_cursors({name: None})


async def former_apps(deps: Context) -> Mapping[ResourceId, Connection]:
    """Return the connections as an App that the state keeps, by Integration: of those that use it now, and of those that left it."""
    now, found = deps.clock(), {}
    for value in (await deps.store.cursors(_PREFIX)).values():
        use = matches(value, AppUse)
        if use is not None and not (use.at and now - use.at > OVERLAP_S):
            with contextlib.suppress(msgspec.ValidationError):  # another version wrote it
                connection = from_json(Connection, use.connection)
                found[connection.integration] = connection
    return found


__all__ = ["OVERLAP_S", "former_apps", "keep_use", "note_replaced"]
