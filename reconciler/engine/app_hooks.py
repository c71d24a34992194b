"""The webhook of an App, as the engine sees it: whether it delivers, and which repositories a source means.

While an Integration moves from a token to an App, the webhooks of its repositories stay until the App's own is seen to deliver. In
between both deliver, and the ids of the events show which are the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping

from reconciler.drivers.apps import AppInstallation, app_hook_url
from reconciler.drivers.base import AppWebhooks
from reconciler.drivers.registry import driver_for
from reconciler.engine.compile import users_of
from reconciler.engine.connections import Client
from reconciler.engine.context import Context
from reconciler.engine.revision import ActiveRevision
from reconciler.model.errors import ReconcilerError
from reconciler.model.objects import RecordedObject
from reconciler.model.resources import Kind, Resource, ResourceId
from reconciler.model.values import Address, JsonObject

PLACE = "app-place/"
PROOF_S = 24 * 3600.0
"""A delivery proves for this long that the App's webhook delivers."""


def heard_cursor(uid: str) -> str:
    """Return the name of the cursor with the time of the last delivery of an App."""
    return f"app-heard/{uid}"


def place_cursor(uid: str, name: str) -> str:
    """Return the name of the cursor with the id of a repository that a manifest names."""
    return f"{PLACE}{uid}/{name}"


def webhook_owners(resources: Iterable[Resource]) -> Mapping[str, ResourceId]:
    """Return the Integration that owns the webhook of each App whose webhook is managed, by the identity of the App.

    Of several Integrations that share an App and manage its webhook, the first by id owns it.
    """
    owners: dict[str, ResourceId] = {}
    for resource in sorted(filter(_manages, resources), key=lambda resource: resource.id):
        installation = installation_of(resource)
        if installation is not None:
            owners.setdefault(installation.identity, resource.id)
    return owners


def installation_of(integration: Resource) -> AppInstallation | None:
    """Return how ``integration`` uses an App; None if it uses none, or cannot be connected."""
    driver = driver_for(str(integration.spec["type"]))
    if driver is None or driver.apps is None:
        return None
    with contextlib.suppress(ReconcilerError):
        return driver.apps.installation_of(driver.connect(integration, integration.secret_refs("/auth")))
    return None


def _manages(resource: Resource) -> bool:
    settings = resource.spec.get("appWebhook") if resource.id.kind == Kind.INTEGRATION.value else None
    return isinstance(settings, Mapping) and settings.get("manage") is True


def declaring(integration: ResourceId, resources: Mapping[ResourceId, Resource]) -> tuple[Resource, ...]:
    """Return the resources that declare objects on ``integration``: its users, and itself if it owns the webhook of its App."""
    own, users = resources.get(integration), users_of(integration, resources.values())
    if own is None or not _manages(own) or integration not in webhook_owners(resources.values()).values():
        return users
    return (own, *users)


def needs_of(client: Client, resource: Resource) -> Mapping[str, str]:
    """Return the permissions that ``resource`` needs: for a source of an App those of its events, since it makes no webhooks."""
    apps = client.driver.apps
    if resource.id.kind != Kind.EVENT_SOURCE.value or apps is None or apps.installation_of(client.connection) is None:
        return client.driver.needs(resource)
    return apps.needs_of(resource)


async def webhook_problem(client: Client, resources: Mapping[ResourceId, Resource], deps: Context) -> str:
    """Return what is wrong with the App's webhook, as far as the provider shows it; empty without an App or without sources.

    Of a webhook that is managed, the plan and the status of its Integration show what is wrong, so only the names of the App are
    compared here. ``resources``: all that are declared.

    Raises the errors of the provider that stop the integration; any other means that it does not show the webhook.
    """
    apps, public_url = client.driver.apps, deps.config.server.public_url
    installation = apps.installation_of(client.connection) if apps is not None else None
    users = users_of(client.connection.integration, resources.values())
    sources = any(user.id.kind == Kind.EVENT_SOURCE.value for user in users)
    if apps is None or installation is None or not sources or not public_url:
        return ""
    url = app_hook_url(public_url, deps.owner, installation.uid(deps.owner), deps.keyring.key_id)
    try:
        alike = await _named_otherwise(client, apps, installation, resources)
        if alike:
            return alike
        if installation.identity in webhook_owners(resources.values()):
            return ""
        gaps = await apps.gaps(client.api, url)
    except ReconcilerError as error:
        if error.stops_integration:
            raise
        return ""
    return "the webhook of the App does not deliver here; in the settings of the App: " + "; ".join(gaps) if gaps else ""


async def _named_otherwise(
    client: Client, apps: AppWebhooks, own: AppInstallation, resources: Mapping[ResourceId, Resource]
) -> str:
    """Return what to change where another Integration names the same App in another way; empty if none does.

    The App has one webhook, and its URL contains the name of the App.
    """
    others: dict[str, ResourceId] = {}
    for resource in resources.values():
        if resource.id.kind == Kind.INTEGRATION.value and resource.spec.get("type") == client.connection.provider:
            with contextlib.suppress(ReconcilerError):  # an Integration without a connection uses no App
                other = apps.installation_of(client.driver.connect(resource, resource.secret_refs("/auth")))
                if other is not None and other.identity != own.identity:
                    others[other.identity] = resource.id
    if not others:
        return ""
    names = await apps.identities(client.api)
    same = sorted(identity for identity in others if identity in names)
    if not same:
        return ""
    return (
        f"{others[same[0]]} names the same App as {same[0].rpartition('/')[2]}, and {client.connection.integration} as "
        f"{own.identity.rpartition('/')[2]}: the App has one webhook, so name it alike in all Integrations, with `clientId`"
    )


async def replaced_hooks(
    client: Client, recorded: Iterable[RecordedObject], live: ActiveRevision, deps: Context
) -> Mapping[Address, str]:
    """Return the objects to keep although nothing declares them, each with the reason: the App's webhook does not replace them yet.

    A webhook is replaced once the App's own has delivered after it was last written, and within the last `PROOF_S`.
    """
    installation = client.driver.apps.installation_of(client.connection) if client.driver.apps is not None else None
    left = [
        r for r in recorded if r.resource in live.resources and r.resource.kind == Kind.EVENT_SOURCE.value and not r.tombstone
    ]
    if installation is None or not left:
        return {}
    uid = installation.uid(deps.owner)
    heard: object = await deps.store.get_cursor(heard_cursor(uid))
    at = float(heard) if isinstance(heard, int | float) else float("-inf")
    url = app_hook_url(deps.config.server.public_url, deps.owner, uid, deps.keyring.key_id)
    managed = installation.identity in webhook_owners(live.resources.values())
    how = (
        "this installation sets it; see the status of the Integration that manages it"
        if managed
        else f"set its URL to {url} and its content type to application/json "
        f"(`reconciler signing-key Integration/{client.connection.integration.name}` shows the secret)"
    )
    why = f"kept until the webhook of the App has delivered: {how}"
    now = deps.clock()
    return {record.address: why for record in left if at <= record.applied_at or now - at > PROOF_S}


async def keep_places(client: Client, facts: Mapping[ResourceId, JsonObject], deps: Context) -> None:
    """Store the ids of the repositories that the sources of an App name, where they are not stored yet."""
    apps = client.driver.apps
    installation = apps.installation_of(client.connection) if apps is not None else None
    if apps is None or installation is None:
        return
    uid = installation.uid(deps.owner)
    known = await deps.store.cursors(f"{PLACE}{uid}/")
    seen = {place_cursor(uid, name): number for each in facts.values() for name, number in apps.places_of(each).items()}
    fresh = {name: number for name, number in seen.items() if known.get(name) != number}
    if fresh:
        await deps.store.set_cursors(fresh)


__all__ = [
    "PLACE",
    "declaring",
    "heard_cursor",
    "installation_of",
    "keep_places",
    "needs_of",
    "place_cursor",
    "replaced_hooks",
    "webhook_owners",
    "webhook_problem",
]
