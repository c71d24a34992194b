"""A simulated Buddy: workspaces with integrations, webhooks, members and groups, and projects whose pipelines run.

Facts: the provider's API documentation, its Go SDK and its Terraform provider. Like the real API, it
never answers credentials, role assumptions and most settings.

State: ``tokens`` (``{TOKEN: {"name", "scopes", "expires_at"}}``) and ``workspaces`` (by domain: ``integrations``,
``webhooks``, ``projects`` with their ``pipelines``, ``executions``, ``members``, ``groups``, ``api_enabled``), and what the
modules of the parts say. A token named `TOKEN` with every scope, and a workspace ``acme``, are there from the start.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping

from reconciler.model.times import epoch_of
from reconciler.sandbox.app import Action, Call, Handler, RefusedCall, Reply, Route, SlidingLimit
from reconciler.sandbox.buddy.answers import body_of, errors, find, paged, refuse
from reconciler.sandbox.buddy.delivery import Pushes, WebhookSender
from reconciler.sandbox.buddy.executions import SimulatedExecutions
from reconciler.sandbox.buddy.oidc import TokenExchange
from reconciler.sandbox.buddy.pipelines import BuddyPipelines
from reconciler.sandbox.buddy.records import BuddyToken
from reconciler.sandbox.buddy.rules import DEFAULT_AUTH, check_fields, missing_fields
from reconciler.sandbox.buddy.state import BuddyState
from reconciler.sandbox.buddy.webhooks import Webhooks, noted
from reconciler.sandbox.runs import DELIVERY_DEFAULTS, RUN_DEFAULTS
from reconciler.sandbox.shapes import fill, json_object, json_objects

TOKEN = "buddy-sandbox-token"  # opens nothing but this simulator
SCOPES = (
    "WORKSPACE", "EXECUTION_INFO", "EXECUTION_RUN", "EXECUTION_MANAGE", "INTEGRATION_INFO", "INTEGRATION_ADD", "INTEGRATION_MANAGE",
    "WEBHOOK_INFO", "WEBHOOK_ADD", "WEBHOOK_MANAGE", "TOKEN_INFO",
)  # fmt: skip
_SHOWN = (
    "identifier",
    "name",
    "type",
    "auth_type",
    "scope",
    "project_name",
    "app_id",
    "google_project",
    "host_url",
    "webhook_address",
    "audience",
    "atop_url",
    "permissions",
    "all_pipelines_allowed",
)
_SUMMARY = ("url", "html_url", "hash_id", "identifier", "name", "type", "auth_type")
_FIXED = ("type", "scope", "project_name", "identifier", "hash_id")
_PERMISSIONS = {"admins": "MANAGE", "others": "USE_ONLY", "users": [], "groups": []}


class Buddy(BuddyState):
    """Implements `reconciler.sandbox.app.Simulator`."""

    provider = "buddy"
    defaults: Mapping[str, object] = {
        "list_summaries": True,  # lists show less than the objects themselves
        "requests_per_minute": 1000,  # enforced with ``rate_limits``
        "max_per_page": 100,
        **RUN_DEFAULTS,
        **DELIVERY_DEFAULTS,
    }

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._hooks, self._deliveries = Webhooks(self), WebhookSender(self)
        self._pipelines = BuddyPipelines(self)
        self._runs = SimulatedExecutions(self, self._pipelines, self._deliveries.execution)
        self._exchange = TokenExchange(self)
        self._pushes = Pushes(self, self._runs, self._deliveries)
        super().__init__(clock=clock)

    def seed(self) -> dict[str, object]:
        """Return a workspace with two projects, some people, and one token that may do everything."""
        pipelines = {"payments": [(11, "deploy"), (12, "test")], "web": [(21, "deploy"), (22, "release")]}
        return {
            "tokens": {TOKEN: {"name": "sandbox", "scopes": list(SCOPES), "expires_at": None}},
            "workspaces": {
                "acme": {
                    "projects": [
                        {"name": name, "pipelines": [{"id": i, "name": n} for i, n in rows]} for name, rows in pipelines.items()
                    ],
                    "members": [
                        {"id": 1, "name": "Ada", "email": "ada@acme.test"},
                        {"id": 2, "name": "Ben", "email": "ben@acme.test"},
                    ],
                    "groups": [{"id": 5, "name": "platform"}],
                }
            },
        }

    def restored(self) -> None:
        """Fill what a state from outside leaves out."""
        fill(self.state, {"tokens": {}, "workspaces": {}, "oidc_providers": {}})
        workspaces = self.records["workspaces"]
        number = max((row.get("id", 0) for row in workspaces.values()), default=0)
        for workspace in workspaces.values():
            if not workspace.get("id"):
                number += 1
                workspace["id"] = number
            fill(workspace, {key: [] for key in ("integrations", "webhooks", "projects", "members", "groups")})
        for part in (self._deliveries, self._pipelines, self._runs):
            part.restored()
        self._limit = SlidingLimit(int(self.number("requests_per_minute")), 60.0)

    def patch_settings(self, patch: Mapping[str, object]) -> None:
        """Change settings; a new limit starts with a fresh count."""
        super().patch_settings(patch)
        self._limit = SlidingLimit(int(self.number("requests_per_minute")), 60.0)

    def routes(self) -> Iterable[Route]:
        """Return the paths that are simulated."""
        root = "/workspaces/{workspace}"
        yield "GET", "/user/token", self.own_token
        yield "POST", "/user/oidc/tokens", self._exchange.exchange
        yield "GET", "/workspaces", self.list_workspaces
        for name, key in (("projects", "name"), ("members", "id"), ("groups", "id")):
            yield "GET", f"{root}/{name}", _lister(self, name, key)
        for part in (self._hooks, self._pipelines, self._runs):
            yield from part.routes(root)
        yield "GET", f"{root}/integrations", self.list_integrations
        yield "POST", f"{root}/integrations", self.add_integration
        yield "GET", f"{root}/integrations/{{key}}", self.get_integration
        yield "PATCH", f"{root}/integrations/{{key}}", self.edit_integration
        yield "PUT", f"{root}/integrations/{{key}}", self.replace_integration
        yield "DELETE", f"{root}/integrations/{{key}}", self.delete_integration

    def actions(self) -> Mapping[str, Action]:
        """What can be done without an API call; the methods say what each takes."""
        return {
            "run_pipeline": self._runs.run_by_hand,
            "finish_execution": self._runs.finish,
            "lose_execution": self._runs.lose,
            "set_behaviour": self._pipelines.behave,
            "push": self._pushes.push,
            "rename_workspace": self._rename,
        }

    # what holds for every request

    def _accepts(self, token: BuddyToken | None) -> bool:
        end = token.get("expires_at") if token is not None else None
        return token is not None and (end is None or epoch_of(end) > self.clock())

    def before(self, call: Call) -> None:
        """Check the token and the rate limit; an exchange brings its own proof."""
        if call.path != "/user/oidc/tokens" and not self._accepts(self.token_of(call)):
            refuse(401, "Wrong authentication data")
        if self.settings["rate_limits"] and (wait_s := self._limit.take(self.clock())):
            raise RefusedCall(
                Reply(429, errors("API rate limit exceeded"), {"X-Rate-Limit-Reset": str(int(self.clock() + wait_s) + 1)})
            )

    def after(self, call: Call, reply: Reply) -> Reply:
        """Add the limit headers that every answer has."""
        limit = int(self.number("requests_per_minute"))
        left = 0 if reply.status == 429 else max(limit - self.received % limit, 1)
        limits = {
            "X-Rate-Limit-Limit": str(limit),
            "X-Rate-Limit-Remaining": str(left),
            "X-Rate-Limit-Reset": str(int(self.clock()) + 60),
        }
        return Reply(reply.status, reply.body, {**limits, **reply.headers})

    def malformed(self, call: Call, message: str) -> Reply:
        """Return a validation error."""
        return Reply(400, errors(message))

    def not_found(self, call: Call) -> Reply:
        """The one shape of all errors."""
        return Reply(404, errors("Resource not found"))

    def _rename(self, options: Mapping[str, object]) -> dict[str, object]:
        """``from``, ``to``: another domain; id and all that is in it stay, and the former domain answers 404."""
        workspace = self.records["workspaces"].pop(str(options["from"]))
        self.records["workspaces"][str(options["to"])] = workspace
        return {"id": workspace["id"]}

    # the token, workspaces, people, projects

    def own_token(self, call: Call) -> Reply:
        """Return what the token is and may do, never its value."""
        token = self.token_of(call) or {}
        if "TOKEN_INFO" not in token.get("scopes", ()):
            refuse(403, "Your token cannot receive data from this endpoint")
        return Reply(
            200,
            {
                "url": f"{call.base_url}/user/token",
                "name": token.get("name"),
                "expires_at": token.get("expires_at"),
                "scopes": token.get("scopes", []),
                "ip_restrictions": [],
                "workspace_restrictions": [],
            },
        )

    def list_workspaces(self, call: Call) -> Reply:
        """Ids, domains and names."""
        known = self.records["workspaces"]
        rows = [{"id": known[domain]["id"], "domain": domain, "name": domain} for domain in sorted(known)]
        return Reply(200, {"url": f"{call.base_url}/workspaces", "workspaces": paged(call, self.settings, rows)})

    # integrations

    def list_integrations(self, call: Call, workspace: str) -> Reply:
        """Not paged; by default only summaries."""
        rows = self.lagged(f"integrations/{workspace}", self.workspace(call, workspace, "INTEGRATION_INFO")["integrations"])
        shown = [_show(call, workspace, item) for item in rows]
        if self.settings["list_summaries"]:
            shown = [{key: item[key] for key in _SUMMARY} for item in shown]
        return Reply(200, {"url": call.base_url + call.path, "integrations": shown})

    def add_integration(self, call: Call, workspace: str) -> Reply:
        """201; an identifier is generated where the request has none."""
        items = self.workspace(call, workspace, "INTEGRATION_ADD")["integrations"]
        body = body_of(call)
        _valid(body, creating=True)
        number = self.next_id()
        key = hashlib.sha256(f"{workspace}/{number}".encode()).hexdigest()[:27]
        identifier = str(body.get("identifier") or f"i{key[:9]}")
        if not self.settings["accept_duplicates"] and any(row["identifier"] == identifier for row in items):
            refuse(400, "An integration with this identifier already exists")
        defaults = {
            "scope": "WORKSPACE",
            "auth_type": DEFAULT_AUTH.get(str(body["type"]), "DEFAULT"),
            "all_pipelines_allowed": True,
        }
        item = {**defaults, **{k: v for k, v in body.items() if v is not None}, "identifier": identifier, "hash_id": key}
        item["permissions"] = {**_PERMISSIONS, **json_object(body.get("permissions") or None)}
        with self.changing(f"integrations/{workspace}", items) as rows:
            rows.append(item)
        return Reply(201, _show(call, workspace, item))

    def get_integration(self, call: Call, workspace: str, key: str) -> Reply:
        """One integration, without its credentials."""
        item = find(self.workspace(call, workspace, "INTEGRATION_INFO")["integrations"], "hash_id", key)
        return Reply(200, _show(call, workspace, item))

    def edit_integration(self, call: Call, workspace: str, key: str) -> Reply:
        """Change the fields of the request; type, scope, project and identifier are immutable."""
        items = self.workspace(call, workspace, "INTEGRATION_MANAGE")["integrations"]
        item, body = find(items, "hash_id", key), body_of(call)
        if not body.get("name"):
            refuse(400, "Name cannot be empty")
        changes = {k: v for k, v in body.items() if k not in _FIXED}
        _valid({**item, **changes}, creating=False)
        with self.changing(f"integrations/{workspace}", items):
            item.update(changes)
            item["permissions"] = {**_PERMISSIONS, **json_object(item.get("permissions") or None)}
        return Reply(200, _show(call, workspace, item))

    def replace_integration(self, call: Call, workspace: str, key: str) -> Reply:
        """Replace the integration: a field that the request omits becomes null. The result must be complete."""
        items = self.workspace(call, workspace, "INTEGRATION_MANAGE")["integrations"]
        item, body = find(items, "hash_id", key), body_of(call)
        fresh = {**{k: item.get(k) for k in _FIXED}, **{k: v for k, v in body.items() if k not in _FIXED}}
        _valid(fresh, creating=True)
        with self.changing(f"integrations/{workspace}", items):
            item.clear()
            item.update(fresh)
            item.setdefault("auth_type", DEFAULT_AUTH.get(str(item["type"]), "DEFAULT"))
            item["permissions"] = {**_PERMISSIONS, **json_object(item.get("permissions") or None)}
        return Reply(200, _show(call, workspace, item))

    def delete_integration(self, call: Call, workspace: str, key: str) -> Reply:
        """204."""
        items = self.workspace(call, workspace, "INTEGRATION_MANAGE")["integrations"]
        item = find(items, "hash_id", key)
        with self.changing(f"integrations/{workspace}", items) as rows:
            rows.remove(item)
        return Reply(204)

    def record_delivery(self, workspace: str, hook_id: int, status: int) -> None:
        """Note a delivery as the provider keeps it: the last 20, newest first."""
        item = find(self.records["workspaces"][workspace]["webhooks"], "id", str(hook_id))
        noted(item, self.clock(), status, "{}")


def _lister(app: Buddy, name: str, key: str) -> Handler:
    """Return the handler of a paged list of the workspace; a summary shows no more than names and ids."""

    def handler(call: Call, workspace: str) -> Reply:
        rows = json_objects({**app.workspace(call, workspace, "WORKSPACE")}[name])
        shown = [{k: v for k, v in row.items() if k in (key, "id", "name", "email")} for row in rows]
        return Reply(200, {"url": call.base_url + call.path, name: paged(call, app.settings, shown)})

    return handler


def _show(call: Call, workspace: str, item: Mapping[str, object]) -> dict[str, object]:
    """Nulls are answered, not left out; the ``url`` has the path of an older API."""
    shown: dict[str, object] = {key: item.get(key) for key in _SHOWN}
    pipelines = [{"id": row["id"], "name": f"pipeline {row['id']}"} for row in json_objects(item.get("allowed_pipelines"))]
    return {
        "url": f"{call.base_url}/workspaces/{workspace}/user/integrations/{item['hash_id']}",
        "html_url": f"https://app.buddy.works/{workspace}/integrations/{item['hash_id']}",
        "hash_id": item["hash_id"],
        **shown,
        "allowed_pipelines": pipelines,
    }


def _valid(body: Mapping[str, object], *, creating: bool) -> None:
    wrong = check_fields(body)
    if wrong:
        refuse(400, wrong)
    missing = missing_fields(body) if creating else ()
    if missing:
        refuse(400, *(f"Field {name} is required" for name in missing))
