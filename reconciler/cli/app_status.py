"""``app status``: what the manifests need of an App, what it has, and where a person changes it. Read only; asks the provider."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from reconciler.cli import listing
from reconciler.cli.listing import Listing, Style
from reconciler.cli.options import AppOptions
from reconciler.cli.parser import did_you_mean
from reconciler.cli.session import configuration, require_state
from reconciler.cli.sink import out
from reconciler.cli.tables import fields
from reconciler.config.settings import Config
from reconciler.drivers.apps import AppReport, app_hook_url
from reconciler.model.errors import ReconcilerError
from reconciler.model.exit_codes import EXIT_ERROR, EXIT_OK
from reconciler.model.resources import Kind, Resource, ResourceId

if TYPE_CHECKING:
    from reconciler.daemon.session import Session
    from reconciler.engine.app_needs import AppNeed

INCOMPLETE = 2
WATCH_S = 30.0
"""Pause between two looks of ``--watch``: each asks the provider."""


@dataclass(frozen=True, slots=True)
class _AppRow:
    """The report of one Integration, or why there is none. ``owner``: the Integration that sets the webhook; None if none does."""

    integration: ResourceId
    needs: tuple[AppNeed, ...]
    owner: ResourceId | None
    report: AppReport | None = None
    error: ReconcilerError | None = None

    @property
    def problems(self) -> tuple[str, ...]:
        """What keeps the App from doing what the manifests need."""
        if self.report is None:
            return (f"{self.error.code}: {self.error.message}",) if self.error is not None else ()
        grant, installation = self.report.grant, self.report.installation
        suspended = (f"suspended since {installation.suspended_at}",) if installation.suspended_at else ()
        return (*suspended, *grant.missing, *grant.events_missing, *self.report.webhook.problems)


def show(options: AppOptions) -> int:
    """Show the App of every Integration that uses one, or of the one that is named."""
    config = configuration(options)
    require_state(config)
    return listing.show(options, lambda: _listing(asyncio.run(_read(config, options.integration)), options), every_s=WATCH_S)


def _listing(rows: Sequence[_AppRow], options: AppOptions) -> Listing:
    def text(_: Style) -> None:
        for number, row in enumerate(rows):
            if number:
                out("")
            _print(row)

    code = INCOMPLETE if options.exit_code and any(row.problems for row in rows) else EXIT_OK
    code = EXIT_ERROR if any(row.report is None for row in rows) else code
    return Listing({"apps": [_document(row) for row in rows]}, [str(row.integration) for row in rows], text, code=code)


async def _read(config: Config, name: str | None) -> list[_AppRow]:
    from reconciler.daemon.session import Options, open_session

    async with open_session(config, Options(lock=False, create=False, read_only=True, log_level="error")) as session:
        await session.engine.sync()
        resources = session.engine.current.active.resources
        chosen = _chosen(resources, name)
        return [await _row(session, integration, resources) for integration in chosen]


def _chosen(resources: Mapping[ResourceId, Resource], name: str | None) -> list[Resource]:
    from reconciler.engine.app_hooks import installation_of
    from reconciler.manifests.resource_argument import parse_resource

    if name:
        identity = parse_resource(name if "/" in name else f"Integration/{name}", set(resources))
        if identity not in resources or identity.kind != Kind.INTEGRATION.value:
            known = [str(each) for each in resources if each.kind == Kind.INTEGRATION.value]
            hint = did_you_mean(str(identity), known, "See `reconciler status Integration`.")
            raise ReconcilerError(f"no resource {identity}", code="RC6025", hint=hint)
        if installation_of(resources[identity]) is None:
            raise ReconcilerError(f"{identity} uses no App", code="RC4209", hint="See docs/github-app.md, or `app create`.")
        return [resources[identity]]
    integrations = sorted((r for r in resources.values() if r.id.kind == Kind.INTEGRATION.value), key=lambda r: r.id)
    chosen = [resource for resource in integrations if installation_of(resource) is not None]
    if not chosen:
        raise ReconcilerError("no Integration uses an App", code="RC4209", hint="Register one: reconciler app create --org ORG")
    return chosen


async def _row(session: Session, integration: Resource, resources: Mapping[ResourceId, Resource]) -> _AppRow:
    from reconciler.engine.app_hooks import installation_of, webhook_owners
    from reconciler.engine.app_needs import app_needs, events_of, permissions_of, review_needs

    needs: tuple[AppNeed, ...] = ()
    installation, deps = installation_of(integration), session.deps
    owner = webhook_owners(resources.values()).get(installation.identity) if installation is not None else None
    try:
        client = await session.engine.current.client(integration.id)
        registrar = client.driver.registrar
        if registrar is None or installation is None:
            raise ReconcilerError(f"{integration.id} uses no App", code="RC4209")
        needs = app_needs(client.driver, integration, installation.account, resources.values())
        needs += review_needs(client.driver, integration.id, deps.config, checks=True)
        events = {**dict.fromkeys(registrar.useful_events, False), **events_of(needs)}
        root, uid = deps.config.server.public_url, installation.uid(deps.owner)
        hook_url = app_hook_url(root, deps.owner, uid, deps.keyring.key_id) if root else ""
        report = await registrar.report(client.api, permissions_of(needs), events, hook_url)
    except ReconcilerError as error:
        return _AppRow(integration.id, needs, owner, error=error)
    return _AppRow(integration.id, needs, owner, report)


def _document(row: _AppRow) -> Mapping[str, object]:
    document: dict[str, object] = {
        "integration": row.integration.path,
        "complete": row.report is not None and not row.problems,
        "problems": list(row.problems),
        "manifests": [
            {
                "resource": need.resource.path,
                "permissions": dict(need.permissions),
                "events": sorted(need.events),
                "eventsRequired": need.required,
            }
            for need in row.needs
        ],
    }
    report, error = row.report, row.error
    if report is None:
        return document | {"error": {"code": error.code, "message": error.message, "hint": error.hint} if error else {}}
    grant, hook, installation = report.grant, report.webhook, report.installation
    return document | {
        "app": {"slug": report.slug, "url": report.url, "settingsUrl": report.settings_url},
        "installation": {
            "id": installation.number,
            "account": installation.account,
            "repositories": installation.repositories,
            "suspendedAt": installation.suspended_at,
            "url": installation.url,
        },
        "permissions": {
            "needed": dict(grant.needed),
            "requested": dict(grant.requested),
            "granted": dict(grant.granted),
            "missing": list(grant.missing),
            "surplus": list(grant.surplus),
        },
        "events": {
            "needed": list(grant.events_needed),
            "subscribed": list(grant.events),
            "missing": list(grant.events_missing),
            "surplus": list(grant.events_surplus),
        },
        "webhook": {
            "host": _host(hook.url),
            "expectedUrl": hook.expected_url,
            "contentType": hook.content_type,
            "verifiesTls": hook.verifies_tls,
            "hasSecret": hook.has_secret,
            "managedBy": row.owner.path if row.owner is not None else "",
            "problems": list(hook.problems),
        },
    }


def _print(row: _AppRow) -> None:
    report, error = row.report, row.error
    if report is None:
        rows = [("error", f"{error.code}: {error.message}"), ("", error.hint)] if error is not None else []
        fields(str(row.integration), rows)
        return
    grant, hook, installation = report.grant, report.webhook, report.installation
    title = f"{row.integration}: the App {report.slug} on {installation.account}"
    suspended = f", suspended since {installation.suspended_at}" if installation.suspended_at else ""
    managed = f", set by {row.owner}" if row.owner is not None else ", set by a person (appWebhook.manage is off)"
    fields(
        title,
        [
            ("installation", f"{installation.number}, {installation.repositories} repositories{suspended}"),
            ("needed", _levels(grant.needed) or "nothing"),
            ("granted", _levels(grant.granted)),
            ("not needed", ", ".join(grant.surplus)),
            ("events needed", ", ".join(grant.events_needed) or "none"),
            ("events", ", ".join(grant.events) or "none"),
            ("events not needed", ", ".join(grant.events_surplus)),
            ("webhook", f"{_host(hook.url) or 'no URL'}, {hook.content_type or 'no content type'}{managed}"),
            ("settings", report.settings_url),
            ("approvals", installation.url),
        ],
    )
    for need in row.needs:
        events = f"events {', '.join(sorted(need.events))}" if need.events else ""
        out(f"  {need.resource}: {', '.join(filter(None, (_levels(need.permissions), events)))}")
    _list("missing", row.problems)


def _levels(permissions: Mapping[str, str]) -> str:
    return ", ".join(f"{name}: {level}" for name, level in permissions.items())


def _list(title: str, rows: Sequence[str]) -> None:
    out(f"  {title}: nothing" if not rows else f"  {title}:")
    for text in rows:
        out(f"    {text}")


def _host(url: str) -> str:
    """Return scheme and host: the path of a foreign webhook may be a secret."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if parts.netloc else ""


__all__ = ["show"]
