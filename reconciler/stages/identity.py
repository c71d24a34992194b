"""The identity of an `http` execution, as its stage declares it: of an Integration, or an ID token of this daemon."""

from __future__ import annotations

from reconciler.drivers.auth import CalledService
from reconciler.drivers.builtin.identity import CallIdentity, OwnIdToken, Principal, principal_of
from reconciler.drivers.specs import spec_of
from reconciler.engine.current import Current
from reconciler.manifests.kinds import CallAuthSpec
from reconciler.model.errors import AuthFailed, ReconcilerError
from reconciler.model.resources import Kind, Resource, ResourceId

REFUSED_S = 60.0
"""A start that a refused credential holds back is tried again not earlier than this."""
OWN_TOKEN = "the daemon's own ID token"


async def identity_of(current: Current, stage: Resource, auth: CallAuthSpec, url: str) -> CallIdentity:
    """Return the identity for requests of ``stage`` to the origin of ``url``. Gets no token yet.

    Raises `AuthFailed` (RC4404) while the credential is refused, `AddressRefused` for a host that must not have it,
    `ValidationFailed` for an Integration that gives no identity, and `ReconcilerError` if it cannot be connected.
    """
    allow = current.context.session.allow
    called = CalledService(auth.audience or "", auth.service or "", auth.region or "")
    if auth.oidc is not None:
        own = OwnIdToken(current.context.id_token, stage.id, auth.oidc.audience)
        return CallIdentity(Principal(OWN_TOKEN), own, called, url, allow)
    integration = _integration(stage, auth.integration or "")
    refusal = current.clients.refusal_of(integration)
    if refusal is not None:
        raise AuthFailed(
            f"{stage.id} calls nothing: the credential of {integration} is refused ({refusal.message})",
            code="RC4404",
            retry_at=current.context.clock() + REFUSED_S,
            hint=refusal.hint,
        )
    link = await current.client(integration)
    principal = principal_of(integration, spec_of(link.connection.provider))
    return CallIdentity(principal, current.clients.authenticator(link), called, url, allow)


def _integration(stage: Resource, name: str) -> ResourceId:
    for reference in stage.references:
        if reference.kind == Kind.INTEGRATION.value and reference.name == name:
            return reference
    raise ReconcilerError(
        f"{stage.id}: there is no Integration {name!r}", code="RC1212", hint="Declare it, or change `auth.integration`."
    )


__all__ = ["OWN_TOKEN", "identity_of"]
