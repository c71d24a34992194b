"""The two managed types of an organization: secrets that hold a signing key, and notifications that name one.

**Rotation loses no event.** Semaphore sends unsigned, and says nothing, while the secret that a notification names is not
there. So a key is never changed under a notification: each rotation is a secret of its own (``…-r<n>``, its own address).
Raising ``keyRotation`` creates the new secret, then one PATCH switches the notification (name of the secret and endpoint
together), then the old secret, which nothing names any more, is deleted. A rename (``movedFrom``) goes the same way. The
receiver takes both keys meanwhile.

What is left for delete + create in place (``write_only_fixed``) is a secret whose content somebody edited, removed or renamed,
and a new master key: most organizations hide secret values and then refuse every PATCH of a secret.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

from reconciler.drivers.base import Api, ApiResponse, Write
from reconciler.drivers.common import only_shown
from reconciler.drivers.semaphore.api import list_all, written
from reconciler.model.errors import NotFound, OutcomeUnknown, PermissionDenied, ProviderProtocolError, ValidationFailed
from reconciler.model.objects import Container, ManagedObject, Marker, NotModified, Observed, ObservedObject, Scope
from reconciler.model.values import ExternalId, JsonObject, Uid

SECRET = "semaphore/secret"
NOTIFICATION = "semaphore/notification"
KEY_POINTER = "/data/WEBHOOK_SECRET"
_VARIABLE = "WEBHOOK_SECRET"  # the one name that the sender looks for
_MISSHAPED = (TypeError, ValueError, KeyError, AttributeError)  # what other JSON than promised makes of plain access
_NIL = "00000000-0000-0000-0000-000000000000"


class _OrganizationType:
    """What both types share: one list an organization, ids in the path, every success is a 200."""

    type: str
    path: str
    field: str
    page_size: int
    write_only_fixed = False

    def show(self, item: Mapping[str, Any], api: Api) -> ObservedObject:
        """Return the provider's object as it is compared."""
        raise NotImplementedError

    def body(self, write: Write) -> JsonObject:
        """Return the whole object as it is sent."""
        raise NotImplementedError

    async def observe(self, api: Api, scope: Scope, validators: JsonObject | None) -> NotModified | Observed:
        """Return every object of the organization; the provider offers no conditional reads."""
        items = await list_all(api, self.path, self.field, page_size=self.page_size)
        try:
            objects = tuple(self.show(item, api) for item in items)
        except _MISSHAPED as error:
            request = f"GET {self.path}"
            raise ProviderProtocolError(f"{request}: not understood ({type(error).__name__})", request=request) from None
        # A token shows its own organization, whatever the scope was called before `url` of the Integration followed a rename.
        here = api.connection.account
        return Observed(scope, objects, redirected_to="" if scope.key == here else here)

    async def container(self, api: Api, scope: Scope, known: str = "") -> Container | None:
        """Return None: a token belongs to one organization, and no call tells that one's id."""
        return None

    async def create(self, api: Api, write: Write) -> ObservedObject:
        """Create it under its marker name. Raises `Conflict` (a 400 here) when the name is taken."""
        response = await api.request("POST", self.path, json=self.body(write))
        return self._written(response, f"POST {self.path}", api)

    async def update(self, api: Api, external_id: ExternalId, write: Write) -> ObservedObject:
        """Replace name and spec: a PATCH here replaces, so that the whole object is sent."""
        response = await api.request("PATCH", self._item(external_id), json=self.body(write))
        return self._written(response, f"PATCH {self.path}", api)

    async def delete(self, api: Api, scope: Scope, external_id: ExternalId) -> None:
        """Delete it. A 404 is also the answer to a missing right, so that only the list tells whether it is gone."""
        try:
            await api.request("DELETE", self._item(external_id))
        except NotFound:
            items = await list_all(api, self.path, self.field, page_size=self.page_size)
            if any(item["metadata"]["id"] == external_id for item in items):
                raise PermissionDenied(
                    f"DELETE {self.path}: the token lacks organization.{self.field}.manage",
                    status=404,
                    request=f"DELETE {self.path}",
                    hint="It is listed, and its delete is answered 404: grant the right to the token's role.",
                ) from None

    def _written(self, response: ApiResponse, request: str, api: Api) -> ObservedObject:
        try:
            return self.show(written(response, request), api)
        except _MISSHAPED:
            raise OutcomeUnknown(f"{request}: accepted, and the answer is not understood", request=request) from None

    def _item(self, external_id: ExternalId) -> str:
        return f"{self.path}/{quote(external_id, safe='')}"


class SecretType(_OrganizationType):
    """``semaphore/secret``: its name is all that is compared; its content is write-only, even where the provider shows it."""

    type = SECRET
    path = "/api/v1beta/secrets"
    field = "secrets"
    page_size = 100
    write_only_fixed = True

    def normalize(self, attributes: JsonObject) -> JsonObject:
        """A name is a name."""
        return {"name": str(attributes["name"])}

    def adoptable(self, desired: ManagedObject, observed: ObservedObject, *, identical: bool) -> bool:
        """Never: no foreign secret is ours to overwrite, and the notification is pointed at our own."""
        return False

    def show(self, item: Mapping[str, Any], api: Api) -> ObservedObject:
        """Content is dropped here, so that no value an organization exposes ever gets further.

        The key counts as set only under a name of ours: a renamed secret is one that the sender no longer finds.
        """
        metadata = item["metadata"]
        name = str(metadata["name"])
        marker = marker_of(name)
        data = item.get("data")
        variables = data.get("env_vars") if isinstance(data, Mapping) else None
        found = marker is not None and any(isinstance(v, Mapping) and v.get("name") == _VARIABLE for v in variables or ())
        shown = isinstance(data, Mapping) and "env_vars" in data
        return ObservedObject(
            ExternalId(metadata["id"]),
            {"name": name},
            name,
            marker,
            url=f"{_site(api)}/secrets/{metadata['id']}",
            updated_at=str(metadata.get("update_time") or ""),
            present_write_only=frozenset({KEY_POINTER} if found else ()) if shown or marker is None else None,
        )

    def body(self, write: Write) -> JsonObject:
        """Return the secret with its one variable."""
        return {
            "apiVersion": "v1beta",
            "kind": "Secret",
            "metadata": {"name": write.attributes["name"]},
            "data": {"env_vars": [{"name": _VARIABLE, "value": write.secrets[KEY_POINTER].reveal()}], "files": []},
        }


class NotificationType(_OrganizationType):
    """``semaphore/notification``: one rule of ours; rules that somebody added show up as ``/further_rules``."""

    type = NOTIFICATION
    path = "/api/v1alpha/notifications"
    field = "notifications"
    page_size = 300

    def normalize(self, attributes: JsonObject) -> JsonObject:
        """Missing, null and empty are one; patterns are a set; 0 means the provider's default."""
        return {
            "name": str(attributes["name"]),
            "rule": normal_rule(attributes.get("rule")),
            "further_rules": [normal_rule(rule) for rule in attributes.get("further_rules") or ()],
        }

    def adoptable(self, desired: ManagedObject, observed: ObservedObject, *, identical: bool) -> bool:
        """Identical: the same projects are sent to the same host; else the name alone is enough, too."""
        same_name = observed.natural_key == desired.natural_key and not identical
        mine, theirs = desired.attributes["rule"], normal_rule(observed.attributes.get("rule"))
        host = urlsplit(mine["notify"]["webhook"]["endpoint"]).hostname
        their_host = urlsplit(theirs["notify"]["webhook"]["endpoint"]).hostname
        same_filter = mine["filter"] == theirs["filter"] and not observed.attributes.get("further_rules")
        return same_name or (host is not None and host == their_host and same_filter)

    def show(self, item: Mapping[str, Any], api: Api) -> ObservedObject:
        """Health names the creator: deliveries stop without a word when that user may no longer view the project."""
        metadata = item["metadata"]
        name = str(metadata["name"])
        marker = marker_of(name)
        mark = f"/hooks/{marker.owner}/{marker.uid}" if marker is not None else ""
        shown: dict[str, Any] = {"name": name}
        if "rules" in item["spec"]:
            shown["rule"], shown["further_rules"] = from_rules(item["spec"]["rules"], mark)
        health = {"creator": str(metadata["creator_id"])} if metadata.get("creator_id") not in {None, "", _NIL} else {}
        status = item.get("status")
        failures = status.get("failures") if isinstance(status, Mapping) else None
        if failures:
            health["failures"] = str(len(failures)) if isinstance(failures, list) else "reported"
        return ObservedObject(
            ExternalId(metadata["id"]),
            shown,
            name,
            marker,
            url=f"{_site(api)}/notifications/{metadata['id']}",
            updated_at=str(metadata.get("update_time") or ""),
            health=health,
        )

    def body(self, write: Write) -> JsonObject:
        """Return the whole notification, with full lists and every target: what a PATCH leaves out is emptied."""
        rules = [write.attributes["rule"], *write.attributes.get("further_rules", ())]
        return {
            "apiVersion": "v1alpha",
            "kind": "Notification",
            "metadata": {"name": write.attributes["name"]},
            "spec": {"rules": to_rules(rules)},
        }


def _site(api: Api) -> str:
    return api.connection.url.rstrip("/")


FILTERS = ("projects", "branches", "tags", "pipelines", "blocks", "states", "results")
DEFAULT_TIMEOUT_MS = 500
_ANY = ["/.*/"]  # what the matcher takes for a missing filter; only a missing ``projects`` matches nothing


def normal_rule(rule: Any) -> JsonObject:
    """Return ``rule`` in the form that is compared: every key there, patterns sorted, defaults filled. Idempotent."""
    rule = _mapping(rule)
    filters, notify = _mapping(rule.get("filter")), _mapping(rule.get("notify"))
    return {
        "name": str(rule.get("name") or ""),
        "filter": {key: _patterns(filters.get(key), fold=key != "projects") for key in FILTERS},
        "notify": {
            "webhook": _webhook(_mapping(notify.get("webhook"))),
            "slack": _target(notify.get("slack"), ("endpoint", "channels", "message", "status"), "endpoint"),
            "email": _target(notify.get("email"), ("subject", "cc", "bcc", "content", "status"), "cc"),
        },
    }


def from_rules(rules: Any, mark: str) -> tuple[JsonObject, list[JsonObject]]:
    """Return our rule (the one whose endpoint holds ``mark``, else the first with a webhook, else the first), and the others, each
    without the fields that the answer leaves out.

    Raises `TypeError` for what is no list: it must not look like a notification that somebody emptied.
    """
    if rules is not None and not isinstance(rules, list):
        raise TypeError("rules are a list")
    if not rules:
        return normal_rule({}), []
    normal = [normal_rule(rule) for rule in rules]
    endpoints = [rule["notify"]["webhook"]["endpoint"] for rule in normal]
    normal = [only_shown(rule, raw) for rule, raw in zip(normal, rules, strict=True)]
    first = next((i for i, endpoint in enumerate(endpoints) if endpoint), 0)
    index = next((i for i, endpoint in enumerate(endpoints) if mark and mark in endpoint), first)
    return normal[index], [*normal[:index], *normal[index + 1 :]]


def to_rules(rules: Sequence[JsonObject]) -> list[JsonObject]:
    """Return ``rules`` as they are sent: ``slack`` and ``webhook`` as objects, all lists there."""
    result: list[JsonObject] = []
    for rule in map(normal_rule, rules):
        notify = rule["notify"]
        targets: dict[str, Any] = {"slack": notify["slack"], "webhook": notify["webhook"]}
        if notify["email"]:
            targets["email"] = notify["email"]
        result.append({"name": rule["name"], "filter": rule["filter"], "notify": targets})
    return result


def _webhook(webhook: Mapping[str, Any]) -> JsonObject:
    return {
        "endpoint": str(webhook.get("endpoint") or ""),
        "timeout": _number(webhook.get("timeout")) or DEFAULT_TIMEOUT_MS,
        "action": str(webhook.get("action") or "post").lower(),
        "retries": _number(webhook.get("retries")),
        "secret": str(webhook.get("secret") or ""),
        "status": _status(webhook.get("status")),
    }


def _target(value: Any, keys: Sequence[str], vital: str) -> JsonObject:
    """A target that names nobody is none at all; else what it says, without what is empty."""
    target = _mapping(value)
    if not target.get(vital):
        return {}
    shown = {key: target[key] for key in keys if target.get(key) not in (None, "", [])}
    return {**shown, "status": _status(target.get("status"))}


def _status(value: Any) -> str:
    return "INACTIVE" if value in ("INACTIVE", 1) else "ACTIVE"


def _patterns(value: Any, *, fold: bool) -> list[str]:
    patterns = sorted({str(one) for one in value}) if isinstance(value, list | tuple) else []
    return [] if fold and patterns == _ANY else patterns


def _number(value: Any) -> int:
    """Numbers come as numbers, and 64-bit ones as text."""
    if isinstance(value, bool):
        return 0
    if isinstance(value, int):
        return value
    return int(value) if isinstance(value, str) and value.lstrip("-").isdecimal() else 0


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


_NAME = re.compile(r"^reconciler-(?P<owner>.+)-(?P<uid>[0-9a-f]{20}(?:-r[1-9][0-9]{0,8})?)\Z")
_ALLOWED = re.compile(r"^[@: -._a-zA-Z0-9]+\Z")  # secrethub; the class holds the range from space to full stop
_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")


def rotated(uid: Uid, rotation: int) -> Uid:
    """Return the uid part of a secret's name: each rotation of a key is an object of its own."""
    return Uid(f"{uid}-r{rotation}") if rotation else uid


def name_of(marker: Marker) -> str:
    """Return the object name that bears ``marker``.

    Raises `ValidationFailed` for an owner that the provider refuses in a name: one that holds a UUID (any such name is
    taken for an id), or characters that a secret's name may not have.
    """
    name = f"reconciler-{marker.owner}-{marker.uid}"
    if _UUID.search(name):
        raise ValidationFailed(
            f"the owner '{marker.owner}' makes a name that holds a UUID, which Semaphore takes for an id",
            hint="Set `owner` in the configuration to a name without a UUID.",
        )
    if not _ALLOWED.match(name):
        raise ValidationFailed(
            f"the owner '{marker.owner}' has characters that Semaphore allows in no name",
            hint="Set `owner` in the configuration to letters, digits, dots, dashes and underscores.",
        )
    return name


def marker_of(name: str) -> Marker | None:
    """Return the marker in an object's name, or None for a name that is not ours."""
    found = _NAME.match(name)
    return Marker(found["owner"], Uid(found["uid"])) if found else None
