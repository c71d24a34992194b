"""The OpenAPI 3.1 document, built from the table of operations and the schemas."""

from __future__ import annotations

import functools
from typing import Any

from reconciler import __version__
from reconciler.model.values import JsonObject
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
    """Return the document. ``server``: the public URL, or empty."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in HTTP_OPERATIONS:
        paths.setdefault(PREFIX + operation.path, {})[operation.method.lower()] = _operation(operation)
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


def _operation(operation: Operation) -> dict[str, object]:
    described: dict[str, object] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "security": _security(operation.access),
        "responses": {str(status): _response(operation, status) for status in operation.statuses()},
    }
    if operation.access in (Access.VIEWER, Access.OPERATOR, Access.APPROVER):
        described["description"] = f"Role: {' or '.join(roles_with(operation.access))}."
        described["x-roles"] = roles_with(operation.access)
    parameters = [_parameter(name, "path", schema) for name, schema in operation.within.items()]
    parameters += [_parameter(name, "query", schema) for name, schema in operation.query.items()]
    if parameters:
        described["parameters"] = parameters
    if operation.body:
        required = bool(SCHEMAS[operation.body].get("required"))
        content = {"application/json": _media(operation.body, operation.example)}
        described["requestBody"] = {"required": required, "content": content}
    return described


def _media(component: str, example: JsonObject | None) -> dict[str, object]:
    return {"schema": ref(component), **({"example": example} if example is not None else {})}


def _security(access: Access) -> list[dict[str, list[str]]]:
    if access is Access.PUBLIC:
        return []
    return [{"jobToken": []}] if access is Access.JOB else [{"token": []}]


def _parameter(name: str, place: str, schema: Schema) -> dict[str, Any]:
    inner = {key: value for key, value in schema.items() if key != "description"}
    words = {"description": schema["description"]} if "description" in schema else {}
    return {"name": name, "in": place, "required": place == "path", **words, "schema": inner}


def _response(operation: Operation, status: int) -> dict[str, object]:
    success = status == operation.status
    media = _media(operation.answer, operation.answer_example) if success else _media("Error", None)
    content: dict[str, object] = {"application/json": media}
    if success and operation.stream:
        content["text/event-stream"] = {
            "schema": {"description": "Server-sent events: `log` with a Log each, at last `end`; `error` with an Error."}
        }
    described: dict[str, object] = {"description": WORDS[status], "content": content}
    if status == 401:
        described["headers"] = {"WWW-Authenticate": {"schema": {"type": "string"}}}
    if status in (425, 429, 503):
        described["headers"] = {"Retry-After": {"schema": {"type": "integer"}}}
    return described
