"""``buddy/webhook``: a workspace's outbound webhook, with our marker in the target's path.

Its key is shown in clear by the provider and travels inside each payload as a bearer. It is dropped here, before anything
could store it; that somebody changed it at the provider shows up as refused deliveries, not as a difference.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from reconciler.drivers.base import Api, Write
from reconciler.drivers.buddy.api import all_shown, completed, whole_list, workspace_of, workspace_path, written
from reconciler.drivers.common import only_shown
from reconciler.model.errors import NotFound, PermissionDenied
from reconciler.model.objects import Container, ManagedObject, Marker, NotModified, Observed, ObservedObject, Scope
from reconciler.model.values import ExternalId, JsonObject, Uid

WEBHOOK = "buddy/webhook"
KEY_POINTER = "/secret_key"
_MARKER = re.compile(r"/hooks/(?P<owner>[^/]+)/(?P<uid>[0-9a-f]{20})/?\Z")
_COMPLETE = ("target_url", "events", "projects", "secret_key")


class WebhookType:
    """Implements `reconciler.drivers.base.ManagedType`; a scope is a workspace."""

    type = WEBHOOK
    write_only_fixed = False

    def normalize(self, attributes: JsonObject) -> JsonObject:
        """Events and projects are sets. No projects means all of them, so that the list is always there."""
        return {
            "target_url": str(attributes.get("target_url") or ""),
            "events": sorted({*map(str, _list(attributes.get("events")))}),
            "projects": sorted({_project(one) for one in _list(attributes.get("projects"))}),
        }

    def adoptable(self, desired: ManagedObject, observed: ObservedObject, *, identical: bool) -> bool:
        """Identical: the same events and projects go to the same host; else the same target is enough, too."""
        mine, theirs = desired.attributes, observed.attributes
        same_host = urlsplit(mine["target_url"]).hostname == urlsplit(theirs.get("target_url", "")).hostname
        alike = same_host and all(mine[key] == theirs.get(key) for key in ("events", "projects"))
        return alike or (not identical and observed.natural_key == desired.natural_key)

    async def observe(self, api: Api, scope: Scope, validators: JsonObject | None) -> NotModified | Observed:
        """Return every webhook of the workspace; what the list only sums up is read on its own."""
        path = workspace_path(scope.key, "webhooks")
        full = await completed(api, path, await whole_list(api, path, "webhooks", "id"), "id", _COMPLETE)
        return Observed(scope, all_shown(full, self.show, path))

    async def container(self, api: Api, scope: Scope, known: str = "") -> Container | None:
        """Return the workspace: its id stays, its domain may change."""
        return await workspace_of(api, scope, known)

    async def create(self, api: Api, write: Write) -> ObservedObject:
        """Create it. The provider takes any number with one target: ours is found again by its marker."""
        path = workspace_path(write.desired.scope.key, "webhooks")
        return written(await api.request("POST", path, json=_body(write)), "id", f"POST {path}", self.show)

    async def update(self, api: Api, external_id: ExternalId, write: Write) -> ObservedObject:
        """Send all of it: a list of projects that is left out could widen to every project."""
        path = workspace_path(write.desired.scope.key, "webhooks")
        response = await api.request("PATCH", f"{path}/{quote(external_id, safe='')}", json=_body(write))
        return written(response, "id", f"PATCH {path}", self.show)

    async def delete(self, api: Api, scope: Scope, external_id: ExternalId) -> None:
        """Delete it; a 404 is success only when the workspace's list is there without it."""
        path = workspace_path(scope.key, "webhooks")
        try:
            await api.request("DELETE", f"{path}/{quote(external_id, safe='')}")
        except NotFound:
            if any(str(item["id"]) == external_id for item in await whole_list(api, path, "webhooks", "id")):
                raise PermissionDenied(
                    f"DELETE {path}: answered 404, and it is still listed",
                    status=404,
                    request=f"DELETE {path}",
                    hint="Grant the token WEBHOOK_MANAGE; its owner must administer the workspace.",
                ) from None

    def show(self, item: Mapping[str, Any]) -> ObservedObject:
        """Return the provider's object as it is compared, without its key; health is its latest delivery."""
        attributes = only_shown(self.normalize(item), item)
        target = str(item.get("target_url") or "")
        present = None if "secret_key" not in item else frozenset({KEY_POINTER} if item["secret_key"] else ())
        return ObservedObject(
            ExternalId(str(item["id"])),
            attributes,
            target,
            marker_of(target),
            url=str(item.get("html_url") or ""),
            present_write_only=present,
            health=_health(item.get("requests")),
        )


def marker_of(url: str) -> Marker | None:
    """Return the marker in the path of a target; its host and query do not matter."""
    try:
        found = _MARKER.search(urlsplit(url).path)
    except ValueError:
        return None
    return Marker(found["owner"], Uid(found["uid"])) if found else None


def _body(write: Write) -> JsonObject:
    wanted = write.attributes
    return {
        "target_url": wanted["target_url"],
        "events": list(wanted["events"]),
        "projects": list(wanted["projects"]),
        "secret_key": write.secrets[KEY_POINTER].reveal(),
    }


def _list(value: Any) -> list[Any] | tuple[Any, ...]:
    """Null is empty; what is no list raises `TypeError`: a text must not be read letter by letter."""
    if value is not None and not isinstance(value, list | tuple):
        raise TypeError("a list is wanted")
    return value or ()


def _project(value: Any) -> str:
    """Projects are sent by name, and shown as objects."""
    return str(value.get("name", "")) if isinstance(value, Mapping) else str(value)


def _health(requests: Any) -> Mapping[str, str]:
    """Return status and time of the latest of the last 20 deliveries; their bodies hold the key and are not looked at."""
    rows = [row for row in requests if isinstance(row, Mapping)] if isinstance(requests, list) else []
    if not rows:
        return {}
    latest = max(rows, key=lambda row: str(row.get("post_date") or ""))
    return {"last_response": str(latest.get("response_status") or "none"), "last_delivery": str(latest.get("post_date") or "")}
