"""The webhook of a GitHub App as a managed object: its URL, content type, secret and TLS check.

Facts: docs.github.com, "REST API endpoints for GitHub App webhooks" (``GET`` and ``PATCH /app/hook/config``). An App has one webhook
from its registration on: GitHub has no call that creates or deletes it, so the object is taken over, and left as it is when no manifest
manages it any more. GitHub masks the secret, and leaves it out where there is none.
"""

from __future__ import annotations

import dataclasses
from typing import NoReturn
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET, UnsetType

from reconciler.drivers.apps import AppInstallation, app_hook_marker
from reconciler.drivers.base import Write
from reconciler.drivers.common import decode_write
from reconciler.drivers.connection import Api, CompileContext, Connection
from reconciler.drivers.github import api as names
from reconciler.drivers.wire import find
from reconciler.model.errors import NotFound, ProviderProtocolError, ReconcilerError, ScopeGone, ValidationFailed
from reconciler.model.objects import (
    Container,
    ManagedObject,
    Marker,
    NotModified,
    Observed,
    ObservedObject,
    Scope,
    WriteOnly,
    address_of,
)
from reconciler.model.resources import Adopt, DeletionPolicy, DerivedKeyRef, Resource, ValueRef
from reconciler.model.values import ExternalId, JsonObject

CONFIG = "/app/hook/config"
ID = ExternalId("webhook")
"""GitHub's answer names no id, and an App has exactly one webhook."""
_ACTIVATE = "Tick `Active` under Webhook on the settings page of the App: GitHub has no API that switches it on."


class AppHookConfig(msgspec.Struct, frozen=True, omit_defaults=True):
    """``GET /app/hook/config``. A field that GitHub left out is unset, which is not the same as its default."""

    url: str | UnsetType | None = UNSET
    content_type: str | UnsetType | None = UNSET
    insecure_ssl: str | int | float | bool | UnsetType | None = UNSET
    secret: str | None = None


def installation_of(connection: Connection) -> AppInstallation | None:
    """Return how ``connection`` uses an App, which is named as in the manifest: ``clientId``, else ``appId``. None without an App."""
    settings = find(connection.auth, dict[str, object], "githubApp")
    if connection.auth.get("use") != "github-app" or settings is None:
        return None
    app = str(settings.get("clientId") or settings.get("appId") or "")
    return AppInstallation(
        app_identity(connection, app),
        connection.account.lower(),
        str(settings.get("installationId") or ""),
        connection.secrets.get("/githubApp/webhookSecret"),
    )


def app_identity(connection: Connection, app: str) -> str:
    """Return the identity of the App that an Integration names ``app`` (client id or app id)."""
    return f"{urlsplit(connection.api_url).netloc.lower()}/{app}"


async def hook_gaps(api: Api, url: str) -> tuple[str, ...]:
    """Read the config of the App's webhook, and return what is to be set in it (`gaps_in`)."""
    return gaps_in(await names.read(api, CONFIG, AppHookConfig), url)


def gaps_in(config: AppHookConfig, url: str) -> tuple[str, ...]:
    """Return what is to be set in the App's webhook, so that it delivers to ``url``; empty if nothing is. Pure.

    GitHub masks the secret, so a wrong one shows only in the signatures of deliveries.
    """
    gaps, shown = [], config.url or ""
    if shown.partition("?")[0] != url.partition("?")[0]:
        gaps.append(f"set the Webhook URL to {url} (it is {names.host_of(shown) or 'empty'})")
    if config.content_type != "json":
        gaps.append("set the Content type to application/json")
    if not config.secret:
        gaps.append("set the Webhook secret (`reconciler signing-key Integration/NAME` prints a derived one)")
    if url.startswith("https:") and str(config.insecure_ssl) == "1":
        gaps.append("enable SSL verification")
    return tuple(gaps)


def compile_app_webhook(resource: Resource, context: CompileContext) -> tuple[ManagedObject, ...]:
    """Return the webhook of the App that the Integration ``resource`` uses; nothing without an App. Pure."""
    app = installation_of(context.connection)
    if app is None:
        return ()
    scope = Scope(names.APP, app.identity)
    address, uid = address_of(resource.id, scope), app.uid(context.owner)
    config = {"url": context.app_hook_url(app), "content_type": "json", "insecure_ssl": "0"}
    secret: ValueRef = app.secret or DerivedKeyRef(uid, 0)
    # The webhook is there already, and its declaration says that it is ours; it is left when the declaration goes.
    lifecycle = msgspec.structs.replace(
        resource.lifecycle, adopt=Adopt.ALWAYS, deletion_policy=DeletionPolicy.ORPHAN, external_id=None, prevent_destroy=False
    )
    return (
        ManagedObject(
            address,
            resource.id,
            context.connection.integration,
            scope,
            {"config": names.normalized({"config": config})["config"]},
            ID,
            Marker(context.owner, uid),
            (WriteOnly(names.SECRET, secret, context.fingerprint(address, names.SECRET, secret)),),
            lifecycle=lifecycle,
            location=resource.location,
        ),
    )


class AppHookType:
    """Implements `reconciler.drivers.base.ManagedType`. The scope is the App that the credential is of: it has one object."""

    type = names.APP
    write_only_fixed = False

    def normalize(self, attributes: JsonObject) -> JsonObject:
        """Return the config with GitHub's defaults, without the secret."""
        return {"config": names.normalized(attributes)["config"]}

    def adoptable(self, desired: ManagedObject, observed: ObservedObject, *, identical: bool) -> bool:
        """Return True: an App has one webhook, and a manifest that manages it means this one."""
        return True

    async def observe(self, api: Api, scope: Scope, validators: JsonObject | None) -> NotModified | Observed:
        """Return the webhook. There are no validators: GitHub's ETag depends on the JSON web token, which is another one each time."""
        try:
            answer = await api.request("GET", CONFIG)
        except NotFound as error:
            _raise_inactive(scope, error)
        return Observed(scope, (_observed(names.decoded(answer, AppHookConfig, CONFIG)),))

    async def container(self, api: Api, scope: Scope, known: str = "") -> Container | None:
        """Return None: an App is its own container."""
        return None

    async def create(self, api: Api, write: Write) -> ObservedObject:
        """Configure the webhook: GitHub has no call that creates one."""
        return await self.update(api, ID, write)

    async def update(self, api: Api, external_id: ExternalId, write: Write) -> ObservedObject:
        """Write the whole config with its secret, whatever GitHub shows of the former one."""
        if external_id != ID:
            raise NotFound(f"'{external_id}' is not the webhook of an App", request=f"PATCH {CONFIG}")
        config = names.normalized(write.attributes)["config"]
        secret = write.secrets.get(names.SECRET)
        if secret is not None:
            config["secret"] = secret.reveal()
        if any(names.MASK.match(value) for value in config.values()):
            raise ReconcilerError("a mask must never be written as a value", code="RC9001")
        try:
            answer = await api.request("PATCH", CONFIG, json=config)
        except NotFound as error:
            _raise_inactive(write.desired.scope, error)
        hook = _observed(decode_write(answer, AppHookConfig, f"PATCH {CONFIG}"))
        # As for a repository's webhook: a server in GitHub's place may not show that there is a secret.
        if secret is not None and not hook.present_write_only:
            return dataclasses.replace(hook, unshown=(names.SECRET,))
        return hook

    async def delete(self, api: Api, scope: Scope, external_id: ExternalId) -> None:
        """Raise `ValidationFailed`: it is never planned (`compile_app_webhook`), and GitHub has no call for it."""
        raise ValidationFailed(
            f"the webhook of the App {scope.key} cannot be deleted: GitHub has no call for it",
            hint="Untick `Active` under Webhook on the settings page of the App.",
        )


def _observed(config: AppHookConfig) -> ObservedObject:
    shown: JsonObject = {key: value for key, value in msgspec.to_builtins(config).items() if key != "secret"}
    if not shown:
        raise ProviderProtocolError(f"GET {CONFIG}: the answer shows no webhook", request=f"GET {CONFIG}", hint=_ACTIVATE)
    normal = names.normalized({"config": shown})["config"]
    return ObservedObject(
        external_id=ID,
        # An App whose webhook was never configured shows no URL: it is empty, not unknown.
        attributes={"config": {key: value for key, value in normal.items() if key in shown or key == "url"}},
        natural_key=ID,
        marker=app_hook_marker(normal["url"]),
        present_write_only=frozenset({names.SECRET}) if config.secret else frozenset(),
    )


def _raise_inactive(scope: Scope, error: NotFound) -> NoReturn:
    raise ScopeGone(f"the App {scope.key} has no webhook", status=404, request=error.request, hint=_ACTIVATE) from None


__all__ = [
    "CONFIG",
    "AppHookConfig",
    "AppHookType",
    "app_identity",
    "compile_app_webhook",
    "gaps_in",
    "hook_gaps",
    "installation_of",
]
