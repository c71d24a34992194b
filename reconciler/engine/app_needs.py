"""What the manifests of a revision need of the App that an Integration uses: permissions and events, for each resource. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reconciler.config.settings import Config
from reconciler.drivers.base import Driver
from reconciler.drivers.pulls import pulls_of
from reconciler.engine.credential_check import review_integration, widest
from reconciler.model.resources import Kind, Resource, ResourceId


@dataclass(frozen=True, slots=True)
class AppNeed:
    """The needs of one resource. Names of permissions are those of manifests."""

    resource: ResourceId
    permissions: Mapping[str, str]
    events: frozenset[str] = frozenset()
    required: bool = True
    """Whether every event must come; False: the manifest names none, and takes those of its defaults that the App gets."""


def app_needs(driver: Driver, integration: Resource, account: str, resources: Iterable[Resource]) -> tuple[AppNeed, ...]:
    """Return the needs of ``integration`` on ``account``, and of every resource that refers to it, sorted; those without needs are left out.

    Sources need the permissions of their events, as if ``integration`` used an App already. Raises `ValidationFailed` for a source
    whose names are invalid.
    """
    apps = driver.apps
    declared = integration.spec.get("permissions", {})
    rows = [AppNeed(integration.id, {str(name): str(level) for name, level in declared.items()})]
    for resource in sorted((r for r in resources if integration.id in r.references), key=lambda r: r.id):
        if apps is not None and resource.id.kind == Kind.EVENT_SOURCE.value:
            events = apps.target_of(resource, account).events
            rows.append(AppNeed(resource.id, apps.needs_of(resource), events, bool(resource.spec.get("events"))))
        else:
            rows.append(AppNeed(resource.id, driver.needs(resource)))
    return tuple(row for row in rows if row.permissions or row.events)


def review_needs(driver: Driver, integration: ResourceId, config: Config, *, checks: bool) -> tuple[AppNeed, ...]:
    """Return the needs of reviews, if the configuration names ``integration`` for them; ``checks``: whether they write checks."""
    pulls = pulls_of(driver)
    if pulls is None or review_integration(config) != integration:
        return ()
    return (AppNeed(integration, pulls.needs(checks=checks), pulls.events(checks=checks)),)


def permissions_of(needs: Iterable[AppNeed]) -> Mapping[str, str]:
    """Return all permissions; of several levels the highest."""
    return widest(need.permissions for need in needs)


def events_of(needs: Iterable[AppNeed]) -> Mapping[str, bool]:
    """Return all events, and whether one of the resources requires each."""
    events: dict[str, bool] = {}
    for need in needs:
        for event in need.events:
            events[event] = events.get(event, False) or need.required
    return events


__all__ = ["AppNeed", "app_needs", "events_of", "permissions_of", "review_needs"]
