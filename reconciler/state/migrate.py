"""Migrations: Alembic's, shipped in the wheel, run inside one transaction (DDL is transactional on both databases).

The previous release may run beside this one on the same PostgreSQL while a rolling update lasts, so a migration only adds what that release
ignores. What it removes, the release before has stopped using. A migration that cannot keep to this sets ``breaks_older = True``: it is
refused while another process is alive, and an older process that still runs stops (`reconciler.state.versions`).
"""

from __future__ import annotations

import threading
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from reconciler.failpoints import failpoint

HEAD = "0012"
FIRST_SHARED = "0011"
"""The first schema that a program of another release may use, too."""
_SCRIPTS = Path(__file__).parent / "migrations"
_LOCK_NUMBER = 7163002
_alembic = threading.Lock()  # its environment is global in the process


def current_revision(connection: Connection) -> str | None:
    """Return the schema's version, or None for an empty database. Alembic itself is imported only where there is work for it."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    row = connection.execute(text("SELECT version_num FROM alembic_version")).first()
    return str(row[0]) if row is not None else None


def known_revisions() -> frozenset[str]:
    """Return every version that this program can read."""
    from alembic.script import ScriptDirectory

    return frozenset(script.revision for script in ScriptDirectory(str(_SCRIPTS)).walk_revisions())


def oldest_sharing() -> str:
    """Return the oldest schema whose programs can work with the schema `HEAD`."""
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(_SCRIPTS)).walk_revisions()
    breaking = [script.revision for script in scripts if getattr(script.module, "breaks_older", False)]
    return max([FIRST_SHARED, *breaking])


def wait_for_peers(connection: Connection) -> None:
    """Wait, however long it takes, until no other process upgrades this PostgreSQL database, and keep others out until the commit.

    The limits of normal statements do not apply to the caller's transaction: building an index may take minutes. Only the wait for a table
    that another process uses stays short, because everything else queues behind it.
    """
    for limit in ("statement_timeout", "idle_in_transaction_session_timeout", "lock_timeout"):
        connection.execute(text(f"SET LOCAL {limit} = 0"))
    connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK_NUMBER})"))
    connection.execute(text("SET LOCAL lock_timeout = '30s'"))


def upgrade(connection: Connection) -> None:
    """Upgrade the schema to `HEAD` within the caller's transaction, completely or not at all. Several processes: see `wait_for_peers`."""
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    script = ScriptDirectory.from_config(config)

    with (
        _alembic,
        EnvironmentContext(config, script, fn=lambda revision, _context: script._upgrade_revs(HEAD, revision)) as environment,  # noqa: SLF001  see tests/test_structure.py
    ):
        environment.configure(
            connection=connection,
            target_metadata=None,
            transactional_ddl=True,
            transaction_per_migration=False,
            on_version_apply=lambda **_step: failpoint("state-migrate-step"),
        )
        environment.run_migrations()
    failpoint("state-migrate")
