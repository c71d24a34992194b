"""The identity of an `http` execution, as its stage declares it: of an Integration, or an ID token of this daemon."""

from __future__ import annotations

from reconciler.drivers.auth import CalledService
from reconciler.drivers.builtin.identity import CallIdentity, OwnIdToken, Principal, principal_of
from reconciler.drivers.specs import spec_of
from reconciler.engine.current import Current
from reconciler.manifests.kinds import CallAuthSpec, StageSpec
from reconciler.model.errors import AuthFailed, ReconcilerError
from reconciler.model.resources import Kind, Resource, ResourceId

OWN_TOKEN = "the daemon's own ID token"


async def refused(current: Current, stage: Resource) -> str:
    """Return why ``stage`` calls nothing: the last check of its Integration's credential was refused. Empty if it was not."""
    auth = stage.typed(StageSpec).executor.call_auth
    if auth is None or auth.integration is None:
        return ""
    integration = _integration(stage, auth.integration)
    try:
        await current.client(integration)
    except AuthFailed as error:
        return f"{stage.id} calls nothing: the credential of {integration} is refused ({error.message})"
    except ReconcilerError:
        return ""  # the start of the execution says what is wrong
    return ""


async def identity_of(current: Current, stage: Resource, auth: CallAuthSpec, url: str) -> CallIdentity:
    """Return the identity for requests of ``stage`` to the origin of ``url``. Gets no token yet.

    Raises `AuthFailed` (RC4404), without a request, while the last check of the credential was refused, `AddressRefused` for a host that must not have it,
    `ValidationFailed` for an Integration that gives no identity, and `ReconcilerError` if it cannot be connected.
    """
    allow = current.context.session.allow
    called = CalledService(auth.audience or "", auth.service or "", auth.region or "")
    if auth.oidc is not None:
        own = OwnIdToken(current.context.id_token, stage.id, auth.oidc.audience)
        return CallIdentity(Principal(OWN_TOKEN), own, called, url, allow)
    integration = _integration(stage, auth.integration or "")
    why = await refused(current, stage)
    if why:
        raise AuthFailed(why, code="RC4404", hint=f"See `reconciler credentials {integration}`.")
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


__all__ = ["OWN_TOKEN", "identity_of", "refused"]
