"""Documented refusals of each provider, over HTTP: a simulator must not accept what the provider refuses."""

import http.client
import json
from urllib.parse import urlencode

import pytest

from reconciler.sandbox.pagerduty.app import KEY as PAGERDUTY_KEY
from reconciler.sandbox.server import SandboxServer, simulator
from reconciler.sandbox.slack.app import CHANNEL
from reconciler.sandbox.slack.app import HOOK as SLACK_HOOK
from reconciler.sandbox.slack.app import TOKEN as SLACK_TOKEN

AUTHORIZATION = {
    "github": "Bearer ghp_sandbox",
    "semaphore": "Token semaphore-sandbox-token",
    "buddy": "Bearer buddy-sandbox-token",
    "digitalocean": "Bearer dop_v1_" + "5a" * 32,
    "azure": "Bearer unknown",
    "google": "Bearer unknown",
    "aws": "Bearer unknown",
    "gitlab": "Bearer glpat-sandbox-" + "x" * 20,
    "dockerhub": "",
    "spinnaker": "Bearer spinnaker-sandbox-token",
    "slack": f"Bearer {SLACK_TOKEN}",
    "pagerduty": "",
}
HOOKS = "/repos/acme/payments/hooks"
DEPLOYMENTS = "/repos/acme/payments/deployments"
EVENTS = "/repos/acme/payments/dispatches"
NOTIFICATIONS, SECRETS = "/api/v1alpha/notifications", "/api/v1beta/secrets"
WORKFLOWS, PROJECTS = "/api/v1alpha/plumber-workflows", "/api/v1alpha/projects"
INTEGRATIONS, WEBHOOKS = "/workspaces/acme/integrations", "/workspaces/acme/webhooks"
EXECUTIONS = "/workspaces/acme/projects/web/pipelines/21/executions"
CONFIG = {"url": "https://ci.example.net"}
TENANT = "7d1b4f0e-3c1a-4b52-9d0e-0a6f5f0e9a11"
FORM = {"content-type": "application/x-www-form-urlencoded"}
GRANT = b"grant_type=client_credentials&client_id=x&scope=https%3A%2F%2Fmanagement.azure.com%2F.default"
TRUSTED = {"name": "a", "type": "AMAZON", "auth_type": "TRUSTED"}
GIT_LAB = {"name": "a", "type": "GIT_LAB", "token": "t"}


def rule(**changes):
    valid = {"filter": {"projects": ["web"]}, "notify": {"webhook": {"endpoint": "https://x.example.net"}}}
    return {"metadata": {"name": "n"}, "spec": {"rules": [{**valid, **changes}]}}


def secret(**changes):
    return {"metadata": {"name": "s"}, "data": {"env_vars": [{"name": "A", "value": "b"}]}, **changes}


GITHUB = [
    ("POST", HOOKS, b"{bad", {}, 400, '"Problems parsing JSON"'),
    ("POST", HOOKS, {"config": CONFIG, "x": 1}, {}, 422, "is not a permitted key"),
    ("POST", HOOKS, {"config": CONFIG, "name": "x"}, {}, 422, '"field":"name"'),
    ("POST", HOOKS, {"config": {**CONFIG, "secret": 5}}, {}, 422, "is not a string"),
    ("POST", HOOKS, {"config": {"url": "ftp://x"}}, {}, 422, "is not valid"),
    ("POST", HOOKS, {"config": CONFIG, "active": 1}, {}, 422, "is not a boolean"),
    ("GET", f"{HOOKS}/", None, {}, 404, '"status":"404"'),
    ("POST", DEPLOYMENTS, {}, {}, 422, "wasn't supplied"),
    ("POST", DEPLOYMENTS, {"ref": "main", "required_contexts": "x"}, {}, 422, "is not a list of strings"),
    ("POST", EVENTS, {"event_type": "x" * 101}, {}, 422, "event_type"),
    ("POST", EVENTS, {"event_type": "x", "client_payload": {str(n): n for n in range(11)}}, {}, 422, "No more than 10"),
    ("GET", "/user", None, {"authorization": "Bearer unknown"}, 401, '"Bad credentials"'),
    ("GET", "/user", None, {"x-github-api-version": "2020-01-01"}, 400, "not supported"),
    ("GET", "/user", None, {"user-agent": ""}, 403, "User-Agent"),
]
SEMAPHORE = [
    ("GET", f"{PROJECTS}?page=x", None, {}, 400, '{"message":"page must be a number"}'),
    ("GET", f"{PROJECTS}?page=0", None, {}, 400, '{"message":"page must be at least 1"}'),
    ("GET", f"{PROJECTS}?page=101", None, {}, 400, '{"message":"page must be at most 100"}'),
    ("GET", f"{NOTIFICATIONS}?page_size=301", None, {}, 400, '"code":3'),
    ("GET", f"{NOTIFICATIONS}?page_size=x", None, {}, 400, '"code":3'),
    ("POST", NOTIFICATIONS, {"metadata": {"name": "n"}, "spec": {"rules": "x"}}, {}, 400, '"code":3'),
    ("POST", NOTIFICATIONS, {"metadata": "n"}, {}, 400, '"code":3'),
    ("POST", NOTIFICATIONS, rule(filter={"projects": "web"}), {}, 400, '"code":3'),
    ("POST", NOTIFICATIONS, rule(notify={"webhook": {"endpoint": "x", "timeout": "soon"}}), {}, 400, '"code":3'),
    ("POST", NOTIFICATIONS, rule(notify={"webhook": {"endpoint": "x", "status": "ON"}}), {}, 400, '"code":3'),
    ("POST", NOTIFICATIONS, rule(filter={"results": ["good"]}), {}, 400, "Value good is not a valid result entry"),
    ("POST", SECRETS, secret(metadata={"name": "s", "description": "x" * 256}), {}, 400, '"code":3'),
    ("POST", SECRETS, secret(data={"env_vars": "x"}), {}, 400, '"code":3'),
    ("POST", SECRETS, secret(data={"env_vars": [{"name": "1A", "value": "b"}]}), {}, 400, '"code":3'),
    ("GET", f"{SECRETS}?page_size=101", None, {}, 400, "Page size can't exceed 100"),
    ("PUT", NOTIFICATIONS, {}, {}, 501, '"code":12'),
    ("POST", WORKFLOWS, b"{bad", {}, 400, "Malformed request: "),
    ("POST", WORKFLOWS, {"project_id": "unknown", "reference": "main"}, {}, 404, "Not Found"),
    ("GET", WORKFLOWS, None, {"x-semaphore-user-id": "u"}, 404, "Not Found"),
    ("GET", WORKFLOWS, None, {"authorization": "token semaphore-sandbox-token"}, 401, "Unauthorized"),
    ("GET", WORKFLOWS, None, {"user-agent": "SemaphoreCLI/v1.2.0"}, 400, "client is outdated"),
]
BUDDY = [
    ("POST", INTEGRATIONS, b"{bad", {}, 400, '{"errors":[{"message":'),
    ("POST", INTEGRATIONS, {"type": "GIT_LAB"}, {}, 400, "Field token is required"),
    ("POST", INTEGRATIONS, {**GIT_LAB, "name": 5}, {}, 400, "Field name must be a string"),
    ("POST", INTEGRATIONS, {**GIT_LAB, "type": ["GIT_LAB"]}, {}, 400, "Field type must be a string"),
    ("POST", INTEGRATIONS, {**GIT_LAB, "permissions": "MANAGE"}, {}, 400, "Permissions are not valid"),
    ("POST", INTEGRATIONS, {**GIT_LAB, "permissions": {"users": "x"}}, {}, 400, "needs the id"),
    ("POST", INTEGRATIONS, {**TRUSTED, "role_assumptions": [{"arn": "a"}]}, {}, 400, "needs an external_id"),
    ("POST", WEBHOOKS, {"target_url": "x", "events": ["PUSH"]}, {}, 400, "Target URL is not valid"),
    ("POST", WEBHOOKS, {"target_url": "https://x", "events": ["X"]}, {}, 400, "Events are not valid"),
    ("POST", WEBHOOKS, {"target_url": "https://x", "events": ["PUSH"], "projects": "web"}, {}, 400, "Projects are not valid"),
    ("POST", EXECUTIONS, {"to_revision": "x"}, {}, 400, "Revision is not valid"),
    ("POST", EXECUTIONS, {"priority": "URGENT"}, {}, 400, "Priority is not valid"),
    ("GET", f"{EXECUTIONS}?page=x", None, {}, 400, '{"errors":[{"message":'),
    ("GET", f"{EXECUTIONS}/1", None, {}, 404, '{"errors":[{"message":'),
    ("GET", EXECUTIONS, None, {"authorization": "Bearer unknown"}, 401, '{"errors":[{"message":"Wrong auth'),
]
DIGITALOCEAN = [
    ("GET", "/v2/none", None, {}, 404, '"id":"not_found"'),
    ("POST", "/v2/account", {}, {}, 404, '"id":"not_found"'),
    ("GET", "/v2/account", None, {"authorization": "Bearer unknown"}, 401, '"id":"unauthorized"'),
    ("GET", "/v2/account", None, {"authorization": ""}, 401, "Unable to authenticate you."),
]
AZURE = [
    ("GET", "/subscriptions/x?api-version=2022-12-01", None, {}, 401, '"code":"InvalidAuthenticationToken"'),
    ("GET", "/none", None, {}, 404, '"error"'),
    ("POST", f"/{TENANT}/oauth2/v2.0/token", {"grant_type": "client_credentials"}, {}, 400, "AADSTS900144"),
    ("POST", f"/{TENANT}/oauth2/v2.0/token", b"grant_type=password", FORM, 400, '"unsupported_grant_type"'),
    ("POST", f"/{TENANT}/oauth2/v2.0/token", GRANT, FORM, 401, "AADSTS7000218"),
    ("POST", f"/{TENANT}/oauth2/v2.0/token", GRANT + b"&client_secret=x&extra=1", FORM, 401, "AADSTS7000218"),
    ("POST", f"/{TENANT}/oauth2/v2.0/token", GRANT.replace(b".default", b"x") + b"&client_secret=x", FORM, 400, "AADSTS1002012"),
    ("POST", f"/{TENANT}/oauth2/v2.0/token", GRANT + b"&client_secret=x", FORM, 400, "AADSTS700016"),
]
GOOGLE = [
    ("GET", "/v3/projects/acme-prod", None, {}, 401, '"status":"UNAUTHENTICATED"'),
    ("GET", "/service_accounts/v1/metadata/x509/none", None, {}, 404, '"status":"NOT_FOUND"'),
    ("POST", "/token", {"grant_type": "x"}, {}, 400, '"error":"invalid_request"'),
    ("POST", "/token", b"grant_type=x&assertion=y", FORM, 400, '"error":"unsupported_grant_type"'),
    ("POST", "/v1/token", b"grant_type=x", FORM, 401, '"error":"invalid_client"'),  # it has an Authorization header
    ("POST", "/v1/token", b"grant_type=x", {**FORM, "authorization": ""}, 400, '"error":"invalid_request"'),
    ("POST", "/v1/projects/-/serviceAccounts/a@b:generateAccessToken", {}, {}, 401, '"status":"UNAUTHENTICATED"'),
]
SIGNED = "AWS4-HMAC-SHA256 Credential=AKIASANDBOX234567ABC/20260101/us-east-1/sts/aws4_request, SignedHeaders=host;x-amz-date, Signature="
STS = {"Version": "2011-06-15", "Action": "AssumeRoleWithWebIdentity", "RoleSessionName": "x"}
WEB = {**STS, "RoleArn": "arn:aws:iam::123456789012:role/deploy", "WebIdentityToken": "none"}
JSON11 = {"content-type": "application/x-amz-json-1.1", "authorization": ""}
AWS = [
    ("GET", "/", None, {}, 400, "<Code>MissingAction</Code>"),
    ("GET", "/?Action=GetCallerIdentity&Version=2011-06-15", None, {"authorization": ""}, 403, "MissingAuthenticationToken"),
    ("GET", "/?Action=GetCallerIdentity&Version=1", None, {}, 400, "InvalidAction"),
    ("GET", "/?Action=GetCallerIdentity&Version=2011-06-15", None, {"authorization": "Basic x"}, 400, "IncompleteSignature"),
    (
        "GET",
        "/?Action=GetCallerIdentity&Version=2011-06-15",
        None,
        {"authorization": SIGNED + "0" * 64, "x-amz-date": "20260101T000000Z"},
        403,
        "Signature expired: 20260101T000000Z is now earlier than",
    ),
    ("POST", "/", urlencode(STS).encode(), FORM, 400, "<Code>ValidationError</Code>"),
    ("POST", "/", urlencode(WEB | {"RoleArn": "arn:aws:iam::1:user/some-one"}).encode(), FORM, 400, "is invalid"),
    ("POST", "/", urlencode(WEB | {"RoleSessionName": "x"}).encode(), FORM, 400, "roleSessionName"),
    ("POST", "/", urlencode(WEB | {"RoleSessionName": "x1"}).encode(), FORM, 400, "not a valid JWT"),
    ("POST", "/", {}, {"x-amz-target": "secretsmanager.PutSecretValue", **JSON11}, 400, "UnknownOperationException"),
    ("POST", "/", {}, {"x-amz-target": "secretsmanager.GetSecretValue", **JSON11}, 400, "MissingAuthenticationTokenException"),
    ("GET", "/nothing", None, {}, 404, "UnknownOperationException"),
]
GITLAB = [
    ("GET", "/personal_access_tokens/none", None, {}, 404, "404 Not Found"),
    ("GET", "/user", None, {"authorization": "Bearer unknown"}, 401, '{"message":"401 Unauthorized"}'),
    ("GET", "/user", None, {"authorization": ""}, 401, '{"message":"401 Unauthorized"}'),
]
DOCKERHUB = [
    ("POST", "/v2/auth/token", {"identifier": "acme"}, {}, 400, "identifier and secret are required"),
    ("POST", "/v2/auth/token", {"identifier": "acme", "secret": "x"}, {}, 401, "Incorrect authentication credentials"),
    ("GET", "/v2/namespaces/acme/repositories", None, {"authorization": "Bearer x"}, 401, "unauthorized"),
    (
        "GET",
        "/token?scope=repository:acme/web:pull",
        None,
        {"authorization": "Basic eDp5"},
        401,
        "incorrect username or password",
    ),
]
SPINNAKER = [
    ("GET", "/auth/none", None, {}, 404, '"error":"Not Found"'),
    ("GET", "/auth/user", None, {"authorization": "Bearer unknown"}, 302, ""),
    ("GET", "/auth/user", None, {"authorization": "Basic !"}, 302, ""),
    ("GET", "/auth/user", None, {"authorization": "Basic Y2k6d3Jvbmc="}, 302, ""),
    ("GET", "/applications", None, {"authorization": ""}, 302, ""),
]
POST, UPDATE, HISTORY = "/api/chat.postMessage", "/api/chat.update", "/api/conversations.history"
SECTION = {"type": "section", "text": {"type": "plain_text", "text": "x"}}
SLACK = [
    ("POST", POST, {"channel": CHANNEL, "text": "x"}, {"authorization": ""}, 200, '"not_authed"'),
    ("POST", POST, {"channel": CHANNEL, "text": "x"}, {"authorization": "Bearer xoxb-unknown"}, 200, '"invalid_auth"'),
    ("POST", POST, {"channel": "C404", "text": "x"}, {}, 200, '"channel_not_found"'),
    ("POST", POST, {"channel": CHANNEL}, {}, 200, '"no_text"'),
    ("POST", POST, {"channel": CHANNEL, "text": "x" * 40_001}, {}, 200, '"msg_too_long"'),
    ("POST", POST, {"channel": CHANNEL, "blocks": [{"type": "section"}]}, {}, 200, '"invalid_blocks"'),
    ("POST", POST, {"channel": CHANNEL, "blocks": [SECTION] * 51}, {}, 200, '"invalid_blocks"'),
    ("POST", POST, {"channel": CHANNEL, "text": "x", "metadata": {"event_type": "a"}}, {}, 200, '"invalid_metadata_format"'),
    ("POST", POST, b"{bad", {}, 200, '"invalid_json"'),
    ("POST", POST, b"text=x", FORM, 200, '"invalid_form_data"'),
    ("POST", UPDATE, {"channel": "#ops", "ts": "1.1", "text": "x"}, {}, 200, '"channel_not_found"'),
    ("POST", UPDATE, {"channel": CHANNEL, "ts": "1.1", "text": "x"}, {}, 200, '"message_not_found"'),
    ("GET", f"{HISTORY}?channel=%23ops", None, {}, 200, '"channel_not_found"'),
    ("GET", f"{HISTORY}?channel={CHANNEL}&limit=1000", None, {}, 200, '"invalid_limit"'),
    ("POST", "/api/chat.nothing", {}, {}, 200, '"unknown_method"'),
    ("POST", "/services/T1/B1/unknown", {"text": "x"}, {}, 404, "no_service"),
    ("POST", f"/services/{SLACK_HOOK}", b"{bad", {}, 400, "invalid_payload"),
    ("POST", f"/services/{SLACK_HOOK}", {}, {}, 400, "no_text"),
]
ENQUEUE = "/v2/enqueue"
PAYLOAD = {"summary": "s", "source": "x", "severity": "error"}
TRIGGER = {"routing_key": PAGERDUTY_KEY, "event_action": "trigger", "dedup_key": "d", "payload": PAYLOAD}
PAGERDUTY = [
    ("POST", ENQUEUE, b"{bad", {}, 400, "JSON cannot be parsed"),
    ("POST", ENQUEUE, {**TRIGGER, "routing_key": "short"}, {}, 400, "should be 32 characters"),
    ("POST", ENQUEUE, {**TRIGGER, "routing_key": "x" * 32}, {}, 400, "'routing_key'"),
    ("POST", ENQUEUE, {**TRIGGER, "event_action": "open"}, {}, 400, "'event_action' is invalid"),
    ("POST", ENQUEUE, {**TRIGGER, "dedup_key": "d" * 256}, {}, 400, "'dedup_key' is too long"),
    ("POST", ENQUEUE, {"routing_key": PAGERDUTY_KEY, "event_action": "resolve"}, {}, 400, "'dedup_key' is missing"),
    ("POST", ENQUEUE, {**TRIGGER, "payload": None}, {}, 400, "'payload' is missing"),
    ("POST", ENQUEUE, {**TRIGGER, "payload": {**PAYLOAD, "summary": "s" * 1025}}, {}, 400, "maximum is 1024"),
    ("POST", ENQUEUE, {**TRIGGER, "payload": {**PAYLOAD, "severity": "grave"}}, {}, 400, "'payload.severity' is invalid"),
]
ALL = {
    "github": GITHUB,
    "semaphore": SEMAPHORE,
    "buddy": BUDDY,
    "digitalocean": DIGITALOCEAN,
    "gitlab": GITLAB,
    "dockerhub": DOCKERHUB,
    "azure": AZURE,
    "google": GOOGLE,
    "aws": AWS,
    "spinnaker": SPINNAKER,
    "slack": SLACK,
    "pagerduty": PAGERDUTY,
}
CASES = [(provider, *case) for provider, cases in ALL.items() for case in cases]


@pytest.fixture(scope="module")
def servers():
    running = {provider: SandboxServer(simulator(provider)).start() for provider in AUTHORIZATION}
    yield running
    for server in running.values():
        server.stop()


@pytest.mark.parametrize(("provider", "method", "path", "body", "headers", "status", "text"), CASES)
def test_a_request_that_the_provider_refuses_is_refused_in_its_own_words(
    servers, provider, method, path, body, headers, status, text
):
    server = servers[provider]
    before = server.admin.state()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    sent = {"user-agent": "test", "authorization": AUTHORIZATION[provider], "content-type": "application/json", **headers}
    content = body if body is None or isinstance(body, bytes) else json.dumps(body)
    try:
        connection.request(method, path, body=content, headers={name: value for name, value in sent.items() if value})
        answer = connection.getresponse()
        answered = answer.read().decode()
    finally:
        connection.close()
    assert (answer.status, text in answered) == (status, True), answered
    assert server.admin.state() == before


def test_a_hook_keeps_its_events_where_the_events_to_remove_are_no_list(servers):
    server = servers["github"]
    headers = {"user-agent": "test", "authorization": AUTHORIZATION["github"]}
    statuses = []
    for method, path, body in (("POST", HOOKS, {"config": CONFIG}), ("PATCH", f"{HOOKS}/%d", {"remove_events": "push"})):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        number = statuses[0][1]["id"] if statuses else 0
        connection.request(method, path % number if "%" in path else path, body=json.dumps(body), headers=headers)
        answer = connection.getresponse()
        statuses.append((answer.status, json.loads(answer.read())))
        connection.close()
    assert [status for status, _ in statuses] == [201, 422]
    assert statuses[1][1]["message"] == "Invalid request.\n\n'push' is not a list."
