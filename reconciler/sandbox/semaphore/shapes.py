"""Requests and answers of the simulated Semaphore: validation, unpopulated fields, three error families, page tokens."""

from __future__ import annotations

import base64
import binascii
import re
import uuid
from collections.abc import Mapping
from typing import Annotated, Literal, NoReturn

import msgspec
import orjson

from reconciler.sandbox.app import Call, RefusedCall, Reply
from reconciler.sandbox.semaphore.records import SecretData, StoredSemaphoreProject
from reconciler.sandbox.shapes import fits, is_object, json_object, json_objects, texts

UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_SECRET_NAME = re.compile(r"^[@: -._a-zA-Z0-9]+\Z")
_VARIABLE = re.compile(r"^[a-zA-Z_][a-zA-Z0-9_]*\Z")
_RESULTS = ("passed", "failed", "canceled", "stopped")
_Digits = Annotated[str, msgspec.Meta(pattern=r"^-?\d+$")]
_MAX_DESCRIPTION = 255
FILTERS = ("projects", "branches", "tags", "pipelines", "blocks", "states", "results")
_HTTP = {2: 500, 3: 400, 5: 404, 7: 403, 9: 400, 12: 501}
INVALID, NOT_FOUND, DENIED, PRECONDITION, UNIMPLEMENTED, UNKNOWN = 3, 5, 7, 9, 12, 2


def body_of(call: Call) -> dict[str, object]:
    try:
        body = call.json()
    except ValueError:
        body = None
    if not is_object(body):
        refuse(INVALID, "invalid character in the body")
    return body


class _FilterInput(msgspec.Struct):
    projects: list[str] | None = None
    branches: list[str] | None = None
    tags: list[str] | None = None
    pipelines: list[str] | None = None
    blocks: list[str] | None = None
    states: list[str | int] | None = None
    results: list[str] | None = None


class _TargetInput(msgspec.Struct):
    """Fields of any target; numbers may be texts, as in every JSON form of a protocol buffer."""

    endpoint: str | None = None
    status: Literal["ACTIVE", "INACTIVE", 0, 1] | None = None
    timeout: int | _Digits | None = None
    action: str | None = None
    retries: int | _Digits | None = None
    secret: str | None = None
    message: str | None = None
    channels: list[str] | None = None
    cc: list[str] | None = None
    bcc: list[str] | None = None


class _NotifyInput(msgspec.Struct):
    slack: _TargetInput | None = None
    email: _TargetInput | None = None
    webhook: _TargetInput | None = None


class _RuleInput(msgspec.Struct):
    name: str | None = None
    filter: _FilterInput | None = None
    notify: _NotifyInput | None = None


def check_rule(rule: Mapping[str, object]) -> None:
    if not fits(rule, _RuleInput):
        refuse(INVALID, "proto: invalid value in a notification rule")
    if rule.get("notify") is None:
        refuse(INVALID, "A notification rule must have a notify field.")
    if rule.get("filter") is None:
        refuse(UNKNOWN, "Internal error")  # the real code does not expect it
    notify, filters = json_object(rule["notify"]), json_object(rule["filter"])
    targets = [
        json_object(notify.get("slack")).get("endpoint"),
        json_object(notify.get("webhook")).get("endpoint"),
        json_object(notify.get("email")).get("cc"),
    ]
    if not any(targets):
        refuse(INVALID, "A notification rule must have at least one notification target configured.")
    for key in FILTERS:
        for pattern in texts(filters.get(key)):
            check_pattern(pattern, key)


def check_pattern(pattern: str, key: str) -> None:
    if re.fullmatch(r"/.*/", pattern):
        try:
            re.compile(pattern[1:-1])
        except re.error:
            refuse(INVALID, f"Pattern {pattern} is not a valid regex statement")
    elif key == "results" and pattern not in _RESULTS:
        refuse(INVALID, f"Value {pattern} is not a valid result entry. Valid values are: {', '.join(_RESULTS)}.")


def secret_parts(body: Mapping[str, object]) -> tuple[str, SecretData]:
    name = str(json_object(body.get("metadata")).get("name") or "")
    if UUID.search(name):
        refuse(INVALID, "name should not be in uuid format")
    if not _SECRET_NAME.match(name):
        refuse(INVALID, "name has invalid format")
    if len(str(json_object(body.get("metadata")).get("description") or "")) > _MAX_DESCRIPTION:
        refuse(INVALID, f"description can't be longer than {_MAX_DESCRIPTION} characters")
    data = json_object(body.get("data"))
    variables = [
        {"name": str(v.get("name") or ""), "value": str(v.get("value") or "")} for v in json_objects(data.get("env_vars"))
    ]
    if any(not _VARIABLE.match(v["name"]) or not v["value"] for v in variables):
        refuse(INVALID, "env_vars: name and value can't be blank")
    files = [{"path": str(f.get("path") or ""), "content": str(f.get("content") or "")} for f in json_objects(data.get("files"))]
    return name, {"env_vars": variables, "files": files}


def populated(rule: Mapping[str, object]) -> dict[str, object]:
    """Every field there: empty lists, zeros, empty texts, null objects (the gateway's EmitUnpopulated)."""
    filters, notify = json_object(rule.get("filter")), json_object(rule.get("notify"))
    slack, email, webhook = (notify.get(key) for key in ("slack", "email", "webhook"))
    return {
        "name": rule.get("name") or "",
        "filter": {key: texts(filters.get(key)) for key in FILTERS},
        "notify": {
            "slack": None
            if slack is None
            else filled(slack, {"endpoint": "", "channels": [], "message": "", "status": "ACTIVE"}),
            "email": None
            if email is None
            else filled(email, {"subject": "", "cc": [], "bcc": [], "content": "", "status": "ACTIVE"}),
            "webhook": None
            if webhook is None
            else filled(webhook, {"endpoint": "", "timeout": 0, "action": "", "retries": 0, "status": "ACTIVE", "secret": ""}),
        },
    }


def filled(given: object, empty: Mapping[str, object]) -> dict[str, object]:
    fields = json_object(given)
    return {key: fields.get(key) or default for key, default in empty.items()}


def project_id(name: str) -> str:
    """Return the id of the project called ``name``."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"project-{name}"))


def shown_project(project: StoredSemaphoreProject) -> dict[str, object]:
    name = project["name"]
    metadata = {
        "name": name,
        "id": project_id(name),
        "org_id": "",
        "owner_id": "",
        "description": "",
    }
    repository = {
        "url": f"git@github.com:acme/{name}.git",
        "name": name,
        "owner": "acme",
        "pipeline_file": ".semaphore/semaphore.yml",
        "integration_type": "github_app",
    }
    return {
        "apiVersion": "v1alpha",
        "kind": "Project",
        "metadata": metadata,
        "spec": {"repository": repository, "schedulers": [], "tasks": [], "visibility": "private"},
    }


def projecthub(status: int, body: object, headers: Mapping[str, str] | None = None) -> Reply:
    return Reply(status, orjson.dumps(body), headers or {})  # bytes: sent without a JSON content type, as the real one does


def gateway_error(code: int, message: str) -> Reply:
    return Reply(_HTTP[code], {"code": code, "message": message, "details": []})


def refuse(code: int, message: str) -> NoReturn:
    raise RefusedCall(gateway_error(code, message))


def is_uuid(text: str) -> bool:
    return UUID.fullmatch(text) is not None


def page_token(offset: int) -> str:
    return base64.b64encode(b"\xfb\xff\xfe" + str(offset).encode()).decode()  # "+//+…": must be escaped in a URL


def offset_of(token: str) -> int:
    if not token:
        return 0
    try:
        return int(base64.b64decode(token, validate=True)[3:])
    except (ValueError, binascii.Error):
        refuse(INVALID, "invalid page token")
