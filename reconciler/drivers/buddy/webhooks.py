"""``buddy/webhook``: a workspace's outbound webhook, with our marker in the target's path.

The provider shows its key in clear, and sends it inside each payload as a bearer. It is dropped here, before anything could store
it; a key that was changed at the provider shows up as refused deliveries, not as a difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET, UnsetType

from reconciler.drivers.base import Write
from reconciler.drivers.buddy.api import (
    BuddyObject,
    Key,
    WorkspaceType,
)
from reconciler.drivers.common import hook_marker, only_shown
from reconciler.drivers.wire import matches
from reconciler.model.objects import ManagedObject, ObservedObject
from reconciler.model.values import ExternalId, JsonObject, JsonValue

WEBHOOK = "buddy/webhook"
KEY_POINTER = "/secret_key"


class _WebhookProject(msgspec.Struct, frozen=True):
    name: str | None = None


class BuddyWebhook(BuddyObject, frozen=True, omit_defaults=True):
    id: Key
    target_url: str | UnsetType | None = UNSET
    events: list[str] | UnsetType | None = UNSET
    projects: list[_WebhookProject | str] | UnsetType | None = UNSET
    secret_key: str | UnsetType | None = UNSET
    html_url: str | None = None
    requests: JsonValue = None

    @property
    def key(self) -> Key:
        return self.id


class _WebhookRequest(msgspec.Struct, frozen=True):
    """A delivery; its body holds the key and is not read."""

    post_date: str | None = None
    response_status: int | str | None = None


class WebhookType(WorkspaceType[BuddyWebhook]):
    """Implements `reconciler.drivers.base.ManagedType`.

    The provider accepts any number of webhooks with one target: ours is found again by its marker.
    """

    type = WEBHOOK
    collection = "webhooks"
    kind = BuddyWebhook
    rows = list[BuddyWebhook]
    detailed = ("target_url", "events", "projects", "secret_key")
    delete_hint = "Grant the token WEBHOOK_MANAGE; its owner must administer the workspace."

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

    def show(self, item: BuddyWebhook, workspace: str) -> ObservedObject:
        """Return the provider's object in the form that is compared, without its key; health is its latest delivery."""
        shown: JsonObject = msgspec.to_builtins(item)
        if item.projects is not UNSET:
            shown = {**shown, "projects": [_name_of(project) for project in item.projects or ()]}
        target = item.target_url or ""
        present = None if item.secret_key is UNSET else frozenset({KEY_POINTER} if item.secret_key else ())
        return ObservedObject(
            ExternalId(str(item.id)),
            only_shown(self.normalize(shown), shown),
            target,
            hook_marker(target),
            url=item.html_url or "",
            present_write_only=present,
            health=_health(item.requests),
        )

    def body(self, write: Write) -> JsonObject:
        """Send all of it: a list of projects that is left out could widen to every project."""
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
