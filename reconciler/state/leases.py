"""Leases with fencing numbers, and heartbeats of processes. All times are those of the database's clock."""

from __future__ import annotations

from sqlalchemy import Connection as SqlConnection
from sqlalchemy import delete, select, update

from reconciler.state.database import Database, insert_new, locked, upsert
from reconciler.state.tables import executor, lease
from reconciler.state.values import Fence, FenceLost


class LeaseStore(Database):
    """Leases and heartbeats."""

    def acquire_lease(self, name: str, holder: str, ttl_s: float) -> Fence | None:
        """Acquire or renew the lease; None while another holder has it. Every change of the holder raises the number."""
        now = self.now()
        with self._write() as connection:
            # A missing row cannot be locked: without this, all first callers would hold number 1.
            insert_new(connection, lease, {"name": name, "holder": "", "number": 0, "until": 0.0})
            query = select(lease.c.holder, lease.c.number, lease.c.until).where(lease.c.name == name)
            owner, number, until = connection.execute(locked(connection, query)).one()
            if owner != holder and until > now:
                return None
            number += 0 if owner == holder and until > now else 1
            upsert(connection, lease, [{"name": name, "holder": holder, "number": number, "until": now + ttl_s}])
        return Fence(name, number)

    def release_lease(self, fence: Fence) -> None:
        """Release the lease, unless another holder has acquired it since."""
        with self._write() as connection:
            connection.execute(update(lease).where(lease.c.name == fence.name, lease.c.number == fence.number).values(until=0.0))

    def release_leases_of(self, holder: str) -> int:
        """Release every lease of a dead process and return how many. The next holder of each gets a higher number."""
        with self._write() as connection:
            query = select(lease.c.name).where(lease.c.holder == holder, lease.c.until > 0).order_by(lease.c.name)
            names = connection.execute(locked(connection, query)).scalars().all()  # in one order: several processes may do this
            connection.execute(update(lease).where(lease.c.holder == holder, lease.c.until > 0).values(until=0.0))
        return len(names)

    def beat(self, identity: str) -> None:
        """Record a heartbeat of this process."""
        now = self.now()
        with self._write() as connection:
            upsert(connection, executor, [{"id": identity, "beat": now}])

    def dead_executors(self, older_than_s: float) -> list[str]:
        """Return the processes without a heartbeat for that long."""
        limit = self.now() - older_than_s
        with self._read() as connection:
            query = select(executor.c.id).where(executor.c.beat < limit).order_by(executor.c.id)
            return list(connection.execute(query).scalars())

    def remove_executor(self, identity: str) -> None:
        """Delete the heartbeat of a process: it stops, or a peer took over."""
        with self._write() as connection:
            connection.execute(delete(executor).where(executor.c.id == identity))


def lock_name(connection: SqlConnection, name: str) -> None:
    """Exclude other processes from ``name`` until the transaction ends. SQLite has one writer anyway."""
    if connection.dialect.name == "sqlite":
        return
    insert_new(connection, lease, {"name": name, "holder": "", "number": 0, "until": 0.0})
    connection.execute(select(lease.c.number).where(lease.c.name == name).with_for_update())


def check_fence(connection: SqlConnection, fence: Fence | None) -> None:
    """Raise `FenceLost` unless ``fence`` has the newest number of its lease."""
    if fence is None:
        return
    matched = connection.execute(
        update(lease).where(lease.c.name == fence.name, lease.c.number == fence.number).values(number=fence.number)
    )
    if matched.rowcount != 1:
        raise FenceLost(
            f"another process has taken over {fence.name}", hint="Nothing was written; this process stops working on it."
        )
