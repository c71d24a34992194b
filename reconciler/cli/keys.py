"""``signing-key`` and ``rotate``: signing keys, which are derived and never stored."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from reconciler.cli.output import say
from reconciler.cli.session import configuration
from reconciler.cli.sink import out
from reconciler.model.errors import ReconcilerError, StateError, UsageError
from reconciler.model.exit_codes import EXIT_OK
from reconciler.model.resources import Kind, Resource, ResourceId


def signing_key(options: argparse.Namespace) -> int:
    """Print the signing key of a source: for a sender that is not provisioned by the daemon, or to verify by hand."""
    from reconciler.credentials.keys import load_keyring
    from reconciler.engine.control import parse_resource
    from reconciler.model.codec import resource_from_json
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
        raise UsageError(
            f"{identity} is not an event source in the last valid revision", hint="See `reconciler status EventSource`."
        )
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
    """Raise ``spec.keyRotation`` in the YAML of one source, or of all; committing it makes the daemon push the new keys."""
    from reconciler.cli.edit import save

    if bool(options.resource) == options.all:
        raise UsageError("name one source, or --all", hint="For example: reconciler rotate EventSource/payments")
    folder = Path(options.dir)
    chosen = _all_with_keys(folder) if options.all else [find_in_folder(folder, options.resource)[0]]
    texts: dict[Path, str] = {}
    for resource in chosen:
        if resource.id.kind != Kind.EVENT_SOURCE.value:
            raise UsageError(f"{resource.id} has no signing key", hint="Only an EventSource has one.")
        path = Path(resource.location.file)
        before = int(resource.spec.get("keyRotation", 0))
        texts[path] = _rotated(path, texts.get(path), resource, before + 1)
        out(f"{path}: {resource.id}: keyRotation {before} → {before + 1}")
    for path, text in texts.items():
        save(path, text)
    out(f"{len(chosen)} source{'' if len(chosen) == 1 else 's'}; commit the change")
    return EXIT_OK


def _rotated(path: Path, text: str | None, resource: Resource, number: int) -> str:
    from reconciler.cli.edit import EditableDocument

    document = EditableDocument.find(path, resource.id, text=text)
    if document is None:
        raise ReconcilerError(f"{resource.id} was not found in {path}", code="RC9001")
    document.set(document.spec(), "keyRotation", number)
    return document.render()


def _all_with_keys(folder: Path) -> list[Resource]:
    """Return the sources that somebody sends to, in a folder without errors: none may be left with its old key unnoticed."""
    from reconciler.cli.validate import load_paths
    from reconciler.model.errors import ManifestError

    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder")
    desired, _ = load_paths([folder])
    if any(problem.is_error for problem in desired.problems):
        raise ManifestError(desired.problems)
    sources = [one for one in desired.resources if one.id.kind == Kind.EVENT_SOURCE.value]
    return [one for one in sources if one.spec.get("type") not in {"manual", "schedule"}]


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
