"""The driver's structs against GitHub's own OpenAPI description: whatever GitHub may answer can be decoded."""

import json
from functools import cache

import msgspec
import pytest

from reconciler.drivers.github.api import GitHubUser, ScopeOwner
from reconciler.drivers.github.driver import ListedRepository
from reconciler.drivers.github.receiver import DeliveryDetail, HookDelivery
from reconciler.drivers.github.reports import GitHubCommit, GitHubDeployment, GitHubStatus
from reconciler.drivers.github.run_output import RunArtifact, WorkflowJob
from reconciler.drivers.github.runs import WorkflowFile, WorkflowRun
from reconciler.drivers.github.webhooks import GitHubHook, HookKind
from tests.github.test_contract import CONTRACT


def page(name, row):
    """Return the type of an answer that is an object with one list."""
    return msgspec.defstruct("Page", [(name, list[row])])


REPO = "/repos/{owner}/{repo}"
ANSWERS = [
    ("/user", GitHubUser),
    (REPO, ScopeOwner),
    ("/installation/repositories", page("repositories", ListedRepository)),
    (f"{REPO}/hooks", list[HookKind]),
    (f"{REPO}/hooks", list[GitHubHook]),
    (f"{REPO}/hooks/{{hook_id}}", GitHubHook),
    ("/orgs/{org}/hooks", list[GitHubHook]),
    (f"{REPO}/hooks/{{hook_id}}/deliveries", list[HookDelivery]),
    ("/orgs/{org}/hooks/{hook_id}/deliveries", list[HookDelivery]),
    (f"{REPO}/hooks/{{hook_id}}/deliveries/{{delivery_id}}", DeliveryDetail),
    (f"{REPO}/actions/runs", page("workflow_runs", WorkflowRun)),
    (f"{REPO}/actions/workflows/{{workflow_id}}/runs", page("workflow_runs", WorkflowRun)),
    (f"{REPO}/actions/runs/{{run_id}}", WorkflowRun),
    (f"{REPO}/actions/runs/{{run_id}}/artifacts", page("artifacts", RunArtifact)),
    (f"{REPO}/actions/runs/{{run_id}}/jobs", page("jobs", WorkflowJob)),
    (f"{REPO}/actions/workflows", page("workflows", WorkflowFile)),
    (f"{REPO}/commits/{{ref}}", GitHubCommit),
    (f"{REPO}/commits/{{ref}}/statuses", list[GitHubStatus]),
    (f"{REPO}/deployments", list[GitHubDeployment]),
    (f"{REPO}/deployments/{{deployment_id}}/statuses", list[GitHubStatus]),
]
NOT_DESCRIBED = {"$.login of ScopeOwner", "$[].context of GitHubStatus", "$[].last_response of GitHubHook"}
"""Fields of a struct that serves two answers, of which one has the field."""
REFUSED = ["$.request.payload: null"]
"""A delivery without its payload is of no use."""
KINDS = {
    "string": (msgspec.inspect.StrType,),
    "integer": (msgspec.inspect.IntType, msgspec.inspect.FloatType),
    "number": (msgspec.inspect.FloatType,),
    "boolean": (msgspec.inspect.BoolType,),
    "null": (msgspec.inspect.NoneType,),
    "array": (msgspec.inspect.ListType,),
    "object": (msgspec.inspect.StructType, msgspec.inspect.DictType),
}


@cache
def description():
    return json.loads(CONTRACT.read_text())


def alternatives(schema):
    """Return the plain schemas of which an answer meets one: references followed, null apart."""
    if "$ref" in schema:
        *_, kind, name = schema["$ref"].split("/")
        return alternatives(description()["components"][kind][name]) + ([{"type": "null"}] if schema.get("nullable") else [])
    plains = [{"type": "null"}] if schema.get("nullable") else []
    choices = schema.get("oneOf") or schema.get("anyOf")
    if choices:
        return plains + [plain for choice in choices for plain in alternatives(choice)]
    parts = [alternatives(part)[0] for part in schema.get("allOf", ())]
    merged = {"properties": {}, "required": []}
    for part in [*parts, schema]:
        merged["properties"] |= part.get("properties", {})
        merged["required"] += part.get("required", [])
    kind = schema.get("type") or ("object" if merged["properties"] or parts else None)
    return [*plains, {**schema, **merged, "type": kind}]


def problems(info, schema, place="$"):
    """Yield what ``schema`` allows and the type of ``info`` refuses."""
    members = info.types if isinstance(info, msgspec.inspect.UnionType) else (info,)
    if any(getattr(member, "cls", None) is object for member in members):
        return
    for choice in alternatives(schema):
        kinds = KINDS.get(choice["type"])
        match = next((member for member in members if kinds and isinstance(member, kinds)), None)
        if match is None:
            yield f"{place}: {choice['type']}"
        elif isinstance(match, msgspec.inspect.ListType):
            yield from problems(match.item_type, choice["items"], f"{place}[]")
        elif isinstance(match, msgspec.inspect.StructType):
            yield from problems_of_fields(match, choice, place)


def problems_of_fields(struct, schema, place):
    for field in struct.fields:
        where = f"{place}.{field.encode_name}"
        if field.encode_name in schema["properties"]:
            yield from problems(field.type, schema["properties"][field.encode_name], where)
            if field.required and field.encode_name not in schema["required"]:
                yield f"{where}: may be missing"
        elif f"{where} of {struct.cls.__name__}" not in NOT_DESCRIBED:
            yield f"{where}: not described"


@pytest.mark.parametrize(("path", "kind"), ANSWERS)
def test_d15_whatever_github_describes_can_be_decoded(path, kind):
    schema = description()["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert [problem for problem in problems(msgspec.inspect.type_info(kind), schema) if problem not in REFUSED] == []


def test_a_field_that_github_may_leave_out_or_that_has_another_type_is_a_problem():
    class Wrong(msgspec.Struct):
        id: str
        active: bool
        test: int

    schema = {"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}, "active": {"type": "boolean"}}}
    shown = list(problems(msgspec.inspect.type_info(Wrong), schema))
    assert shown == ["$.id: integer", "$.active: may be missing", "$.test: not described"]
