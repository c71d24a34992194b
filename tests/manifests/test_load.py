"""From files to resources: seeds, schemas, references, meaning, and what a user is told."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.manifests import SourceFile, load, reference
from reconciler.manifests import schema as schemas
from reconciler.manifests.kinds import KINDS
from reconciler.manifests.yaml import load_documents
from reconciler.model.codec import resource_from_json, resource_to_json
from reconciler.model.codes import CODES
from reconciler.model.resources import (
    Adopt,
    DeletionPolicy,
    Desired,
    DriftMode,
    IgnoreRule,
    Lifecycle,
    Management,
    ResourceId,
    SecretRef,
)
from reconciler.model.resources import Suspension as Suspended

ROOT = Path(__file__).resolve().parents[2]
SEEDS = ROOT / "tests" / "fixtures" / "seeds"
SECRET = "kind: Secret\nmetadata: {name: s}\nspec: {provider: env, data: {token: {env: TOKEN}, other: {env: OTHER}}}\n---\n"
REF = "{valueFrom: {secret: {name: s, key: token}}}"
GITHUB = f"kind: Integration\nmetadata: {{name: g}}\nspec: {{type: github, url: https://github.com/a, auth: {{use: token, token: {REF}}}}}\n---\n"
BUDDY = f"kind: Integration\nmetadata: {{name: b}}\nspec: {{type: buddy, url: https://app.buddy.works/acme, auth: {{use: token, token: {REF}}}}}\n---\n"
SOURCE = "kind: EventSource\nmetadata: {name: e}\nspec: {integration: {name: g}, resource: {type: repository, name: r}}\n---\n"
TOKEN = "ghp_" + "Ab1" * 12


def files(*texts: str) -> list[SourceFile]:
    return [SourceFile(f"f{n}.yaml", hashlib.sha256(text.encode()).hexdigest(), text.encode()) for n, text in enumerate(texts)]


def desire(*texts: str, sandbox: bool = False) -> Desired:
    desired = load(files(*texts), revision="r1", sandbox=sandbox)
    assert all(isinstance(resource.typed(KINDS[resource.id.kind]), KINDS[resource.id.kind]) for resource in desired.resources)
    return desired


def valid(*texts: str) -> Desired:
    desired = desire(*texts)
    assert [str(problem) for problem in desired.problems] == []
    assert desired.complete
    return desired


def codes(desired: Desired) -> list[str]:
    return [problem.code for problem in desired.problems]


def spec(desired: Desired, kind: str, name: str, canvas: str = "default") -> Any:
    return desired.by_id()[ResourceId(kind, canvas, name)].spec


def seed(name: str) -> str:
    return (SEEDS / name).read_text()


# -- seeds --------------------------------------------------------------------------------------------------------------

AROUND = "".join(
    f"kind: Secret\nmetadata: {{name: {name}}}\nspec: {{provider: env, data: {{token: {{env: X}}}}}}\n---\n"
    for name in ("semaphore", "github-token")
)


@pytest.mark.parametrize("name", ["integration-semaphore-explained", "integration-semaphore", "integration-github"])
def test_every_integration_of_the_seeds_loads_unchanged(name: str) -> None:
    desired = valid(seed(f"{name}.yaml"), AROUND)
    found = next(resource for resource in desired.resources if resource.id.kind == "Integration")
    assert found.id.canvas == "canvas-123"
    assert found.spec["auth"]["use"] == "token"
    assert found.secret_refs("/auth") == {
        "/token": SecretRef("default", "github-token" if "github" in name else "semaphore", "token")
    }


def test_the_event_source_of_the_seeds_loads_unchanged_with_the_shared_integration() -> None:
    shared = seed("integration-semaphore.yaml").replace("canvas-123", "default")
    found = valid(seed("event-source-semaphore.yaml"), shared, AROUND).resources[0]
    assert found.id == ResourceId("EventSource", "a1787a2e-dba7-42d0-8431-31dbf0252b92", "my-project")
    assert found.references == (ResourceId("Integration", "default", "semaphore-integration"),)


def test_the_executor_of_the_seeds_loads_unchanged_inside_a_stage() -> None:
    body = "\n".join("  " + line for line in seed("executor-semaphore.yaml").splitlines())
    stage = f"kind: Stage\nmetadata: {{name: st}}\nspec:\n  connections: [{{type: TYPE_EVENT_SOURCE, name: m}}]\n{body}\n---\n"
    manual = "kind: EventSource\nmetadata: {name: m}\nspec: {type: manual}\n"
    desired = valid(stage + manual, seed("integration-semaphore.yaml").replace("canvas-123", "default"), AROUND)
    assert spec(desired, "Stage", "st")["executor"]["spec"] == {
        "pipelineFile": ".semaphore/semaphore.yml",
        "parameters": {},
        "ref": "main",
    }


@pytest.mark.parametrize("path", sorted(SEEDS.glob("buddy-*.json")), ids=lambda path: path.stem)
def test_every_body_of_buddys_documentation_is_a_manifest_with_its_credentials_as_references(path: Path) -> None:
    body = json.loads(path.read_text())
    names = {key for key, value in body.items() if value == "(a credential)"}
    body.update({name: {"valueFrom": {"secret": {"name": "s", "key": "token"}}} for name in names})
    document = {
        "kind": "BuddyIntegration",
        "metadata": {"name": "x"},
        "spec": {"integration": {"name": "b"}, "workspace": "acme", **body},
    }
    desired = valid(SECRET + BUDDY + json.dumps(document))
    found = spec(desired, "BuddyIntegration", "x")
    assert not {"access_key_id", "secret_access_key"} & set(found)
    assert found["type"] == {"AZURE": "AZURE_CLOUD"}.get(body["type"], body["type"])
    renamed = {"access_key_id": "access_key", "secret_access_key": "secret_key"}
    assert {key.removeprefix("/") for key in desired.by_id()[ResourceId("BuddyIntegration", "default", "x")].secret_refs()} == {
        renamed.get(name, name) for name in names
    }


@pytest.mark.parametrize("path", sorted(SEEDS.glob("buddy-*.json")), ids=lambda path: path.stem)
def test_a_literal_credential_in_a_buddy_body_is_refused_and_never_repeated(path: Path) -> None:
    body = json.loads(path.read_text())
    literal = "s3cr3t-value-nobody-may-see"
    names = [key for key, value in body.items() if value == "(a credential)"]
    body.update(dict.fromkeys(names, literal))
    document = {
        "kind": "BuddyIntegration",
        "metadata": {"name": "x"},
        "spec": {"integration": {"name": "b"}, "workspace": "acme", **body},
    }
    desired = desire(SECRET + BUDDY + json.dumps(document))
    assert {problem.pointer for problem in desired.problems if problem.code == "RC1104"} == {f"/spec/{name}" for name in names}
    assert literal not in repr(desired.problems)


@pytest.mark.parametrize("folder", ["small-team", "organisation", "brownfield"])
def test_every_example_is_valid(folder: str) -> None:
    paths = [p for p in (ROOT / "examples" / folder).rglob("*.yaml") if p.name != "reconciler.yaml" and "/." not in str(p)]
    assert paths
    valid(*[path.read_text() for path in paths])


# -- identities and references ------------------------------------------------------------------------------------------


def test_c20_one_identity_in_two_files_refuses_both_and_each_names_the_other() -> None:
    desired = desire("# first\n" + SECRET, SECRET)
    assert desired.resources == ()
    assert [(str(p.location), p.code) for p in desired.problems] == [("f0.yaml:3:18", "RC1211"), ("f1.yaml:2:18", "RC1211")]
    assert "f1.yaml:1:1" in desired.problems[0].message + desired.problems[0].hint
    assert "f0.yaml:2:1" in desired.problems[1].message + desired.problems[1].hint
    assert desired.invalid == {ResourceId("Secret", "default", "s")}
    assert not desired.complete


def test_c20_one_name_in_two_canvases_is_two_resources() -> None:
    assert len(valid(SECRET + SECRET.replace("name: s}", "name: s, canvasId: team}")).resources) == 2


def test_c20_a_resource_that_moved_to_another_file_is_the_same_resource() -> None:
    before, after = valid(SECRET + GITHUB), valid(GITHUB, SECRET)
    assert {r.id: r.spec_digest for r in before.resources} == {r.id: r.spec_digest for r in after.resources}


def test_a_reference_looks_into_its_own_canvas_then_into_default_and_nowhere_else() -> None:
    def own(canvas: str) -> str:
        return SECRET.replace("name: s}", f"name: s, canvasId: {canvas}}}")

    integration = GITHUB.replace("name: g}", "name: g, canvasId: team}")
    identity = ResourceId("Integration", "team", "g")
    assert valid(integration, own("team"), SECRET).by_id()[identity].secret_refs("/auth")["/token"].canvas == "team"
    assert valid(integration, SECRET).by_id()[identity].secret_refs("/auth")["/token"].canvas == "default"
    assert codes(desire(integration, own("other"))) == ["RC1212"]
    assert codes(desire(GITHUB, own("team"))) == ["RC1212"]


def test_a_missing_reference_has_its_place_and_what_was_meant() -> None:
    [problem] = desire(SECRET.replace("name: s}", "name: github}") + GITHUB.replace("name: s,", "name: githib,")).problems
    assert (problem.code, problem.location.line, problem.pointer) == ("RC1212", 7, "/spec/auth/token/valueFrom/secret/name")
    assert "'github'" in problem.hint


def test_a_key_that_the_secret_does_not_have_is_refused_with_what_was_meant() -> None:
    [problem] = desire(SECRET + GITHUB.replace("key: token", "key: tokn")).problems
    assert (problem.code, problem.pointer) == ("RC1214", "/spec/auth/token/valueFrom/secret/key")
    assert "'token'" in problem.hint


def test_an_invalid_target_is_not_reported_as_missing() -> None:
    desired = desire(SECRET + GITHUB.replace("type: github", "type: githubb") + SOURCE)
    assert codes(desired) == ["RC1103"]
    assert desired.invalid == {ResourceId("Integration", "default", "g")}
    assert ResourceId("EventSource", "default", "e") in desired.by_id()


def test_an_integration_of_the_wrong_type_is_refused_wherever_it_is_named() -> None:
    buddy = f"kind: BuddyIntegration\nmetadata: {{name: x}}\nspec: {{integration: {{name: g}}, workspace: a, type: GIT_HUB, token: {REF}}}\n---\n"
    assert codes(desire(SECRET + GITHUB + buddy)) == ["RC1213"]
    assert codes(desire(SECRET + GITHUB + SOURCE.replace("spec: {", "spec: {type: gitlab, "))) == ["RC1213"]
    assert codes(desire(SECRET + GITHUB + SOURCE.replace("repository", "project"))) == ["RC1213"]
    executor = "executor: {type: semaphore, integration: {name: g}, resource: {type: project, name: p}, spec: {ref: main}}"
    assert codes(desire(SECRET + GITHUB + SOURCE + stage(executor))) == ["RC1213"]


def test_moved_from_a_resource_that_is_still_declared_is_refused() -> None:
    moved = SOURCE.replace("name: e}", "name: e2}").replace("spec: {", "spec: {lifecycle: {movedFrom: e}, ")
    assert codes(desire(SECRET + GITHUB + SOURCE + moved)) == ["RC1216"]
    assert valid(SECRET + GITHUB + moved).resources[0].lifecycle.moved_from == "e"


def test_stages_that_start_each_other_are_refused_and_a_long_chain_is_not() -> None:
    def link(name: str, on: str) -> str:
        return f"kind: Stage\nmetadata: {{name: {name}}}\nspec: {{connections: [{{type: stage, name: {on}}}], executor: {{type: noop}}}}\n---\n"

    assert codes(desire(link("a", "b") + link("b", "c") + link("c", "a"))) == ["RC1215"] * 3
    assert codes(desire(link("a", "a"))) == ["RC1215"]
    chain = "".join(link(f"s{n}", f"s{n + 1}") for n in range(900))
    end = (
        "kind: Stage\nmetadata: {name: s900}\nspec: {connections: [{type: event-source, name: e}], executor: {type: noop}}\n---\n"
    )
    assert len(valid(chain + end, SECRET + GITHUB + SOURCE).resources) == 904


# -- what a user is told ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code", "line", "column", "pointer", "hint"),
    [
        ("kind: Canvas\nmetadata: {nmae: x}\n", "RC1100", 2, 12, "/metadata/nmae", "'name'"),
        ("kind: Canvas\nmetadata: {labels: {}}\n", "RC1102", 2, 11, "/metadata", ""),
        ("kind: Canvas\nmetadata: {name: Xx}\n", "RC1105", 2, 18, "/metadata/name", "RFC 1123"),
        ("kind: Canvas\nmetadata: {name: p\u0430yments}\n", "RC1105", 2, 18, "/metadata/name", ""),
        ('kind: Canvas\nmetadata: {name: "abc\\n"}\n', "RC1105", 2, 18, "/metadata/name", ""),
        ("kind: Canvass\nmetadata: {name: x}\n", "RC1014", 1, 7, "/kind", "Canvas"),
        ("a: 1\n", "RC1013", 1, 1, "", ".reconcilerignore"),
        ("- 1\n", "RC1012", 1, 1, "", ".reconcilerignore"),
        ("kind: Secret\nmetadata: {name: x}\nspec: {provider: envv}\n", "RC1103", 3, 18, "/spec/provider", "'env'"),
        ("kind: Canvas\nmetadata: {name: 1}\n", "RC1104", 2, 18, "/metadata/name", ""),
        ("kind: Canvas\nmetadata: {name: x}\napiVersion: v2\n", "RC1103", 3, 13, "/apiVersion", ""),
    ],
)
def test_a_problem_has_its_place_pointer_code_and_what_was_meant(
    text: str, code: str, line: int, column: int, pointer: str, hint: str
) -> None:
    problems = desire(text).problems
    found = next(problem for problem in problems if problem.code == code)
    assert (found.location.line, found.location.column, found.pointer) == (line, column, pointer)
    assert hint in found.hint


def test_all_problems_of_a_revision_are_told_at_once_in_order_of_their_places() -> None:
    desired = desire(
        "a: 1\n---\nkind: Canvas\nmetadata: {name: A, x: 1}\n", SECRET + GITHUB.replace("name: s,", "name: t,"), "a: {"
    )
    assert [(p.location.file, p.location.line, p.code) for p in desired.problems] == [
        ("f0.yaml", 1, "RC1013"), ("f0.yaml", 4, "RC1105"), ("f0.yaml", 4, "RC1100"), ("f1.yaml", 7, "RC1212"), ("f2.yaml", 2, "RC1005"),
    ]  # fmt: skip
    assert [str(r.id) for r in desired.resources] == ["Secret/s"]


def test_what_is_broken_but_can_be_identified_is_invalid_and_never_forgotten() -> None:
    desired = desire(
        "kind: Canvas\nmetadata: {name: known}\nspec: {descriptio: x}\n---\nkind: Canvas\nmetadata: {name: twice}\nkind: Canvas\n"
    )
    assert desired.invalid == {ResourceId("Canvas", "default", "known"), ResourceId("Canvas", "default", "twice")}


def test_every_code_that_the_package_uses_has_its_row_in_the_table() -> None:
    used = {
        code for path in (ROOT / "reconciler" / "manifests").glob("*.py") for code in re.findall(r"RC1\d{3}", path.read_text())
    }
    assert used <= set(CODES)
    assert {code for code in CODES if code.startswith("RC1")} <= used | {"RC1001"}


# -- credentials --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "literal",
    [TOKEN, "github_pat_" + "a1" * 15, "glpat-" + "x" * 20, "AKIA" + "A1" * 8, "dop_v1_" + "ab" * 32, "NRAK-" + "A" * 27, "xoxb-1234567890-abc",
     "-----BEGIN RSA PRIVATE KEY-----", "whsec_" + "a" * 32, "hvs." + "a" * 30],
)  # fmt: skip
@pytest.mark.parametrize(
    "text",
    ["kind: Canvas\nmetadata: {name: c}\nspec: {description: 'see LITERAL here'}\n", "kind: Canvas\nmetadata: {name: 'LITERAL'}\n",
     "kind: Canvas\nmetadata: {name: c, annotations: {'LITERAL': x}}\n", "kind: 'LITERAL'\nmetadata: {name: c}\n",
     "kind: Secret\nmetadata: {name: c}\nspec: {provider: 'LITERAL', data: {k: {env: 'LITERAL'}}}\n", "kind: Canvas\n'LITERAL': 1\n'LITERAL': 2\n"],
)  # fmt: skip
def test_text_that_looks_like_a_credential_is_refused_anywhere_and_never_repeated(text: str, literal: str) -> None:
    desired = desire(text.replace("LITERAL", literal))
    assert "RC1015" in codes(desired)
    assert desired.resources == ()
    assert literal not in repr(desired)


@pytest.mark.parametrize("literal", ["hunter2", "12345", "{value: hunter2}", "[hunter2]"])
def test_a_literal_where_a_reference_belongs_is_refused_and_never_repeated(literal: str) -> None:
    desired = desire(SECRET + GITHUB.replace(REF, literal))
    assert desired.problems
    assert all(problem.pointer.startswith("/spec/auth/token") for problem in desired.problems)
    assert "hunter2" not in repr(desired.problems)
    assert "12345" not in repr(desired.problems)


def test_local_secrets_are_refused_outside_the_sandbox_with_what_to_use_instead() -> None:
    text = f"kind: Secret\nmetadata: {{name: s}}\nspec: {{provider: PROVIDER_LOCAL, local: {{data: {{token: {TOKEN}}}}}}}\n"
    [problem] = desire(text).problems
    assert (problem.code, problem.pointer) == ("RC1202", "/spec/provider")
    assert "provider: env" in problem.hint
    assert TOKEN not in repr(desire(text).problems)
    sandboxed = desire(text, sandbox=True)
    assert sandboxed.problems == ()
    assert sandboxed.resources[0].spec == {"provider": "local", "local": {"data": {"token": TOKEN}}}


@pytest.mark.parametrize(
    ("provider", "use", "why"),
    [("github", "oidc", "does not accept ID tokens"), ("semaphore", "AUTH_TYPE_OIDC", "does not accept ID tokens"), ("dockerhub", "oidc", "ID tokens"),
     ("aws", "oidc", ""), ("semaphore", "basic", "token"), ("gitlab", "github-app", "token")],
)  # fmt: skip
def test_a_form_of_authentication_that_the_provider_has_not_is_refused_and_says_why(provider: str, use: str, why: str) -> None:
    blocks = {"oidc": "oidc: {audience: x, roleArn: 'arn:aws:iam::123456789012:role/x'}", "AUTH_TYPE_OIDC": "oidc: {audience: x}",
              "basic": f"basic: {{username: u, password: {REF}}}", "github-app": f"githubApp: {{appId: 1, privateKey: {REF}}}"}  # fmt: skip
    text = f"kind: Integration\nmetadata: {{name: i}}\nspec: {{type: {provider}, url: https://x.example/a, auth: {{use: {use}, {blocks[use]}}}}}\n"
    problems = desire(SECRET + text).problems
    assert [problem.code for problem in problems] == (["RC1205"] if why else [])
    assert all(why in problem.hint for problem in problems)


# -- canonical form -----------------------------------------------------------------------------------------------------


def test_both_spellings_of_every_enum_make_the_same_resource() -> None:
    def long(text: str) -> str:
        words = {"use: token": "use: AUTH_TYPE_TOKEN", "type: event-source": "type: TYPE_EVENT_SOURCE", "type: data": "type: FILTER_TYPE_DATA",
                 "filterOperator: or": "filterOperator: FILTER_OPERATOR_OR", "type: approval": "type: CONDITION_TYPE_APPROVAL",
                 "type: noop": "type: TYPE_NOOP", "provider: env": "provider: PROVIDER_ENV", "type: github": "type: GIT_HUB"}  # fmt: skip
        for short, other in words.items():
            assert short in text
            text = text.replace(short, other)
        return text

    text = SECRET + GITHUB + SOURCE + stage(
        "executor: {type: noop}", "conditions: [{type: approval, approval: {count: 1}}]",
        filters="filters: [{type: data, data: {expression: 'true'}}], filterOperator: or")  # fmt: skip
    assert {r.id: r.spec_digest for r in valid(text).resources} == {r.id: r.spec_digest for r in valid(long(text)).resources}


def test_the_lifecycle_is_read_and_taken_out_of_the_spec() -> None:
    block = ("{deletionPolicy: Orphan, management: no-delete, drift: warn, adopt: ifIdentical, replace: allow, interval: 1h30m, preventDestroy: true, "
             "externalId: 42, ignore: [{path: /a, until: '2030-01-31T00:00:00Z'}], suspend: {reason: why}}")  # fmt: skip
    found = valid(SECRET + GITHUB + SOURCE.replace("spec: {", f"spec: {{lifecycle: {block}, ")).resources[0]
    assert "lifecycle" not in found.spec
    assert found.lifecycle == Lifecycle(
        DeletionPolicy.ORPHAN, Management.NO_DELETE, DriftMode.WARN, Adopt.IF_IDENTICAL, True, (IgnoreRule("/a", "2030-01-31T00:00:00Z"),), 5400.0,
        Suspended("why"), True, None, "42")  # fmt: skip


@pytest.mark.parametrize(("text", "seconds"), [("5m", 300.0), ("1h30m", 5400.0), ("90s", 90.0), ("2d", 172_800.0), ("45", 45.0)])
def test_durations_are_seconds(text: str, seconds: float) -> None:
    found = valid(SECRET + GITHUB + SOURCE.replace("spec: {", f"spec: {{lifecycle: {{interval: {text}}}, ")).resources[0]
    assert found.lifecycle.interval_s == seconds


def test_what_is_the_users_own_is_never_folded() -> None:
    payload = "{type: TYPE_X, timeout: 5m, use: AUTH_TYPE_Y, nested: {results: RESULT_Z}}"
    found = spec(
        valid(
            SECRET + GITHUB + SOURCE + stage(f"executor: {{type: http, spec: {{url: https://x.example, payload: {payload}}}}}")
        ),
        "Stage",
        "st",
    )
    assert found["executor"]["spec"]["payload"] == {
        "type": "TYPE_X",
        "timeout": "5m",
        "use": "AUTH_TYPE_Y",
        "nested": {"results": "RESULT_Z"},
    }


# -- stages, groups, schedules ------------------------------------------------------------------------------------------


def stage(executor: str, *more: str, filters: str = "") -> str:
    connection = f"{{type: event-source, name: e{', ' + filters if filters else ''}}}"
    return "\n".join(
        [
            f"kind: Stage\nmetadata: {{name: st}}\nspec:\n  connections: [{connection}]",
            *(f"  {line}" for line in (executor, *more)),
            "---\n",
        ]
    )


def with_stage(*parts: str, filters: str = "") -> Desired:
    return desire(SECRET + GITHUB + SOURCE + stage(*(parts or ("executor: {type: noop}",)), filters=filters))


def test_expressions_are_compiled_when_the_manifest_is_validated_and_the_place_is_told() -> None:
    [problem] = with_stage(filters="filters: [{type: data, data: {expression: '$.ref == '}}]").problems
    assert (problem.code, problem.pointer) == ("RC1301", "/spec/connections/0/filters/0/data/expression")
    assert "at character" in problem.message
    assert codes(with_stage(filters="filters: [{type: header, header: {expression: 'unknown == 1'}}]")) == ["RC1301"]
    assert codes(with_stage(filters="filters: [{type: data, data: {expression: '1 + 1'}}]")) == ["RC1301"]
    assert codes(with_stage(filters="""filters: [{type: data, data: {expression: '$.ref.matches("(")'}}]""")) == ["RC1301"]


@pytest.mark.parametrize("pattern", ["(", "[a", "(?<=a)b", r"(a)\1"])
def test_patterns_of_constraints_are_checked_as_they_will_be_run(pattern: str) -> None:
    assert codes(with_stage(filters=f"filters: [{{type: payload, payload: {{ref: '{pattern}'}}}}]")) == ["RC1303"]
    named = with_stage(
        f"inputs: [{{name: A, pattern: '{pattern}'}}]",
        "inputMappings: [{values: [{name: A, value: x}]}]",
        "executor: {type: noop}",
    )
    assert [(one.code, one.pointer) for one in named.problems] == [("RC1303", "/spec/inputs/0/pattern")]


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        (("inputs: [{name: A}]",), ["RC1209"]),
        (("inputs: [{name: A}, {name: A}]", "inputMappings: [{values: [{name: A, value: x}]}]"), ["RC1208"]),
        (("inputs: [{name: A}]", "inputMappings: [{values: [{name: B, value: x}]}]"), ["RC1209", "RC1210"]),
        (
            ("inputs: [{name: A}]", "inputMappings: [{values: [{name: A, value: x}]}, {values: [{name: A, value: y}]}]"),
            ["RC1209", "RC1209"],
        ),
        (
            ("inputs: [{name: A}]", "inputMappings: [{when: {triggeredBy: {connection: zz}}, values: [{name: A, value: x}]}]"),
            ["RC1210"],
        ),
        (
            (
                "inputs: [{name: A}]",
                "inputMappings: [{values: [{name: A, valueFrom: {eventData: {connection: zz, expression: $.a}}}]}]",
            ),
            ["RC1210"],
        ),
        (
            (
                "inputs: [{name: A}]",
                "inputMappings: [{values: [{name: A, valueFrom: {eventData: {connection: e, expression: '$.'}}}]}]",
            ),
            ["RC1301"],
        ),
        (("inputs: [{name: A}]", "inputMappings: [{values: [{name: A}]}]"), ["RC1106"]),
        (("conditions: [{type: time-window, timeWindow: {start: '25:00', end: '10:00', weekDays: [Monday]}}]",), ["RC1105"]),
        (
            (
                "conditions: [{type: time-window, timeWindow: {start: '09:00', end: '10:00', weekDays: [Monday], timeZone: Mars/Base}}]",
            ),
            ["RC1207"],
        ),
        (("conditions: [{type: approval}]",), ["RC1102"]),
    ],
)
def test_the_rules_of_a_stage_hold(lines: tuple[str, ...], wanted: list[str]) -> None:
    assert sorted(codes(with_stage("executor: {type: noop}", *lines))) == wanted


@pytest.mark.parametrize(
    ("executor", "wanted"),
    [
        (
            "{type: github, integration: {name: g}, resource: {type: repository, name: r}, spec: {workflow: ci.yaml, ref: main}}",
            [],
        ),
        ("{type: github, integration: {name: g}, resource: {type: repository, name: r}, spec: {eventType: deploy}}", []),
        ("{type: github, integration: {name: g}, resource: {type: project, name: r}, spec: {eventType: deploy}}", ["RC1103"]),
        ("{type: github, resource: {type: repository, name: r}, spec: {eventType: deploy}}", ["RC1102"]),
        (
            "{type: github, integration: {name: g}, resource: {type: repository, name: r}, spec: {eventTyp: deploy}}",
            ["RC1100", "RC1106"],
        ),
        ("{type: http, spec: {payload: {a: 1}}}", ["RC1102"]),
        ("{type: http, spec: {url: https://x.example, responsePolicy: {statusCodes: [999]}}}", ["RC1101"]),
        ("{type: http, spec: {url: https://x.example, poll: {url: https://x.example, successWhen: '$.'}}}", ["RC1301"]),
        ("{type: noop, integration: {name: g}}", ["RC1107"]),
    ],
)
def test_every_executor_is_validated_in_full(executor: str, wanted: list[str]) -> None:
    assert sorted(codes(with_stage(f"executor: {executor}"))) == wanted


def test_f12_templates_name_what_exists_and_are_no_code() -> None:
    body = "{a: '${{ inputs.B }}', b: '${{ secrets.S }}', c: '${{ event.x.y }}', d: '${{ __class__ }}', e: '${{ inputs.A + 1 }}'}"
    desired = with_stage(f"executor: {{type: http, spec: {{url: https://x.example, payload: {body}}}}}", "inputs: [{name: A}]",
                         "inputMappings: [{values: [{name: A, value: x}]}]")  # fmt: skip
    base = "/spec/executor/spec/payload/"
    assert [(p.code, p.pointer) for p in desired.problems] == [("RC1302", base + key) for key in "abde"]


@pytest.mark.parametrize(
    "cron", ["99 * * * *", "* * * *", "* * * * * *", "a * * * *", "*/0 * * * *", "5-1 * * * *", "* * 0 * *", "* * * 13 *"]
)
def test_a_cron_line_that_never_was_one_is_refused(cron: str) -> None:
    assert codes(
        desire(f"kind: EventSource\nmetadata: {{name: c}}\nspec: {{type: schedule, schedule: {{cron: '{cron}'}}}}\n")
    ) == ["RC1207"]


@pytest.mark.parametrize(
    "schedule",
    [
        "{cron: '0 9 * * 1-5', timeZone: Europe/Berlin}",
        "{cron: '*/5 0,12 1-15 jan mon-fri'}",
        "{type: TYPE_DAILY, daily: {time: '09:30'}}",
        "{type: weekly, weekly: {weekDay: WEEK_DAY_MONDAY, time: '09:30'}}",
    ],
)
def test_both_forms_of_a_schedule_are_taken(schedule: str) -> None:
    valid(f"kind: EventSource\nmetadata: {{name: c}}\nspec: {{type: scheduled, schedule: {schedule}}}\n")


# -- schemas and pages --------------------------------------------------------------------------------------------------


def test_the_whole_schema_is_made_of_the_schemas_of_the_kinds() -> None:
    assert schemas.combined(schemas.documents()) == schemas.schema("manifest")


@pytest.mark.parametrize("kind", [*schemas.KINDS, "manifest"])
def test_every_schema_is_valid_refers_to_nothing_outside_and_describes_every_key(kind: str) -> None:
    from jsonschema import Draft202012Validator

    document = schemas.schema(kind)
    Draft202012Validator.check_schema(document)
    assert all(node["$ref"].startswith("#/$defs/") for node in _nodes(document) if isinstance(node.get("$ref"), str))
    for node in _nodes(document):
        if node.get("additionalProperties") is False and node.get("type") == "object":
            for key, inner in node["properties"].items():
                target = document["$defs"][inner["$ref"].rpartition("/")[2]] if "$ref" in inner else inner
                assert inner.get("description") or target.get("description") or target.get("title"), (kind, key)


@pytest.mark.parametrize("kind", schemas.KINDS)
def test_every_example_in_a_schema_is_valid_by_it_and_by_the_whole_schema(kind: str) -> None:
    for example in schemas.schema(kind)["examples"]:
        assert schemas.fast(kind).is_valid(example)
        assert schemas.fast("manifest").is_valid(example)


def test_f14_every_pattern_answers_within_10_ms_for_10_kb() -> None:
    patterns = {node["pattern"] for node in _nodes(schemas.schema("manifest")) if isinstance(node.get("pattern"), str)}
    assert len(patterns) > 10
    for pattern in sorted(patterns):
        for hostile in (
            "a" * 10_000,
            "1" * 10_000,
            "a-" * 5_000,
            "1d" * 5_000,
            "/a" * 5_000 + "\n",
            "https://" + "a." * 5_000 + " ",
        ):
            start = time.perf_counter()
            re.search(pattern, hostile)
            assert time.perf_counter() - start < 0.01 * 5, pattern  # the machine is shared


def test_f14_no_reference_of_a_schema_is_ever_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def no_network(*_: object, **__: object) -> None:
        raise AssertionError("a schema was fetched")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    from jsonschema import Draft202012Validator
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    assert desire("kind: Canvas\nmetadata: {name: X}\n").problems
    with pytest.raises(Unresolvable):
        Draft202012Validator({"$ref": "http://127.0.0.1:9/x.json"}, registry=Registry()).is_valid({})


def _nodes(node: Any) -> Iterable[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for key, value in node.items():
            if key != "examples":
                yield from _nodes(value)
    elif isinstance(node, list):
        for value in node:
            yield from _nodes(value)


def test_the_manifest_page_is_what_the_schemas_say() -> None:
    assert (ROOT / "docs" / "manifests.md").read_text().endswith(reference.render())


def test_every_manifest_on_the_manifest_page_is_valid_by_its_schema() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", reference.render(), re.DOTALL)
    documents = [document.value for block in blocks for document in load_documents(block.encode())[0]]
    kinds = [document for document in documents if "kind" in document]
    assert {document["kind"] for document in kinds} == set(schemas.KINDS)
    assert all(schemas.fast("manifest").is_valid(document) for document in kinds)


# -- cache and codec ----------------------------------------------------------------------------------------------------


class Cache(dict[str, bytes]):
    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def get_many(self, blobs: Iterable[str]) -> dict[str, bytes]:
        self.asked = list(blobs)
        return {key: self[key] for key in self.asked if key in self}

    def put_many(self, rows: Any) -> None:
        self.update(rows)


BROKEN = (
    SECRET
    + GITHUB
    + SOURCE
    + "kind: Canvas\nmetadata: {name: X}\n---\na: {\n---\nkind: Stage\nmetadata: {name: z}\nspec: {connections: []}\n"
)


def test_what_comes_from_the_cache_is_equal_to_what_was_parsed() -> None:
    cache = Cache()
    texts = [BROKEN, SECRET.replace("name: s", "name: t"), stage("executor: {type: noop}", "timeout: 5m")]
    first = load(files(*texts), revision="r", cache=cache)
    assert len(cache) == 3
    assert load(files(*texts), revision="r", cache=cache) == first == load(files(*texts), revision="r")


def test_the_cache_knows_nothing_of_paths_and_the_sandbox_has_its_own_rows() -> None:
    cache = Cache()
    load(files(SECRET), revision="r", cache=cache)
    moved = [SourceFile("elsewhere/x.yaml", files(SECRET)[0].blob, SECRET.encode())]
    assert load(moved, revision="r", cache=cache).resources[0].location.file == "elsewhere/x.yaml"
    assert len(cache) == 1
    local = "kind: Secret\nmetadata: {name: s}\nspec: {provider: local, local: {data: {a: b}}}\n"
    assert load(files(local), revision="r", cache=cache, sandbox=True).complete
    assert not load(files(local), revision="r", cache=cache).complete


def test_a_resource_survives_the_codec() -> None:
    desired = desire(SECRET + GITHUB.replace("spec: {", "spec: {lifecycle: {suspend: {reason: x}, interval: 5m}, ") + SOURCE)
    assert [resource_from_json(resource_to_json(resource)) for resource in desired.resources] == list(desired.resources)


def test_resources_come_in_order_of_their_identity_whatever_the_order_of_the_files() -> None:
    parts = (SECRET, GITHUB, SOURCE, "kind: Canvas\nmetadata: {name: a}\n")
    ids = [r.id for r in desire(*parts).resources]
    assert ids == sorted(ids) == [r.id for r in desire(*reversed(parts)).resources]


KEYS = st.sampled_from(
    [
        "kind",
        "metadata",
        "spec",
        "name",
        "type",
        "auth",
        "use",
        "token",
        "connections",
        "executor",
        "events",
        "filters",
        "data",
        "x",
    ]
)
WORDS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from(["Stage", "Integration", "github", "token", "noop", "a", "${{ x", "$.a", ""]),
)
TREES = st.recursive(
    WORDS, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=5)), max_leaves=15
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(schemas.KINDS), st.dictionaries(KEYS, TREES, max_size=6))
def test_no_manifest_makes_the_loader_raise(kind: str, spec: dict[str, Any]) -> None:
    text = json.dumps({"kind": kind, "metadata": {"name": "x"}, "spec": spec})
    desired = desire(text)
    assert desired.complete == (len(desired.resources) == 1)


MUTANTS = [*(schemas.schema(kind)["examples"][0] for kind in schemas.KINDS)]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(MUTANTS), st.randoms(use_true_random=False), TREES)
def test_no_change_of_a_valid_manifest_makes_the_loader_raise(example: dict[str, Any], random: Any, value: Any) -> None:
    document = json.loads(json.dumps(example))
    node: Any = document["spec"]
    while isinstance(node, (dict, list)) and node:
        key = random.choice(list(node) if isinstance(node, dict) else range(len(node)))
        if not isinstance(node[key], (dict, list)) or not node[key] or random.random() < 0.3:
            node[key] = value
            break
        node = node[key]
    desired = desire(json.dumps(document))
    assert desired.resources == () or desired.problems == ()


@pytest.mark.parametrize(
    "field", ["concurrency: 2.0", "retry: {limit: 1.0}", "conditions: [{type: approval, approval: {count: 1e0}}]"]
)
def test_a_decimal_number_is_no_integer_in_a_manifest(field: str) -> None:
    head = (
        f"{SECRET}{GITHUB}{SOURCE}kind: Stage\nmetadata: {{name: s}}\nspec:\n  connections: [{{type: event-source, name: e}}]\n"
    )
    desired = desire(f"{head}  executor: {{type: noop}}\n  {field}\n")
    (problem,) = desired.problems
    assert (problem.code, problem.hint, problem.location.line) == ("RC1104", "Write it without a decimal point.", 18)
    assert problem.message.endswith(": must be of type integer, not a decimal number")
    assert problem.pointer.startswith("/spec/" + field.partition(":")[0])
    assert len(desired.resources) == 3
    whole = field.replace(".0", "").replace("1e0", "1")
    assert desire(f"{head}  executor: {{type: noop}}\n  {whole}\n").complete


@pytest.mark.parametrize(
    ("report", "pointers"),
    [
        ("{deployment: {create: true, environment: live, ref: main, environmentUrl: 'https://x'}}", []),
        ("{deploymentStatus: true, deployment: {environmentUrl: 'https://x', logUrl: 'https://y', automatic: true}}", []),
        ("{deploymentStatus: true, deployment: {environment: live, create: false}}", ["environment"]),
        ("{deployment: {logUrl: 'https://y', production: true}}", ["logUrl", "production"]),
        ("{deployment: {create: true, automatic: true}}", ["automatic"]),
    ],
)
def test_what_a_report_would_read_and_not_mean_is_refused(report: str, pointers: list[str]) -> None:
    problems = with_stage("executor: {type: noop}", f"report: {report}").problems
    assert [(one.code, one.pointer) for one in problems] == [("RC1206", f"/spec/report/deployment/{key}") for key in pointers]


@pytest.mark.parametrize(
    ("timeout", "wanted"),
    [
        ("timeoutBehavior: drop", ["RC1203"]),
        ("timeoutBehavior: emit, timeout: 0", ["RC1203"]),
        ("timeoutBehavior: emit, timeout: 1h", []),
        ("timeout: 1h", []),
    ],
)
def test_a_group_that_is_to_end_needs_a_time(timeout: str, wanted: list[str]) -> None:
    group = (
        "---\nkind: ConnectionGroup\nmetadata: {name: both}\nspec: {connections: [{type: event-source, name: e}], "
        "groupBy: {fields: [{name: v, expression: $.v}]}, %s}"
    )
    assert codes(desire(SECRET + GITHUB + SOURCE + group % timeout)) == wanted
