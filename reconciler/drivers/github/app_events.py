"""The webhook of a GitHub App: which Integration and which repository an event belongs to.

Facts: docs.github.com, "Webhook events and payloads" (installation, installation_repositories, installation_target, repository,
github_app_authorization, meta, ping) and "Using webhooks with GitHub Apps". GitHub sends the events about an installation to every
App; an App cannot leave them out.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import orjson

from reconciler.drivers.apps import AppEvent, AppInstallation, AppTarget
from reconciler.drivers.common import target_of
from reconciler.drivers.connection import Api, Connection
from reconciler.drivers.github import api as names
from reconciler.drivers.github.api import APP, organization_key, repository_key
from reconciler.drivers.github.app_records import GitHubApp
from reconciler.drivers.github.app_webhook import app_identity, hook_gaps, installation_of
from reconciler.drivers.github.compile import full_pattern, subscribed
from reconciler.drivers.github.permissions import ALWAYS_SENT, permissions_for
from reconciler.drivers.wire import find, matches
from reconciler.model.events import Delivery
from reconciler.model.resources import Resource
from reconciler.model.values import JsonObject

_CHANGES_REACH = frozenset({"installation", "installation_repositories", "installation_target"})
_MOVES = frozenset({"renamed", "transferred", "deleted", "archived", "unarchived", "privatized", "publicized"})
"""Actions of the event `repository` after which a source may have another name, or none."""


class EventAccount(msgspec.Struct, frozen=True):
    login: str | None = None


class EventRepository(msgspec.Struct, frozen=True):
    id: int
    full_name: str


class EventInstallation(msgspec.Struct, frozen=True):
    id: int
    account: EventAccount | None = None


class AppPayload(msgspec.Struct, frozen=True):
    """The part of a payload that says where an event comes from."""

    action: str | None = None
    installation: EventInstallation | None = None
    repository: EventRepository | None = None
    organization: EventAccount | None = None


class GitHubAppWebhooks:
    """Implements `reconciler.drivers.base.AppWebhooks`."""

    scope_type = APP

    def installation_of(self, connection: Connection) -> AppInstallation | None:
        return installation_of(connection)

    def target_of(self, source: Resource, account: str) -> AppTarget:
        """Raises `ValidationFailed` for an invalid name."""
        target, events = target_of(source, ""), frozenset(map(str.casefold, subscribed(source)))
        if target.type == "organization":
            return AppTarget(accounts=frozenset(map(organization_key, target.names)), events=events)
        if target.match:
            return AppTarget(patterns=(full_pattern(target.match, account),), events=events)
        return AppTarget(names=frozenset(repository_key(name, account) for name in target.names), events=events)

    def needs_of(self, source: Resource) -> Mapping[str, str]:
        """Return the permissions of the events that ``source`` names, where only one permission gives an event."""
        permissions = [permissions_for(str(event["type"])) for event in source.spec.get("events", ())]
        return {names[0]: "read" for names in permissions if len(names) == 1}

    def read(self, delivery: Delivery) -> AppEvent:
        about_app = delivery.type in ALWAYS_SENT
        try:
            document: object = orjson.loads(delivery.body)
        except orjson.JSONDecodeError:
            document = None
        payload = matches(document, AppPayload)
        if payload is None:
            return AppEvent(about_app=about_app)
        place = payload.repository.full_name.lower() if payload.repository is not None else ""
        moved = delivery.type == "repository" and payload.action in _MOVES
        return AppEvent(
            account=_account(payload, place),
            installation=str(payload.installation.id) if payload.installation is not None else "",
            place=place,
            place_id=str(payload.repository.id) if payload.repository is not None else "",
            former=_former(document, place) if moved else "",
            about_app=about_app,
            changes_reach=moved or delivery.type in _CHANGES_REACH,
        )

    async def identities(self, api: Api) -> frozenset[str]:
        app = await names.read(api, "/app", GitHubApp)
        return frozenset(app_identity(api.connection, name) for name in (str(app.id), app.client_id) if name)

    async def gaps(self, api: Api, url: str) -> tuple[str, ...]:
        return await hook_gaps(api, url)

    def places_of(self, facts: JsonObject) -> Mapping[str, str]:
        return {str(name): str(number) for name, number in (find(facts, dict[str, object], "places") or {}).items()}


def _account(payload: AppPayload, place: str) -> str:
    """Return the account in lower case: the owner of the repository, else the organization, else where the App is installed."""
    installed = payload.installation.account if payload.installation is not None else None
    logins = [account.login for account in (payload.organization, installed) if account is not None and account.login]
    return place.partition("/")[0] or (logins[0].lower() if logins else "")


def _former(document: object, place: str) -> str:
    """Return the name that a repository had before it was renamed or transferred; empty if the event does not say."""
    owner, _, name = place.partition("/")
    before = find(document, str, "changes", "repository", "name", "from")
    if before is not None:
        return f"{owner}/{before}".lower()
    for kind in ("user", "organization"):
        login = find(document, str, "changes", "owner", "from", kind, "login")
        if login is not None:
            return f"{login}/{name}".lower()
    return ""


__all__ = ["AppPayload", "GitHubAppWebhooks"]
