"""Parsing and validation of requests against the OpenAPI document, and the HTTP form of answers and errors."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

import jsonschema_rs
import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from reconciler.model.errors import ConfigError, NotImplementedYet, ProviderError, ReconcilerError, SecretUnavailable, UsageError
from reconciler.model.json import Json, escape
from reconciler.model.values import too_deep
from reconciler.server.api.access import Forbidden, TooMany, Unauthorized
from reconciler.server.api.answers import SCHEMAS
from reconciler.server.api.errors import Invalid
from reconciler.server.api.forms import Schema, ref
from reconciler.server.api.handlers import Ready
from reconciler.server.api.operations import Operation
from reconciler.server.health import SECURITY_HEADERS
from reconciler.stages.outputs import OutputsRefused

MAX_BODY = 1 << 20
MAX_DEPTH = 100
"""More than any valid request uses, and less than the validator's recursion limit."""
READ_S = 10.0
RETRY_AFTER_S = "5"
_BY_CODE = {"RC6020": 404, "RC6025": 404, "RC6030": 404, "RC6035": 404, "RC6021": 409, "RC6031": 409, "RC6032": 409} | {
    "RC6022": 409,
    "RC6033": 422,
    "RC6034": 422,
}
_BY_CLASS: tuple[tuple[type[ReconcilerError], int], ...] = (
    (TooMany, 429),
    (Forbidden, 403),
    (Unauthorized, 401),
    (UsageError, 422),
    (ConfigError, 422),
    (NotImplementedYet, 422),
    (SecretUnavailable, 502),
    (ProviderError, 502),
)


class _ValidationError(Protocol):
    """An error of `jsonschema_rs`, which has no types of its own. ``instance_path``: keys and indexes of the invalid value."""

    @property
    def message(self) -> str: ...

    @property
    def instance_path(self) -> Sequence[str | int]: ...


class _Validator(Protocol):
    def iter_errors(self, instance: object) -> Iterator[_ValidationError]: ...


class Checks:
    """The schemas of one operation; each is compiled when a request first needs it, which keeps the start of the daemon short."""

    def __init__(self, operation: Operation) -> None:
        self._operation = operation

    @cached_property
    def _within(self) -> _Validator:
        return _validator(_closed(self._operation.within, required=True))

    @cached_property
    def _query(self) -> _Validator:
        return _validator(_closed(self._operation.query, required=False))

    @cached_property
    def _body(self) -> _Validator | None:
        return _validator(ref(self._operation.body)) if self._operation.body else None

    async def values(self, request: Request) -> dict[str, Any]:
        """Return the parameters of path and query and the fields of the body, by name. Raises `Invalid`."""
        within = {name: request.path_params[name] for name in self._operation.within}
        self._check(self._within, within, "path")
        query = _query(request.query_params.multi_items(), self._operation)
        self._check(self._query, query, "query")
        return {**within, **query, **await self._read(request)}

    def form(self, fields: Mapping[str, str]) -> dict[str, Any]:
        """Return the fields of a form of the dashboard; one without a text counts as not filled in. Raises `Invalid`."""
        given = {name: value for name, value in fields.items() if value}
        within = {name: given.pop(name) for name in self._operation.within if name in given}
        query = {name: given.pop(name) for name in self._operation.query if name in given}
        self._check(self._within, within, "path")
        self._check(self._query, query, "query")
        if self._body is not None:
            self._check(self._body, given, "body")
        return {**within, **query, **given}

    async def _read(self, request: Request) -> Mapping[str, Any]:
        if self._body is None:
            return {}
        raw = await read_body(request)
        if raw:
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "application/json" or request.headers.get("content-encoding", "identity").lower() != "identity":
                raise Invalid("the body is not application/json", status=415)
        try:
            body: Json = orjson.loads(raw) if raw else {}
        except orjson.JSONDecodeError as error:
            raise Invalid(f"the body is not JSON: {error}", status=400) from None
        if too_deep(body, MAX_DEPTH):
            raise Invalid(f"the body is nested deeper than {MAX_DEPTH} levels", status=self._operation.invalid, pointer="/body")
        self._check(self._body, body, "body")
        if not isinstance(body, dict):
            raise TypeError(f"{self._operation.name}: the schema of a body must require an object")
        return body

    def _check(self, validator: _Validator, value: object, place: str) -> None:
        error = min(validator.iter_errors(value), key=lambda error: len(error.instance_path), default=None)
        if error is None:
            return
        pointer = "/".join(("", place, *(escape(str(part)) for part in error.instance_path)))
        message = error.message
        raise Invalid(message if len(message) <= 300 else message[:299] + "…", status=self._operation.invalid, pointer=pointer)


def _validator(schema: Schema) -> _Validator:
    validator: _Validator = jsonschema_rs.Draft202012Validator({**schema, "components": {"schemas": SCHEMAS}})
    return validator


def _closed(properties: Mapping[str, Schema], *, required: bool) -> Schema:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties) if required else [],
        "additionalProperties": False,
    }


def _query(pairs: Iterable[tuple[str, str]], operation: Operation) -> dict[str, str | int]:
    query: dict[str, str | int] = {}
    for name, value in pairs:
        if name in query:
            raise Invalid(f"{name!r} is given twice", status=operation.invalid, pointer=f"/query/{name}")
        whole = operation.query.get(name, {}).get("type") == "integer" and value.isascii() and value.isdigit() and len(value) < 16
        query[name] = int(value) if whole else value
    return query


async def read_body(request: Request) -> bytes:
    """Return the body. Raises `Invalid` if it is larger than `MAX_BODY`, takes longer than `READ_S`, or ends too soon."""
    length = request.headers.get("content-length", "")
    if length and (not length.isdigit() or len(length) > 12 or int(length) > MAX_BODY):
        raise Invalid(f"the body is larger than {MAX_BODY} bytes", status=413)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(READ_S):
            async for part in request.stream():
                size += len(part)
                if size > MAX_BODY:
                    raise Invalid(f"the body is larger than {MAX_BODY} bytes", status=413)
                parts.append(part)
    except TimeoutError:
        raise Invalid(f"the body did not arrive within {READ_S:.0f} s", status=408) from None
    except ClientDisconnect:
        raise Invalid("the body ended too soon", status=400) from None
    return b"".join(parts)


# -- answers ------------------------------------------------------------------------------------------------------------


def answer(content: Mapping[str, object] | Ready, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    raw = content.content if isinstance(content, Ready) else orjson.dumps(content, option=orjson.OPT_NON_STR_KEYS)
    return Response(raw, status, {**SECURITY_HEADERS, **(headers or {})}, media_type="application/json")


def status_of(error: ReconcilerError) -> int:
    """Return the HTTP status of an error; 503 for an error that the request did not cause."""
    if isinstance(error, Invalid | OutputsRefused):
        return error.status
    if error.code in _BY_CODE:
        return _BY_CODE[error.code]
    return next((status for kind, status in _BY_CLASS if isinstance(error, kind)), 503)


def body_of(error: ReconcilerError) -> dict[str, str]:
    """Return the ``Error`` object of the OpenAPI document."""
    body = {"code": error.code, "message": error.message, "hint": error.hint}
    return {**body, "pointer": error.pointer} if isinstance(error, Invalid) and error.pointer else body


def headers_of(status: int) -> dict[str, str]:
    if status == 401:
        return {"www-authenticate": 'Bearer realm="reconciler"'}
    if status in (408, 413):
        return {"connection": "close"}  # the unread rest of the body would be parsed as the next request
    return {"retry-after": RETRY_AFTER_S} if status in (425, 429, 503) else {}
