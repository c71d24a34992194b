"""What the parts of the Buddy simulator share: callers and their scopes, and workspaces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.sandbox.app import Call, Simulator
from reconciler.sandbox.buddy.answers import refuse
from reconciler.sandbox.buddy.execution_shapes import Row


class BuddyState(Simulator):
    """The state of the simulator, as every part sees it."""

    def token_of(self, call: Call) -> Mapping[str, Any] | None:
        scheme, _, value = call.headers.get("authorization", "").partition(" ")
        token: Mapping[str, Any] | None = self.state["tokens"].get(value) if scheme.lower() == "bearer" else None
        return token

    def user_name(self, call: Call) -> str:
        """Return whose token a request has."""
        return str((self.token_of(call) or {}).get("name", ""))

    def workspace(self, call: Call, domain: str, scope: str) -> Row:
        """Return the workspace that a path names; refuses a token without ``scope``."""
        token = self.token_of(call) or {}
        workspace: Row | None = self.state["workspaces"].get(domain)
        if workspace is None:
            refuse(404, "Workspace not found")
        if workspace.get("api_enabled") is False:
            refuse(403, "API is disabled in this workspace")
        if scope not in token.get("scopes", ()):
            refuse(403, "Your token cannot receive data from this endpoint")
        return workspace
