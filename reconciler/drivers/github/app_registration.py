"""Registration of a GitHub App from a manifest, and the report of how an App is set.

Facts: docs.github.com, "Registering a GitHub App from a manifest". GitHub refuses a manifest as a whole if an event is not covered by
its permissions, so both are checked here first. The code of the answer is good for one exchange within an hour.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import msgspec
import orjson

from reconciler.drivers.apps import EVERY, AppForm, AppReport, AppWish, RegisteredApp
from reconciler.drivers.auth import ApiResponse, SendTokenRequest, TokenRequest
from reconciler.drivers.common import NonEmpty, did_you_mean
from reconciler.drivers.connection import Api
from reconciler.drivers.github.api import ACCEPT, API_VERSION
from reconciler.drivers.github.app_key import private_key
from reconciler.drivers.github.app_records import AppOwner
from reconciler.drivers.github.app_report import report_of
from reconciler.drivers.github.errors import classify, message_of
from reconciler.drivers.github.permissions import (
    ALWAYS_SENT,
    LEVELS,
    METADATA,
    PERMISSIONS,
    covers,
    events_for,
    own_name,
    permissions_for,
)
from reconciler.drivers.github.spec import EVENTS, SPEC
from reconciler.drivers.http.errors import shared_error
from reconciler.drivers.wire import decode
from reconciler.model.errors import ProviderProtocolError, ReconcilerError, ValidationFailed
from reconciler.model.secrets import SecretValue
from reconciler.model.values import JsonObject

MAX_NAME = 34
"""Characters of an App's name."""
_CODE = re.compile(r"[A-Za-z0-9_-]{1,128}\Z")
_LEVELS: Mapping[str, tuple[str, ...]] = {METADATA: ("read",), "workflows": ("write",)}
"""Permissions that have other levels than read and write. Three have admin, too."""
_WITH_ADMIN = frozenset({"organization_custom_properties", "organization_projects", "repository_projects"})


class ConvertedApp(msgspec.Struct, frozen=True):
    """The answer of ``POST /app-manifests/{code}/conversions``. It has three secrets; the client's is not used, and not kept."""

    id: int
    client_id: NonEmpty
    slug: NonEmpty
    pem: NonEmpty
    html_url: str = ""
    webhook_secret: str | None = None
    owner: AppOwner | None = None


class GitHubAppRegistrar:
    """Implements `reconciler.drivers.base.AppRegistrar`."""

    web_root = "https://github.com"
    max_name = MAX_NAME
    useful_events = frozenset({"repository"})
    """It says that a repository was renamed, transferred or deleted."""

    def auth(self, client_id: str, key: JsonObject, webhook_secret: JsonObject | None) -> JsonObject:
        secret = {"webhookSecret": webhook_secret} if webhook_secret is not None else {}
        return {"use": "github-app", "githubApp": {"clientId": client_id, "privateKey": key, **secret}}

    def form(self, wish: AppWish, state: str) -> AppForm:
        """Raises `ValidationFailed` with RC4202 for unknown names, and RC4201 for an event whose permission is not requested."""
        permissions = _permissions(wish.permissions)
        if not 1 <= len(wish.name) <= MAX_NAME:
            raise ValidationFailed(
                f"'{wish.name}' is not a name of an App: it has 1 to {MAX_NAME} characters",
                code="RC4202",
                hint="Use `--name NAME`.",
            )
        manifest = {
            "name": wish.name,
            "url": wish.homepage,
            "hook_attributes": {"url": wish.hook_url, "active": True},
            "redirect_url": wish.redirect_url,
            "public": False,
            "default_permissions": permissions,
            "default_events": _events(wish.events, permissions),
        }
        where = f"/organizations/{wish.account}" if wish.organization else ""
        return AppForm(f"{wish.web_root}{where}/settings/apps/new?state={state}", {"manifest": orjson.dumps(manifest).decode()})

    async def convert(self, send: SendTokenRequest, api_url: str, code: str, *, now: float) -> RegisteredApp:
        """Raises `ValidationFailed` with RC4203 for a code that GitHub does not know (any more), and RC4204 for its other refusals."""
        if _CODE.match(code) is None:
            raise ValidationFailed("the code in the callback is not one of GitHub's", code="RC4203", hint=_AGAIN)
        headers = {"accept": ACCEPT, "x-github-api-version": API_VERSION}
        try:
            answer = await send(TokenRequest("POST", f"{api_url}/app-manifests/{code}/conversions", headers, hosts=SPEC.hosts))
            if answer.status != 201:
                raise _refused(answer, now)
        except ReconcilerError as error:
            error.message = error.message.replace(code, "CODE")  # until it is used, it opens the App
            raise
        app = decode(answer.json(), ConvertedApp, "the answer to the registration")
        key = SecretValue(app.pem)
        private_key(key, "the private key in GitHub's answer")
        web, _, _ = app.html_url.partition("/apps/")
        owner = app.owner
        organization = f"/organizations/{owner.login}" if owner is not None and owner.type == "Organization" else ""
        return RegisteredApp(
            str(app.id),
            app.client_id,
            app.slug,
            owner.login if owner is not None else "",
            f"{app.html_url}/installations/new" if app.html_url else "",
            f"{web}{organization}/settings/apps/{app.slug}" if web else "",
            key,
            SecretValue(app.webhook_secret) if app.webhook_secret else None,
        )

    def permissions_of(self, events: Iterable[str]) -> Mapping[str, str]:
        """Return the permission of each event that only one gives."""
        names = [permissions_for(event) for event in events]
        return {each[0]: "read" for each in names if len(each) == 1}

    async def report(self, api: Api, needs: Mapping[str, str], events: Mapping[str, bool], hook_url: str) -> AppReport:
        return await report_of(api, needs, events, hook_url)


_AGAIN = "A code is good for one exchange within an hour: run the command again."


def _permissions(wanted: Mapping[str, str]) -> dict[str, str]:
    """Return the permissions by GitHub's names, sorted. Raises `ValidationFailed` for one that GitHub does not have."""
    permissions = {METADATA: "read"}
    for name, level in sorted(wanted.items()):
        own = own_name(name)
        if own not in PERMISSIONS:
            raise ValidationFailed(
                f"a GitHub App has no permission '{name}'",
                code="RC4202",
                hint=f"{did_you_mean(own, PERMISSIONS)}Use `--permission NAME=LEVEL`, for example `--permission checks=write`.",
            )
        levels = _LEVELS.get(own, LEVELS if own in _WITH_ADMIN else LEVELS[:2])
        if level not in levels:
            raise ValidationFailed(
                f"'{level}' is not a level of the permission {own}", code="RC4202", hint=f"Its levels: {', '.join(levels)}."
            )
        if own not in permissions or LEVELS.index(level) > LEVELS.index(permissions[own]):
            permissions[own] = level
    return dict(sorted(permissions.items()))


def _events(wanted: Iterable[str], permissions: Mapping[str, str]) -> list[str]:
    """Return the events to subscribe to, sorted. Raises `ValidationFailed` for one that the permissions do not allow."""
    events = set(wanted)
    if EVERY in events:
        events = (events - {EVERY}) | events_for(permissions)
    events -= ALWAYS_SENT
    for event in sorted(events):
        names = permissions_for(event)
        if not names:
            known = event in EVENTS
            reason = "no App can subscribe to the event" if known else "GitHub has no event"
            hint = (
                "Leave it out; a webhook of the repository or organization can send it." if known else did_you_mean(event, EVENTS)
            )
            raise ValidationFailed(
                f"{reason} '{event}'", code="RC4202", hint=hint.strip() or "See GitHub's list of webhook events."
            )
        if not any(covers(permissions, name, "read") for name in names):
            needed = " or ".join(f"{name}: read" for name in names)
            raise ValidationFailed(
                f"the event '{event}' needs the permission {needed}, which is not requested",
                code="RC4201",
                hint="Add " + " or ".join(f"`--permission {name}=read`" for name in names) + ", or leave the event out.",
            )
    return sorted(events)


def _refused(answer: ApiResponse, now: float) -> ReconcilerError:
    try:
        body: object = answer.json()
    except ProviderProtocolError:
        body = answer.text
    text = message_of(body)
    if answer.status == 404:
        return ValidationFailed(
            "GitHub does not know the code: it was used already, or is older than an hour",
            code="RC4203",
            status=404,
            request=answer.request,
            hint=_AGAIN,
        )
    if answer.status == 422:
        return ValidationFailed(
            f"GitHub refused the registration: {text or 'it gives no reason'}",
            code="RC4204",
            status=422,
            request=answer.request,
            hint="Fix what GitHub names, and run the command again.",
        )
    error = classify(answer.status, answer.headers, body, answer.request, now=now) or shared_error(answer, now)
    return error if isinstance(error, ReconcilerError) else ProviderProtocolError(f"{answer.request}: {answer.status}")


__all__ = ["GitHubAppRegistrar"]
