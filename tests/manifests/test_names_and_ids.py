"""How manifests name what is at a provider: by name, by id, and never by what anyone can choose."""

from __future__ import annotations

import pytest

from reconciler.stages.executors import intent_of
from tests.manifests.test_load import BUDDY, GITHUB, REF, SECRET, codes, desire, spec, valid

INTEGRATION = "kind: BuddyIntegration\nmetadata: {name: i}\nspec: {integration: {name: b}, workspace: acme, type: GIT_LAB, name: i, scope: WORKSPACE, "


def stage(executor: str) -> str:
    source = "kind: EventSource\nmetadata: {name: hand}\nspec: {type: manual}\n---\n"
    head = "kind: Stage\nmetadata: {name: s}\nspec:\n  connections: [{type: event-source, name: hand}]\n"
    return f"{SECRET}{GITHUB}{BUDDY}{source}{head}  executor: {{{executor}}}\n"


def buddy(user: str) -> str:
    return f"{SECRET}{BUDDY}{INTEGRATION}token: {REF}, permissions: {{users: [{{{user}, access_level: MANAGE}}]}}}}\n"


@pytest.mark.parametrize("user", ["id: 7", "email: Ada@acme.io", "name: ada@acme.io"])
def test_n53_a_user_is_given_by_address_or_id(user: str) -> None:
    valid(buddy(user))


@pytest.mark.parametrize("user", ["name: Ada", 'name: "2024"', "email: ada"])
def test_n53_a_user_who_is_given_by_a_display_name_does_not_validate(user: str) -> None:
    desired = desire(buddy(user))
    assert codes(desired) == ["RC1255"]
    assert desired.problems[0].pointer == "/spec/permissions/users/0"


RUNS = "type: buddy, integration: {name: b}, spec: {workspace: acme, project: web}"


@pytest.mark.parametrize(
    ("target", "name", "number"), [("name: deploy", "deploy", 0), ('name: "21"', "21", 0), ("id: 21", "", 21)]
)
def test_n54_a_pipeline_is_run_by_name_or_by_id(target: str, name: str, number: int) -> None:
    desired = valid(stage(f"{RUNS}, resource: {{type: pipeline, {target}}}"))
    declared = next(one for one in desired.resources if one.id.kind == "Stage")

    class Tried:
        id, correlation, resource, intended_at, ahead_s, failures = "e", "c", "", 0.0, None, 0

    intent = intent_of(Tried(), declared, {})  # type: ignore[arg-type]
    assert (intent.resource, intent.resource_id) == (name, number)


@pytest.mark.parametrize(
    "executor",
    [
        f"{RUNS}, resource: {{type: pipeline, name: deploy, id: 21}}",
        f"{RUNS}, resource: {{type: pipeline}}",
        "type: github, integration: {name: g}, resource: {type: repository, id: 21}, spec: {workflow: a.yml, ref: main}",
        "type: github, integration: {name: g}, resource: {type: repository, name: r}, spec: {workflow: {id: 1, name: a}, ref: main}",
    ],
)
def test_n54_both_or_neither_or_an_id_where_there_is_none_is_refused(executor: str) -> None:
    assert codes(desire(stage(executor)))


@pytest.mark.parametrize("workflow", ["7", '"7"', "{id: 7}", '{name: "7"}', "a.yml"])
def test_n54_a_workflow_may_be_given_in_full(workflow: str) -> None:
    run = f"type: github, integration: {{name: g}}, resource: {{type: repository, name: r}}, spec: {{workflow: {workflow}, ref: main}}"
    valid(stage(run))


def test_n24_issuers_are_named_where_jobs_have_tokens_and_nowhere_else() -> None:
    own = "oidc: {issuers: ['https://token.actions.githubusercontent.com/acme-enterprise']}"
    assert spec(valid(SECRET + GITHUB.replace("auth:", f"{own}, auth:")), "Integration", "g")["oidc"]["issuers"]
    desired = desire(SECRET + BUDDY.replace("auth:", f"{own}, auth:"))
    assert codes(desired) == ["RC1206"]
