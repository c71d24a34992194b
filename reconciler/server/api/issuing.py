"""Operations of the OIDC issuer. Only the admin socket offers them: whoever may open it owns the keys anyway."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.credentials.id_tokens import IdTokenIssuer, documents
from reconciler.events.requests import CommandRequest, decode_request
from reconciler.model.errors import UsageError
from reconciler.model.resources import ResourceId
from reconciler.model.times import iso
from reconciler.server.api.handlers import Backend, Values


class RotateKeyRequest(CommandRequest, frozen=True):
    emergency: bool = False


class TokenShownRequest(CommandRequest, frozen=True):
    """``resource`` is ``KIND/CANVAS/NAME``. ``show``: return the signed token too, and record who received it."""

    resource: str
    audience: str
    subject: str = ""
    show: bool = False


async def published_documents(backend: Backend, _values: Values, _who: str) -> Mapping[str, Any]:
    """Return the two public documents as texts by path below the issuer's URL. Creates the first key if there is none."""
    issuer = _issuer(backend)
    keys = await issuer.key_set()
    files = {path: content.decode() for path, content in documents(issuer.issuer, keys).items()}
    return {"issuer": issuer.issuer, "files": files, "keys": [str(key["kid"]) for key in keys["keys"]]}


async def rotate(backend: Backend, values: Values, who: str) -> Mapping[str, Any]:
    """Create the next signing key, on behalf of ``who``."""
    issuer, request = _issuer(backend), decode_request(RotateKeyRequest, values)
    key = await issuer.rotate(emergency=request.emergency, actor=who)
    return {"kid": key.kid, "signsFrom": iso(key.sign_from), "elsewhere": issuer.settings.elsewhere}


async def token(backend: Backend, values: Values, who: str) -> Mapping[str, Any]:
    """Return the claims that a token of a resource has now, and the token itself if ``who`` asks for it."""
    issuer, request = _issuer(backend), decode_request(TokenShownRequest, values)
    try:
        resource = ResourceId.from_path(request.resource)
    except ValueError:
        raise UsageError(f"{request.resource!r} is not KIND/CANVAS/NAME") from None
    if not request.show:
        return {"claims": issuer.claims(resource, request.audience, subject=request.subject), "token": ""}
    signed, claims = await issuer.shown(resource, request.audience, subject=request.subject, actor=who)
    return {"claims": claims, "token": signed.reveal()}


def _issuer(backend: Backend) -> IdTokenIssuer:
    if backend.issuer is None:
        raise UsageError(
            "this installation is no OIDC issuer: neither `oidc.issuer` nor `server.publicUrl` is set",
            code="RC4020",
            hint="Set `oidc.issuer` in the configuration to an https URL that the relying party can reach, and restart the daemon.",
        )
    return backend.issuer
