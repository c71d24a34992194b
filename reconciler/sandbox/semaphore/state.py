"""Shared state of the Semaphore simulator: callers with their permissions, and lookups by name and id."""

from __future__ import annotations

from typing import cast

from reconciler.sandbox.app import Call, Simulator
from reconciler.sandbox.semaphore.records import SemaphoreRecords, SemaphoreToken, StoredSemaphoreWorkflow
from reconciler.sandbox.semaphore.shapes import project_id


class SemaphoreState(Simulator):
    """The state of the simulator, as every part sees it."""

    @property
    def records(self) -> SemaphoreRecords:
        """The state, by type."""
        return cast("SemaphoreRecords", self.state)

    def token_of(self, call: Call) -> SemaphoreToken | None:
        scheme, _, value = call.headers.get("authorization", "").partition(" ")
        return self.records["tokens"].get(value) if scheme in {"Token", "Bearer"} else None

    def user(self, call: Call) -> str:
        """Return whose token a request has."""
        return str((self.token_of(call) or {}).get("user", ""))

    def may(self, call: Call, permission: str) -> bool:
        """Whether the token of a request has a permission."""
        token = self.token_of(call) or {}
        return bool({"*", permission} & set(token.get("permissions", ())))

    def project_named(self, identity: str) -> str:
        """Return the name of the project with that id; empty for an unknown or hidden one."""
        names = (str(row["name"]) for row in self.records["projects"] if not row.get("hidden"))
        return next((name for name in names if project_id(name) == identity), "")

    def listed_at(self, made_at: float) -> bool:
        """Whether lists show an object of that time yet."""
        return self.clock() >= made_at + self.number("run_list_lag_s")

    def workflows_by_id(self) -> dict[str, StoredSemaphoreWorkflow]:
        """Return all workflows by id."""
        return {row["wf_id"]: row for row in self.records["workflows"]}
