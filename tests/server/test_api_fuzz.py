"""Whatever is sent, the answer is one that the OpenAPI document declares: never 500, never of another shape."""

import json
import string
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import jsonschema
import openapi_spec_validator
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.server.api.document import document
from reconciler.server.api.operations import HTTP_OPERATIONS, PREFIX, Operation
from reconciler.server.health import SECURITY_HEADERS
from tests.server.asked import TOKENS, Asked
from tests.server.strategies import allowed, bodies

DOCUMENT = document("https://hooks.example")
ODD_IDS = ["itm-nosuch", "%", "a/b", "🙂", "'; --", "..x", "x" * 200, "x" * 201, "\x00", "a\n", " "]
NAMES = ["one", "hand", "quick", "asked", "deploy", "github", "nosuch"]


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    """A daemon of its own: what is fuzzed suspends, cancels and triggers."""
    made = Asked(tmp_path_factory.mktemp("fuzzed"))
    made.begin()
    yield made
    made.close()


@pytest.fixture(scope="module")
def known(fuzzed: Asked) -> list[str]:
    """Ids of what is there: of each kind at least one."""
    items = [fuzzed.item("quick", state="done"), fuzzed.item("deploy", state="done"), fuzzed.item("asked", reason="approval")]
    runs = fuzzed.api("viewer", "GET", "/executions").json()["executions"]
    return [*(one["id"] for one in items), *(one["id"] for one in runs), *(one["event"] for one in items)]


def _checked(operation: Operation, answer: httpx.Response) -> None:
    """Hold an answer against the document."""
    declared = DOCUMENT["paths"][PREFIX + operation.path][operation.method.lower()]["responses"]
    told = (
        f"{answer.request.method} {answer.request.url} {answer.request.content[:500]!r}: {answer.status_code} {answer.text[:500]}"
    )
    assert str(answer.status_code) in declared, told
    assert {name: answer.headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS
    media = answer.headers["content-type"].partition(";")[0]
    schema = declared[str(answer.status_code)]["content"][media]["schema"]
    if media == "application/json":
        whole = {**schema, "components": DOCUMENT["components"]}
        problem = next(jsonschema.Draft202012Validator(whole).iter_errors(answer.json()), None)
        assert problem is None, f"{told}: {problem}"


def _requests(operation: Operation, known: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    ids = st.sampled_from([*known, *known, *ODD_IDS]) | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
    within = {
        name: ids if name == "id" else st.sampled_from([*NAMES, "A", "-"]) if name == "name" else allowed(schema, DOCUMENT)
        for name, schema in operation.within.items()
    }
    odd = st.text(string.ascii_letters + "0 é", max_size=8)
    query = st.fixed_dictionaries({}, optional={name: allowed(one, DOCUMENT) | odd for name, one in operation.query.items()})
    more = st.dictionaries(odd, odd, max_size=1)
    body = bodies(DOCUMENT["components"]["schemas"][operation.body], DOCUMENT) if operation.body else st.none()
    raw = st.binary(max_size=40) | st.sampled_from([b"[" * 5000, b'{"a":' * 3000, b"\xff", b"1e999", b'"\\ud800"', b""])
    return st.fixed_dictionaries(
        {
            "within": st.fixed_dictionaries(within),
            "query": st.builds(lambda one, two: {**one, **two}, query, more | st.just({})),
            "body": (body.map(json.dumps).map(str.encode) | raw) if operation.body else st.just(b""),
            "role": st.sampled_from(["viewer", "operator", "operator", "approver", "approver"]),
            "type": st.sampled_from(["application/json"] * 6 + ["text/plain", "application/json; charset=utf-8", ""]),
        }
    )


def _send(client: httpx.Client, operation: Operation, one: dict[str, Any]) -> httpx.Response:
    path = operation.path
    for name, value in one["within"].items():
        path = path.replace(f"{{{name}}}", quote(value, safe=""))
    token = "a.b.c" if operation.name == "outputs" else TOKENS[one["role"]]
    headers = {"authorization": f"Bearer {token}"} | ({"content-type": one["type"]} if operation.body else {})
    content = one["body"] if operation.body else None
    return client.request(operation.method, path, params=one["query"], content=content, headers=headers)


@pytest.mark.slow
@pytest.mark.parametrize("operation", HTTP_OPERATIONS, ids=lambda one: one.name)
def test_every_answer_is_one_that_the_document_declares(fuzzed: Asked, known: list[str], operation: Operation) -> None:
    statuses: set[int] = set()
    with fuzzed.client() as client:

        @settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
        @given(_requests(operation, known).filter(lambda one: one["within"].get("id") not in (".", "..")))
        def ask(one: dict[str, Any]) -> None:
            answer = _send(client, operation, one)
            _checked(operation, answer)
            statuses.add(answer.status_code)

        ask()
    assert "internal_error" not in fuzzed.log()
    assert fuzzed.processes[-1].poll() is None
    if operation.access not in ("public", "job"):
        assert statuses - {422, 401}, "nothing but refusals was tried"


def test_the_document_is_valid_and_names_every_schema_that_it_uses() -> None:
    openapi_spec_validator.validate(DOCUMENT)
    text = json.dumps(DOCUMENT)
    assert [name for name in DOCUMENT["components"]["schemas"] if f'#/components/schemas/{name}"' not in text] == []
    assert "TODO" not in text


def test_every_example_of_the_document_is_as_its_schema_says() -> None:
    seen = 0
    for path in DOCUMENT["paths"].values():
        for operation in path.values():
            media = [one["content"]["application/json"] for one in operation["responses"].values()]
            media += [operation["requestBody"]["content"]["application/json"]] if "requestBody" in operation else []
            for one in media:
                if "example" in one:
                    seen += 1
                    jsonschema.validate(one["example"], {**one["schema"], "components": DOCUMENT["components"]})
    assert seen >= 18


def test_the_document_of_the_daemon_is_the_one_of_the_code_and_names_its_address(fuzzed: Asked) -> None:
    served = fuzzed.api("", "GET", "/openapi.json").json()
    assert served == json.loads(json.dumps(DOCUMENT))
    assert served["servers"] == [{"url": "https://hooks.example"}]


def test_every_operation_has_an_error_of_the_same_shape_and_security_that_is_declared() -> None:
    schemes = set(DOCUMENT["components"]["securitySchemes"])
    for path in DOCUMENT["paths"].values():
        for operation in path.values():
            assert {name for one in operation["security"] for name in one} <= schemes
            for status, response in operation["responses"].items():
                if not status.startswith("2"):
                    assert response["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Error"}
