"""How a GitHub App is set, against what manifests need of it.

GitHub has no API that changes permissions or events, so that each gap names the page where a person does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from reconciler.drivers.apps import EVERY, AppGrant, AppInstalled, AppReport, AppWebhookState
from reconciler.drivers.connection import Api
from reconciler.drivers.github import api as names
from reconciler.drivers.github.app import installation_on, missing_permissions
from reconciler.drivers.github.app_records import GitHubApp, Installation
from reconciler.drivers.github.app_webhook import CONFIG, AppHookConfig, gaps_in
from reconciler.drivers.github.permissions import ALWAYS_SENT, METADATA, events_for, own_name, surplus
from reconciler.model.errors import NotFound


async def report_of(api: Api, needs: Mapping[str, str], events: Mapping[str, bool], hook_url: str) -> AppReport:
    """Return the report. Raises `AuthFailed` for an App that GitHub refuses, or that is not installed on the account."""
    app = await names.read(api, "/app", GitHubApp)
    installation = await installation_on(api, app)
    return AppReport(
        slug=app.slug,
        url=app.html_url,
        settings_url=app.settings_url,
        installation=AppInstalled(
            number=str(installation.id),
            account=api.connection.account,
            repositories=installation.repository_selection,
            suspended_at=installation.suspended_at or "",
            url=installation.html_url,
        ),
        grant=_grant(app, installation, needs, events),
        webhook=await _webhook(api, hook_url),
    )


def _grant(app: GitHubApp, installation: Installation, needs: Mapping[str, str], events: Mapping[str, bool]) -> AppGrant:
    wanted = {own_name(name): level for name, level in sorted(needs.items())}
    every = dict.fromkeys(events_for(app.permissions), False) if EVERY in events else {}
    welcome = {name: required for name, required in {**every, **events}.items() if name != EVERY and name not in ALWAYS_SENT}
    named = {name for name, required in welcome.items() if required}
    return AppGrant(
        needed=wanted,
        requested=dict(sorted(app.permissions.items())),
        granted=dict(sorted(installation.permissions.items())),
        missing=missing_permissions(app, installation, needs),
        surplus=surplus(installation.permissions, {METADATA: "read", **needs}),
        events_needed=tuple(sorted(named)),
        events=tuple(sorted(installation.events)),
        events_missing=tuple(_missing_events(app, installation, named)),
        events_surplus=tuple(sorted({*installation.events} - {*welcome})),
    )


def _missing_events(app: GitHubApp, installation: Installation, wanted: Iterable[str]) -> Iterable[str]:
    """Yield each event that does not come. The events of an installation follow its permissions: the approval brings them, too."""
    for event in sorted({*wanted} - {*installation.events}):
        if event in app.events:
            yield f"{event} (approve it on {installation.html_url}/permissions/update)"
        else:
            yield f"{event} (subscribe to it on {app.settings_url})"


async def _webhook(api: Api, expected_url: str) -> AppWebhookState:
    try:
        config = await names.read(api, CONFIG, AppHookConfig)
    except NotFound:
        config = AppHookConfig()
    return AppWebhookState(
        url=config.url or "",
        content_type=config.content_type or "",
        verifies_tls=str(config.insecure_ssl) != "1",
        has_secret=bool(config.secret),
        expected_url=expected_url,
        problems=gaps_in(config, expected_url) if expected_url else (),
    )


__all__ = ["report_of"]
