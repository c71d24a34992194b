"""Answers of the Security Token Service: XML as plain values, and what its refusals mean. Pure.

Facts: AWS STS API Reference (2011-06-15), "Common Errors" and the errors of each action. The parser takes no document type, so
that no entity can be declared, and stops at a fixed size, depth and number of elements.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar
from xml.parsers import expat

import orjson

from reconciler.drivers.auth import ApiResponse
from reconciler.drivers.http.errors import Where, limited_until, shared_error
from reconciler.drivers.refusals import explain
from reconciler.drivers.wire import decode, find
from reconciler.model.errors import (
    AuthFailed,
    ProviderError,
    ProviderProtocolError,
    ProviderUnavailable,
    RateLimited,
    ValidationFailed,
)
from reconciler.model.printable import plain

T = TypeVar("T")

MAX_BYTES = 64 << 10
MAX_DEPTH = 12
MAX_ELEMENTS = 500
_MAX_TEXT = 300
_KEY_ID = re.compile(r"\b(A[A-Z0-9]{3})[A-Z0-9]{12,124}\b")
_THROTTLED = frozenset({"Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequestsException"})
_FAILED = frozenset({"InternalFailure", "InternalError", "ServiceUnavailable", "IDPCommunicationError"})
_CLOCK = frozenset({"SignatureDoesNotMatch", "RequestExpired", "InvalidSignatureException", "RequestTimeTooSkewed"})
_SESSION_ENDED = frozenset({"ExpiredToken", "ExpiredTokenException"})
_UNKNOWN_KEY = frozenset(
    {"InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId", "AuthFailure", "InvalidToken"}
)
SESSION_CODES = _CLOCK | _SESSION_ENDED | _UNKNOWN_KEY
"""Codes that refuse the credential or the signature of a request, and not what it asks for."""
_WEB_IDENTITY = "AssumeRoleWithWebIdentity"
_SAME_FOR_BOTH = (
    "AWS gives one answer for a role that is missing, a trust policy that does not name this principal, and a wrong external id."
)


class _Refused(Exception):
    """The XML is not what an API answers."""


class _Reader:
    """Builds nested mappings: an element with children is a mapping (the first of equal names wins), any other is its text."""

    def __init__(self) -> None:
        self.root: dict[str, Any] = {}
        self._stack: list[tuple[dict[str, Any], list[str]]] = [(self.root, [])]
        self._names: list[str] = []
        self._elements = 0

    def start(self, name: str, _attributes: object) -> None:
        self._elements += 1
        if len(self._names) >= MAX_DEPTH or self._elements > MAX_ELEMENTS:
            raise _Refused("too many elements")
        self._names.append(name.rpartition(" ")[2])
        self._stack.append(({}, []))

    def end(self, _name: str) -> None:
        children, text = self._stack.pop()
        self._stack[-1][0].setdefault(self._names.pop(), children or "".join(text).strip())

    def text(self, data: str) -> None:
        self._stack[-1][1].append(data)

    def refuse(self, *_declaration: object) -> None:
        raise _Refused("a document type")


def parsed(content: bytes) -> dict[str, Any] | None:
    """Return XML as nested mappings, without namespaces; None for anything that is no small, plain XML document."""
    if len(content) > MAX_BYTES:
        return None
    reader, parser = _Reader(), expat.ParserCreate("utf-8", " ")  # the encoding overrides the one that the document declares
    parser.StartElementHandler, parser.EndElementHandler = reader.start, reader.end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = reader.text, reader.refuse
    try:
        parser.Parse(content, True)  # noqa: FBT003  expat takes no keywords
    except (expat.ExpatError, _Refused):
        return None
    return reader.root


def result(response: ApiResponse, action: str, kind: type[T]) -> T:
    """Return the result of ``action`` in a successful answer; raises `ProviderProtocolError` for another form."""
    body = parsed(response.content)
    if body is None:
        raise ProviderProtocolError(
            f"{response.request}: the answer to {action} is not XML of at most {MAX_BYTES >> 10} KiB",
            status=response.status,
            request=response.request,
            hint="Check `apiUrl`: a proxy or a login page may answer in place of the API.",
        )
    return decode(body, kind, f"the answer to {action}", f"{action}Response", f"{action}Result", request=response.request)


def refusal_of(body: object) -> tuple[str, str]:
    """Return code and message of a refusal, given as text; both are empty if it is not one."""
    document = parsed(body.encode()) if isinstance(body, str) else None
    for path in (("ErrorResponse", "Error"), ("ErrorResponse", "Errors", "Error"), ("Response", "Errors", "Error")):
        code = find(document, str, *path, "Code")
        if code is not None:
            return code[:80], shown(find(document, str, *path, "Message") or "")
    return "", ""


def shown(text: str) -> str:
    """Return a message of AWS, shortened, with no access key id whole in it."""
    return _KEY_ID.sub(r"\1…", plain(" ".join(text.split()))[:_MAX_TEXT])


def request_error(status: int, headers: Mapping[str, str], body: object, request: str, now: float) -> ProviderError | None:
    """Return the typed error of a signed request to the Security Token Service that was refused; None for the shared mapping."""
    code, text = refusal_of(body)
    where: Where = {"status": status, "request": request}
    if code in _THROTTLED or status == 429:
        return RateLimited(
            f"{request}: AWS limits the rate ({said_by(code, text) or status})", retry_at=limited_until(headers, now), **where
        )
    if status == 404:
        hint = "Check `spec.region` and `apiUrl`: this address is no endpoint of the Security Token Service."
        return ProviderProtocolError(f"{request}: nothing answers as AWS STS there (404)", hint=hint, **where)
    return credential_error(code, text, where)


def said_by(code: str, text: str) -> str:
    """Return code and message of a refusal as a person reads them."""
    return f"{code}: {text}" if text else code


def credential_error(code: str, text: str, where: Where) -> ProviderError | None:
    """Return the typed error of a code that every service of AWS gives for a credential, or for its own failure; None for others."""
    said, request = said_by(code, text), where["request"]
    if code in _FAILED:
        return ProviderUnavailable(f"{request}: AWS failed ({said})", **where)
    if code in _UNKNOWN_KEY:
        hint = "The access key was deleted or deactivated, or belongs to another partition: check `spec.region` and the Secret."
        return AuthFailed(f"{request}: AWS does not know the access key ({said})", hint=hint, **where)
    if code in _CLOCK:
        hint = (
            "The secret access key does not belong to the access key id, or the clocks differ by more than AWS allows (5 or 15 "
            "minutes): check the Secret, and the time of this host. Requests are signed with the time that AWS last reported."
        )
        return AuthFailed(f"{request}: AWS refused the signature ({said})", code="RC4062", hint=hint, **where)
    if code in {"IncompleteSignature", "IncompleteSignatureException", "MissingAuthenticationToken"}:
        hint = "A proxy may have removed or changed headers of the request: check `network.proxy` and `apiUrl`."
        return AuthFailed(f"{request}: AWS received no complete signature ({said})", code="RC4062", hint=hint, **where)
    if code in _SESSION_ENDED:
        return AuthFailed(f"{request}: the session has ended ({said})", **where)
    if code == "RegionDisabledException":
        hint = "Activate the region in the account, or choose another `spec.region`."
        return AuthFailed(f"{request}: the Security Token Service is not active in this region ({said})", hint=hint, **where)
    return None


def refused_credential(status: int, headers: Mapping[str, str], body: object) -> str:
    """Return the code with which a service refuses the credential itself: its key, its session or the signature. Else empty.

    Services with a JSON protocol name it in the header ``x-amzn-errortype`` or in ``__type``, the others in XML.
    """
    if status not in (400, 401, 403):
        return ""
    document: object = body
    if isinstance(body, str):
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError:
            document = None
    named = headers.get("x-amzn-errortype") or find(document, str, "__type") or refusal_of(body)[0]
    code = named.rpartition("#")[2].partition(":")[0]
    return plain(code)[:80] if code in _CLOCK | _SESSION_ENDED | _UNKNOWN_KEY else ""


def role_error(
    response: ApiResponse, action: str, role: str, now: float, claims: Mapping[str, object] | None = None
) -> ProviderError:
    """Return the typed error of ``action`` (AssumeRole, AssumeRoleWithWebIdentity) for ``role``.

    ``claims``: of the ID token that was sent. The error then says which of them differs from what AWS wants, as far as AWS tells.
    """
    code, text = refusal_of(response.text)
    where: Where = {"status": response.status, "request": f"{response.request} {action}"}
    said = said_by(code, text)
    why = explain("aws", claims, response.status, said, provider_now=now) if claims and code not in _FAILED | _THROTTLED else None
    if why is not None:
        return AuthFailed(f"{why.message} ({role})", code="RC4050", hint=why.hint, **where)
    if code == "AccessDenied":
        hint = (
            "Compare the conditions of the role's trust policy with `sub` and `aud` of the ID token: `reconciler oidc trust aws` prints a policy that fits."
            if action == _WEB_IDENTITY
            else f"{_SAME_FOR_BOTH} Check the trust policy of the role, `externalId`, and `sts:AssumeRole` of the principal."
        )
        return AuthFailed(f"the role {role} cannot be assumed ({said})", code="RC4061", hint=hint, **where)
    if code in {"ValidationError", "MalformedPolicyDocument", "PackedPolicyTooLarge", "InvalidParameterValue"}:
        hint = "Shorten `duration`, or raise the maximum session duration of the role." if "uration" in text else ""
        return ValidationFailed(f"AWS refused the request for {role} ({said})", code="RC4061", hint=hint, **where)
    known = request_error(response.status, response.headers, response.text, where["request"], now)
    return known or shared_error(response, now)


__all__ = [
    "SESSION_CODES",
    "credential_error",
    "parsed",
    "refusal_of",
    "refused_credential",
    "request_error",
    "result",
    "role_error",
    "said_by",
    "shown",
]
