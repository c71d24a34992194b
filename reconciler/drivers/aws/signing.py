"""Signature Version 4, by botocore: the only module that uses it, and only when a request is signed.

Facts: IAM User Guide, "AWS Signature Version 4 for API requests". botocore comes with the extra ``aws``.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from typing import Protocol, cast

from reconciler.drivers.auth import AuthRequest
from reconciler.drivers.aws.regions import SigningScope
from reconciler.model.errors import AuthFailed
from reconciler.model.secrets import SecretValue

INSTALL = "pip install 'integrations-reconciler[aws]'"
_UNSIGNED = frozenset({"accept", "accept-encoding", "user-agent", "connection", "content-length", "via", "x-forwarded-for"})
"""Headers that proxies rewrite on the way. All others are covered by the signature, so that nobody can exchange them."""
_S3 = frozenset({"s3", "s3-object-lambda", "s3-outposts", "s3express"})


@dataclass(frozen=True, slots=True)
class AccessKey:
    """A key pair, never shown whole; ``session`` is the session token of a short-lived one."""

    id: str = field(repr=False)
    secret: SecretValue
    session: SecretValue | None = None


class _Signer(Protocol):
    """The part of ``botocore.auth.SigV4Auth`` that is used."""

    def _modify_request_before_signing(self, request: object) -> None: ...
    def canonical_request(self, request: object) -> str: ...
    def string_to_sign(self, request: object, canonical_request: str) -> str: ...
    def signature(self, string_to_sign: str, request: object) -> str: ...
    def _inject_signature_to_request(self, request: object, signature: str) -> object: ...


def sign(request: AuthRequest, key: AccessKey, scope: SigningScope, at: float) -> None:
    """Add the headers of a signature to ``request``; ``at`` is its time, in seconds since the epoch by the provider's clock.

    The signature covers method, URL, body and headers. Raises `AuthFailed` (RC4060) without botocore.
    """
    try:
        from botocore.auth import S3SigV4Auth, SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials
    except ImportError:
        raise AuthFailed(
            "requests to AWS cannot be signed: the package botocore is not installed",
            code="RC4060",
            hint=f"Run `{INSTALL}` in the environment of the daemon, and restart it.",
        ) from None
    covered = {name: value for name, value in request.headers.items() if name.lower() not in _UNSIGNED}
    session = key.session.reveal() if key.session is not None else None
    kind = S3SigV4Auth if scope.service in _S3 else SigV4Auth
    signer = cast("_Signer", kind(Credentials(key.id, key.secret.reveal(), session), scope.service, scope.region))
    # AWSRequest.body is what is hashed; `data` bytes are taken as they are.
    signed = AWSRequest(method=request.method, url=request.url, headers=covered, data=request.content or b"")
    signed.context["timestamp"] = datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    # `add_auth` does the same with the clock of this host, and logs the canonical request.
    signer._modify_request_before_signing(signed)  # noqa: SLF001  the steps of `add_auth`
    text = signer.string_to_sign(signed, signer.canonical_request(signed))
    signer._inject_signature_to_request(signed, signer.signature(text, signed))  # noqa: SLF001
    for name, value in signed.headers.items():
        if name.lower() not in covered:
            request.headers[name.lower()] = value


__all__ = ["INSTALL", "AccessKey", "sign"]
