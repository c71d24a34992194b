"""The OpenAPI 3.1 document, made from the table of operations and the schemas."""

from __future__ import annotations

import functools
from typing import Any

from reconciler import __version__
from reconciler.server.api.access import Access, roles_with
from reconciler.server.api.answers import SCHEMAS
from reconciler.server.api.forms import Schema, ref
from reconciler.server.api.operations import HTTP_OPERATIONS, PREFIX, Operation

WORDS = {
    200: "Success",
    202: "Accepted; it happens soon",
    400: "Not JSON, or not a request of this operation",
    401: "No token, or one that is not known",
    403: "The token's role does not include it; the message names the role that does",
    404: "Not found",
    408: "The body did not arrive in time",
    409: "The state does not allow it any more, or the approval does not count",
    413: "The body is too large",
    415: "The body is not application/json",
    422: "A parameter or the body is not as this document says, or the request is not meaningful",
    425: "The run is not known yet: try again",
    429: "Too many wrong tokens from this address",
    502: "The provider refused or did not answer",
    503: "Busy, or the state cannot be used: try again",
}
_SCHEMES = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "description": "A token of `server.tokens`. Roles: viewer (every GET), operator (viewer, and all that starts or steers), "
        "approver (viewer, and approvals).",
    },
    "jobToken": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "The OIDC token of the job itself, issued by the provider that runs it.",
    },
}


@functools.cache
def document(server: str = "") -> dict[str, Any]:
    """Return the document; ``server`` is the public URL, where there is one."""
    paths: dict[str, dict[str, Any]] = {}
    for one in HTTP_OPERATIONS:
        paths.setdefault(PREFIX + one.path, {})[one.method.lower()] = _operation(one)
    return {
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "reconciler",
            "version": __version__,
            "summary": "Events, executions and resources of the daemon",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": server.rstrip("/") or "/"}],
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": _SCHEMES,
        },
    }


def _operation(one: Operation) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": one.name,
        "summary": one.summary,
        "security": _security(one.access),
        "responses": {str(status): _response(one, status) for status in one.statuses()},
    }
    if one.access in (Access.VIEWER, Access.OPERATOR, Access.APPROVER):
        found["description"] = f"Role: {' or '.join(roles_with(one.access))}."
        found["x-roles"] = roles_with(one.access)
    parameters = [_parameter(name, "path", schema) for name, schema in one.within.items()]
    parameters += [_parameter(name, "query", schema) for name, schema in one.query.items()]
    if parameters:
        found["parameters"] = parameters
    if one.body:
        media: dict[str, Any] = {"schema": ref(one.body)}
        if one.example is not None:
            media["example"] = one.example
        required = bool(SCHEMAS[one.body].get("required"))
        found["requestBody"] = {"required": required, "content": {"application/json": media}}
    return found


def _security(access: Access) -> list[dict[str, list[str]]]:
    if access is Access.PUBLIC:
        return []
    return [{"jobToken": []}] if access is Access.JOB else [{"token": []}]


def _parameter(name: str, place: str, schema: Schema) -> dict[str, Any]:
    inner = {key: value for key, value in schema.items() if key != "description"}
    words = {"description": schema["description"]} if "description" in schema else {}
    return {"name": name, "in": place, "required": place == "path", **words, "schema": inner}


def _response(one: Operation, status: int) -> dict[str, Any]:
    good = status == one.status
    media: dict[str, Any] = {"schema": ref(one.answer if good else "Error")}
    if good and one.answer_example is not None:
        media["example"] = one.answer_example
    found: dict[str, Any] = {"description": WORDS[status], "content": {"application/json": media}}
    if good and one.stream:
        found["content"]["text/event-stream"] = {
            "schema": {"description": "Server-sent events: `log` with a Log each, at last `end`; `error` with an Error."}
        }
    if status == 401:
        found["headers"] = {"WWW-Authenticate": {"schema": {"type": "string"}}}
    if status in (425, 429, 503):
        found["headers"] = {"Retry-After": {"schema": {"type": "integer"}}}
    return found
