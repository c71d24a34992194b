"""``app create``: registers an App of a provider with one click, stores its key, and prints the manifests that use it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

from reconciler.cli import sink
from reconciler.cli.key_files import KeyFiles
from reconciler.cli.loopback import Callback, Loopback
from reconciler.cli.options import AppOptions
from reconciler.cli.output import emit_json, say
from reconciler.cli.session import configuration
from reconciler.config.settings import Config
from reconciler.drivers.apps import AppForm, AppWish, RegisteredApp
from reconciler.model.errors import ManifestError, ReconcilerError, UsageError
from reconciler.model.exit_codes import EXIT_OK
from reconciler.model.resources import Kind, Location, Resource, ResourceId
from reconciler.model.values import JsonObject

if TYPE_CHECKING:
    from reconciler.drivers.base import AppRegistrar, Driver
    from reconciler.drivers.connection import Connection

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_-]*\Z")
"""Texts that need no quotes in YAML; `_YAML_WORDS` do."""
_YAML_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})
_REF: JsonObject = {"valueFrom": {"secret": {"name": "app", "key": "key"}}}


@dataclass(frozen=True, slots=True)
class _Registration:
    """Where the App is registered, and which Integration is to use it."""

    driver: Driver
    registrar: AppRegistrar
    web_root: str
    api_url: str
    """``spec.apiUrl`` of the Integration; empty for the one that belongs to the web site."""
    own_api_root: str
    account: str
    """As the user wrote it."""
    organization: bool
    integration: ResourceId
    existing: Resource | None

    @property
    def api_root(self) -> str:
        """The root of the API that is called."""
        return self.api_url or self.own_api_root


@dataclass(frozen=True, slots=True)
class _KeyPaths:
    """The Secret of the App, and its files. The paths in the manifest are relative to ``secrets.folder``."""

    secret: str
    key: Path
    webhook: Path


def create(options: AppOptions) -> int:
    """Serve the page, wait for the browser, exchange the code, store the secrets, print the manifests."""
    from reconciler.credentials.process import harden

    harden()
    config = configuration(options)
    if not config.server.public_url:
        raise ReconcilerError(
            "the webhook of the App needs the address where the provider reaches this daemon",
            code="RC3020",
            hint="Set server.publicUrl (or RECONCILER_SERVER_PUBLIC_URL) to an https URL.",
        )
    resources = _manifests(Path(options.dir), config)
    place = _place(options, resources)
    wish = _wish(options, config, place, resources)
    paths = _paths(options, config, place, resources)
    files = KeyFiles()
    for path in (paths.key, paths.webhook):
        files.require_new(path)

    def form(callback: str, state: str) -> AppForm:
        return place.registrar.form(_with_redirect(wish, callback), state)

    signal.signal(signal.SIGTERM, _end)
    page = Loopback(options.port, form, lambda text: say(f"refused: {text}"))
    with page.serving():
        _invite(page, options, wish)
        callback = page.wait(options.timeout)
        app = _finish(callback, place, paths, files, config)
    _show(app, place, paths, config, options)
    return EXIT_OK


def _manifests(folder: Path, config: Config) -> Mapping[ResourceId, Resource]:
    """Return the valid manifests in ``folder``. Raises `ManifestError` for invalid ones: their needs would be missing."""
    from reconciler.cli.validate import load_paths

    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder", hint="Name the folder of the manifests: --dir DIR.")
    desired, _ = load_paths([folder], allow=config.network.allow)
    errors = [problem for problem in desired.problems if problem.is_error]
    if errors:
        raise ManifestError(tuple(errors))
    return desired.by_id()


def _place(options: AppOptions, resources: Mapping[ResourceId, Resource]) -> _Registration:
    account = options.org or options.user
    if not account or (options.org and options.user):
        raise UsageError(
            "name the account that the App belongs to: --org or --user", hint="For example: reconciler app create --org acme"
        )
    driver, registrar = _registering()
    root = (options.url or registrar.web_root).rstrip("/")
    parts = urlsplit(root)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path or parts.query or parts.username:
        raise UsageError(f"{options.url!r} is not the root of a web site", hint=f"For example {registrar.web_root}.")
    spec: dict[str, object] = {"type": driver.provider, "url": f"{root}/{account}", "auth": registrar.auth("", _REF, None)}
    probe = driver.connect(Resource(ResourceId(Kind.INTEGRATION.value, "default", "app"), spec, Location("")), {})
    if "/" in account or probe.account != account.lower():
        raise UsageError(f"{account!r} is not the name of an account", hint="Write it as in its URL, without a slash.")
    identity, existing = _integration(options, resources, driver, probe)
    api_url = options.api_url or (str(existing.spec.get("apiUrl") or "") if existing is not None else "")
    return _Registration(
        driver, registrar, root, api_url.rstrip("/"), probe.api_url, account, bool(options.org), identity, existing
    )


def _registering() -> tuple[Driver, AppRegistrar]:
    """Return the driver whose Apps are registered in a browser, and its registrar."""
    from reconciler.drivers.registry import DRIVERS

    for driver in DRIVERS.values():
        if driver.registrar is not None:
            return driver, driver.registrar
    raise ReconcilerError("no provider of this version has Apps", code="RC9001")


def _integration(
    options: AppOptions, resources: Mapping[ResourceId, Resource], driver: Driver, probe: Connection
) -> tuple[ResourceId, Resource | None]:
    """Return the Integration that is to use the App, and its manifest if there is one: the one named, else that of the account."""
    if options.integration:
        from reconciler.manifests.resource_argument import parse_resource

        text = options.integration if "/" in options.integration else f"Integration/{options.integration}"
        identity = parse_resource(text, set(resources))
        if identity.kind != Kind.INTEGRATION.value:
            raise UsageError(f"{identity} is not an Integration", hint="For example: reconciler app create Integration/NAME")
        if identity in resources and not _uses(resources[identity], driver, probe):
            raise UsageError(f"{identity} does not use {probe.url}", hint="Name an Integration of this account, or a new name.")
        return identity, resources.get(identity)
    same = [
        resource
        for resource in resources.values()
        if resource.id.kind == Kind.INTEGRATION.value and _uses(resource, driver, probe)
    ]
    if len(same) > 1:
        raise UsageError(
            f"several Integrations use {probe.account}: {', '.join(str(resource.id) for resource in same)}",
            code="RC4209",
            hint=f"Name the one that is to use the App: reconciler app create {same[0].id}",
        )
    if same:
        return same[0].id, same[0]
    return ResourceId(Kind.INTEGRATION.value, "default", driver.provider), None


def _uses(resource: Resource, driver: Driver, probe: Connection) -> bool:
    """Whether ``resource`` is an Integration of the same account of the same web site."""
    if resource.spec.get("type") != driver.provider:
        return False
    try:
        connection = driver.connect(resource, resource.secret_refs("/auth"))
    except ReconcilerError:
        return False
    return (_site(connection.url), connection.account) == (_site(probe.url), probe.account)


def _site(url: str) -> str:
    return urlsplit(url).netloc.lower()


def _wish(options: AppOptions, config: Config, place: _Registration, resources: Mapping[ResourceId, Resource]) -> AppWish:
    """Return the narrowest App for the manifests, with the permissions and events that the options add."""
    from reconciler.engine.app_needs import app_needs, events_of, permissions_of, review_needs

    needs = (
        app_needs(place.driver, place.existing, place.account.lower(), resources.values()) if place.existing is not None else ()
    )
    if place.existing is not None:
        needs += review_needs(place.driver, place.existing.id, config, checks=True)
    if not needs:
        say(f"no manifest in {options.dir} uses {place.integration}: the App gets no permissions but those of --permission")
    events = {*events_of(needs), *place.registrar.useful_events}
    from reconciler.engine.credential_check import widest

    permissions = widest((permissions_of(needs), place.registrar.permissions_of(events), _given(options.permission)))
    return AppWish(
        web_root=place.web_root,
        account=place.account,
        organization=place.organization,
        name=options.name or f"reconciler-{config.owner}"[: place.registrar.max_name],
        homepage=config.server.public_url,
        hook_url=f"{config.server.public_url.rstrip('/')}/hooks/apps/{config.owner}",
        redirect_url="",
        permissions=permissions,
        events=frozenset(events | {event.lower() for event in options.event}),
    )


def _given(texts: list[str]) -> Mapping[str, str]:
    given = {}
    for text in texts:
        name, separator, level = text.partition("=")
        if not separator or not name or not level:
            raise UsageError(f"--permission {text!r} is not NAME=LEVEL", hint="For example --permission checks=write.")
        given[name] = level
    return given


def _with_redirect(wish: AppWish, url: str) -> AppWish:
    return dataclasses.replace(wish, redirect_url=url)


def _paths(options: AppOptions, config: Config, place: _Registration, resources: Mapping[ResourceId, Resource]) -> _KeyPaths:
    folder = Path(options.out or config.secrets.folder)
    name = f"{place.integration.name}-app"
    taken = {resource.name for resource in resources if resource.kind == Kind.SECRET.value}
    secret = next(text for text in (name, *(f"{name}-{number}" for number in range(2, 1000))) if text not in taken)
    return _KeyPaths(secret, folder / f"{secret}.private-key.pem", folder / f"{secret}.webhook-secret")


def _invite(page: Loopback, options: AppOptions, wish: AppWish) -> None:
    say(f"permissions: {', '.join(f'{name}: {level}' for name, level in sorted(wish.permissions.items())) or 'metadata: read'}")
    opened = not options.no_browser and _opened(page.url)
    say(f"{'If the browser did not open, open' if opened else 'Open'} {page.url}")
    if not opened:
        say(f"From another machine, first: ssh -L {page.port}:127.0.0.1:{page.port} THIS-HOST")
    say(f"Waiting {options.timeout:g} s for the answer of the browser (Ctrl-C ends it).")


def _opened(url: str) -> bool:
    """Whether a graphical browser was started. It gets no terminal: stdout is for the manifests."""
    graphical = sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    program = shutil.which("open" if sys.platform == "darwin" else "xdg-open") if graphical else None
    if program is None:
        return False
    quiet = subprocess.DEVNULL
    try:
        subprocess.Popen([program, url], stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
    except OSError:
        return False
    return True


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    """End as SIGTERM does, but after what was begun is undone."""
    raise SystemExit(128 + number)


def _finish(callback: Callback, place: _Registration, paths: _KeyPaths, files: KeyFiles, config: Config) -> RegisteredApp:
    """Exchange the code and store the secrets; the browser shows the result. Nothing is left behind by a failure."""
    try:
        for path in (paths.key, paths.webhook):
            files.reserve(path)
        app = asyncio.run(_convert(callback.code, place, config))
        _store(app, paths, files)
    except BaseException as error:
        files.discard()
        text = error.message if isinstance(error, ReconcilerError) else "It was interrupted."
        callback.answer(502, f"The App could not be set up. {text}")
        raise
    callback.answer(200, f"The App {app.slug} is registered. You can close this page: the next steps are in the terminal.")
    return app


async def _convert(code: str, place: _Registration, config: Config) -> RegisteredApp:
    from reconciler.drivers.http.client import HttpSession
    from reconciler.drivers.http.exchange import TokenEndpoints

    async with HttpSession.from_config(config.network) as session:
        endpoints = TokenEndpoints(session, session.clock_of(place.api_root, time.time))
        return await place.registrar.convert(endpoints, place.api_root, code, now=time.time())


def _store(app: RegisteredApp, paths: _KeyPaths, files: KeyFiles) -> None:
    try:
        files.write(paths.key, app.key)
        if app.webhook_secret is not None:
            files.write(paths.webhook, app.webhook_secret)
        files.keep()
    except OSError as error:
        raise ReconcilerError(
            f"the App {app.slug} is registered, and its key cannot be stored: {error.strerror or type(error).__name__}",
            code="RC4207",
            hint=f"Fix this, delete the App on {app.settings_url or 'its settings page'}/advanced, and run the command again.",
        ) from None


def _show(app: RegisteredApp, place: _Registration, paths: _KeyPaths, config: Config, options: AppOptions) -> None:
    text = _documents(app, place, paths, config)
    stored = [path for path in (paths.key, paths.webhook) if path.exists()]
    if options.output == "json":
        emit_json(
            {
                "app": {
                    "id": app.number,
                    "clientId": app.client_id,
                    "slug": app.slug,
                    "owner": app.owner,
                    "settingsUrl": app.settings_url,
                    "installUrl": app.install_url,
                },
                "files": [str(path) for path in stored],
                "manifests": text,
            }
        )
    else:
        sink.document(text)
    for path in stored:
        say(f"wrote {path} (mode 0600)")
    if app.owner and app.owner.lower() != place.account.lower():
        say(f"The App belongs to {app.owner}, not to {place.account}: it can be installed there only if you make it public.")
    say(f"1. Install the App on {place.account}: {app.install_url or 'on its page'}")
    if Path(options.out or config.secrets.folder).absolute() != Path(config.secrets.folder).absolute():
        say(f"2. Move the files into {config.secrets.folder} of the daemon, and commit the manifests above.")
    else:
        say("2. Commit the manifests above. The daemon then sets the URL of the webhook.")


def _documents(app: RegisteredApp, place: _Registration, paths: _KeyPaths, config: Config) -> str:
    """Return the Secret and the Integration. What the provider sent is quoted."""
    canvas = "" if place.integration.canvas == "default" else f", canvas: {place.integration.canvas}"
    folder = Path(config.secrets.folder).absolute()

    def entry(key: str, path: Path) -> str:
        absolute = path.absolute()
        inside = absolute.relative_to(folder) if absolute.is_relative_to(folder) else Path(absolute.name)
        return f"    {key}: {{path: {json.dumps(str(inside))}}}\n"

    def value(key: str) -> JsonObject:
        return {"valueFrom": {"secret": {"name": paths.secret, "key": key}}}

    hook = app.webhook_secret is not None
    auth = place.registrar.auth(app.client_id, value("private-key"), value("webhook-secret") if hook else None)
    return (
        f"apiVersion: v1\nkind: Secret\nmetadata: {{name: {paths.secret}{canvas}}}\nspec:\n  provider: file\n  data:\n"
        + entry("private-key", paths.key)
        + (entry("webhook-secret", paths.webhook) if hook else "")
        + f"---\napiVersion: v1\nkind: Integration\nmetadata: {{name: {place.integration.name}{canvas}}}\nspec:\n"
        + f"  type: {place.driver.provider}\n  url: {json.dumps(f'{place.web_root}/{place.account}')}\n"
        + (f"  apiUrl: {json.dumps(place.api_url)}\n" if place.api_url else "")
        + "  auth:\n"
        + _block(auth, "    ")
        + "  appWebhook: {manage: true}\n"
    )


def _block(mapping: JsonObject, indent: str) -> str:
    """Return ``mapping`` as YAML; a mapping with one key goes into one line."""
    lines = []
    for key, value in mapping.items():
        if not isinstance(value, Mapping):
            lines.append(f"{indent}{key}: {_scalar(value)}\n")
        elif len(value) == 1:
            lines.append(f"{indent}{key}: {_flow(value)}\n")
        else:
            lines.append(f"{indent}{key}:\n{_block(value, indent + '  ')}")
    return "".join(lines)


def _flow(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    return _scalar(value)


def _scalar(value: object) -> str:
    text = str(value)
    return text if _PLAIN.match(text) and text.lower() not in _YAML_WORDS else json.dumps(text)


__all__ = ["create"]
