"""``signing-key`` and ``rotate``: signing keys, which are derived and never stored."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.cli.edit import EditableDocument, save
from reconciler.cli.options import RotateOptions, SigningKeyOptions
from reconciler.cli.output import say
from reconciler.cli.parser import did_you_mean
from reconciler.cli.session import configuration
from reconciler.cli.sink import out
from reconciler.model.errors import ReconcilerError, StateError, UsageError
from reconciler.model.exit_codes import EXIT_OK
from reconciler.model.resources import Kind, Resource, ResourceId

if TYPE_CHECKING:
    from reconciler.config.settings import Config
    from reconciler.credentials.keys import KeyRing


def signing_key(options: SigningKeyOptions) -> int:
    """Print the signing key of a source or of an App's webhook, for a sender that the daemon does not configure."""
    from reconciler.credentials.keys import load_keyring
    from reconciler.manifests.kinds import EventSourceSpec
    from reconciler.manifests.resource_argument import parse_resource
    from reconciler.model.codec import resource_from_json
    from reconciler.state import Store

    config = configuration(options)
    if not config.state_exists:
        raise StateError(
            f"there is no state at {config.state_dir}",
            code="RC7021",
            hint="Run `reconciler run` or `reconciler apply` once: it creates the master key.",
        )
    store = Store.open(config.state.url, state_dir=config.state_dir, create=False)
    try:
        stored = {ResourceId.from_path(path): payload for path, payload in store.resources().items()}
        identity = parse_resource(options.resource, set(stored))
        keyring = load_keyring(config, stored_check=store.get_meta("key.check"), create_allowed=False)
    finally:
        store.close()
    if identity in stored and identity.kind == Kind.INTEGRATION.value:
        return _app_key(resource_from_json(stored[identity]), keyring, config, previous=options.previous)
    if identity in stored and identity.kind == Kind.NOTIFICATION.value:
        return _notification_key(resource_from_json(stored[identity]), keyring, config)
    if identity not in stored or identity.kind != Kind.EVENT_SOURCE.value:
        sources = [str(each) for each in stored if each.kind == Kind.EVENT_SOURCE.value]
        hint = did_you_mean(str(identity), sources, "See `reconciler status EventSource`.")
        raise UsageError(f"{identity} is not an event source in the last valid revision", hint=hint)
    spec = resource_from_json(stored[identity]).typed(EventSourceSpec)
    rotation = spec.key_rotation
    if options.previous:
        if rotation == 0:
            raise UsageError(f"{identity} was never rotated")
        rotation -= 1
    uid = identity.uid(config.owner)
    standard = spec.webhook is not None and spec.webhook.signature == "standard-webhooks"
    derive = keyring.standard_webhooks_secret if standard else keyring.signing_key
    value = derive(config.owner, uid, rotation)
    url = f"{config.server.public_url.rstrip('/')}/hooks/{config.owner}/{uid}?key={keyring.key_id}"
    say(f"{identity}, rotation {rotation}; send events to {url}")
    out(value.reveal())
    return EXIT_OK


def _notification_key(notification: Resource, keyring: KeyRing, config: Config) -> int:
    """Print the derived key with which the webhook of ``notification`` is signed."""
    from reconciler.manifests.notification_spec import NotificationSpec

    webhook = notification.typed(NotificationSpec).sink.webhook
    if webhook is None or webhook.key is not None:
        raise UsageError(
            f"{notification.id} has no derived signing key",
            hint="Only the sink `webhook` without `key` has one; see its manifest.",
        )
    say(f"{notification.id}; verify requests to {webhook.url} with it")
    out(keyring.standard_webhooks_secret(config.owner, notification.id.uid(config.owner), 0).reveal())
    return EXIT_OK


def _app_key(integration: Resource, keyring: KeyRing, config: Config, *, previous: bool) -> int:
    """Print the secret of the webhook of the App that ``integration`` uses."""
    from reconciler.drivers.apps import app_hook_url
    from reconciler.drivers.registry import driver_for

    driver = driver_for(str(integration.spec["type"]))
    connection = driver.connect(integration, integration.secret_refs("/auth")) if driver is not None else None
    apps = driver.apps if driver is not None else None
    installation = apps.installation_of(connection) if apps is not None and connection is not None else None
    if installation is None:
        raise UsageError(
            f"{integration.id} has no signing key", hint="Only an EventSource, or an Integration that uses an App, has one."
        )
    if installation.secret is not None:
        raise UsageError(
            f"the webhook secret of {integration.id} is {installation.secret}, as declared in webhookSecret",
            hint="Leave `webhookSecret` out to use a derived key.",
        )
    if previous:
        raise UsageError("the key of an App's webhook is not rotated", hint="Declare `webhookSecret` to choose its value.")
    uid = installation.uid(config.owner)
    say(f"{integration.id}; send events to {app_hook_url(config.server.public_url, config.owner, uid, keyring.key_id)}")
    out(keyring.signing_key(config.owner, uid, 0).reveal())
    return EXIT_OK


def rotate(options: RotateOptions) -> int:
    """Increase ``spec.keyRotation`` in the manifest of one source, or of all. Once it is committed, the daemon pushes the new keys."""
    from reconciler.manifests.kinds import EventSourceSpec

    if bool(options.resource) == options.all:
        raise UsageError("name one source, or --all", hint="For example: reconciler rotate EventSource/payments")
    folder = Path(options.dir)
    chosen = [find_in_folder(folder, options.resource)[0]] if options.resource else _all_with_keys(folder)
    texts: dict[Path, str] = {}
    for resource in chosen:
        if resource.id.kind != Kind.EVENT_SOURCE.value:
            raise UsageError(f"{resource.id} has no signing key", hint="Only an EventSource has one.")
        path = Path(resource.location.file)
        before = resource.typed(EventSourceSpec).key_rotation
        texts[path] = _rotated(path, texts.get(path), resource, before + 1)
        out(f"{path}: {resource.id}: keyRotation {before} → {before + 1}")
    for path, text in texts.items():
        save(path, text)
    out(f"{len(chosen)} source{'' if len(chosen) == 1 else 's'}; commit the change")
    return EXIT_OK


def _rotated(path: Path, text: str | None, resource: Resource, number: int) -> str:

    document = _document(path, resource.id, text)
    document.set(document.spec(), "keyRotation", number)
    return document.render()


def _all_with_keys(folder: Path) -> list[Resource]:
    """Return the sources with a signing key in ``folder``. Raises `ManifestError` for invalid manifests: no key may stay unrotated."""
    from reconciler.cli.validate import load_paths
    from reconciler.manifests.kinds import EventSourceSpec
    from reconciler.model.errors import ManifestError

    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder")
    desired, _ = load_paths([folder])
    if any(problem.is_error for problem in desired.problems):
        raise ManifestError(desired.problems)
    sources = [resource for resource in desired.resources if resource.id.kind == Kind.EVENT_SOURCE.value]
    return [source for source in sources if source.typed(EventSourceSpec).type not in {"manual", "schedule"}]


def find_in_folder(folder: Path, text: str) -> tuple[Resource, EditableDocument, Path]:
    """Return the resource that ``text`` names, its document for editing, and its file. Raises `UsageError`."""
    from reconciler.cli.validate import load_paths
    from reconciler.manifests.resource_argument import parse_resource

    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder")
    desired, _ = load_paths([folder])
    by_id = desired.by_id()
    identity = parse_resource(text, set(by_id))
    if identity not in by_id:
        hint = did_you_mean(str(identity), map(str, by_id), "Run `reconciler validate` there; --dir names the working copy.")
        raise UsageError(f"no valid manifest of {identity} in {folder}", hint=hint)
    path = Path(by_id[identity].location.file)
    return by_id[identity], _document(path, identity), path


def _document(path: Path, identity: ResourceId, text: str | None = None) -> EditableDocument:
    document = EditableDocument.find(path, identity, text=text)
    if document is None:
        raise ReconcilerError(f"{identity} was not found in {path}", code="RC9001")
    return document
