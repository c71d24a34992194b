"""Routes events of an App's webhook: from an installation and a repository to the event sources that ask for them. Pure."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import MappingProxyType

from reconciler.drivers.apps import AppEvent, AppInstallation, AppTarget
from reconciler.drivers.base import AppWebhooks, Driver, Receiver
from reconciler.drivers.connection import Connection
from reconciler.drivers.registry import driver_for
from reconciler.events.endpoints import integration_path, source_type
from reconciler.manifests.kinds import IntegrationSpec
from reconciler.model.errors import ReconcilerError
from reconciler.model.resources import Kind, Resource, ResourceId, SecretRef
from reconciler.model.values import Uid

SHOWN = 100
"""Characters of a sender's text in a reason."""


@dataclass(frozen=True, slots=True)
class AppUser:
    """An Integration that uses an App."""

    integration: ResourceId
    installation: AppInstallation
    former: Connection | None = None
    """Its connection as the App that it has left, until webhooks of the repositories take the place of the App's."""

    def owns(self, event: AppEvent) -> bool:
        """Whether ``event`` comes from this Integration's installation: by its id if it is pinned, else by its account."""
        if self.installation.number and event.installation:
            return self.installation.number == event.installation
        return bool(event.account) and self.installation.account == event.account


@dataclass(slots=True)
class AppEndpoint:
    """The webhook of one App, with everything that shares it."""

    uid: Uid
    receiver: Receiver
    webhooks: AppWebhooks
    users: list[AppUser] = field(default_factory=list)
    sources: dict[ResourceId, AppTarget] = field(default_factory=dict)
    leaving: set[ResourceId] = field(default_factory=set)
    """Those of `sources` whose Integration has left the App."""
    _named: dict[str, list[ResourceId]] = field(default_factory=dict)
    _others: list[ResourceId] = field(default_factory=list)
    """Sources that name no repository: globs and whole accounts."""

    @property
    def integrations(self) -> tuple[ResourceId, ...]:
        """The Integrations that share the App, sorted."""
        return tuple(sorted(user.integration for user in self.users))

    @property
    def secrets(self) -> tuple[SecretRef | None, ...]:
        """The secrets that may sign a delivery; None stands for the derived one."""
        return tuple(dict.fromkeys(user.installation.secret for user in self.users))

    @property
    def names(self) -> frozenset[str]:
        """The repositories that sources name."""
        return frozenset(self._named)

    def add(self, source: ResourceId, target: AppTarget) -> None:
        """Add a source of one of the Integrations that share the App."""
        self.sources[source] = target
        for name in target.names:
            self._named.setdefault(name, []).append(source)
        if target.patterns or target.accounts:
            self._others.append(source)

    def owners(self, event: AppEvent) -> tuple[ResourceId, ...]:
        """Return the Integrations whose installation ``event`` comes from."""
        return tuple(sorted(user.integration for user in self.users if user.owns(event)))

    def route(self, event: AppEvent, event_type: str, names: Mapping[str, frozenset[str]]) -> tuple[ResourceId, ...]:
        """Return the sources that ask for ``event``, sorted. ``names``: id of a repository → its names in manifests.

        A repository that was renamed or transferred is known by its id, as long as no source names it as it is called now.
        """
        places = {event.place} if event.place in self._named else names.get(event.place_id, frozenset())
        candidates = {source for place in places for source in self._named.get(place, ())}
        candidates |= {source for source in self._others if _covers(self.sources[source], event)}
        return tuple(sorted(source for source in candidates if self.sources[source].asks_for(event_type)))


def _covers(target: AppTarget, event: AppEvent) -> bool:
    return event.account in target.accounts or (
        bool(event.place) and any(fnmatchcase(event.place, pattern) for pattern in target.patterns)
    )


def app_endpoints(
    owner: str, resources: Mapping[ResourceId, Resource], former: Mapping[ResourceId, Connection] = MappingProxyType({})
) -> dict[str, AppEndpoint]:
    """Return the endpoints of the Apps of a revision, by the key in their URL.

    ``former``: connections as an App, by Integration; they count for Integrations that are declared and use no App now.
    """
    endpoints: dict[str, AppEndpoint] = {}
    users: dict[ResourceId, tuple[AppEndpoint, AppUser]] = {}
    for driver, user in _users(resources, former):
        assert driver.apps is not None  # noqa: S101  `_users` requires both
        assert driver.receiver is not None  # noqa: S101
        uid = user.installation.uid(owner)
        endpoint = endpoints.setdefault(uid, AppEndpoint(uid, driver.receiver, driver.apps))
        endpoint.users.append(user)
        users[user.integration] = endpoint, user
    for resource in resources.values():
        path = integration_path(resource) if resource.id.kind == Kind.EVENT_SOURCE.value else ""
        integration = ResourceId.from_path(path) if path else None
        if integration in users and source_type(resource, resources) == _type(resources[integration]):
            endpoint, user = users[integration]
            with contextlib.suppress(ReconcilerError):  # an invalid name stalls the source when it is compiled
                endpoint.add(resource.id, endpoint.webhooks.target_of(resource, user.installation.account))
                if user.former is not None:
                    endpoint.leaving.add(resource.id)
    return endpoints


def _type(integration: Resource) -> str:
    return integration.typed(IntegrationSpec).type


def _users(resources: Mapping[ResourceId, Resource], former: Mapping[ResourceId, Connection]) -> Iterator[tuple[Driver, AppUser]]:
    """Yield the Integrations that use an App, or have used one, with their drivers."""
    for resource in sorted((r for r in resources.values() if r.id.kind == Kind.INTEGRATION.value), key=lambda r: r.id):
        driver = driver_for(_type(resource))
        if driver is None or driver.apps is None or driver.receiver is None:
            continue
        with contextlib.suppress(ReconcilerError):  # an Integration without a connection uses no App
            before = former.get(resource.id)
            installation = driver.apps.installation_of(driver.connect(resource, resource.secret_refs("/auth")))
            if installation is not None:
                yield driver, AppUser(resource.id, installation)
            elif before is not None and before.provider == driver.provider:
                installation = driver.apps.installation_of(before)
                if installation is not None:
                    yield driver, AppUser(resource.id, installation, before)


def unrouted(event: AppEvent) -> str:
    """Return why no Integration gets ``event``."""
    if not event.account and not event.installation:
        return "the event names neither an installation nor an account"
    where = (
        f"installation {event.installation[:SHOWN] or '(not named)'} on {event.account[:SHOWN] or 'an account that is not named'}"
    )
    return f"{where} belongs to no Integration that uses this App"


__all__ = ["AppEndpoint", "AppUser", "app_endpoints", "unrouted"]
