"""Values in AWS Secrets Manager and in the Parameter Store of Systems Manager.

Facts: API references of both services, actions GetSecretValue, DescribeSecret and GetParameter. ``VersionId`` and ``Version`` change with the
value, so they tell a change without a comparison of values.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import NoReturn, TypeVar

import msgspec
import orjson

from reconciler.drivers.auth import ApiResponse
from reconciler.drivers.aws.answers import shown
from reconciler.drivers.aws.calls import ServiceCalls
from reconciler.drivers.http.errors import limited_until, shared_error
from reconciler.drivers.wire import decode, find
from reconciler.model.errors import ProviderUnavailable, RateLimited, ReconcilerError, SecretUnavailable
from reconciler.model.secrets import SecretValue
from reconciler.model.values import JsonObject

T = TypeVar("T")

_NOT_THERE = frozenset({"ResourceNotFoundException", "ParameterNotFound", "ParameterVersionNotFound"})
_REFUSED = frozenset({"AccessDeniedException", "AccessDenied"})
_THROTTLED = frozenset({"ThrottlingException", "Throttling", "TooManyUpdates", "RequestLimitExceeded"})
_KEY = frozenset({"DecryptionFailure", "InvalidKeyId", "KMSAccessDeniedException"})


@dataclass(frozen=True, slots=True)
class VersionedValue:
    """A value and the version that the service gives it."""

    value: SecretValue
    version: str


class SecretAnswer(msgspec.Struct, frozen=True, rename="pascal"):
    """The answer of GetSecretValue: text or bytes in base64."""

    version_id: str
    secret_string: str | None = None
    secret_binary: str | None = None


class ParameterAnswer(msgspec.Struct, frozen=True, rename="pascal"):
    """``Parameter`` in the answer of GetParameter."""

    value: str
    version: int


async def secret_value(calls: ServiceCalls, secret_id: str, *, json_key: str = "") -> VersionedValue:
    """Return the current value of a secret, named by name or ARN; with ``json_key``, of that key of its JSON object.

    Raises `SecretUnavailable` if there is no such value or the credential may not read it, and typed errors of the provider.
    """
    what = f"the secret {secret_id!r} in AWS Secrets Manager"
    answer = await calls.call("secretsmanager", "secretsmanager.GetSecretValue", {"SecretId": secret_id})
    _check(answer, what, "secretsmanager:GetSecretValue", calls.clock())
    stored = _decoded(answer, SecretAnswer, what)
    text = stored.secret_string
    if text is None:
        text = _text(stored.secret_binary or "", what)
    return VersionedValue(SecretValue(_member(text, json_key, what) if json_key else text), stored.version_id)


async def parameter_value(calls: ServiceCalls, name: str) -> VersionedValue:
    """Return the value of a parameter, decrypted. ``NAME:VERSION`` and ``NAME:LABEL`` name a version.

    Raises `SecretUnavailable` if there is no such value or the credential may not read it, and typed errors of the provider.
    """
    what = f"the parameter {name!r} of AWS Systems Manager"
    answer = await calls.call("ssm", "AmazonSSM.GetParameter", {"Name": name, "WithDecryption": True})
    _check(answer, what, "ssm:GetParameter", calls.clock())
    stored = _decoded(answer, ParameterAnswer, what, "Parameter")
    return VersionedValue(SecretValue(stored.value), str(stored.version))


def _decoded(answer: ApiResponse, kind: type[T], what: str, *path: str) -> T:
    return decode(answer.json(), kind, f"the answer for {what}", *path, request=answer.request)


def _check(answer: ApiResponse, what: str, permission: str, now: float) -> None:
    """Raise the error of an answer that is not 200."""
    if answer.status == 200:
        return
    body = _body(answer)
    code = (find(body, str, "__type") or "").rpartition("#")[2].partition(":")[0][:80]
    text = shown(find(body, str, "message") or find(body, str, "Message") or "")
    said = f"{code}: {text}" if text else code or str(answer.status)
    if code in _THROTTLED or answer.status == 429:
        raise RateLimited(
            f"AWS limits the rate of reads of {what} ({said})", status=answer.status, retry_at=limited_until(answer.headers, now)
        )
    if code in _NOT_THERE:
        raise SecretUnavailable(
            f"{what} does not exist ({said})", code="RC4064", hint="Check name, region and account of the Integration."
        )
    if code in _REFUSED:
        hint = f"Allow `{permission}` on it, and `kms:Decrypt` on its key, to the identity of the Integration."
        raise SecretUnavailable(f"{what} may not be read ({said})", code="RC4064", hint=hint)
    if code in _KEY:
        hint = "Allow `kms:Decrypt` on its key to the identity of the Integration, and check that the key is enabled."
        raise SecretUnavailable(f"{what} cannot be decrypted ({said})", code="RC4064", hint=hint)
    if code in {"InvalidRequestException", "InvalidParameterException", "ValidationException"}:
        raise SecretUnavailable(
            f"{what} cannot be read ({said})", code="RC4064", hint="It may be marked for deletion, or have no current value."
        )
    if answer.status >= 500 or code == "InternalServiceError":
        raise ProviderUnavailable(f"AWS could not read {what} ({said})", status=answer.status, request=answer.request)
    raise shared_error(answer, now)


def _body(answer: ApiResponse) -> object:
    try:
        return answer.json()
    except ReconcilerError:
        return None


def _text(encoded: str, what: str) -> str:
    try:
        return base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise SecretUnavailable(f"{what} is not UTF-8 text", code="RC4064", hint="Store text, or bytes that are UTF-8.") from None


def _member(text: str, key: str, what: str) -> str:
    """Return the member ``key`` of the JSON object in ``text``: text, or a number as it is written."""
    try:
        value: JsonObject | object = orjson.loads(text)
    except orjson.JSONDecodeError:
        _no_member(f"{what} is not JSON, so it has no key {key!r}", "Leave `jsonKey` out to use the whole value.")
    if not isinstance(value, dict):
        _no_member(f"{what} is no JSON object, so it has no key {key!r}", "Leave `jsonKey` out to use the whole value.")
    member = value.get(key)
    if isinstance(member, str):
        return member
    if isinstance(member, int | float) and not isinstance(member, bool):
        return orjson.dumps(member).decode()
    if key in value:
        _no_member(f"the key {key!r} of {what} is neither text nor a number", "Name a key whose value is text.")
    _no_member(f"{what} has no key {key!r}", "Check `jsonKey`.")


def _no_member(message: str, hint: str) -> NoReturn:
    raise SecretUnavailable(message, code="RC4064", hint=hint)


__all__ = ["VersionedValue", "parameter_value", "secret_value"]
