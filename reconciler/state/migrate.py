"""The schema of a new database, and the migrations of an older one, inside one transaction (DDL is transactional on both databases).

The migrations are Alembic's, shipped in the wheel. A new database gets the newest schema at once: a test proves that both are equal.

The previous release may run beside this one on the same PostgreSQL while a rolling update lasts, so a migration only adds what that release
ignores. What it removes, the release before has stopped using. A migration that cannot keep to this sets ``breaks_older = True``: it is
refused while another process is alive, and an older process that still runs stops (`reconciler.state.versions`).
"""

from __future__ import annotations

import re
import threading
from pathlib import Path

from sqlalchemy import Column, Connection, MetaData, PrimaryKeyConstraint, String, Table, inspect, text

from reconciler.failpoints import failpoint
from reconciler.state.tables import metadata

HEAD = "0012"
FIRST_SHARED = "0011"
"""The first schema that a program of another release may use, too."""
FIRST_SIGNED = "0005"
"""The first schema whose audit rows have signatures."""
_SCRIPTS = Path(__file__).parent / "migrations"
_LOCK_NUMBER = 7163002
_BREAKING = re.compile(r"^breaks_older = True$", re.MULTILINE)
_alembic = threading.Lock()  # its environment is global in the process
_APPEND_ONLY = "the audit log is append-only"
_PROTECTION = {
    "sqlite": tuple(
        f"CREATE TRIGGER audit_no_{verb.lower()} BEFORE {verb} ON audit BEGIN SELECT RAISE(ABORT, '{_APPEND_ONLY}'); END"
        for verb in ("UPDATE", "DELETE")
    ),
    "postgresql": (
        f"CREATE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION '{_APPEND_ONLY}'; END $$",
        "CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only()",
    ),
}
_VERSION = Table(
    "alembic_version",
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)
"""The table in which Alembic keeps the schema's version."""


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
    scripts = (_SCRIPTS / "versions").glob("v*_*.py")  # their text: Alembic, which they import, is slow to load
    breaking = [script.stem[1:].partition("_")[0] for script in scripts if _BREAKING.search(script.read_text(encoding="utf-8"))]
    return max([FIRST_SHARED, *breaking])


def make_schema(connection: Connection) -> None:
    """Make the schema of `HEAD` in a new database within the caller's transaction, completely or not at all."""
    metadata.create_all(connection, checkfirst=False)
    for statement in _PROTECTION[connection.dialect.name]:
        connection.execute(text(statement))
    _VERSION.create(connection)
    connection.execute(_VERSION.insert().values(version_num=HEAD))
    failpoint("state-migrate")


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
