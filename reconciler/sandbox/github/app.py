"""GitHub's REST API as far as hooks, runs and deployments need it: tokens and rights, repositories, renames, limits, ETags.

State (all of it can be put from outside; what is left out of an entry gets its default)::

    {"tokens": {"ghp_sandbox": {"login", "kind": "classic" | "fine" | "installation", "scopes": [], "permissions": {},
                "repos": "*" | ["acme/*"], "expires_at": "2027-01-01 00:00:00 UTC"}},
     "orgs": {"acme": {"id": 1}}, "users": {"sandbox-bot": {"id": 2}},
     "repos": {"acme/payments": {"id", "private", "archived", "default_branch", "branches": {"main": SHA}, "tags": {}}},
     "renamed": {"acme/old": 101},  (while no repository has the name)
     "apps", "installations": see `reconciler.sandbox.github.apps`,
     "hooks": {"repos/101": [hook], "orgs/acme": [hook]}, "deliveries": {"<hook id>": [newest last]}}

The modules beside this one name the rest of it: `github_commits`, `github_actions`, `github_runs`, `github_deployments`,
`github_statuses`.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import re
import time
from collections.abc import Callable, Iterable, Mapping

from reconciler.sandbox.app import Action, Call, RefusedCall, Reply, Route
from reconciler.sandbox.github import actions as github_actions
from reconciler.sandbox.github import deliveries as github_deliveries
from reconciler.sandbox.github import limits as github_limits
from reconciler.sandbox.github import logs as github_logs
from reconciler.sandbox.github import oidc as github_oidc
from reconciler.sandbox.github import runs as github_runs
from reconciler.sandbox.github import shapes as shapes
from reconciler.sandbox.github.actions import Actions
from reconciler.sandbox.github.app_events import AppHooks
from reconciler.sandbox.github.app_rules import UNREADABLE, signed_by
from reconciler.sandbox.github.app_tokens import LIFE_S, InstallationTokens
from reconciler.sandbox.github.apps import Apps
from reconciler.sandbox.github.checks import CheckRuns
from reconciler.sandbox.github.comments import Comments
from reconciler.sandbox.github.commits import Commits
from reconciler.sandbox.github.deliveries import HookDeliveries
from reconciler.sandbox.github.deployments import Deployments
from reconciler.sandbox.github.hooks import RepositoryHooks
from reconciler.sandbox.github.limits import RateLimits
from reconciler.sandbox.github.logs import SimulatedLogs
from reconciler.sandbox.github.oidc import JobTokens
from reconciler.sandbox.github.pulls import Pulls
from reconciler.sandbox.github.renames import Moves
from reconciler.sandbox.github.request import etag, refuse
from reconciler.sandbox.github.run_control import RunControl
from reconciler.sandbox.github.runs import Runs
from reconciler.sandbox.github.state import GitHubState
from reconciler.sandbox.github.statuses import Statuses
from reconciler.sandbox.shapes import fill, json_object, json_objects, whole

VERSIONS = ("2022-11-28", "2026-03-10")
TOKEN = "ghp_sandbox"
GROUPS = (
    *("tokens", "orgs", "users", "repos", "renamed", "hooks", "deliveries"),
    *("workflows", "runs", "deployments", "commit_statuses", "apps", "installations", "manifests"),
    *("pulls", "checks", "comments"),
)
ENTERPRISE = "/api/v3"
"""What all paths of the API begin with at an Enterprise server; the simulator takes them in both forms."""
OPEN = ("/_actions/", github_oidc.ROOT)
"""Paths below these belong to other hosts in the real world (log storage, the issuer of job tokens): no token, no API headers."""
_PAGES = re.compile(r"(?:/organizations/[^/]+)?/settings/apps/new")
"""Paths of the web site that are simulated: a browser asks for them, not a client of the API."""
_AS_APP = re.compile(r"/app(?:/.*)?|/(?:orgs|users)/[^/]+/installation|/repos/[^/]+/[^/]+/installation")


_TOKEN: Mapping[str, object] = {
    "login": "sandbox-bot",
    "kind": "classic",
    "scopes": [],
    "permissions": {},
    "repos": "*",
    "expires_at": "",
    "installation_id": 0,
    "ends_at": 0.0,
    "repository_ids": None,
}
_REPOSITORY: Mapping[str, object] = {"id": 0, "private": True, "archived": False, "default_branch": "main"}


class GitHub(GitHubState):
    """The GitHub simulator."""

    provider = "github"
    defaults: Mapping[str, object] = {
        **github_limits.DEFAULTS,
        **github_deliveries.DEFAULTS,
        **github_actions.DEFAULTS,
        **github_runs.DEFAULTS,
        **github_logs.DEFAULTS,
        **github_oidc.DEFAULTS,
        "token_lag_s": 0.0,  # how long a new token of an App is unknown: not every server has it at once
        "links_root": "",  # what links and redirects begin with: a server behind a proxy names its inner address
    }

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._limits = RateLimits(lambda: self.settings, lambda: self.clock())
        self._counted = ""  # whose rate limit a request counts against
        self.deliveries, self.commits = HookDeliveries(self), Commits(self)
        self.hooks = RepositoryHooks(self, self.deliveries)
        self.runs = Runs(self, self.commits, self.deliveries)
        self.run_control = RunControl(self, self.runs)
        self.workflows = Actions(self, self.commits, self.deliveries, self.runs)
        self.logs, self.job_tokens, self.moves = SimulatedLogs(self, self.runs), JobTokens(self, self.runs), Moves(self)
        self.statuses = Statuses(self, self.commits, self.deliveries)
        self.deployments = Deployments(self, self.commits, self.deliveries, self.runs, self.statuses)
        self.pulls = Pulls(self, self.commits, self.deliveries)
        self.checks, self.comments = CheckRuns(self, self.commits, self.deliveries), Comments(self, self.pulls, self.deliveries)
        app_hooks = AppHooks(self, self.deliveries)
        self.app_tokens = InstallationTokens(self)
        self.apps = Apps(self, app_hooks, self.app_tokens)
        super().__init__(clock=clock)

    def answer(self, call: Call) -> Reply:
        """Answer a request in the form of an Enterprise server as well."""
        if call.path.startswith(ENTERPRISE + "/"):
            call = dataclasses.replace(call, path=call.path.removeprefix(ENTERPRISE))
        return super().answer(call)

    def seed(self) -> dict[str, object]:
        """One organization, two repositories, one token that may do everything."""
        return {
            "tokens": {TOKEN: {"scopes": ["repo", "admin:org_hook", "admin:repo_hook"]}},
            "orgs": {"acme": {}},
            "repos": {"acme/payments": {}, "acme/web": {}},
            "renamed": {},
            "hooks": {},
            "deliveries": {},
        }

    def restored(self) -> None:
        """Fill defaults and the indexes by name and id."""
        fill(self.state, {name: {} for name in GROUPS})
        self.state["next_id"] = max([whole(self.state.get("next_id", 1000)), *self._ids()])
        records = self.records
        for token in records["tokens"].values():
            fill(token, _TOKEN)
            records["users"].setdefault(token["login"], {"id": 0})
        for account in (*records["orgs"].values(), *records["users"].values()):
            fill(account, {"id": 0})
            account["id"] = account["id"] or self.next_id()
        for repo in records["repos"].values():
            fill(repo, _REPOSITORY)
            repo["id"] = repo["id"] or self.next_id()
        self.reindex()
        for part in (self.hooks, self.commits, self.workflows, self.runs, self.apps):
            part.restored()
        self._limits.clear()

    def _ids(self) -> Iterable[int]:
        records = self.records
        for accounts in (records["orgs"], records["users"]):
            yield from (row.get("id", 0) for row in accounts.values())
        yield from (row.get("id", 0) for row in records["repos"].values())
        for app in records["apps"].values():
            hook: Mapping[str, object] = json_object(app.get("hook"))
            yield from (whole(app.get("id", 0)), whole(hook.get("id", 0)))
        yield from map(int, (*records["apps"], *records["installations"]))
        for group in ("hooks", "workflows", "runs", "deployments", "commit_statuses", "pulls", "checks", "comments"):
            yield from (whole(row.get("id", 0)) for rows in json_object(self.state[group]).values() for row in json_objects(rows))

    def routes(self) -> Iterable[Route]:
        """All paths; those of a repository also by its id, as redirects and links have them."""
        yield from (
            ("GET", "/user", self._user),
            ("GET", "/rate_limit", self._rate),
            ("GET", "/orgs/{org}", self._org),
            ("GET", "/organizations/{org_id}", self._org),
            ("GET", "/orgs/{org}/repos", self._org_repos),
            ("GET", "/user/repos", self._user_repos),
            ("GET", "/installation/repositories", self._installation_repos),
            ("GET", "/repos/{owner}/{repo}", self._repo),
            ("GET", "/repositories/{repo_id}", self._repo),
        )
        for prefix in ("/repos/{owner}/{repo}", "/repositories/{repo_id}", "/orgs/{org}", "/organizations/{org_id}"):
            yield from (*self.hooks.routes(prefix), *self.deliveries.routes(prefix))
        for prefix in ("/repos/{owner}/{repo}", "/repositories/{repo_id}"):
            for part in (self.workflows, self.runs, self.logs, self.deployments, self.statuses, self.checks, self.commits):
                yield from part.routes(prefix)
            yield from (*self.pulls.routes(prefix), *self.comments.routes(prefix))
        yield from self.apps.routes()
        yield from (*self.logs.open_routes(OPEN[0]), *self.job_tokens.open_routes())

    def actions(self) -> Mapping[str, Action]:
        """``emit`` {repository | organization, event, payload}; and those of the parts."""
        own = {"emit": self.deliveries.emit, "push": self.workflows.push}
        return {
            **own,
            **self.moves.actions(),
            **self.run_control.actions(),
            **self.deployments.actions(),
            **self.job_tokens.actions(),
            **self.apps.actions(),
            **self.pulls.actions(),
            **self.checks.actions(),
            **self.comments.actions(),
        }

    # every request

    def before(self, call: Call) -> None:
        """Check user agent, version, token and limits."""
        self.token, self.acting_app, self._counted, self.required_permission = None, None, "", ""
        if _is_open(call):
            return
        if not call.headers.get("user-agent"):
            raise RefusedCall(
                Reply(
                    403,
                    b"Request forbidden by administrative rules. Please make sure your request has a User-Agent header",
                    {"content-type": "application/octet-stream"},
                )
            )
        if call.headers.get("x-github-api-version", VERSIONS[0]) not in VERSIONS:
            raise refuse(400, "The specified API version is not supported.")
        if _AS_APP.fullmatch(call.path):
            self._authenticate_app(call.headers.get("authorization", ""))
        else:
            self._authenticate(call.headers.get("authorization", ""))
        if self.settings["rate_limits"] and call.path != "/rate_limit":
            self._limits.check(call, self._counted, self.in_flight)

    def after(self, call: Call, reply: Reply) -> Reply:
        """Add the headers that every answer has; answer 304 where the ETag still holds, which costs nothing."""
        if _is_open(call):
            return reply
        headers = {
            "x-github-media-type": "github.v3; format=json",
            "vary": "Accept, Authorization, Cookie, X-GitHub-OTP",
            **self._token_headers(),
            "x-github-api-version-selected": call.headers.get("x-github-api-version", VERSIONS[0]),
            **reply.headers,
        }
        unchanged = False
        if call.method == "GET" and reply.status == 200:
            tag = etag(call, reply.content)
            headers |= {"etag": tag, "cache-control": "private, max-age=60, s-maxage=60"}
            known = [text.strip().removeprefix("W/") for text in call.headers.get("if-none-match", "").split(",")]
            unchanged = tag.removeprefix("W/") in known
        if self.settings["rate_limits"]:
            refusal = None if unchanged or call.path == "/rate_limit" else self._limits.count(call, self._counted)
            if refusal is not None:
                return refusal.reply
            headers |= self._limits.headers(self._counted)
        return Reply(304, None, headers) if unchanged else Reply(reply.status, reply.body, headers)

    def malformed(self, call: Call, message: str) -> Reply:
        """Return a validation error."""
        return Reply(422, shapes.error(f"Invalid request.\n\n{message}.", 422))

    def not_found(self, call: Call) -> Reply:
        """Also for a trailing slash."""
        return Reply(404, shapes.error("Not Found", 404))

    def _authenticate(self, header: str) -> None:
        if not header:
            return
        scheme, _, value = header.partition(" ")
        if scheme.lower() == "basic":
            try:
                value = base64.b64decode(value, validate=True).decode().partition(":")[2]
            except (binascii.Error, UnicodeDecodeError):
                value = ""
        token = self.records["tokens"].get(value) if scheme.lower() in ("bearer", "token", "basic") else None
        if token is None:
            raise refuse(401, "Bad credentials")
        unknown = token["ends_at"] and token["ends_at"] - LIFE_S + self.number("token_lag_s") > self.clock()
        if unknown or (token["ends_at"] and token["ends_at"] <= self.clock()):
            raise refuse(401, "Bad credentials")
        number = token["installation_id"]
        if number and self.records["installations"][str(number)]["suspended_at"]:
            raise refuse(403, "This installation has been suspended")
        self.token, self._counted = token, f"installation {number}" if number else value

    def _authenticate_app(self, header: str) -> None:
        scheme, _, value = header.partition(" ")
        if scheme.lower() != "bearer":
            raise refuse(401, UNREADABLE)
        self.acting_app = signed_by(value.strip(), self.records["apps"].values(), self.clock())
        self._counted = f"app {self.acting_app['id']}"

    def _token_headers(self) -> dict[str, str]:
        if self.token is None:
            return {}
        headers = {}
        if self.token["expires_at"]:
            headers["github-authentication-token-expiration"] = str(self.token["expires_at"])
        if self.token["kind"] == "classic":
            headers |= {"x-oauth-scopes": ", ".join(self.token["scopes"]), "x-accepted-oauth-scopes": ""}
        elif self.required_permission:
            headers["x-accepted-github-permissions"] = self.required_permission
        return headers

    # users and repositories

    def _user(self, call: Call) -> Reply:
        if self.token is None:
            raise refuse(401, "Requires authentication")
        if self.token["kind"] == "installation":
            raise refuse(403, "Resource not accessible by integration")
        login = self.token["login"]
        return Reply(200, shapes.private_user(call.base_url, login, self.records["users"][login]["id"]))

    def _rate(self, _call: Call) -> Reply:
        numbers = self._limits.numbers(self._counted)
        return Reply(
            200, {"resources": {"core": numbers, "search": {**numbers, "limit": 30, "remaining": 30, "used": 0}}, "rate": numbers}
        )

    def _repo(self, call: Call, **where: str) -> Reply:
        return Reply(200, self.shown(call.base_url, self.repository_named(call, where)))

    def _visible(self, *, owner: str = "") -> list[str]:
        names = sorted(self.records["repos"], key=str.lower)
        return [name for name in names if self.sees(name) and (not owner or name.partition("/")[0].lower() == owner.lower())]

    def _org(self, call: Call, **where: str) -> Reply:
        login = self.organization_named(where)
        shown = shapes.user(call.base_url, login, self.records["orgs"][login]["id"], "Organization")
        return Reply(200, {**shown, "url": f"{call.base_url}/orgs/{login}"})

    def _org_repos(self, call: Call, org: str) -> Reply:
        if not any(name.lower() == org.lower() for name in self.records["orgs"]):
            raise refuse(404, "Not Found")
        names, headers = self.page(call, self._visible(owner=org))
        return Reply(200, [self.shown(call.base_url, name) for name in names], headers)

    def _user_repos(self, call: Call) -> Reply:
        self._user(call)
        names, headers = self.page(call, self._visible())
        return Reply(200, [self.shown(call.base_url, name) for name in names], headers)

    def _installation_repos(self, call: Call) -> Reply:
        if self.token is None or self.token["kind"] != "installation":
            raise refuse(
                403, "You must authenticate with an installation access token in order to list repositories for an installation."
            )
        visible = self._visible()
        everything = self.token["repos"] == "*"
        if self.token["installation_id"]:
            installation = self.records["installations"][str(self.token["installation_id"])]
            visible = [name for name in visible if self._within(self.token, name)]  # others' public ones are not listed
            everything = self.token["repository_ids"] is None and installation["repository_selection"] == "all"
        names, headers = self.page(call, visible)
        body = {
            "total_count": len(visible),
            "repository_selection": "all" if everything else "selected",
            "repositories": [self.shown(call.base_url, name) for name in names],
        }
        return Reply(200, body, headers)


def _is_open(call: Call) -> bool:
    return call.path.startswith(OPEN) or _PAGES.fullmatch(call.path) is not None
