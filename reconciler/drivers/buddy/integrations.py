"""``buddy/integration``: identified by its ``identifier`` in the workspace, with no place for a marker.

Credentials, role assumptions and a good part of the settings are never shown again. Every update therefore sends the
whole authentication block with the name, as the provider's own SDK does, never a difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from reconciler.drivers.base import Api, Write
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
        return normal(attributes)

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
        body = {key: value for key, value in {**_removed(write), **_body(write)}.items() if key not in IMMUTABLE}
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
    gone = [change for change in write.changes if change.path in UNREADABLE and change.after is None]
    return {change.path[1:]: [] if isinstance(change.before, list | tuple) else None for change in gone}


def _body(write: Write) -> dict[str, Any]:
    body: Any = request_body(write.attributes)
    for pointer, value in write.secrets.items():
        body = put_at(body, pointer, value.reveal())
    return body  # type: ignore[no-any-return]


def show(item: Mapping[str, Any], workspace: str) -> ObservedObject:
    """Return the provider's object as it is compared. Its ``url`` is never used: it has been seen with another path."""
    identifier = str(item.get("identifier") or "")
    return ObservedObject(
        ExternalId(str(item["hash_id"])), shown(item), f"{workspace}/{identifier}", url=str(item.get("html_url") or "")
    )


READABLE = frozenset(
    {
        "type", "name", "identifier", "scope", "project_name", "auth_type", "audience", "app_id", "google_project", "host_url",
        "permissions", "all_pipelines_allowed", "allowed_pipelines",
    }
)  # fmt: skip
"""What an answer shows and is compared. (It also shows ``webhook_address``, which authenticates by itself: never taken up.)"""
UNREADABLE = tuple(
    f"/{key}"
    for key in (
        "chat_id", "client_id", "config", "email", "git_hub_user_id", "git_hub_user_name", "key_id", "region", "role_assumptions",
        "server_id", "shop", "slack_user_id", "subscription_id", "tenant_id", "url", "username",
    )
)  # fmt: skip
"""What a request takes and no answer shows, though it is no secret: compared with what was written last."""
IMMUTABLE = ("type", "scope", "project_name", "identifier")
"""What cannot be changed in place (and is not sent with a change)."""
NOT_SENT = frozenset({"integration", "workspace"})
"""Keys of the manifest that are no part of the provider's object."""


def normal(attributes: JsonObject) -> JsonObject:
    """Return ``attributes`` in the form that is compared: permissions by id, pipelines as a sorted list of ids. Idempotent."""
    result = {key: value for key, value in attributes.items() if value is not None}
    if isinstance(result.get("permissions"), Mapping):
        result["permissions"] = normal_permissions(result["permissions"])
    if "allowed_pipelines" in result:
        result["allowed_pipelines"] = pipeline_ids(result["allowed_pipelines"])
    return result


def shown(item: Mapping[str, Any]) -> JsonObject:
    """Return what an answer shows of an integration: null stays null, and what it leaves out stays out, since that is unknown."""
    found = {key: item[key] for key in READABLE if key in item}
    empty = {key: value for key, value in found.items() if value is None and key != "allowed_pipelines"}
    return {
        **empty,
        **normal({**found, "allowed_pipelines": found["allowed_pipelines"] or ()} if "allowed_pipelines" in found else found),
    }


def normal_permissions(permissions: Mapping[str, Any]) -> JsonObject:
    """Return permissions with users and groups sorted by id, and nothing but id and level of each."""
    result: dict[str, Any] = {key: permissions[key] for key in ("admins", "others") if permissions.get(key) is not None}
    for key in ("users", "groups"):
        if key in permissions and isinstance(permissions[key], list | tuple | None):
            rows = [
                {name: one[name] for name in ("id", "access_level") if name in one}
                for one in permissions[key] or ()
                if isinstance(one, Mapping) and "id" in one
            ]
            result[key] = sorted(rows, key=lambda row: str(row["id"]).zfill(20))
    return result


def pipeline_ids(pipelines: Any) -> list[Any]:
    """Return the ids of pipelines given as ids or as objects with one, sorted, each once."""
    ids = {
        one["id"] if isinstance(one, Mapping) else one for one in pipelines or () if not isinstance(one, Mapping) or "id" in one
    }
    return sorted(ids, key=lambda one: str(one).zfill(20))


def request_body(attributes: JsonObject) -> dict[str, Any]:
    """Return attributes as the API takes them."""
    body = dict(attributes)
    if "allowed_pipelines" in body:
        body["allowed_pipelines"] = [{"id": one} for one in body["allowed_pipelines"]]
    return body


def put_at(document: Any, pointer: str, value: Any) -> Any:
    """Return a copy of ``document`` with ``value`` at the JSON pointer; objects on the way are made, list items must be there."""
    return _put(document, [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]], value)


def _put(document: Any, parts: list[str], value: Any) -> Any:
    if not parts:
        return value
    head, rest = parts[0], parts[1:]
    if isinstance(document, list | tuple):
        copy = list(document)
        copy[int(head)] = _put(copy[int(head)], rest, value)
        return copy
    found = dict(document) if isinstance(document, Mapping) else {}
    found[head] = _put(found.get(head), rest, value)
    return found


def without_secrets(value: Any) -> Any:
    """Return ``value`` without every ``{valueFrom: …}`` in it: an object's key goes, a list's item stays in place as null."""
    if isinstance(value, Mapping):
        return {key: without_secrets(item) for key, item in value.items() if not _is_reference(item)}
    if isinstance(value, list | tuple):
        return [None if _is_reference(item) else without_secrets(item) for item in value]
    return value


def _is_reference(value: Any) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("valueFrom"), Mapping)
