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

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from reconciler.drivers.base import Api, ApiResponse, Write
from reconciler.drivers.semaphore.lists import list_all, written
from reconciler.drivers.semaphore.names import marker_of
from reconciler.drivers.semaphore.rules import from_rules, normal_rule, to_rules
from reconciler.model.errors import NotFound, OutcomeUnknown, PermissionDenied, ProviderProtocolError
from reconciler.model.objects import Container, ManagedObject, NotModified, Observed, ObservedObject, Scope
from reconciler.model.values import ExternalId, JsonObject

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
