"""The two managed types of an organization: secrets that hold a signing key, and notifications that refer to one.

**Rotation loses no event.** Semaphore silently sends unsigned while the secret that a notification names does not exist. So a key
is never changed under a notification: each rotation is a secret of its own (``…-r<n>``, its own address). Raising ``keyRotation``
creates the new secret, then one PATCH switches the notification (secret name and endpoint together), then the old secret, which
nothing refers to any more, is deleted. A rename (``movedFrom``) works the same way. The receiver accepts both keys meanwhile.

Delete and create in place (``write_only_fixed``) remain for a secret that somebody edited, emptied or renamed, and for a new master
key: most organizations hide secret values and then refuse every PATCH of a secret.

The name is the only place on an object that can hold our marker.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET, UnsetType

from reconciler.drivers.base import Write
from reconciler.drivers.common import decode_write, only_shown
from reconciler.drivers.connection import Api
from reconciler.drivers.semaphore.api import SemaphoreMetadata, list_all, path_of
from reconciler.model.errors import NotFound, PermissionDenied, ValidationFailed
from reconciler.model.objects import Container, ManagedObject, Marker, NotModified, Observed, ObservedObject, Scope
from reconciler.model.values import ExternalId, JsonObject, Uid

SECRET = "semaphore/secret"
NOTIFICATION = "semaphore/notification"
KEY_POINTER = "/data/WEBHOOK_SECRET"
FILTERS = ("projects", "branches", "tags", "pipelines", "blocks", "states", "results")
DEFAULT_TIMEOUT_MS = 500
_VARIABLE = "WEBHOOK_SECRET"  # the one name that the sender looks for
_NIL = "00000000-0000-0000-0000-000000000000"
_ANY = ["/.*/"]  # what the matcher uses for a missing filter; only a missing ``projects`` matches nothing
_NAME = re.compile(r"^reconciler-(?P<owner>.+)-(?P<uid>[0-9a-f]{20}(?:-r[1-9][0-9]{0,8})?)\Z")
_ALLOWED = re.compile(r"^[@: -._a-zA-Z0-9]+\Z")  # secrethub; the class holds the range from space to full stop
_INTEGER = re.compile(r"-?[0-9]{1,18}")
_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")

Text = str | None | UnsetType
Texts = list[str] | None | UnsetType
Number = int | str | None | UnsetType
"""64-bit numbers of protobuf arrive as text."""


# answers: a field that is left out is unknown, a null field is empty


class _Variable(msgspec.Struct, frozen=True):  # its value is not read
    name: str | None = None


class _Data(msgspec.Struct, frozen=True):
    env_vars: list[_Variable] | UnsetType | None = UNSET


class SemaphoreSecret(msgspec.Struct, frozen=True):
    metadata: SemaphoreMetadata
    data: _Data | None = None


class _Filter(msgspec.Struct, frozen=True):
    projects: Texts = UNSET
    branches: Texts = UNSET
    tags: Texts = UNSET
    pipelines: Texts = UNSET
    blocks: Texts = UNSET
    states: Texts = UNSET
    results: Texts = UNSET


class _Webhook(msgspec.Struct, frozen=True):
    endpoint: Text = UNSET
    timeout: Number = UNSET
    action: Text = UNSET
    retries: Number = UNSET
    secret: Text = UNSET
    status: Number = UNSET


class _Message(msgspec.Struct, frozen=True):
    endpoint: Text = UNSET
    channels: Texts = UNSET
    message: Text = UNSET
    subject: Text = UNSET
    cc: Texts = UNSET
    bcc: Texts = UNSET
    content: Text = UNSET
    status: Number = UNSET


class _Notify(msgspec.Struct, frozen=True):
    webhook: _Webhook | UnsetType | None = UNSET
    slack: _Message | UnsetType | None = UNSET
    email: _Message | UnsetType | None = UNSET


class _Rule(msgspec.Struct, frozen=True):
    name: Text = UNSET
    filter: _Filter | UnsetType | None = UNSET
    notify: _Notify | UnsetType | None = UNSET


class _NotificationSpec(msgspec.Struct, frozen=True):
    rules: list[_Rule] | UnsetType | None = UNSET


class _NotificationStatus(msgspec.Struct, frozen=True):
    failures: list[object] | None = None


class SemaphoreNotification(msgspec.Struct, frozen=True):
    metadata: SemaphoreMetadata
    spec: _NotificationSpec
    status: _NotificationStatus | None = None


ObjectT = TypeVar("ObjectT", SemaphoreSecret, SemaphoreNotification)


class _OrganizationType(Generic[ObjectT]):
    """What both types share: one list per organization, ids in the path, every success is a 200."""

    type: str
    path: str
    field: str
    """The list's name in answers and permissions."""
    kind: builtins.type[ObjectT]
    rows: builtins.type[list[ObjectT]]
    page_size: int
    write_only_fixed = False

    def show(self, item: ObjectT, api: Api) -> ObservedObject:
        raise NotImplementedError

    def body(self, write: Write) -> JsonObject:
        raise NotImplementedError

    async def observe(self, api: Api, scope: Scope, validators: JsonObject | None) -> NotModified | Observed:
        """Return every object of the organization; the provider offers no conditional reads."""
        items = await list_all(api, self.path, self.field, self.rows, page_size=self.page_size)
        # A token shows its own organization, whatever the scope was called before `url` of the Integration followed a rename.
        here = api.connection.account
        objects = tuple(self.show(item, api) for item in items)
        return Observed(scope, objects, redirected_to="" if scope.key == here else here)

    async def container(self, api: Api, scope: Scope, known: str = "") -> Container | None:
        """Return None: a token belongs to one organization, and no call gives the organization's id."""
        return None

    async def create(self, api: Api, write: Write) -> ObservedObject:
        """Create it under its marker name. Raises `Conflict` (a 400 here) when the name is taken."""
        return await self._send("POST", self.path, api, write)

    async def update(self, api: Api, external_id: ExternalId, write: Write) -> ObservedObject:
        """Replace name and spec: a PATCH replaces the whole object here."""
        return await self._send("PATCH", path_of(self.path, external_id), api, write)

    async def delete(self, api: Api, scope: Scope, external_id: ExternalId) -> None:
        """Delete it. A 404 is also the answer to a missing permission, so only the list shows whether it is gone."""
        try:
            await api.request("DELETE", path_of(self.path, external_id))
        except NotFound:
            items = await list_all(api, self.path, self.field, self.rows, page_size=self.page_size)
            if any(item.metadata.id == external_id for item in items):
                raise PermissionDenied(
                    f"DELETE {self.path}: the token lacks organization.{self.field}.manage",
                    status=404,
                    request=f"DELETE {self.path}",
                    hint="The object is listed, but its delete answers 404: grant the permission to the token's role.",
                ) from None

    async def _send(self, method: str, path: str, api: Api, write: Write) -> ObservedObject:
        response = await api.request(method, path, json=self.body(write))
        return self.show(decode_write(response, self.kind, f"{method} {self.path}"), api)


class SecretType(_OrganizationType[SemaphoreSecret]):
    """``semaphore/secret``: only its name is compared; its content is write-only, even where the provider shows it."""

    type = SECRET
    path = "/api/v1beta/secrets"
    field = "secrets"
    kind = SemaphoreSecret
    rows = list[SemaphoreSecret]
    page_size = 100
    write_only_fixed = True

    def normalize(self, attributes: JsonObject) -> JsonObject:
        return {"name": str(attributes["name"])}

    def adoptable(self, desired: ManagedObject, observed: ObservedObject, *, identical: bool) -> bool:
        """Return False: no foreign secret is ours to overwrite, and the notification refers to our own."""
        return False

    def show(self, item: SemaphoreSecret, api: Api) -> ObservedObject:
        """Content is dropped, so a value that an organization exposes goes no further.

        The key counts as set only under a name of ours: the sender does not find a renamed secret.
        """
        marker = marker_of(item.metadata.name)
        variables = UNSET if item.data is None else item.data.env_vars
        is_set = marker is not None and any(one.name == _VARIABLE for one in variables or ())
        present = None if variables is UNSET and marker else frozenset({KEY_POINTER} if is_set else ())
        return replace(_observed("secrets", item.metadata, api, {"name": item.metadata.name}), present_write_only=present)

    def body(self, write: Write) -> JsonObject:
        """Return the secret with its one variable."""
        return {
            "apiVersion": "v1beta",
            "kind": "Secret",
            "metadata": {"name": write.attributes["name"]},
            "data": {"env_vars": [{"name": _VARIABLE, "value": write.secrets[KEY_POINTER].reveal()}], "files": []},
        }


class NotificationType(_OrganizationType[SemaphoreNotification]):
    """``semaphore/notification``: one rule of ours; rules that somebody added show up as ``/further_rules``."""

    type = NOTIFICATION
    path = "/api/v1alpha/notifications"
    field = "notifications"
    kind = SemaphoreNotification
    rows = list[SemaphoreNotification]
    page_size = 300

    def normalize(self, attributes: JsonObject) -> JsonObject:
        """Missing, null and empty are equal; patterns are a set; 0 means the provider's default."""
        return {
            "name": str(attributes["name"]),
            "rule": normal_rule(attributes.get("rule") or {}),
            "further_rules": [normal_rule(rule) for rule in attributes.get("further_rules") or ()],
        }

    def adoptable(self, desired: ManagedObject, observed: ObservedObject, *, identical: bool) -> bool:
        """Identical: the same projects are sent to the same host; else the name alone is enough, too."""
        same_name = observed.natural_key == desired.natural_key and not identical
        mine: JsonObject = desired.attributes["rule"]
        theirs = normal_rule(observed.attributes.get("rule") or {})
        host = urlsplit(mine["notify"]["webhook"]["endpoint"]).hostname
        their_host = urlsplit(theirs["notify"]["webhook"]["endpoint"]).hostname
        same_filter = mine["filter"] == theirs["filter"] and not observed.attributes.get("further_rules")
        return same_name or (host is not None and host == their_host and same_filter)

    def show(self, item: SemaphoreNotification, api: Api) -> ObservedObject:
        """Health names the creator: deliveries silently stop when that user may no longer view the project."""
        marker = marker_of(item.metadata.name)
        attributes: dict[str, Any] = {"name": item.metadata.name}
        if item.spec.rules is not UNSET:
            mark = f"/hooks/{marker.owner}/{marker.uid}" if marker is not None else ""
            attributes["rule"], attributes["further_rules"] = _split_rules(item.spec.rules or [], mark)
        creator, failures = item.metadata.creator_id, item.status.failures if item.status else None
        health = {"creator": creator} if creator and creator != _NIL else {}
        if failures:
            health["failures"] = str(len(failures))
        return replace(_observed("notifications", item.metadata, api, attributes), health=health)

    def body(self, write: Write) -> JsonObject:
        """Return the whole notification, with full lists and every target: a PATCH empties what it leaves out."""
        rules = [normal_rule(rule) for rule in (write.attributes["rule"], *write.attributes.get("further_rules", ()))]
        return {
            "apiVersion": "v1alpha",
            "kind": "Notification",
            "metadata": {"name": write.attributes["name"]},
            "spec": {"rules": _requested(rules)},
        }


def _observed(page: str, metadata: SemaphoreMetadata, api: Api, attributes: JsonObject) -> ObservedObject:
    site = api.connection.url.rstrip("/")
    return ObservedObject(
        ExternalId(metadata.id),
        attributes,
        metadata.name,
        marker_of(metadata.name),
        url=f"{site}/{page}/{metadata.id}",
        updated_at=str(metadata.update_time or ""),
    )


# rules


def normal_rule(rule: JsonObject) -> JsonObject:
    """Return ``rule`` in the form that is compared: every key present, patterns sorted, defaults filled. Idempotent."""
    filters, notify = rule.get("filter") or {}, rule.get("notify") or {}
    webhook = notify.get("webhook") or {}
    return {
        "name": rule.get("name") or "",
        "filter": {key: _patterns(filters.get(key), fold=key != "projects") for key in FILTERS},
        "notify": {
            "webhook": {
                "endpoint": webhook.get("endpoint") or "",
                "timeout": _number(webhook.get("timeout")) or DEFAULT_TIMEOUT_MS,
                "action": (webhook.get("action") or "post").lower(),
                "retries": _number(webhook.get("retries")),
                "secret": webhook.get("secret") or "",
                "status": _status(webhook),
            },
            "slack": _target(notify.get("slack") or {}, ("endpoint", "channels", "message"), "endpoint"),
            "email": _target(notify.get("email") or {}, ("subject", "cc", "bcc", "content"), "cc"),
        },
    }


def _split_rules(rules: Sequence[_Rule], mark: str) -> tuple[JsonObject, list[JsonObject]]:
    """Return our rule (the one whose endpoint holds ``mark``, else the first with a webhook, else the first), and the others, each
    without the fields that the answer leaves out.
    """
    if not rules:
        return normal_rule({}), []
    raw = [msgspec.to_builtins(rule) for rule in rules]
    normal = [normal_rule(rule) for rule in raw]
    endpoints = [rule["notify"]["webhook"]["endpoint"] for rule in normal]
    shown = [only_shown(rule, answer) for rule, answer in zip(normal, raw, strict=True)]
    first = next((i for i, endpoint in enumerate(endpoints) if endpoint), 0)
    index = next((i for i, endpoint in enumerate(endpoints) if mark and mark in endpoint), first)
    return shown[index], [*shown[:index], *shown[index + 1 :]]


def _requested(rules: Sequence[JsonObject]) -> list[JsonObject]:
    """Return ``rules`` as they are sent: ``slack`` and ``webhook`` always as objects, all lists present."""
    return [
        {**rule, "notify": {key: value for key, value in rule["notify"].items() if value or key != "email"}} for rule in rules
    ]


def _target(target: Mapping[str, Any], keys: Sequence[str], required: str) -> JsonObject:
    """A target without its ``required`` key sends nothing and counts as none; else its fields that are not empty."""
    if not target.get(required):
        return {}
    return {**{key: target[key] for key in keys if target.get(key)}, "status": _status(target)}


def _status(target: Mapping[str, Any]) -> str:
    return "INACTIVE" if target.get("status") in ("INACTIVE", 1) else "ACTIVE"


def _patterns(patterns: Sequence[str] | None, *, fold: bool) -> list[str]:
    unique = sorted(set(patterns or ()))
    return [] if fold and unique == _ANY else unique


def _number(value: int | str | None) -> int:
    text = str(value or 0)
    return int(text) if _INTEGER.fullmatch(text) else 0


# names


def rotated(uid: Uid, rotation: int) -> Uid:
    """Return the uid part of a secret's name: each rotation of a key is an object of its own."""
    return Uid(f"{uid}-r{rotation}") if rotation else uid


def name_of(marker: Marker) -> str:
    """Return the object name that holds ``marker``.

    Raises `ValidationFailed` for an owner that the provider refuses in a name: one with a UUID (any such name is taken for an id),
    or with characters that a secret's name must not have.
    """
    name = f"reconciler-{marker.owner}-{marker.uid}"
    if _UUID.search(name) or not _ALLOWED.match(name):
        raise ValidationFailed(
            f"the owner '{marker.owner}' makes an invalid name: Semaphore takes a UUID for an id, and allows few other characters",
            hint="Set `owner` in the configuration to letters, digits, dots, dashes and underscores, without a UUID.",
        )
    return name


def marker_of(name: str) -> Marker | None:
    """Return the marker in an object's name; None for a name that is not ours."""
    match = _NAME.match(name)
    return Marker(match["owner"], Uid(match["uid"])) if match else None
