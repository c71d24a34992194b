"""``key`` and ``rotate``: signing keys, which are derived and never stored."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from reconciler.cli.main import EXIT_OK
from reconciler.cli.output import say
from reconciler.cli.session import configuration
from reconciler.cli.sink import out
from reconciler.model.errors import ReconcilerError, StateError, UsageError
from reconciler.model.resources import Kind, Resource, ResourceId


def key(options: argparse.Namespace) -> int:
    """Print the signing key of a source: for a sender that is not provisioned by the daemon, or to verify by hand."""
    from reconciler.credentials.keys import load_keyring
    from reconciler.engine.control import parse_resource
    from reconciler.manifests.codec import resource_from_json
    from reconciler.state import Store

    config = configuration(options)
    if not config.state_exists:
        raise StateError(
            f"there is no state at {config.state_dir}",
            code="RC7021",
            hint="Run `reconciler run` or `reconciler apply` once: the master key is made then.",
        )
    store = Store.open(config.state.url, state_dir=config.state_dir, create=False)
    try:
        stored = {ResourceId.from_path(path): payload for path, payload in store.resources().items()}
        identity = parse_resource(options.resource, set(stored))
        keyring = load_keyring(config, stored_check=store.get_meta("key.check"), create_allowed=False)
    finally:
        store.close()
    if identity not in stored or identity.kind != Kind.EVENT_SOURCE.value:
        raise UsageError(f"{identity} is no event source in the last valid revision", hint="See `reconciler status EventSource`.")
    resource = resource_from_json(stored[identity])
    rotation = int(resource.spec.get("keyRotation", 0))
    if options.previous:
        if rotation == 0:
            raise UsageError(f"{identity} was never rotated")
        rotation -= 1
    uid = identity.uid(config.owner)
    standard = resource.spec.get("webhook", {}).get("signature") == "standard-webhooks"
    make = keyring.standard_webhooks_secret if standard else keyring.signing_key
    value = make(config.owner, uid, rotation)
    say(
        f"{identity}, rotation {rotation}; events are sent to {config.server.public_url.rstrip('/')}/hooks/{config.owner}/{uid}?key={keyring.key_id}"
    )
    out(value.reveal())
    return EXIT_OK


def rotate(options: argparse.Namespace) -> int:
    """Raise ``spec.keyRotation`` in the manifest's YAML; committing it makes the daemon push the new key."""
    resource, document, path = find_in_folder(Path(options.dir), options.resource)
    if resource.id.kind != Kind.EVENT_SOURCE.value:
        raise UsageError(f"{resource.id} has no signing key", hint="Only an EventSource has one.")
    before = int(resource.spec.get("keyRotation", 0))
    document.data["spec"]["keyRotation"] = before + 1
    document.save(path)
    out(f"{path}: {resource.id}: keyRotation {before} → {before + 1}; commit it")
    return EXIT_OK


def find_in_folder(folder: Path, text: str) -> tuple[Resource, Any, Path]:
    """Return the resource that ``text`` names, its YAML for editing with comments kept, and its file; raises `UsageError`."""
    from reconciler.cli.edit import EditableDocument
    from reconciler.cli.validate import load_paths
    from reconciler.engine.control import parse_resource

    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder")
    desired, _ = load_paths([folder])
    found = desired.by_id()
    identity = parse_resource(text, set(found))
    if identity not in found:
        raise UsageError(
            f"no valid manifest of {identity} in {folder}", hint="Run `reconciler validate` there; --dir names the working copy."
        )
    path = Path(found[identity].location.file)
    document = EditableDocument.find(path, identity)
    if document is None:
        raise ReconcilerError(f"{identity} was not found in {path}", code="RC9001")
    return found[identity], document, path
