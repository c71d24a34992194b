"""``buddy/integration``: identified by its ``identifier`` in the workspace, with no place for a marker.

Credentials, role assumptions and a good part of the settings are never shown again. Every update therefore sends the
whole authentication block with the name, as the provider's own SDK does, never a difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from reconciler.drivers.base import Api, Write
from reconciler.drivers.buddy import fields
from reconciler.drivers.buddy.api import all_shown, completed, whole_list, workspace_of, workspace_path, written
from reconciler.model.errors import NotFound, PermissionDenied
from reconciler.model.objects import Container, ManagedObject, NotModified, Observed, ObservedObject, Scope
from reconciler.model.values import ExternalId, JsonObject

INTEGRATION = "buddy/integration"
_COMPLETE = ("scope", "permissions", "all_pipelines_allowed", "allowed_pipelines")


class IntegrationType:
    """Implements `reconciler.drivers.base.ManagedType`; a scope is a workspace."""

    type = INTEGRATION
    write_only_fixed = False

    def normalize(self, attributes: JsonObject) -> JsonObject:
        """Users, groups and pipelines are sets."""
        return fields.normal(attributes)

    def adoptable(self, desired: ManagedObject, observed: ObservedObject, *, identical: bool) -> bool:
        """The same identifier; identical: the same type and scope as well."""
        if observed.natural_key != desired.natural_key:
            return False
        return not identical or all(observed.attributes.get(key) == desired.attributes.get(key) for key in ("type", "scope"))

    async def observe(self, api: Api, scope: Scope, validators: JsonObject | None) -> NotModified | Observed:
        """Return every integration of the workspace; what the list only sums up is read on its own."""
        path = workspace_path(scope.key, "integrations")
        items = await whole_list(api, path, "integrations", "hash_id")
        full = await completed(api, path, items, "hash_id", _COMPLETE)
        return Observed(scope, all_shown(full, lambda item: show(item, scope.key), path))

    async def container(self, api: Api, scope: Scope, known: str = "") -> Container | None:
        """Return the workspace: its id stays, its domain may change."""
        return await workspace_of(api, scope, known)

    async def create(self, api: Api, write: Write) -> ObservedObject:
        """Create it. Raises `Conflict` when the identifier is taken."""
        workspace = write.desired.scope.key
        path = workspace_path(workspace, "integrations")
        response = await api.request("POST", path, json=_body(write))
        return written(response, "hash_id", f"POST {path}", lambda item: show(item, workspace))

    async def update(self, api: Api, external_id: ExternalId, write: Write) -> ObservedObject:
        """Send the name, the whole authentication block and the permissions; never what cannot change."""
        workspace = write.desired.scope.key
        path = workspace_path(workspace, "integrations")
        body = {key: value for key, value in {**_removed(write), **_body(write)}.items() if key not in fields.IMMUTABLE}
        if write.observed is not None and isinstance(body.get("permissions"), Mapping):
            # Whether a part that is left out is kept or reset is not documented: what is there is sent back.
            body["permissions"] = {**(write.observed.attributes.get("permissions") or {}), **body["permissions"]}
        response = await api.request("PATCH", f"{path}/{quote(external_id, safe='')}", json=body)
        return written(response, "hash_id", f"PATCH {path}", lambda item: show(item, workspace))

    async def delete(self, api: Api, scope: Scope, external_id: ExternalId) -> None:
        """Delete it; a 404 is success only when the workspace's list is there without it."""
        path = workspace_path(scope.key, "integrations")
        try:
            await api.request("DELETE", f"{path}/{quote(external_id, safe='')}")
        except NotFound:
            left = await whole_list(api, path, "integrations", "hash_id")
            if any(item["hash_id"] == external_id for item in left):
                raise PermissionDenied(
                    f"DELETE {path}: answered 404, and it is still listed",
                    status=404,
                    request=f"DELETE {path}",
                    hint="Grant the token INTEGRATION_MANAGE, and its owner the right to manage it.",
                ) from None


def _removed(write: Write) -> dict[str, Any]:
    """Return what was written once and is declared no more, emptied: a PATCH keeps what it does not name."""
    gone = [change for change in write.changes if change.path in fields.UNREADABLE and change.after is None]
    return {change.path[1:]: [] if isinstance(change.before, list | tuple) else None for change in gone}


def _body(write: Write) -> dict[str, Any]:
    body: Any = fields.request_body(write.attributes)
    for pointer, value in write.secrets.items():
        body = fields.put_at(body, pointer, value.reveal())
    return body  # type: ignore[no-any-return]


def show(item: Mapping[str, Any], workspace: str) -> ObservedObject:
    """Return the provider's object as it is compared. Its ``url`` is never used: it has been seen with another path."""
    identifier = str(item.get("identifier") or "")
    return ObservedObject(
        ExternalId(str(item["hash_id"])), fields.shown(item), f"{workspace}/{identifier}", url=str(item.get("html_url") or "")
    )
