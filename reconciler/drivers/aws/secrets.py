"""Values in AWS Secrets Manager and in the Parameter Store of Systems Manager.

Facts: API references of both services, actions DescribeSecret, GetSecretValue and GetParameter. ``VersionId`` and ``Version`` change with
the value, so they tell a change without the value. DescribeSecret needs a permission of its own and may be refused where
GetSecretValue is allowed; a parameter that is not decrypted tells its version without a call of KMS.
"""

from __future__ import annotations

import base64
import binascii
from typing import NoReturn, Protocol, TypeVar, runtime_checkable

import msgspec
import orjson

from reconciler.drivers.auth import ApiResponse
from reconciler.drivers.aws.answers import credential_error, said_by
from reconciler.drivers.aws.calls import ServiceCalls, json_refusal
from reconciler.drivers.aws.regions import REGION
from reconciler.drivers.base import StoredText
from reconciler.drivers.connection import Api
from reconciler.drivers.http.errors import Where, limited_until, shared_error
from reconciler.drivers.wire import decode
from reconciler.model.errors import (
    AuthFailed,
    PermissionDenied,
    ProviderUnavailable,
    RateLimited,
    SecretUnavailable,
    ValidationFailed,
)
from reconciler.model.secrets import SecretValue
from reconciler.model.values import JsonObject

T = TypeVar("T")

_CURRENT = "AWSCURRENT"
_NOT_THERE = frozenset({"ResourceNotFoundException", "ParameterNotFound", "ParameterVersionNotFound"})
_REFUSED = frozenset({"AccessDeniedException", "AccessDenied"})
_THROTTLED = frozenset({"ThrottlingException", "Throttling", "TooManyUpdates", "RequestLimitExceeded"})
_KEY = frozenset({"DecryptionFailure", "InvalidKeyId", "KMSAccessDeniedException"})
_INVALID = frozenset({"InvalidRequestException", "InvalidParameterException", "ValidationException"})


class SecretAnswer(msgspec.Struct, frozen=True, rename="pascal"):
    """The answer of GetSecretValue: text or bytes in base64."""

    version_id: str
    secret_string: str | None = None
    secret_binary: str | None = None


class DescribedSecret(msgspec.Struct, frozen=True, rename="pascal"):
    """The answer of DescribeSecret."""

    version_ids_to_stages: dict[str, list[str]] = {}
    deleted_date: float | None = None


class ParameterAnswer(msgspec.Struct, frozen=True, rename="pascal"):
    """``Parameter`` in the answer of GetParameter."""

    value: str
    version: int


@runtime_checkable
class CallsServices(Protocol):
    """An authenticator that can sign calls of other services."""

    def services(self) -> ServiceCalls: ...


class AwsSecretStore:
    """Implements `reconciler.drivers.base.SecretStore`. A source is ``secret NAME`` or ``parameter NAME``; a name may be an ARN."""

    def source(self, entry: JsonObject) -> str:
        """Return which secret or parameter ``entry`` names. ``NAME:VERSION`` and ``NAME:LABEL`` name a version of a parameter."""
        return f"parameter {entry['parameter']}" if entry.get("parameter") else f"secret {entry.get('secretId')}"

    async def version(self, api: Api, source: str) -> str:
        """Return the present version; empty if the credential may read the secret, but not describe it."""
        calls, (kind, _, name) = _calls(api), source.partition(" ")
        if kind == "parameter":
            return str((await _parameter(calls, name, decrypt=False)).version)
        answer = await calls.call("secretsmanager", "secretsmanager.DescribeSecret", {"SecretId": name}, region=_region_of(name))
        if json_refusal(answer)[0] in _REFUSED:
            return ""
        what = _what(source)
        _check(answer, what, "secretsmanager:DescribeSecret", calls.clock())
        described = _decoded(answer, DescribedSecret, what)
        if described.deleted_date is not None:
            hint = f"Restore it: `aws secretsmanager restore-secret --secret-id {name}`, or name another."
            raise SecretUnavailable(f"{what} is marked for deletion", code="RC4064", hint=hint)
        return next((key for key, stages in described.version_ids_to_stages.items() if _CURRENT in stages), "")

    async def read(self, api: Api, source: str) -> StoredText:
        """Return the present text. Raises `SecretUnavailable` if there is none, or it may not be read; and errors of the provider."""
        calls, (kind, _, name) = _calls(api), source.partition(" ")
        if kind == "parameter":
            parameter = await _parameter(calls, name, decrypt=True)
            return StoredText(SecretValue(parameter.value), str(parameter.version))
        what = _what(source)
        answer = await calls.call("secretsmanager", "secretsmanager.GetSecretValue", {"SecretId": name}, region=_region_of(name))
        _check(answer, what, "secretsmanager:GetSecretValue", calls.clock())
        stored = _decoded(answer, SecretAnswer, what)
        text = stored.secret_string if stored.secret_string is not None else _text(stored.secret_binary or "", what)
        return StoredText(SecretValue(text), stored.version_id)

    def value(self, entry: JsonObject, source: str, text: SecretValue) -> SecretValue:
        """Return the text or, with ``jsonKey``, that member of its JSON object. Raises `SecretUnavailable`."""
        key = entry.get("jsonKey")
        return SecretValue(_member(text.reveal(), str(key), _what(source))) if key else text


def _calls(api: Api) -> ServiceCalls:
    if not isinstance(api.authenticator, CallsServices):
        raise ValidationFailed(f"{api.connection.integration}: this credential signs no calls of services")
    return api.authenticator.services()


def _what(source: str) -> str:
    kind, _, name = source.partition(" ")
    return f"the {kind} {name!r} " + ("of AWS Systems Manager" if kind == "parameter" else "in AWS Secrets Manager")


def _region_of(name: str) -> str:
    """Return the region in an ARN: a request to another region would not find it. Empty for a name."""
    parts = name.split(":")
    return parts[3] if parts[0] == "arn" and len(parts) > 5 and REGION.fullmatch(parts[3]) else ""


async def _parameter(calls: ServiceCalls, name: str, *, decrypt: bool) -> ParameterAnswer:
    what = _what(f"parameter {name}")
    fields = {"Name": name, "WithDecryption": decrypt}
    answer = await calls.call("ssm", "AmazonSSM.GetParameter", fields, region=_region_of(name))
    _check(answer, what, "ssm:GetParameter", calls.clock())
    return _decoded(answer, ParameterAnswer, what, "Parameter")


def _decoded(answer: ApiResponse, kind: type[T], what: str, *path: str) -> T:
    return decode(answer.json(), kind, f"the answer for {what}", *path, request=answer.request)


def _check(answer: ApiResponse, what: str, permission: str, now: float) -> None:
    """Raise the error of an answer that is not 200."""
    if answer.status == 200:
        return
    code, text = json_refusal(answer)
    said = said_by(code, text) or str(answer.status)
    if code in _THROTTLED or answer.status == 429:
        raise RateLimited(
            f"AWS limits the rate of reads of {what} ({said})", status=answer.status, retry_at=limited_until(answer.headers, now)
        )
    if code in _NOT_THERE | _REFUSED | _KEY | _INVALID:
        raise _unreadable(code, said, what, permission)
    if answer.status >= 500 or code in {"InternalServiceError", "InternalServerError"}:
        raise ProviderUnavailable(f"AWS could not read {what} ({said})", status=answer.status, request=answer.request)
    where: Where = {"status": answer.status, "request": answer.request}
    error = credential_error(code, text, where) or shared_error(answer, now)
    if isinstance(error, AuthFailed | PermissionDenied):
        raise error
    raise ProviderUnavailable(f"AWS answered the read of {what} with {said}", hint=error.hint, **where)


def _unreadable(code: str, said: str, what: str, permission: str) -> SecretUnavailable:
    """Return the error of a refusal that concerns this value alone."""
    if code in _NOT_THERE:
        hint = "Check name, region and account of the Integration."
        return SecretUnavailable(f"{what} does not exist ({said})", code="RC4064", hint=hint)
    if code in _REFUSED:
        hint = f"Allow `{permission}` on it, and `kms:Decrypt` on its key, to the identity of the Integration."
        return SecretUnavailable(f"{what} may not be read ({said})", code="RC4083", hint=hint)
    if code in _KEY:
        hint = "Allow `kms:Decrypt` on its key to the identity of the Integration, and check that the key is enabled."
        return SecretUnavailable(f"{what} cannot be decrypted ({said})", code="RC4083", hint=hint)
    hint = "It may be marked for deletion, or have no current value."
    return SecretUnavailable(f"{what} cannot be read ({said})", code="RC4064", hint=hint)


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


__all__ = ["AwsSecretStore"]
