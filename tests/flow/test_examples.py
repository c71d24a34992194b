"""The examples are run as they stand: the real program, simulated providers, signed deliveries, to their final status.

Only one thing is added to them: where the simulated provider of an Integration is.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from tests.docs.pages import ROOT
from tests.engine.world import TOKENS
from tests.flow.stage_world import StageWorld

EXAMPLES = ROOT / "examples"
SHA = "5eafd00d5eafd00d5eafd00d5eafd00d5eafd00d"
MORE = {
    "buddy-integrations": "secrets: {folder: secrets}\n",
    "github-service": "secrets: {folder: secrets}\n",
}
FILES = {
    "github-service": {"github/service-token": TOKENS["github"]},
    "buddy-integrations": {
        f"services/{name}": f"canary-{name}-1f0e"
        for name in (
            *("github", "github-machine-user", "gitlab", "aws-access-key", "aws-secret-key"),
            *("azure", "docker-hub", "digitalocean", "google.json", "new-relic"),
        )
    },
}


class ExampleWorld(StageWorld):
    """`StageWorld` whose manifests are an example's."""

    def __init__(self, folder: Path, example: str, providers: tuple[str, ...]) -> None:
        super().__init__(folder, providers)
        shutil.rmtree(self.manifests)
        shutil.copytree(EXAMPLES / example, self.manifests, ignore=shutil.ignore_patterns("reconciler.yaml"))
        for name, server in self.servers.items():
            for file in self.manifests.rglob("*.yaml"):
                text = file.read_text()
                file.write_text(text.replace(f"\n  type: {name}\n", f"\n  type: {name}\n  apiUrl: {server.url}\n"))
        self.extra_env = {f"RECONCILER_SECRET_{name.upper()}_TOKEN": token for name, token in TOKENS.items()}
        for path, value in FILES.get(example, {}).items():
            file = folder / "secrets" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(value)
        with self.config.open("a") as config:
            config.write(MORE.get(example, ""))

    def approve(self, stage: str) -> dict[str, Any]:
        """Approve what waits at ``stage``, as it was reviewed; returns the item."""
        item = self.waiting(stage, "approval")
        self.ask("approve", id=item["id"], digest=item["digest"])
        return item

    def deploy(self, repo: str, environment: str) -> None:
        """Make a GitHub Deployment, as a job or a person does."""
        connection = http.client.HTTPConnection(self.servers["github"].url.removeprefix("http://"), timeout=10)
        repos = self.github.state()["repos"]
        repos[f"acme/{repo}"]["commits"][SHA] = {}
        self.github.put_state({"repos": repos})
        body = {"ref": SHA, "environment": environment, "required_contexts": [], "auto_merge": False}
        headers = {"authorization": f"Bearer {TOKENS['github']}", "user-agent": "somebody"}
        try:
            connection.request("POST", f"/repos/acme/{repo}/deployments", body=json.dumps(body), headers=headers)
            answer = connection.getresponse()
            assert answer.status == 201, answer.read()
        finally:
            connection.close()

    def statuses_of(self, repo: str) -> dict[str, list[str]]:
        """Return the states of each Deployment, in the order in which they were written, by environment."""
        return {one["environment"]: [status["state"] for status in one["statuses"]] for one in self.deployments(repo)}


Make = Callable[..., ExampleWorld]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[ExampleWorld] = []

    def one(example: str, *providers: str) -> ExampleWorld:
        made.append(ExampleWorld(tmp_path, example, providers))
        return made[-1]

    yield one
    for world in made:
        world.close()


def _workflow(file: Path) -> dict[str, Any]:
    """Return a GitHub workflow as the simulator takes one: what its own file says."""
    text: dict[Any, Any] = yaml.safe_load(file.read_text())
    on = text.get("on", text.get(True))  # YAML 1.1 reads `on` as true
    inputs = {name: value or {} for name, value in on["workflow_dispatch"]["inputs"].items()}
    path = f".github/workflows/{file.name}"
    return {
        "id": 31,
        "name": text["name"],
        "path": path,
        "on": {"workflow_dispatch": {"inputs": inputs}},
        "run_name": text["run-name"],
    }


def _dispatched(number: int, name: str, inputs: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    declared = {one: {} for one in (*inputs, "reconciler_execution_id")}
    return {
        "id": number,
        "name": name,
        "path": f".github/workflows/{name}.yml",
        "on": {"workflow_dispatch": {"inputs": declared}},
        "run_name": f"{name} ${{{{ inputs.reconciler_execution_id }}}}",
        "duration_s": 0.2,
        **more,
    }


def test_pipeline_a_signed_push_is_built_approved_deployed_and_reported(make: Make) -> None:
    world = make("pipeline", "github", "semaphore")
    ci = _workflow(EXAMPLES / "pipeline" / "outside" / "ci.yml")
    world.workflows("web", {**ci, "duration_s": 0.2, "outputs": {"version": "1.2.7"}})
    world.ready()
    world.push(ref="refs/heads/other")
    sha = world.push()["sha"]
    item = world.approve("deploy")
    assert item["inputs"] == {"version": "1.2.7"}
    assert world.finished("deploy")[0]["result"] == "passed"
    world.wait(lambda: world.states() == [["queued", "in_progress", "success"]], "the statuses of the Deployment")
    world.wait(lambda: [one["state"] for one in world.commit_statuses()] == ["pending", "success"], "those of the commit")
    deployment = world.deployments()[0]
    assert (deployment["sha"], deployment["environment"]) == (sha, "staging")
    assert deployment["statuses"][-1]["environment_url"] == "https://staging.acme.example"
    assert {one["sha"] for one in world.commit_statuses()} == {sha}
    assert len(world.runs()) == 1
    assert world.finished("build")[0]["id"] in world.runs()[0]["display_title"]
    assert len(world.semaphore.state()["workflows"]) == 1
    pipeline = world.semaphore.state()["pipelines"][0]
    assert all(word in json.dumps(pipeline) for word in ("1.2.7", "deploy.yml"))


def test_canvas_sources_through_integrations_a_group_of_tags_and_production_in_office_hours(make: Make) -> None:
    world = make("canvas", "github", "semaphore")
    world.repos("app", "docs")
    world.workflows("app", _dispatched(41, "image", ("commit",)))
    world.semaphore.put_state({"projects": [{"name": "semaphore-demo-go"}]})
    world.semaphore.settings(run_duration_s=0.2)
    world.ready()
    world.trigger("by-hand", suite="smoke")
    assert world.finished("test")[0]["result"] == "passed"
    assert "smoke" in json.dumps(world.semaphore.state()["pipelines"])
    assert world.finished("image")[0]["result"] == "passed"  # the pipeline's own webhook told of it
    world.semaphore.do("run_pipeline", project="semaphore-demo-go", branch="main", commit_sha=SHA, duration_s=0.1)
    assert world.finished("image", 2)[1]["result"] == "passed"
    assert world.runs("app")[-1]["inputs"]["commit"] == SHA

    world.push("app", ref="refs/tags/v1.4")
    world.push("app", ref="refs/heads/main")  # no tag
    world.push("docs", ref="refs/tags/v1.3")  # another version
    assert world.queued("production") == []
    world.push("docs", ref="refs/tags/v1.4")
    item = world.approve("production")
    assert item["inputs"] == {"tag": "refs/tags/v1.4"}

    def decided() -> str:
        waits = [one["reason"] for one in world.queued("production")]
        return "".join(waits) if waits != ["approval"] else ""

    world.wait(lambda: decided() == "time-window" or world.executions("production"), "it runs, or waits for office hours")


def test_github_service_one_webhook_of_the_organization_serves_checks_and_deployments(make: Make) -> None:
    world = make("github-service", "github")
    world.repos("web", "checks", "svc-pay")
    world.workflows("svc-pay", _dispatched(53, "build", ("sha",)))
    services = world.github.state()["workflows"]
    world.workflows(
        "checks",
        _dispatched(51, "check", ("repository", "sha")),
        _dispatched(52, "deploy", ("repository", "sha", "environment"), result="failure"),
    )
    world.github.put_state({"workflows": {**services, **world.github.state()["workflows"]}})
    world.ready()
    assert world.hooks("web") == []
    sha = world.push("web")["sha"]
    world.push("web", ref="refs/heads/topic")
    world.deploy("web", "production")
    assert world.finished("check")[0]["result"] == "passed"
    assert world.finished("deploy")[0]["result"] == "failed"
    world.wait(lambda: [one["state"] for one in world.commit_statuses()] == ["pending", "success"], "the statuses of the commit")
    assert {(one["sha"], one["context"]) for one in world.commit_statuses()} == {(sha, "acme/check")}
    world.wait(
        lambda: world.statuses_of("web") == {"production": ["queued", "in_progress", "failure"]}, "the statuses of the Deployment"
    )
    assert len(world.runs("checks")) == 2
    pushed = world.push("svc-pay")["sha"]  # N44
    assert world.finished("build")[0]["result"] == "passed"
    assert [one["inputs"]["sha"] for one in world.runs("svc-pay")] == [pushed]


def test_buddy_integrations_are_all_made_and_a_pipeline_that_uses_them_is_run(make: Make) -> None:
    world = make("buddy-integrations", "buddy")
    pipelines = {"my-project": ("build", "publish"), "company-website": ("release",)}
    workspace = world.buddy.state()["workspaces"]["acme"]
    workspace["projects"] = [
        {"name": name, "pipelines": [{"id": 100 * number + at, "name": one} for at, one in enumerate(names)]}
        for number, (name, names) in enumerate(pipelines.items(), 1)
    ]
    world.buddy.put_state({"workspaces": {"acme": workspace}})
    world.buddy.do("set_behaviour", project="company-website", pipeline="release", duration_s=0.2, outputs={"URL": "https://x"})
    world.ready()
    made = world.buddy.state()["workspaces"]["acme"]["integrations"]
    assert sorted({one["type"] for one in made}) == [
        *("AMAZON", "AZURE_CLOUD", "DIGITAL_OCEAN", "DOCKER_HUB", "GIT_HUB", "GIT_LAB", "GOOGLE_SERVICE_ACCOUNT", "NEW_RELIC"),
    ]
    assert len(made) == 11
    assert not any("canary" in path.read_text(errors="replace") for path in (world.folder / "state").rglob("*") if path.is_file())

    body, sent_at = json.dumps({"type": "image.pushed", "data": {"tag": "v7"}}).encode(), str(int(time.time()))
    told = world.cli("signing-key", "EventSource/image")  # what the sender is given
    path, key = urlsplit(told.stderr.partition("send events to ")[2].strip()).path, told.stdout.strip()
    digest = hmac.new(base64.b64decode(key.removeprefix("whsec_")), f"msg-1.{sent_at}.".encode() + body, hashlib.sha256).digest()
    signature = "v1," + base64.b64encode(digest).decode()
    headers = {"webhook-id": "msg-1", "webhook-timestamp": sent_at, "webhook-signature": signature}
    assert world.post(path, body, headers)[0] == 202
    release = world.finished("release")[0]
    assert release["result"] == "passed", release
    assert world.details(release["id"])["outputs"] == {"URL": "https://x"}


def test_github_deployments_get_their_statuses_and_a_workflow_that_ended_well_starts_what_comes_next(make: Make) -> None:
    world = make("github-deployments", "github")
    world.workflows(
        "shop",
        _dispatched(61, "roll-out", ("sha", "environment")),
        _dispatched(62, "Deploy", ("result",)),
        {
            "id": 63,
            "name": "Listener",
            "path": ".github/workflows/listener.yml",
            "on": {"repository_dispatch": {"types": ["deployed"]}},
            "run_name": "${{ github.event.client_payload.reconciler_execution_id }}",
            "duration_s": 0.2,
        },
    )
    world.ready()
    world.deploy("shop", "production")  # no dev environment: nobody's
    world.deploy("shop", "dev-eu")
    rolled = world.finished("on-deployment")[0]
    assert (rolled["result"], rolled["label"]) == ("passed", "dev-eu")
    world.wait(
        lambda: world.statuses_of("shop") == {"production": [], "dev-eu": ["queued", "in_progress", "success"]},
        "the statuses of the Deployment",
    )
    assert world.ask("logs", id=rolled["id"])["complete"]
    for branch, conclusion in (("topic", "success"), ("main", "failure"), ("main", "success")):
        run = {
            "id": 4711,
            "name": "Deploy",
            "conclusion": conclusion,
            "head_branch": branch,
            "head_sha": SHA,
            "html_url": "https://x/1",
        }
        payload = {"action": "completed", "workflow_run": {**run, "note": f"{branch} {conclusion}"}}
        world.github.do("emit", repository="acme/shop", event="workflow_run", payload=payload)
    after = world.finished("after-workflow")[0]
    assert after["result"] == "passed", after
    assert [one["client_payload"]["sha"] for one in world.runs("shop") if one["event"] == "repository_dispatch"] == [SHA]
    world.wait(
        lambda: [one["state"] for one in world.commit_statuses("shop")] == ["pending", "success"], "both statuses of the commit"
    )
    assert len(world.executions("after-workflow")) == 1
    assert world.all_ready()


def test_every_example_with_stages_is_run_here() -> None:
    found = {file.parent.name for file in EXAMPLES.glob("*/*.yaml") if "\nkind: Stage\n" in f"\n{file.read_text()}"}
    elsewhere = {"small-team", "cloud-calls", "dashboard-login"}  # by the demo, by test_identity, and by tests/node/test_login
    assert found - elsewhere == {"pipeline", "canvas", "github-service", "buddy-integrations", "github-deployments"}
