"""Signature Version 4, by botocore: the only module that uses it, and only when a request is signed.

Facts: IAM User Guide, "AWS Signature Version 4 for API requests". botocore comes with the extra ``aws``.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass, field
from typing import Protocol, cast
from urllib.parse import quote, unquote_to_bytes

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

    The signature covers method, URL, body and headers; the URL is spelled as AWS encodes it (`spelled`), and is sent so. Raises
    `AuthFailed` (RC4060) without botocore.
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
    request.url, request.exact = spelled(request.url, scope.service), True
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


def spelled(url: str, service: str) -> str:
    """Return ``url`` with the one spelling of its query, and of S3 also of its path, that AWS and botocore both understand.

    AWS decodes and encodes before it verifies a signature; botocore signs what is written. So every character but the unreserved
    ones is percent-encoded: ``:`` in a query, for example. A ``+`` in a query is a space, and an empty parameter is dropped. The path
    of other services than S3 is signed as it is written.
    """
    root, mark, rest = url.partition("://")
    route, question, query = rest.partition("#")[0].partition("?")
    host, slash, path = route.partition("/")
    parts = path.split("/")
    path = "/".join(_encoded(part) if service in _S3 else re.sub("%(?![0-9A-Fa-f]{2})", "%25", part) for part in parts)
    pairs = (pair.replace("+", " ").partition("=") for pair in query.split("&") if pair)
    joined = "&".join(f"{_encoded(key)}{equals}{_encoded(value)}" for key, equals, value in pairs)
    return f"{root}{mark}{host}{slash or '/'}{path}" + (f"{question}{joined}" if joined else "")


def _encoded(text: str) -> str:
    return quote(unquote_to_bytes(text), safe="-_.~")


__all__ = ["INSTALL", "AccessKey", "sign", "spelled"]
