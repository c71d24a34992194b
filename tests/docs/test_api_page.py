"""The page of the API says what the OpenAPI document says: every path, every role, and examples that would be taken."""

import json
import re
import shlex
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import jsonschema
import pytest
import yaml

from reconciler.server.api.access import FAILURES, GRANTS, Access
from reconciler.server.api.document import document
from reconciler.server.api.operations import HTTP_OPERATIONS, PREFIX, Operation
from reconciler.stages.outputs import AUDIENCE, MAX_BYTES, MAX_OUTPUTS
from tests.docs import pages as md

PAGE = (md.ROOT / "docs" / "api.md").read_text(encoding="utf-8")
DOCUMENT = document()
ROWS = re.findall(r"^\| `(GET|POST) (/api/v1/[^`]*)` \|(.*)$", PAGE, re.MULTILINE)


def test_every_operation_of_the_document_is_a_row_of_the_page_and_no_other() -> None:
    assert sorted((method, path) for method, path, _ in ROWS) == sorted(
        (one.method, PREFIX + one.path) for one in HTTP_OPERATIONS
    )


def test_the_roles_of_the_page_are_those_of_the_program() -> None:
    assert set(re.findall(r"^\| `(\w+)` \| read", PAGE, re.MULTILINE)) == set(GRANTS)
    for method, path, rest in ROWS:
        operation = next(one for one in HTTP_OPERATIONS if (one.method, PREFIX + one.path) == (method, path))
        if method == "POST":
            wanted = "the job's own token" if operation.access is Access.JOB else operation.access.value
            assert rest.rstrip(" |").endswith(f"| {wanted}"), path


def test_the_parameters_that_the_page_names_are_those_of_the_document() -> None:
    for operation in HTTP_OPERATIONS:
        row = next(rest for method, path, rest in ROWS if (method, path) == (operation.method, PREFIX + operation.path))
        if operation.method == "GET":
            assert all(f"`{name}`" in row or f"?{name}=" in row for name in operation.query), operation.name


def test_the_numbers_of_the_page_are_those_of_the_program() -> None:
    assert (FAILURES, MAX_OUTPUTS, MAX_BYTES, AUDIENCE) == (20, 64, 64 << 10, "reconciler")
    assert "After twenty wrong tokens in a minute" in PAGE
    assert "A push can contain 64 outputs and 64 KiB" in PAGE
    assert "audience=reconciler" in PAGE


def _curls() -> list[list[str]]:
    lines = [line for line in md.shell_lines(PAGE) if line.startswith("curl ")]
    return [shlex.split(line) for line in lines]


def _operation(method: str, path: str) -> tuple[Operation, dict[str, str]]:
    for one in HTTP_OPERATIONS:
        pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", PREFIX + one.path)
        match = re.fullmatch(pattern, path)
        if one.method == method and match:
            return one, match.groupdict()
    raise AssertionError(f"no operation {method} {path}")


@pytest.mark.parametrize("words", _curls(), ids=lambda words: next(urlsplit(w).path for w in words if "/api/v1" in w))
def test_every_curl_of_the_page_is_a_request_that_the_document_allows(words: list[str]) -> None:
    url = urlsplit(next(word for word in words if "/api/v1/" in word))
    operation, within = _operation(words[words.index("-X") + 1] if "-X" in words else "GET", url.path)
    components: dict[str, Any] = {"components": DOCUMENT["components"]}
    for name, value in within.items():
        jsonschema.validate(value, {**operation.within[name], **components})
    for name, text in parse_qsl(url.query):
        value = int(text) if operation.query[name].get("type") == "integer" else text
        jsonschema.validate(value, {**operation.query[name], **components})
    if operation.body:
        body = json.loads(words[words.index("-d") + 1])
        jsonschema.validate(body, {"$ref": f"#/components/schemas/{operation.body}", **components})


def test_there_are_examples_for_looking_and_for_doing() -> None:
    assert len(_curls()) >= 6


def test_the_error_of_the_page_and_the_workflows_are_readable() -> None:
    shown = [json.loads(block.text) for block in md.blocks(PAGE) if block.language == "json"]
    for one in shown:
        jsonschema.validate(one, {"$ref": "#/components/schemas/Error", "components": DOCUMENT["components"]})
    workflows = [yaml.safe_load(block.text) for block in md.blocks(PAGE) if block.language == "yaml"]
    texts = [json.dumps(one) for one in workflows if "name" in one]
    assert len(texts) == 2
    assert all("/api/v1/outputs" in one and "execution_id" in one for one in texts)
    assert '"id-token": "write"' in texts[0]
