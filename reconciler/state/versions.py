"""Which programs may use a schema: the rule for two releases on one state, for a downgrade, and for a rolling update.

A state records the program that migrated it, and the oldest schema whose programs can still work with it.
"""

from __future__ import annotations

import time
from pathlib import Path

from sqlalchemy import Connection as SqlConnection
from sqlalchemy import select

from reconciler import __version__
from reconciler.model.errors import StateError
from reconciler.state.database import Database, upsert
from reconciler.state.migrate import HEAD, oldest_sharing
from reconciler.state.tables import executor, meta

OLDEST = "schema.oldest"
WRITER = "schema.writer"
ALIVE_S = 5.0
"""A process without a heartbeat for this long is dead (`reconciler.engine.housekeeping`)."""


class VersionStore(Database):
    """What the database says about the programs that may use it."""

    def schema_conflict(self) -> StateError | None:
        """Return the error that stops this process after a newer program has migrated the state it uses; None while it may go on."""
        with self._read() as connection:
            oldest = _meta(connection, OLDEST)
            return too_new(connection, "", None) if oldest > HEAD else None

    def live_executors(self) -> list[str]:
        """Return the processes that have a recent heartbeat. Only PostgreSQL has heartbeats."""
        with self._read() as connection:
            return _alive(connection)


def sign(connection: SqlConnection) -> None:
    """Record, in the transaction of a migration, which program made the schema and which programs can use it."""
    rows = [{"key": OLDEST, "value": oldest_sharing()}, {"key": WRITER, "value": __version__}]
    upsert(connection, meta, rows)


def may_use(connection: SqlConnection) -> bool:
    """Whether this program may use a schema that it does not know: a newer program says so."""
    oldest = _meta(connection, OLDEST)
    return bool(oldest) and oldest <= HEAD


def too_new(connection: SqlConnection, schema: str, copy: Path | None) -> StateError:
    """Return the error for a state of a newer program. ``copy``: the copy from before the upgrade, if there is one."""
    writer, number = _meta(connection, WRITER), f"schema {schema}, " if schema else ""
    by = f"version {writer} of reconciler" if writer else "a newer version of reconciler"
    newer = f"version {writer}" if writer else "the newer version"
    back = f"restore {copy}" if copy is not None else "restore the backup from before the upgrade"
    return StateError(
        f"the state was written by {by} ({number}this program, {__version__}, knows schemas up to {HEAD})",
        code="RC7008",
        hint=f"Nothing was changed. Install {newer} again; or, to keep this one, {back} (docs/backup.md).",
    )


def refuse_alive(connection: SqlConnection, schema: str) -> None:
    """Raise `StateError` if processes work on ``schema``, and the migration would break it under them.

    A process that ended without saying so counts as alive for a few seconds, so this waits for as long.
    """
    if schema >= oldest_sharing() or connection.dialect.name == "sqlite":
        return
    deadline = time.monotonic() + ALIVE_S + 1.0
    while alive := _alive(connection):
        if time.monotonic() > deadline:
            raise StateError(
                f"{', '.join(alive[:5])} still work on this database, and cannot work with the schema of this version ({HEAD})",
                code="RC7073",
                hint="Nothing was changed. Stop all processes of the older version first, then start this one.",
            )
        time.sleep(0.25)


def _alive(connection: SqlConnection) -> list[str]:
    now = float(connection.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp())").scalar_one())
    query = select(executor.c.id).where(executor.c.beat > now - ALIVE_S).order_by(executor.c.id)
    return list(connection.execute(query).scalars())


def _meta(connection: SqlConnection, key: str) -> str:
    return str(connection.execute(select(meta.c.value).where(meta.c.key == key)).scalar() or "")
