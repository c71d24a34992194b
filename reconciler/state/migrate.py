"""Migrations: Alembic's, shipped in the wheel, run inside one transaction (DDL is transactional on both databases)."""

from __future__ import annotations

import threading
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from reconciler.failpoints import failpoint

HEAD = "0012"
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


def upgrade(connection: Connection) -> None:
    """Upgrade the schema to `HEAD` within the caller's transaction, completely or not at all.

    When several processes start at once, one upgrades; the others wait for its commit and find nothing left to do.
    """
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK_NUMBER})"))
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    script = ScriptDirectory.from_config(config)

    with (
        _alembic,
        EnvironmentContext(config, script, fn=lambda revision, _context: script._upgrade_revs(HEAD, revision)) as environment,  # noqa: SLF001  see tests/test_structure.py
    ):
        environment.configure(
            connection=connection, target_metadata=None, transactional_ddl=True, transaction_per_migration=False
        )
        environment.run_migrations()
    failpoint("state-migrate")
