"""``oidc``: publishes the issuer's documents, prints trust policies of relying parties, rotates keys, and shows claims."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from reconciler.cli import sink
from reconciler.cli.daemon_client import Request, answer_of, operations_of
from reconciler.cli.options import OidcOptions
from reconciler.cli.output import agreed, emit_json, say
from reconciler.cli.session import ask_daemon, configuration, require_state
from reconciler.cli.sink import out
from reconciler.config.settings import Config
from reconciler.model.errors import ReconcilerError, UsageError
from reconciler.model.exit_codes import EXIT_ERROR, EXIT_OK
from reconciler.model.resources import Kind, Resource, ResourceId
from reconciler.model.views import IssuerDocuments, RotatedKey, ShownToken

if TYPE_CHECKING:
    from reconciler.drivers.trust import Trust

T = TypeVar("T")
_FORMS = {
    "export": ("DIR", "reconciler oidc export public"),
    "trust": ("PARTY KIND/NAME[@CANVAS]", "reconciler oidc trust vault Secret/deploy"),
    "rotate": ("", "reconciler oidc rotate"),
    "token": ("KIND/NAME[@CANVAS]", "reconciler oidc token Integration/cloud"),
}
_TAKES = {"emergency": ("rotate",), "show": ("token",), "audience": ("trust", "token")}


def oidc(options: OidcOptions) -> int:
    """Run the action."""
    form, example = _FORMS[options.action]
    if len(options.arguments) != len(form.split()):
        raise UsageError(f"the form is: reconciler oidc {options.action} {form}".rstrip(), hint=f"For example: {example}")
    for name, actions in _TAKES.items():
        if getattr(options, name) and options.action not in actions:
            raise UsageError(f"--{name} goes with `oidc {actions[0]}`", hint=f"For example: {example}")
    return _ACTIONS[options.action](options)


def _export(options: OidcOptions) -> int:
    """Write the two public documents into a folder."""
    folder = Path(options.arguments[0])
    answer = _ask(configuration(options), {"verb": "oidc_documents"}, IssuerDocuments)
    # The key set first: a discovery document never points to one that is not there.
    paths = [_write(folder / name, answer.files[name]) for name in sorted(answer.files)]
    if options.output == "json":
        emit_json({"issuer": answer.issuer, "files": [str(path) for path in paths], "keys": answer.keys})
        return EXIT_OK
    for path in paths:
        out(f"wrote {path}")
    urls = " and ".join(f"{answer.issuer}/{name}" for name in sorted(answer.files))
    say(f"Publish the files as {urls}, with content type application/json. Repeat it after each key rotation.")
    return EXIT_OK


def _rotate(options: OidcOptions) -> int:
    """Create the next signing key."""
    question = "Revoke all signing keys? Relying parties refuse our tokens until they have read the new key set, up to a day."
    if options.emergency and not agreed(question, yes=options.yes, refusal="not rotated"):
        return EXIT_ERROR
    answer = _ask(configuration(options), {"verb": "oidc_rotate", "emergency": options.emergency}, RotatedKey)
    if options.output == "json":
        emit_json({"kid": answer.kid, "signsFrom": answer.signs_from})
    else:
        out(f"created the key {answer.kid}; it signs from {answer.signs_from}")
    if answer.elsewhere:
        say("Publish it before that time: reconciler oidc export DIR")
    return EXIT_OK


def _trust(options: OidcOptions) -> int:
    """Print the policy by which a relying party trusts a resource."""
    from reconciler.credentials.id_tokens import subject_for
    from reconciler.drivers.trust import PROVIDERS, TrustRequest

    party, name = options.arguments
    if party not in PROVIDERS:
        raise UsageError(
            f"no relying party {party!r}", hint=f"Known: {', '.join(PROVIDERS)}. Integrations of other types take no ID token."
        )
    config = configuration(options)
    identity = _identity_of(_resource(options, name), party)
    subject = subject_for(config.owner, identity.resource, identity.subject)
    audience = options.audience or identity.audience
    trust = PROVIDERS[party](TrustRequest(_issuer_of(config), subject, audience, identity.settings))
    if options.output == "json":  # the policy alone, as the relying party reads it
        sink.json_document(_pretty(trust.policy) + "\n")
        return EXIT_OK
    _print_trust(trust)
    say(f"{identity.resource}: sub {subject}, aud {audience}, iss {config.issuer}")
    return EXIT_OK


def _print_trust(trust: Trust) -> None:
    """Print a shell script that installs the policy."""
    out("cat > policy.json <<'EOF'")
    for line in (*_pretty(trust.policy).split("\n"), "EOF", *trust.commands):
        out(line)


def _token(options: OidcOptions) -> int:
    """Print the claims of a resource's token."""
    config = configuration(options)
    _issuer_of(config)
    identity = _identity_of(_resource(options, options.arguments[0]))
    request = {
        "verb": "oidc_token",
        "resource": identity.resource.path,
        "audience": options.audience or identity.audience,
        "subject": identity.subject,
        "show": options.show,
    }
    answer = _ask(config, request, ShownToken)
    if options.output == "json":
        emit_json({"claims": answer.claims, **({"token": answer.token} if options.show else {})})
        return EXIT_OK
    for line in _pretty(answer.claims).split("\n"):
        out(line)
    if options.show:
        out(answer.token)
    return EXIT_OK


_ACTIONS: Mapping[str, Callable[[OidcOptions], int]] = {"export": _export, "trust": _trust, "rotate": _rotate, "token": _token}


@dataclass(frozen=True, slots=True)
class _Identity:
    """How a resource identifies itself. ``settings`` is the block of its manifest, with the manifest's keys."""

    resource: ResourceId
    subject: str
    audience: str
    settings: Mapping[str, object]


def _resource(options: OidcOptions, name: str) -> Resource:
    from reconciler.cli.keys import find_in_folder

    return find_in_folder(Path(options.dir), name)[0]


def _identity_of(resource: Resource, party: str = "") -> _Identity:
    """Return the identity of ``resource`` for ``party``, or for the one that its manifest names. Raises `UsageError` (RC4053)."""
    from reconciler.drivers.trust import PROVIDERS, default_audience
    from reconciler.manifests.kinds import IntegrationSpec
    from reconciler.manifests.secret_spec import SecretSpec

    settings: dict[str, object] = {}
    if resource.id.kind == Kind.INTEGRATION.value:
        spec = resource.typed(IntegrationSpec)
        if spec.auth.oidc is None or spec.type not in PROVIDERS:
            raise _without_identity(resource, f"uses auth '{spec.auth.use}'")
        if party not in {"", spec.type}:
            raise _without_identity(resource, f"is of type {spec.type}, not {party}")
        settings, party = msgspec.to_builtins(spec.auth.oidc), spec.type
    elif resource.id.kind == Kind.SECRET.value:
        secret = resource.typed(SecretSpec)
        if secret.vault is None or party not in {"", "vault"}:
            raise _without_identity(resource, f"is a Secret of provider {secret.provider}" + (f", not {party}" if party else ""))
        block = msgspec.to_builtins(secret.vault)
        auth = block.get("auth")
        settings, party = {**(auth if isinstance(auth, dict) else {}), **block}, "vault"  # `mount` is that of the engine
    elif resource.id.kind != Kind.STAGE.value:
        raise _without_identity(resource, f"is of kind {resource.id.kind}")
    elif not party:
        return _Identity(resource.id, "", "reconciler", {})
    audience = str(settings.get("audience") or default_audience(party, settings))
    return _Identity(resource.id, str(settings.get("subject") or ""), audience, settings)


def _without_identity(resource: Resource, reason: str) -> UsageError:
    error = UsageError(
        f"{resource.id} has no ID token for this relying party: it {reason}",
        code="RC4053",
        hint="Name an Integration with `auth.use: oidc`, a Secret with `provider: vault`, or a Stage.",
    )
    error.location = resource.location
    return error


def _issuer_of(config: Config) -> str:
    if config.issuer:
        return config.issuer
    raise UsageError(
        "this installation is no OIDC issuer: neither `oidc.issuer` nor `server.publicUrl` is set",
        code="RC4020",
        hint="Set `oidc.issuer` in the configuration to an https URL that the relying party can reach.",
    )


def _ask(config: Config, request: Request, kind: type[T]) -> T:
    """Return the daemon's answer; without a daemon, this process locks the state and answers itself."""
    _issuer_of(config)
    answer = ask_daemon(config, request)
    return answer_of(answer if answer is not None else asyncio.run(_alone(config, request)), kind).view


async def _alone(config: Config, request: Request) -> Mapping[str, object]:
    from reconciler.daemon.session import Options, open_session

    async def nothing(integrations: tuple[ResourceId, ...]) -> None:
        """Reconcile nothing."""

    require_state(config)
    async with open_session(config, Options(create=False, log_level="error")) as session:
        return await operations_of(session, nothing).handle(request, f"uid:{os.getuid()}")


def _write(path: Path, text: str) -> Path:
    """Replace ``path`` atomically; every user may read it. Raises `ReconcilerError` (RC4051)."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fchmod(file.fileno(), 0o644)
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(name).unlink()
            raise
    except OSError as error:
        raise ReconcilerError(
            f"{path} cannot be written: {error.strerror or type(error).__name__}",
            code="RC4051",
            hint="Name a folder that you may write to: reconciler oidc export DIR",
        ) from None
    return path


def _pretty(document: Mapping[str, object]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False)
