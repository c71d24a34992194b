"""``buddy/integration``: identified by its ``identifier`` in the workspace, with no place for a marker.

Credentials, role assumptions and many settings are never shown again. Every update therefore sends the whole authentication block
with the name, as the provider's own SDK does, never a difference.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from reconciler.drivers.base import Write
from reconciler.drivers.buddy.api import (
    BuddyObject,
    Key,
    WorkspaceType,
)
from reconciler.drivers.common import NonEmpty
from reconciler.model.objects import ManagedObject, ObservedObject
from reconciler.model.values import ExternalId, JsonObject

INTEGRATION = "buddy/integration"
READABLE = frozenset(
    {
        "type", "name", "identifier", "scope", "project_name", "auth_type", "audience", "app_id", "google_project", "host_url",
        "permissions", "all_pipelines_allowed", "allowed_pipelines",
    }
)  # fmt: skip
"""Fields that an answer shows and that are compared. (It also shows ``webhook_address``, which is a credential and never read.)"""
UNREADABLE = tuple(
    f"/{key}"
    for key in (
        "chat_id", "client_id", "config", "email", "git_hub_user_id", "git_hub_user_name", "key_id", "region", "role_assumptions",
        "server_id", "shop", "slack_user_id", "subscription_id", "tenant_id", "url", "username",
    )
)  # fmt: skip
"""Fields that a request takes and no answer shows, though they are no secrets: compared with the value written last."""
IMMUTABLE = ("type", "scope", "project_name", "identifier")
"""Fields that cannot be changed in place, and are not sent with a change."""
NOT_SENT = frozenset({"integration", "workspace"})
"""Keys of the manifest that are not part of the provider's object."""

Text = str | None | UnsetType


class _Grant(msgspec.Struct, frozen=True):
    id: Key | UnsetType | None = UNSET
    access_level: Text = UNSET


class _Permissions(msgspec.Struct, frozen=True):
    admins: Text = UNSET
    others: Text = UNSET
    users: list[_Grant] | UnsetType | None = UNSET
    groups: list[_Grant] | UnsetType | None = UNSET


class _AllowedPipeline(msgspec.Struct, frozen=True):
    id: Key | None = None


class BuddyIntegration(BuddyObject, frozen=True, omit_defaults=True):
    hash_id: NonEmpty
    type: Text = UNSET
    name: Text = UNSET
    identifier: Text = UNSET
    scope: Text = UNSET
    project_name: Text = UNSET
    auth_type: Text = UNSET
    audience: Text = UNSET
    app_id: Text = UNSET
    google_project: Text = UNSET
    host_url: Text = UNSET
    permissions: _Permissions | UnsetType | None = UNSET
    all_pipelines_allowed: bool | UnsetType | None = UNSET
    allowed_pipelines: list[_AllowedPipeline | Key] | UnsetType | None = UNSET
    html_url: str | None = None

    @property
    def key(self) -> Key:
        return self.hash_id


class IntegrationType(WorkspaceType[BuddyIntegration]):
    """Implements `reconciler.drivers.base.ManagedType`."""

    type = INTEGRATION
    collection = "integrations"
    kind = BuddyIntegration
    rows = list[BuddyIntegration]
    detailed = ("scope", "permissions", "all_pipelines_allowed", "allowed_pipelines")
    delete_hint = "Grant the token INTEGRATION_MANAGE, and its owner the permission to manage it."

    def normalize(self, attributes: JsonObject) -> JsonObject:
        """Users, groups and pipelines are sets."""
        return normal(attributes)

    def adoptable(self, desired: ManagedObject, observed: ObservedObject, *, identical: bool) -> bool:
        """The same identifier; identical: the same type and scope as well."""
        if observed.natural_key != desired.natural_key:
            return False
        return not identical or all(observed.attributes.get(key) == desired.attributes.get(key) for key in ("type", "scope"))

    def show(self, item: BuddyIntegration, workspace: str) -> ObservedObject:
        """Its ``url`` is never used: it was seen with another path."""
        return ObservedObject(
            ExternalId(item.hash_id), _shown(item), f"{workspace}/{item.identifier or ''}", url=item.html_url or ""
        )

    def body(self, write: Write) -> JsonObject:
        """Credentials are fields of the object itself, so a pointer to one is a slash and its key."""
        body: dict[str, object] = {**write.attributes, **{key[1:]: value.reveal() for key, value in write.secrets.items()}}
        pipelines: list[Key] | None = write.attributes.get("allowed_pipelines")
        return body if pipelines is None else {**body, "allowed_pipelines": [{"id": pipeline} for pipeline in pipelines]}

    def changes(self, write: Write) -> JsonObject:
        """Send the name, the whole authentication block and the permissions; never what cannot change."""
        whole: dict[str, object] = {**_removed(write), **self.body(write)}
        permissions: JsonObject | None = write.attributes.get("permissions")
        if write.observed is not None and permissions:
            # Whether a part that is left out is kept or reset is not documented: the observed value is sent back.
            observed: JsonObject = write.observed.attributes.get("permissions") or {}
            whole["permissions"] = {**observed, **permissions}
        return {key: value for key, value in whole.items() if key not in IMMUTABLE}


def _removed(write: Write) -> dict[str, object]:
    """Return the fields that were written once and are no longer declared, emptied: a PATCH keeps what it does not name."""
    removed = [change for change in write.changes if change.path in UNREADABLE and change.after is None]
    return {change.path[1:]: [] if isinstance(change.before, list | tuple) else None for change in removed}


# the form that is compared


def normal(attributes: JsonObject) -> JsonObject:
    """Return ``attributes`` in the form that is compared: permissions by id, pipelines as a sorted list of ids. Idempotent."""
    result: dict[str, object] = {key: value for key, value in attributes.items() if value is not None}
    if "permissions" in result:
        result["permissions"] = _normal_permissions(msgspec.convert(result["permissions"], _Permissions))
    if "allowed_pipelines" in result:
        result["allowed_pipelines"] = sorted(msgspec.convert(result["allowed_pipelines"], set[Key]), key=_sort_key)
    return result


def _shown(item: BuddyIntegration) -> JsonObject:
    """Return the attributes that an answer shows: null stays null, and a field that is left out stays out, since it is unknown."""
    fields: dict[str, object] = msgspec.to_builtins(item)
    raw = {key: value for key, value in fields.items() if key in READABLE}
    if item.allowed_pipelines is not UNSET:
        ids = (pipeline.id if isinstance(pipeline, _AllowedPipeline) else pipeline for pipeline in item.allowed_pipelines or ())
        raw["allowed_pipelines"] = [pipeline for pipeline in ids if pipeline is not None]
    return {**{key: None for key, value in raw.items() if value is None}, **normal(raw)}


def _normal_permissions(permissions: _Permissions) -> JsonObject:
    """Return permissions with users and groups sorted by id, and only id and level of each."""
    shown: JsonObject = msgspec.to_builtins(
        _Permissions(
            UNSET if permissions.admins is None else permissions.admins,
            UNSET if permissions.others is None else permissions.others,
            _by_id(permissions.users),
            _by_id(permissions.groups),
        )
    )
    return shown


def _by_id(grants: list[_Grant] | UnsetType | None) -> list[_Grant] | UnsetType:
    if grants is UNSET:
        return UNSET
    return sorted((grant for grant in grants or () if grant.id is not UNSET), key=lambda grant: _sort_key(grant.id))


def _sort_key(number: Key | UnsetType | None) -> str:
    return str(number).zfill(20)
