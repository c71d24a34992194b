"""Outputs that a job pushes with its own OIDC token: believed only for the run it is of, while it runs."""

from typing import Any

import httpx
import pytest

from tests.cli.staged import WORKFLOW, stage
from tests.server.asked import Asked

LONG = {**WORKFLOW, "id": 8, "name": "Long", "path": ".github/workflows/long.yml", "duration_s": None}
RUN = (
    "type: github, integration: {name: github}, resource: {type: repository, name: two}, "
    'spec: {workflow: long.yml, ref: main, inputs: {version: "${{ inputs.version }}"}}'
)


@pytest.fixture
def running(asked: Asked) -> dict[str, Any]:
    """An execution that goes on until it is ended, with its run."""
    asked.servers["github"].admin.put_state({"workflows": {"acme/two": [LONG]}})
    declared = "  outputs: [{name: image, required: true}, {name: notes}]\n  concurrency: 10\n"
    asked.write("long.yaml", stage("long", filters="long", executor=RUN, more=declared))
    asked.wait(lambda: (asked.condition("Stage", "long") or {}).get("status") == "True", "the stage is there")
    item = asked.item("long", state="running")

    def known() -> dict[str, Any] | None:
        runs = asked.api("viewer", "GET", f"/executions/{item['id']}").json()["executions"]
        return next((one for one in runs if one["externalId"]), None)

    return asked.wait(known, "its run is known")


def token(asked: Asked, run_id: str, **options: Any) -> str:
    """Return what the provider gives to a job of a run."""
    made = asked.servers["github"].admin.do(
        "job_token", repo="acme/two", run_id=int(run_id), **{"audience": "reconciler", **options}
    )
    return str(made["token"])


def push(asked: Asked, bearer: str, execution: str, **outputs: Any) -> httpx.Response:
    body = {"execution_id": execution, "outputs": outputs}
    return asked.api("", "POST", "/outputs", json=body, headers={"authorization": f"Bearer {bearer}"})


def test_pushes_merge_and_what_the_stage_does_not_declare_is_left_out(asked: Asked, running: dict[str, Any]) -> None:
    own = token(asked, running["externalId"])
    first = push(asked, own, running["id"], image="web:1", nonsense=1)
    assert (first.status_code, first.json()) == (200, {"outputs": {"image": "web:1"}})
    assert push(asked, own, running["id"], notes="fine").status_code == 200
    asked.servers["github"].admin.do("finish_run", repo="acme/two", run_id=int(running["externalId"]))

    def ended() -> dict[str, Any] | None:
        found = asked.api("viewer", "GET", f"/executions/{running['id']}").json()["execution"]
        return found if found["state"] == "finished" else None

    done = asked.wait(ended, "it has ended")
    assert (done["result"], done["outputs"]) == ("passed", {"image": "web:1", "notes": "fine"})
    late = push(asked, own, running["id"], image="web:2")
    assert (late.status_code, late.json()["code"]) == (409, "RC8007")


def test_a_token_of_another_run_another_audience_or_that_is_expired_is_refused(asked: Asked, running: dict[str, Any]) -> None:
    other = asked.item("long", state="running")
    runs = asked.wait(
        lambda: [
            one for one in asked.api("viewer", "GET", f"/executions/{other['id']}").json()["executions"] if one["externalId"]
        ],
        "the other run is known",
    )
    refused = [
        push(asked, token(asked, runs[0]["externalId"]), running["id"], image="x"),
        push(asked, token(asked, running["externalId"], audience="somebody-else"), running["id"], image="x"),
        push(asked, token(asked, running["externalId"]), "exe-nosuch", image="x"),
        push(asked, token(asked, running["externalId"])[:-8] + "AAAAAAAA", running["id"], image="x"),
    ]
    assert {one.status_code for one in refused} <= {401, 429}
    assert asked.api("viewer", "GET", f"/executions/{running['id']}").json()["execution"]["outputs"] == {}


def test_n24_a_claim_that_is_refused_is_named_with_what_came_and_what_was_expected(asked: Asked, running: dict[str, Any]) -> None:
    other = asked.item("long", state="running")
    runs = asked.wait(
        lambda: [
            one for one in asked.api("viewer", "GET", f"/executions/{other['id']}").json()["executions"] if one["externalId"]
        ],
        "the other run is known",
    )
    own = running["externalId"]
    issuer = f"{asked.servers['github'].url}/_services/token"
    for bearer, said in [
        (
            token(asked, own, audience="somebody-else"),
            "(aud) is 'somebody-else'; expected 'reconciler' or 'https://hooks.example'",
        ),
        (token(asked, runs[0]["externalId"]), f"'run_id' is '{runs[0]['externalId']}'; expected '{own}'"),
        (
            token(asked, own, claims={"iss": "https://evil.example/\x1b[2J"}),
            f"is 'https://evil.example/?[2J'; expected '{issuer}'",
        ),
        (token(asked, own, claims={"iss": None}), f"is missing; expected '{issuer}'"),
        (token(asked, own, expires_in_s=-600), "it expired"),
        ("not-a-token", "no JSON Web Token"),
    ]:
        refused = push(asked, bearer, running["id"], image="x")
        assert refused.status_code in (401, 429)
        assert refused.status_code == 429 or said in refused.json()["message"]


def test_n24_an_issuer_of_an_enterprise_is_believed_once_the_integration_names_it(asked: Asked, running: dict[str, Any]) -> None:
    github = asked.servers["github"]
    issuer = f"{github.url}/_services/token/acme-enterprise"
    github.admin.settings(enterprise="acme-enterprise")
    try:
        own = token(asked, running["externalId"])
        refused = push(asked, own, running["id"], image="web:1")
        assert refused.status_code == 401
        assert f"(iss) is '{issuer}'; expected '{github.url}/_services/token'" in refused.json()["message"]
        assert "spec.oidc.issuers" in refused.json()["hint"]
        before = asked.manifests.joinpath("github.yaml").read_text()
        asked.write("github.yaml", before.rstrip() + f"\n  oidc: {{issuers: [{issuer}]}}\n")
        accepted = asked.wait(
            lambda: (answer := push(asked, own, running["id"], image="web:1")).status_code == 200 and answer, "it is believed"
        )
        assert accepted.json() == {"outputs": {"image": "web:1"}}
        asked.write("github.yaml", before)
    finally:
        github.admin.settings(enterprise="")
