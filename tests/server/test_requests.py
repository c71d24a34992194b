"""Requests of commands: decoded at the edge, with an error that names the field, and the same fields as the API's document."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from reconciler.engine.control import Control
from reconciler.events import requests
from reconciler.events.requests import CommandRequest, EventListRequest, RerunRequest, TriggerRequest, decode_request
from reconciler.model.errors import ReconcilerError, UsageError
from reconciler.model.resources import ResourceId
from reconciler.server.admin import AdminOperations
from reconciler.server.api.handlers import resource_name
from reconciler.server.api.operations import HTTP_OPERATIONS
from reconciler.server.api.schemas import REQUESTS

COMMANDS: Mapping[str, type[CommandRequest]] = {
    "events": requests.EventListRequest,
    "event": requests.EventRequest,
    "trigger": requests.TriggerRequest,
    "replay": requests.ReplayRequest,
    "redeliver": requests.RedeliverRequest,
    "executions": requests.ExecutionListRequest,
    "execution": requests.ExecutionRequest,
    "approve": requests.ApproveRequest,
    "cancel": requests.CancelRequest,
    "rerun": requests.RerunRequest,
}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_request_has_the_fields_that_the_document_has(name: str) -> None:
    operation = next(each for each in HTTP_OPERATIONS if each.name == name)
    body = REQUESTS[operation.body] if operation.body else {}
    documented = {**operation.within, **operation.query, **body.get("properties", {})}
    fields = msgspec.structs.fields(COMMANDS[name])
    assert {field.encode_name for field in fields} == set(documented)
    assert {field.encode_name for field in fields if field.required} == {*operation.within, *body.get("required", ())}


@pytest.mark.parametrize(
    ("kind", "values", "field"),
    [
        (RerunRequest, {}, "id"),
        (RerunRequest, {"id": None}, "id"),
        (RerunRequest, {"id": 5}, "id"),
        (RerunRequest, {"id": "x", "key": ["k"]}, "key"),
        (EventListRequest, {"limit": "many"}, "limit"),
        (EventListRequest, {"limit": 1.5}, "limit"),
        (TriggerRequest, {"source": "hand", "payload": []}, "payload"),
        (TriggerRequest, {"source": "hand", "payload": "{}"}, "payload"),
    ],
)
def test_a_missing_or_invalid_field_is_named(kind: type[CommandRequest], values: dict[str, Any], field: str) -> None:
    with pytest.raises(UsageError, match=rf"invalid request: .*`(\$\.)?{field}`"):
        decode_request(kind, values)


async def test_the_socket_answers_an_invalid_request_with_the_field_and_not_with_a_defect() -> None:
    operations = AdminOperations(SimpleNamespace(commands=None))  # type: ignore[arg-type]
    for name, kind in COMMANDS.items():
        if any(field.required for field in msgspec.structs.fields(kind)):
            with pytest.raises(UsageError, match=r"missing required field `(id|source)`"):
                await operations.handle({"verb": name}, "uid:0")


@pytest.mark.parametrize(("limit", "rows"), [(None, 50), (0, 50), (1, 1), (-3, 1), (1_000, 1_000), (5_000, 1_000)])
def test_a_list_has_fifty_rows_by_default_and_a_thousand_at_most(limit: int | None, rows: int) -> None:
    assert decode_request(EventListRequest, {"limit": limit, "source": None, "verb": "events"}).rows == rows


@pytest.mark.parametrize("values", [{}, {"resource": None}, {"resource": 5}])
def test_a_request_without_a_resource_is_wrong_usage_and_no_defect(values: Mapping[str, object]) -> None:
    with pytest.raises(UsageError, match="'resource'"):
        resource_name(values)


async def test_a_reason_that_is_not_text_is_refused() -> None:
    control = Control(SimpleNamespace(current=None), trigger=None)  # type: ignore[arg-type]
    for request in ({}, {"digest": 5}, {"digest": None}):
        with pytest.raises(UsageError, match="'digest'"):
            await control.approve(request, "ada")


def waiting_control() -> Control:
    """Return a control whose reconciles never end."""

    async def ignored(_: object) -> None:
        pass

    one = ResourceId("Integration", "default", "one")
    current = SimpleNamespace(active=SimpleNamespace(resources={one: None}, revision=""), view=SimpleNamespace(statuses={}))
    current.context = SimpleNamespace(store=SimpleNamespace(append_audit=ignored), clock=lambda: 0.0)
    controller = SimpleNamespace(current=current, counts={}, at_work=lambda _: False, holder="")
    return Control(controller, ignored)  # type: ignore[arg-type]


@pytest.mark.parametrize("timeout", [0, -1, True, "5", [1], float("nan"), float("inf"), 10**400])
async def test_a_timeout_that_is_not_a_positive_number_is_refused(timeout: object) -> None:
    with pytest.raises(UsageError, match="'timeout'"):
        await waiting_control().reconcile({"resource": "Integration/one", "wait": True, "timeout": timeout}, "ada")


async def test_a_reconcile_that_does_not_end_in_time_is_an_error_and_no_defect() -> None:
    with pytest.raises(ReconcilerError, match=r"was not reconciled within 0\.01 s") as raised:
        await waiting_control().reconcile({"resource": "Integration/one", "wait": True, "timeout": 0.01}, "ada")
    assert raised.value.code == "RC8003"


async def test_the_audit_log_names_the_caller_of_the_socket_alike_for_every_command() -> None:
    callers: list[str] = []

    async def note(_: object, values: object, who: str) -> Mapping[str, Any]:
        callers.append(who)
        return {}

    operations = AdminOperations(SimpleNamespace())  # type: ignore[arg-type]
    operations._operations = {name: replace(each, handler=note) for name, each in operations._operations.items()}
    for name in operations._operations:
        await operations.handle({"verb": name}, f"uid:{os.getuid()}")
        await operations.handle({"verb": name}, "uid:4294967290")
    assert set(callers) == {pwd.getpwuid(os.getuid()).pw_name, "uid:4294967290"}
