"""Every request of the driver and every answer of the simulator against GitHub's own OpenAPI description."""

import json
from functools import cache
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import httpx
import pytest
from openapi_core import Config, OpenAPI
from openapi_core.exceptions import OpenAPIError
from openapi_core.testing import MockRequest, MockResponse

from reconciler.drivers.github.driver import driver
from tests.github.conftest import ORG, SCOPE, TOKEN, source

CONTRACT = Path(__file__).parent.parent / "contracts" / "github.openapi.json"
OUTSIDE = ("/orgs/acme/repos", "/orgs/acme", "/user/repos")
"""Paths that the driver uses and that this part of the description has not."""
EVENTS = ["workflow_run", "workflow_job", "deployment", "deployment_status"]


@cache
def api_description() -> OpenAPI:
    return OpenAPI.from_dict(json.loads(CONTRACT.read_text()), config=Config(spec_validator_cls=None))


def request_of(method, path, query=None, body=None):
    content = None if body is None else json.dumps(body).encode()
    return MockRequest(
        "https://api.github.com", method.lower(), path, args=query or {}, data=content, content_type="application/json"
    )


def check_request(row):
    api_description().validate_request(request_of(row["method"], row["path"], row["query"], row["body"]))


def check_answer(method, url, answer):
    parts = urlsplit(str(url))
    request = request_of(method, parts.path, dict(httpx.QueryParams(parts.query)))
    api_description().validate_response(
        request,
        MockResponse(
            answer.content,
            status_code=answer.status_code,
            content_type=answer.headers.get("content-type", "application/json").partition(";")[0],
        ),
    )


def check_shape(path, value):
    """Check an object of a payload against the answer of the path that is nothing but this object."""
    check_answer("GET", f"https://api.github.com/repos/o/r{path}", httpx.Response(200, json=value))


def test_the_description_catches_wrong_requests_and_wrong_answers():
    with pytest.raises(OpenAPIError):
        check_request({"method": "POST", "path": "/repos/o/r/hooks", "query": {}, "body": {"events": "push"}})
    answer = httpx.Response(200, json=[{"id": "text"}])
    with pytest.raises(OpenAPIError):
        check_answer("GET", "https://api.github.com/repos/o/r/hooks", answer)


@pytest.mark.parametrize(
    ("type_", "scope", "resource"),
    [
        ("github/repository-webhook", SCOPE, {"type": "repository", "name": "payments"}),
        ("github/organization-webhook", ORG, {"type": "organization", "name": "acme"}),
    ],
)
async def test_every_request_of_the_driver_is_one_that_github_describes(api, github, write, type_, scope, resource):
    kind = driver.types[type_]
    fresh = await kind.create(api, write(source(resource=resource)))
    observed = await kind.observe(api, scope, None)
    await kind.observe(api, scope, observed.validators)
    await kind.update(api, fresh.external_id, write(source(resource=resource), active=False))
    await kind.delete(api, scope, fresh.external_id)
    await kind.delete(api, scope, fresh.external_id)
    await driver.check(api, driver.needs(source(resource=resource)))
    rows = github.admin.requests()
    assert {row["method"] for row in rows} == {"GET", "POST", "PATCH", "DELETE"}
    for row in rows:
        assert not row["path"].startswith(OUTSIDE) or "/hooks" in row["path"]
        check_request(row)


def test_every_answer_of_the_simulator_is_one_that_github_describes(github):
    github.admin.put_state({"tokens": {"ghs_app": {"kind": "installation", "permissions": {"webhooks": "write"}}}})
    hook = {"name": "web", "config": {"url": "https://x.example/h", "secret": "s", "content_type": "json"}, "events": ["push"]}
    headers = {"authorization": f"Bearer {TOKEN}"}
    checked = []

    def send(method, path, body=None, expect=200, token=None, **query):
        url = path + (f"?{urlencode(query)}" if query else "")
        answer = client.request(method, url, json=body, headers={"authorization": f"Bearer {token}"} if token else None)
        assert answer.status_code == expect, answer.text
        check_answer(method, answer.request.url, answer)
        checked.append(path)
        return answer.json() if answer.content else None

    with httpx.Client(base_url=github.url, headers=headers, trust_env=False) as client:
        for root in ("/repos/acme/payments", "/orgs/acme"):
            fresh = send("POST", f"{root}/hooks", hook, 201)
            send("POST", f"{root}/hooks", hook, 422)
            item_path = f"{root}/hooks/{fresh['id']}"
            send("GET", f"{root}/hooks", per_page=1)
            send("GET", item_path)
            send("PATCH", item_path, {"events": ["push", "create"]})
            send("GET", f"{item_path}/config")
            send("PATCH", f"{item_path}/config", {"content_type": "form"})
            send("POST", f"{item_path}/pings", None, 204)
            [delivery, *_] = send("GET", f"{item_path}/deliveries")
            send("GET", f"{item_path}/deliveries/{delivery['id']}")
            send("POST", f"{item_path}/deliveries/{delivery['id']}/attempts", None, 202)
            send("DELETE", item_path, None, 204)
            send("DELETE", item_path, None, 404)
            send("GET", item_path, None, 404)
        send("GET", "/repos/acme/payments")
        send("GET", "/repos/acme/nowhere", None, 404)
        send("GET", "/user")
        send("GET", "/user", None, 401, token="nobody")
        send("GET", "/rate_limit")
        send("GET", "/installation/repositories", token="ghs_app")
        github.admin.do("rename", **{"from": "acme/payments", "to": "acme/billing"})
        send("GET", "/repos/acme/payments", None, 301)
    assert len(checked) == 35


@pytest.fixture
def described(github):
    """Sends a request that GitHub describes, and returns its answer, which GitHub describes too."""
    with httpx.Client(base_url=github.url, headers={"authorization": f"Bearer {TOKEN}"}, trust_env=False) as client:

        def send(method, path, body=None, expect=200, **query):
            answer = client.request(method, path, json=body, params=query)
            assert answer.status_code == expect, answer.text
            if expect < 400:
                check_request({"method": method, "path": path, "query": query, "body": body})
            check_answer(method, answer.request.url, answer)
            return answer.json() if answer.content else None

        yield send


def test_every_answer_about_workflows_and_runs_is_one_that_github_describes(github, described):
    workflow = {"id": 7, "path": ".github/workflows/deploy.yml", "duration_s": 600, "outputs": {"image": "web"}}
    github.admin.put_state({"workflows": {"acme/web": [workflow]}})
    root = "/repos/acme/web"
    [listed] = described("GET", f"{root}/actions/workflows", per_page=1)["workflows"]
    described("GET", f"{root}/actions/workflows/{listed['id']}")
    dispatches = f"{root}/actions/workflows/deploy.yml/dispatches"
    described("POST", dispatches, {"ref": "main"}, 204)
    described("POST", f"{root}/dispatches", {"event_type": "deploy", "client_payload": {"a": 1}}, 204)
    described("POST", f"{root}/dispatches", {"event_type": "x" * 101}, 422)
    number = described("POST", dispatches, {"ref": "main", "return_run_details": True})["workflow_run_id"]
    item_path = f"{root}/actions/runs/{number}"
    described("GET", f"{root}/actions/runs", event="workflow_dispatch", branch="main", status="in_progress", page=1)
    described("GET", f"{root}/actions/workflows/7/runs", created=">=2026-01-01", per_page=1)
    described("GET", item_path)
    described("GET", f"{item_path}/attempts/1")
    described("POST", f"{item_path}/cancel", None, 202)
    described("POST", f"{item_path}/cancel", None, 409)
    described("POST", f"{item_path}/rerun", {"enable_debug_logging": False}, 201)
    described("POST", f"{item_path}/force-cancel", None, 202)
    described("POST", f"{item_path}/rerun-failed-jobs", None, 201)
    [job] = described("GET", f"{item_path}/jobs", filter="latest")["jobs"]
    described("GET", f"{item_path}/attempts/1/jobs")
    described("GET", f"{root}/actions/jobs/{job['id']}")
    github.admin.do("finish_run", repo="acme/web", run_id=number)
    described("GET", f"{item_path}/jobs", filter="all")
    described("GET", f"{root}/actions/jobs/{job['id']}/logs", None, 302)
    described("GET", f"{item_path}/logs", None, 302)
    [artifact] = described("GET", f"{item_path}/artifacts", name="reconciler-outputs")["artifacts"]
    described("GET", f"{root}/actions/artifacts/{artifact['id']}/zip", None, 302)
    described("GET", f"{root}/commits/main")
    described("GET", f"{root}/commits/gone", None, 422)


def test_events_carry_the_objects_that_github_describes(github, described):
    workflow = {"id": 7, "path": ".github/workflows/deploy.yml", "duration_s": 0}
    github.admin.put_state({"workflows": {"acme/web": [workflow]}})
    hook = described(
        "POST",
        "/repos/acme/web/hooks",
        {"config": {"url": "https://x.example/h"}, "events": EVENTS},
        201,
    )
    described("POST", "/repos/acme/web/actions/workflows/7/dispatches", {"ref": "main"}, 204)
    number = described("POST", "/repos/acme/web/deployments", {"ref": "main"}, 201)["id"]
    described("POST", f"/repos/acme/web/deployments/{number}/statuses", {"state": "success"}, 201)
    deliveries = f"/repos/acme/web/hooks/{hook['id']}/deliveries"
    described("GET", deliveries, status="success")
    rows = [described("GET", f"{deliveries}/{row['id']}") for row in described("GET", deliveries, per_page=50)]
    paths = {
        "workflow_run": "/actions/runs/1",
        "workflow_job": "/actions/jobs/1",
        "workflow": "/actions/workflows/1",
        "deployment": "/deployments/1",
        "deployment_status": "/deployments/1/statuses/1",
    }
    seen = []
    for row in rows:
        for key, value in row["request"]["payload"].items():
            if key in paths and value is not None:
                check_shape(paths[key], value)
                seen.append(key)
    assert [seen.count(key) for key in paths] == [3, 3, 3, 2, 1]


def test_every_answer_about_deployments_and_statuses_is_one_that_github_describes(github, described):
    root = "/repos/acme/web"
    sha = described("GET", f"{root}/commits/main")["sha"]
    described("POST", f"{root}/statuses/{sha}", {"state": "pending", "context": "ci", "description": "d"}, 201)
    described("GET", f"{root}/commits/{sha}/statuses", per_page=1)
    described("GET", f"{root}/commits/{sha}/status")
    described("POST", f"{root}/deployments", {"ref": "main"}, 409)
    described("POST", f"{root}/deployments", {"ref": "gone"}, 422)
    ours = {"ref": "main", "auto_merge": False, "required_contexts": [], "payload": {"a": 1}, "environment": "staging"}
    fresh = described("POST", f"{root}/deployments", ours, 201)
    github.admin.put_state({"repos": {"acme/web": {"behind": ["main"]}}})
    described("POST", f"{root}/deployments", {"ref": "main"}, 202)
    described("GET", f"{root}/deployments", sha=sha, environment="staging", task="deploy")
    item_path = f"{root}/deployments/{fresh['id']}"
    described("GET", item_path)
    status = described("POST", f"{item_path}/statuses", {"state": "success", "log_url": "https://ci.example/1"}, 201)
    described("POST", f"{item_path}/statuses", {"state": "success", "description": "x" * 141}, 422)
    described("GET", f"{item_path}/statuses")
    described("GET", f"{item_path}/statuses/{status['id']}")
    described("POST", f"{root}/deployments", ours, 201)
    described("DELETE", item_path, None, 422)
    described("POST", f"{item_path}/statuses", {"state": "inactive"}, 201)
    described("DELETE", item_path, None, 204)
    described("DELETE", item_path, None, 404)
