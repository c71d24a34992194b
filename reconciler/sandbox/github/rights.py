"""What tokens may do at GitHub: scopes of classic tokens, permissions of the others. Pure.

Facts: docs, rest/authentication/permissions-required-for-fine-grained-personal-access-tokens and apps/oauth-apps/scopes.
"""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.sandbox.app import RefusedCall
from reconciler.sandbox.github.records import GitHubToken
from reconciler.sandbox.github.request import refuse

NAMES: Mapping[str, str] = {"webhooks": "repository_hooks"}
"""The simulator's name of a permission → GitHub's, where they differ. Tokens of a state may use either."""
SCOPES: Mapping[str, tuple[str, ...]] = {
    "webhooks": ("repo", "admin:repo_hook", "write:repo_hook"),
    "organization_hooks": ("admin:org_hook",),
    "actions": ("repo",),
    "contents": ("repo",),
    "deployments": ("repo", "repo_deployment"),
    "statuses": ("repo", "repo:status"),
    "pull_requests": ("repo",),
    "checks": ("repo",),
    "metadata": ("repo",),
}
"""Permissions, and the scopes that are enough to write there; `READ_SCOPES` are enough to read."""
READ_SCOPES: Mapping[str, tuple[str, ...]] = {"webhooks": ("read:repo_hook",)}
REPO_SCOPES = frozenset({"repo", "admin:repo_hook", "write:repo_hook", "read:repo_hook", "repo_deployment", "repo:status"})
"""Scopes with which a classic token sees private repositories at all."""


def lacking(token: GitHubToken | None, permission: str, *, write: bool) -> RefusedCall | None:
    """Return what GitHub refuses with if ``token`` lacks ``permission``: 404 for classic tokens, 403 for the others."""
    if token is None:
        return refuse(401, "Requires authentication")
    if token["kind"] == "classic":
        scopes = SCOPES[permission] + (() if write else READ_SCOPES.get(permission, ()))
        if set(scopes) & set(token["scopes"]):
            return None
        return refuse(404, "Not Found", headers={"x-accepted-oauth-scopes": ", ".join(scopes)})
    if permission == "metadata" and not write:
        return None
    granted = token["permissions"].get(permission) or token["permissions"].get(NAMES.get(permission, permission), "")
    if granted in ("write", "admin") or (granted == "read" and not write):
        return None
    who = "integration" if token["kind"] == "installation" else "personal access token"
    return refuse(403, f"Resource not accessible by {who}")


def accepted(permission: str, *, write: bool) -> str:
    """Return the value of ``X-Accepted-GitHub-Permissions`` for a call that needs ``permission``."""
    return f"{NAMES.get(permission, permission)}={'write' if write else 'read'}"
