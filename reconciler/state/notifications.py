"""Notifications between processes: LISTEN on one connection of its own. PostgreSQL only."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from sqlalchemy.engine import make_url

from reconciler.model.errors import StateError
from reconciler.state.claims import CHANNEL
from reconciler.state.database import CONNECT_ARGUMENTS


@contextlib.asynccontextmanager
async def listening(url: str) -> AsyncIterator[AsyncIterator[str]]:
    """Listen on a connection of its own; yields the payloads as they arrive. Raises `StateError` when the connection fails."""
    import psycopg

    try:
        connection = await psycopg.AsyncConnection.connect(_conninfo(url), autocommit=True)
        async with connection:
            await connection.execute(f"LISTEN {CHANNEL}")
            yield (notification.payload async for notification in connection.notifies())
    except psycopg.Error as error:
        raise StateError(f"the connection for notifications failed: {type(error).__name__}", code="RC7007") from error


def _conninfo(url: str) -> str:
    """Return the connection string of the database that SQLAlchemy opens for ``url``."""
    from psycopg.conninfo import make_conninfo

    parsed = make_url(url)
    named = parsed.get_dialect()().create_connect_args(parsed)[1]
    return make_conninfo("", **{name: str(value) for name, value in {**named, **CONNECT_ARGUMENTS}.items()})
