"""What the tests of GitHub's executor share: workflows to run, intents, and the description that every request is held against."""

import time

from reconciler.drivers.github.driver import driver
from reconciler.drivers.http.client import USER_AGENT
from reconciler.model.executions import RunIntent
from tests.github.simulator import put_workflows
from tests.github.test_contract import check_request

WEB = "/repos/acme/web"
KEY = "reconciler_execution_id"
CORRELATION = "rcl-" + "7" * 28
DEPLOY = {
    "id": 7,
    "name": "Deploy",
    "path": ".github/workflows/deploy.yml",
    "on": {
        "workflow_dispatch": {"inputs": {"version": {}, "dry": {"type": "boolean"}, KEY: {}}},
        "repository_dispatch": {"types": ["deploy"]},
    },
    "run_name": f"Deploy ${{{{ inputs.{KEY} }}}}${{{{ github.event.client_payload.{KEY} }}}}",
    "duration_s": 600,
}
SILENT = {
    **DEPLOY,
    "id": 8,
    "name": "Silent",
    "path": ".github/workflows/silent.yml",
    "on": {"workflow_dispatch": {"inputs": {KEY: {}}}},
    "run_name": "",
}
PLAIN = {"id": 9, "name": "Plain", "path": ".github/workflows/plain.yaml", "on": {"workflow_dispatch": {}}, "duration_s": 600}
executor = driver.executors["github"]


def intent(*, resource="web", correlation=CORRELATION, at=None, **spec):
    spec = spec or {"workflow": "deploy.yml", "ref": "main"}
    at = time.time() if at is None else at
    return RunIntent(execution_id="e", correlation=correlation, type="github", resource=resource, spec=spec, intended_at=at)


def event(**payload):
    return intent(eventType="deploy", clientPayload=payload)


def posts(hands):
    return [(row["path"], row["body"]) for row in hands.github.admin.requests() if row["method"] == "POST"]


def runs(hands):
    return hands.get(f"{WEB}/actions/runs?per_page=100")["workflow_runs"]


def finish(hands, run, conclusion="success"):
    return hands.github.admin.do("finish_run", repo="acme/web", run_id=int(run.external_id), conclusion=conclusion)


async def started(api, hands, workflow=None, **options):
    if workflow is not None:
        put_workflows(hands.github, {**DEPLOY, **workflow})
    what = intent(**options)
    return what, await executor.start(api, what)


OUTSIDE = ("/user", "/repositories/", "/_actions/")
"""Paths of the driver that the description at hand has not."""


def check_requests(github):
    """Every request of the driver that was not refused is one that GitHub describes."""
    for row in github.admin.requests():
        if row["headers"].get("user-agent") == USER_AGENT and row["status"] < 300 and not row["path"].startswith(OUTSIDE):
            check_request(row)
