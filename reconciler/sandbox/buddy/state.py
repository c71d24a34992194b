"""Shared state of the Buddy simulator: callers with their scopes, and workspaces."""

from __future__ import annotations

from typing import cast

from reconciler.sandbox.app import Call, Simulator
from reconciler.sandbox.buddy.answers import refuse
from reconciler.sandbox.buddy.records import BuddyRecords, BuddyToken, StoredBuddyWorkspace


class BuddyState(Simulator):
    """The state of the simulator, as every part sees it."""

    @property
    def records(self) -> BuddyRecords:
        """The state, by type."""
        return cast("BuddyRecords", self.state)

    def token_of(self, call: Call) -> BuddyToken | None:
        scheme, _, value = call.headers.get("authorization", "").partition(" ")
        return self.records["tokens"].get(value) if scheme.lower() == "bearer" else None

    def user_name(self, call: Call) -> str:
        """Return whose token a request has."""
        return str((self.token_of(call) or {}).get("name", ""))

    def workspace(self, call: Call, domain: str, scope: str) -> StoredBuddyWorkspace:
        """Return the workspace that a path names; refuses a token without ``scope``."""
        token = self.token_of(call) or {}
        workspace = self.records["workspaces"].get(domain)
        if workspace is None:
            refuse(404, "Workspace not found")
        if workspace.get("api_enabled") is False:
            refuse(403, "API is disabled in this workspace")
        if scope not in token.get("scopes", ()):
            refuse(403, "Your token cannot receive data from this endpoint")
        return workspace
