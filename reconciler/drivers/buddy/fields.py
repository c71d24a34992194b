"""Fields of an integration: which are shown, which are only taken, and the one form in which they are compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.model.values import JsonObject

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
