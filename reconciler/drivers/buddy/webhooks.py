"""``buddy/webhook``: a workspace's outbound webhook, with our marker in the target's path.

The provider shows its key in clear, and sends it inside each payload as a bearer. It is dropped here, before anything could store
it; a key that was changed at the provider shows up as refused deliveries, not as a difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec
from msgspec import UNSET, UnsetType

from reconciler.drivers.base import Api, Write
from reconciler.drivers.buddy.api import Key, complete, delete_item, whole_list, workspace_of, workspace_path
from reconciler.drivers.common import decode_write, hook_marker, only_shown
from reconciler.drivers.wire import matches
from reconciler.model.objects import Container, ManagedObject, NotModified, Observed, ObservedObject, Scope
from reconciler.model.values import ExternalId, JsonObject, JsonValue

WEBHOOK = "buddy/webhook"
KEY_POINTER = "/secret_key"
_COMPLETE = ("target_url", "events", "projects", "secret_key")


class _WebhookProject(msgspec.Struct, frozen=True):
    name: str | None = None


class BuddyWebhook(msgspec.Struct, frozen=True, omit_defaults=True):
    """A webhook; a field that is left out is unknown, a null field is empty."""

    id: Key
    target_url: str | UnsetType | None = UNSET
    events: list[str] | UnsetType | None = UNSET
    projects: list[_WebhookProject | str] | UnsetType | None = UNSET
    secret_key: str | UnsetType | None = UNSET
    html_url: str | None = None
    requests: JsonValue = None


class _Webhooks(msgspec.Struct, frozen=True):
    items: list[BuddyWebhook] = msgspec.field(name="webhooks")


class _WebhookRequest(msgspec.Struct, frozen=True):
    """A delivery; its body holds the key and is not read."""

    post_date: str | None = None
    response_status: int | str | None = None


class WebhookType:
    """Implements `reconciler.drivers.base.ManagedType`; a scope is a workspace."""

    type = WEBHOOK
    write_only_fixed = False

    def normalize(self, attributes: JsonObject) -> JsonObject:
        """Events and projects are sets. No projects means all of them, so the list is always present."""
        return {
            "target_url": attributes.get("target_url") or "",
            "events": sorted(set(attributes.get("events") or ())),
            "projects": sorted(set(attributes.get("projects") or ())),
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
        hooks = await complete(api, path, await whole_list(api, path, _Webhooks), lambda hook: hook.id, _COMPLETE)
        return Observed(scope, tuple(map(self.show, hooks)))

    async def container(self, api: Api, scope: Scope, known: str = "") -> Container | None:
        """Return the workspace: its id stays, its domain may change."""
        return await workspace_of(api, scope, known)

    async def create(self, api: Api, write: Write) -> ObservedObject:
        """Create it. The provider accepts any number with one target: ours is found again by its marker."""
        path = workspace_path(write.desired.scope.key, "webhooks")
        return self.show(decode_write(await api.request("POST", path, json=_body(write)), BuddyWebhook, f"POST {path}"))

    async def update(self, api: Api, external_id: ExternalId, write: Write) -> ObservedObject:
        """Send all of it: a list of projects that is left out could widen to every project."""
        path = workspace_path(write.desired.scope.key, "webhooks")
        response = await api.request("PATCH", f"{path}/{quote(external_id, safe='')}", json=_body(write))
        return self.show(decode_write(response, BuddyWebhook, f"PATCH {path}"))

    async def delete(self, api: Api, scope: Scope, external_id: ExternalId) -> None:
        """Delete it; a 404 is success only if the workspace's list exists without it."""
        hint = "Grant the token WEBHOOK_MANAGE; its owner must administer the workspace."
        await delete_item(api, workspace_path(scope.key, "webhooks"), external_id, _Webhooks, lambda hook: hook.id, hint=hint)

    def show(self, hook: BuddyWebhook) -> ObservedObject:
        """Return the provider's object in the form that is compared, without its key; health is its latest delivery."""
        shown: JsonObject = msgspec.to_builtins(hook)
        if hook.projects is not UNSET:
            shown = {**shown, "projects": [_name_of(project) for project in hook.projects or ()]}
        target = hook.target_url or ""
        present = None if hook.secret_key is UNSET else frozenset({KEY_POINTER} if hook.secret_key else ())
        return ObservedObject(
            ExternalId(str(hook.id)),
            only_shown(self.normalize(shown), shown),
            target,
            hook_marker(target),
            url=hook.html_url or "",
            present_write_only=present,
            health=_health(hook.requests),
        )


def _body(write: Write) -> JsonObject:
    attributes = write.attributes
    return {
        "target_url": attributes["target_url"],
        "events": list(attributes["events"]),
        "projects": list(attributes["projects"]),
        "secret_key": write.secrets[KEY_POINTER].reveal(),
    }


def _name_of(project: _WebhookProject | str) -> str:
    """Projects are sent by name, and shown as objects."""
    return project if isinstance(project, str) else project.name or ""


def _health(requests: Any) -> Mapping[str, str]:
    """Return status and time of the latest of the last 20 deliveries."""
    rows = matches(requests, list[_WebhookRequest])
    if not rows:
        return {}
    latest = max(rows, key=lambda row: row.post_date or "")
    return {"last_response": str(latest.response_status or "none"), "last_delivery": latest.post_date or ""}
