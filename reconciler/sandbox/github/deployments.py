"""Deployments of the GitHub simulator and their statuses, with GitHub's surprising defaults.

State: ``{"deployments": {"<repository id>": [{..., "statuses": [oldest first]}, oldest first]}}``. Keys of a repository make
creating one fail: ``"behind": [ref]`` (the default branch would be merged in: 202, and no deployment), ``"conflicts": [ref]``
(409). Commit statuses that are not green: 409, unless ``required_contexts`` is ``[]``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from reconciler.sandbox.app import Action, Call, RefusedCall, Reply, Route
from reconciler.sandbox.github.commits import Commits, Ref
from reconciler.sandbox.github.deliveries import HookDeliveries
from reconciler.sandbox.github.records import (
    DeploymentPlan,
    StatusFields,
    StoredDeployment,
    StoredDeploymentStatus,
)
from reconciler.sandbox.github.request import body_of, flag_of, invalid, limited, link_of, refuse, text_of
from reconciler.sandbox.github.run_shapes import phase_at
from reconciler.sandbox.github.runs import Runs
from reconciler.sandbox.github.shapes import stamp
from reconciler.sandbox.github.state import GitHubState, HookOwner
from reconciler.sandbox.github.statuses import Statuses
from reconciler.sandbox.shapes import fits, picked, texts

STATES = ("error", "failure", "inactive", "in_progress", "queued", "pending", "success")
MAX_DESCRIPTION = 140
MAX_NAME = 255
_FILTERS = ("sha", "ref", "task", "environment")
_LEFT_OUT = frozenset(
    {
        *("jobs_url", "logs_url", "artifacts_url", "cancel_url", "rerun_url", "workflow_url", "check_suite_url"),
        *("previous_attempt_url", "head_commit", "repository", "head_repository"),
    }
)
"""What a run has everywhere but in the events of deployments."""


class Deployments:
    """Handles everything below ``…/deployments``."""

    def __init__(self, app: GitHubState, commits: Commits, deliveries: HookDeliveries, runs: Runs, statuses: Statuses) -> None:
        self.app = app
        self._commits, self._deliveries, self._runs, self._statuses = commits, deliveries, runs, statuses

    def routes(self, prefix: str) -> Iterable[Route]:
        """Return the routes below a repository."""
        rows, item = f"{prefix}/deployments", f"{prefix}/deployments/{{deployment_id}}"
        yield from (
            ("GET", rows, self._list),
            ("POST", rows, self._create),
            ("GET", item, self._get),
            ("DELETE", item, self._delete),
            ("GET", f"{item}/statuses", self._list_statuses),
            ("POST", f"{item}/statuses", self._create_status),
            ("GET", f"{item}/statuses/{{status_id}}", self._get_status),
        )

    def actions(self) -> Mapping[str, Action]:
        """``auto_deployment`` {repo, run_id, environment?}: what a job with an ``environment:`` creates automatically."""
        return {"auto_deployment": self._automatic}

    def _rows(self, repository_id: int | None) -> list[StoredDeployment]:
        return self.app.records["deployments"].setdefault(str(repository_id), [])

    def _find(self, call: Call, where: Mapping[str, str], *, write: bool) -> tuple[HookOwner, StoredDeployment]:
        target = self.app.target(call, where, write=write, permission="deployments")
        deployment = next((row for row in self._rows(target.repository_id) if str(row["id"]) == where["deployment_id"]), None)
        if deployment is None:
            raise refuse(404, "Not Found")
        return target, deployment

    # deployments

    def _list(self, call: Call, **where: str) -> Reply:
        target = self.app.target(call, where, write=False, permission="deployments")
        filters = {key: call.query[key] for key in _FILTERS if call.query.get(key, "none") not in ("", "none")}
        rows = [row for row in reversed(self._rows(target.repository_id)) if filters.items() <= picked(row, filters).items()]
        page, headers = self.app.page(call, rows)
        return Reply(200, [self._shown(target.name, row) for row in page], headers)

    def _get(self, call: Call, **where: str) -> Reply:
        target, deployment = self._find(call, where, write=False)
        return Reply(200, self._shown(target.name, deployment))

    def _create(self, call: Call, **where: str) -> Reply:
        target = self.app.target(call, where, write=True, permission="deployments")
        body = body_of(call)
        given = text_of(body, "ref")
        ref = self._commits.find_any(target.name, given)
        if ref is None:
            raise refuse(422, f"No ref found for: {given}")
        deployment = self._planned(body, ref)
        if flag_of(body, "auto_merge", default=True):
            self._merge(target, ref)
        self._check_contexts(target, ref, body.get("required_contexts"))
        return Reply(201, self._shown(target.name, self._add(target.name, {**deployment, "ref": given}, self.app.login)))

    def _planned(self, body: Mapping[str, object], ref: Ref) -> DeploymentPlan:
        environment = limited("Deployment", body, "environment", MAX_NAME, "production")
        payload = body.get("payload", "")
        if not isinstance(payload, dict | str):
            raise refuse(422, "Invalid request.\n\nFor 'properties/payload', it is neither an object nor a string.")
        description = body.get("description")
        return {
            "sha": ref.sha,
            "ref": ref.name,
            "task": text_of(body, "task", "deploy"),
            "payload": payload,
            "environment": environment,
            "description": None if description is None else limited("Deployment", body, "description", MAX_DESCRIPTION),
            "transient_environment": flag_of(body, "transient_environment", default=False),
            "production_environment": flag_of(body, "production_environment", default=environment == "production"),
        }

    def _merge(self, target: HookOwner, ref: Ref) -> None:
        """Raise what GitHub answers where it has to merge the default branch into ``ref`` first."""
        repo = self.app.records["repos"][target.name]
        base = repo["default_branch"]
        if ref.name in repo.get("conflicts", ()):
            raise refuse(409, f"Conflict merging {base} into {ref.name}.")
        if ref.name in repo.get("behind", ()):
            repo["behind"].remove(ref.name)
            raise RefusedCall(Reply(202, {"message": f"Auto-merged {base} into {ref.name} on deployment."}))

    def _check_contexts(self, target: HookOwner, ref: Ref, required: object) -> None:
        """Raise the 409 for statuses that are not green: of all contexts, or of those that are required."""
        if not fits(required, list[str] | None):
            raise refuse(422, "Invalid request.\n\nFor 'properties/required_contexts', it is not a list of strings.")
        latest = self._statuses.latest(target, ref.sha)
        contexts = list(latest) if required is None else [context.lower() for context in texts(required)]
        states = [
            {"context": context, "state": latest[context]["state"] if context in latest else "pending"} for context in contexts
        ]
        if any(context["state"] != "success" for context in states):
            errors: list[object] = [
                {"contexts": states, "resource": "Deployment", "field": "required_contexts", "code": "invalid"}
            ]
            raise refuse(409, f"Conflict: Commit status checks failed for {ref.name}.", errors=errors)

    def _add(self, name: str, planned: DeploymentPlan, creator: str, run_id: int | None = None) -> StoredDeployment:
        now = stamp(self.app.clock())
        deployment: StoredDeployment = {
            "id": self.app.next_id(),
            **planned,
            "original_environment": planned["environment"],
            "creator": creator,
            "created_at": now,
            "updated_at": now,
            "run_id": run_id,
            "statuses": [],
        }
        self._rows(self.app.records["repos"][name]["id"]).append(deployment)
        payload = {"action": "created", "deployment": self._shown(name, deployment), **self._made_by(name, deployment)}
        self._deliveries.publish(name, "deployment", payload, sender=creator)
        return deployment

    def _delete(self, call: Call, **where: str) -> Reply:
        target, deployment = self._find(call, where, write=True)
        rows = self._rows(target.repository_id)
        states = [status["state"] for status in deployment["statuses"]]
        if len(rows) > 1 and (not states or states[-1] == "success"):
            message = "We cannot delete an active deployment unless it is the only deployment in a given environment."
            raise refuse(422, message)
        rows.remove(deployment)
        return Reply(204)

    def _made_by(self, name: str, deployment: StoredDeployment) -> dict[str, object]:
        """Return workflow and run of a deployment that a job made; None for all others."""
        rows = self.app.records["runs"].get(str(self.app.records["repos"][name]["id"]), [])
        run = next((row for row in rows if row["id"] == deployment["run_id"]), None)
        if run is None:
            return {"workflow": None, "workflow_run": None}
        attempt = run["attempts"][-1]
        shown = self._runs.shown(run, attempt, phase_at(attempt, self.app.clock()))
        brief = {key: value for key, value in shown.items() if key not in _LEFT_OUT}
        return {"workflow": self.app.shown_workflow(name, run), "workflow_run": brief}

    def _automatic(self, options: Mapping[str, object]) -> dict[str, object]:
        run, name = self._runs.named(options), str(options["repo"])
        ref = Ref(run["head_branch"], run["ref"], run["head_sha"])
        planned = self._planned({"payload": {}, "environment": options.get("environment", "production")}, ref)
        return self._shown(name, self._add(name, planned, "github-actions[bot]", run["id"]))

    def _shown(self, name: str, deployment: StoredDeployment) -> dict[str, object]:
        repo = self.app.shown(self.app.base_url, name)
        url = f"{repo['url']}/deployments/{deployment['id']}"
        shown = {key: value for key, value in deployment.items() if key not in ("run_id", "statuses")}
        return {
            **shown,
            "node_id": f"DE_{deployment['id']}",
            "url": url,
            "statuses_url": f"{url}/statuses",
            "repository_url": repo["url"],
            "creator": self.app.user(deployment["creator"]),
            "performed_via_github_app": None,
        }

    # statuses

    def _list_statuses(self, call: Call, **where: str) -> Reply:
        target, deployment = self._find(call, where, write=False)
        page, headers = self.app.page(call, deployment["statuses"][::-1])
        return Reply(200, [self._shown_status(target.name, deployment, row) for row in page], headers)

    def _get_status(self, call: Call, **where: str) -> Reply:
        target, deployment = self._find(call, where, write=False)
        status = next((row for row in deployment["statuses"] if str(row["id"]) == where["status_id"]), None)
        if status is None:
            raise refuse(404, "Not Found")
        return Reply(200, self._shown_status(target.name, deployment, status))

    def _create_status(self, call: Call, **where: str) -> Reply:
        target, deployment = self._find(call, where, write=True)
        body = body_of(call)
        state, description = text_of(body, "state"), limited("DeploymentStatus", body, "description", MAX_DESCRIPTION, "")
        if state not in STATES:
            raise invalid("DeploymentStatus", code="custom", field="state", message="state is not included in the list")
        link = link_of("DeploymentStatus", body, "log_url") or link_of("DeploymentStatus", body, "target_url")
        page = link_of("DeploymentStatus", body, "environment_url")
        environment = limited("DeploymentStatus", body, "environment", MAX_NAME, deployment["environment"])
        auto_inactive = flag_of(body, "auto_inactive", default=True)
        deployment["environment"] = environment
        status: StatusFields = {"state": state, "description": description, "log_url": link, "environment_url": page}
        created = self._add_status(target.name, deployment, status, self.app.login)
        if state == "success" and auto_inactive:
            self._retire_others(target, deployment)
        shown = self._shown_status(target.name, deployment, created)
        return Reply(201, shown, {"location": str(shown["url"])})

    def _retire_others(self, target: HookOwner, deployment: StoredDeployment) -> None:
        """Mark older successes of the environment inactive, but transient and production ones (docs: rest/deployments/statuses)."""
        for other in self._rows(target.repository_id):
            if other["id"] >= deployment["id"] or other["environment"] != deployment["environment"]:
                continue
            lasting = other["transient_environment"] or other["production_environment"]
            if not lasting and other["statuses"] and other["statuses"][-1]["state"] == "success":
                empty: StatusFields = {"state": "inactive", "description": "", "log_url": "", "environment_url": ""}
                self._add_status(target.name, other, empty, self.app.login)

    def _add_status(self, name: str, deployment: StoredDeployment, given: StatusFields, creator: str) -> StoredDeploymentStatus:
        now = stamp(self.app.clock())
        environment = deployment["environment"]
        status: StoredDeploymentStatus = {
            "id": self.app.next_id(),
            **given,
            "environment": environment,
            "creator": creator,
            "created_at": now,
        }
        deployment["statuses"].append(status)
        deployment["updated_at"] = now
        payload = {
            "action": "created",
            "deployment_status": self._shown_status(name, deployment, status),
            "deployment": self._shown(name, deployment),
            "check_run": None,
            **self._made_by(name, deployment),
        }
        self._deliveries.publish(name, "deployment_status", payload, sender=creator)
        return status

    def _shown_status(self, name: str, deployment: StoredDeployment, status: StoredDeploymentStatus) -> dict[str, object]:
        repo = self.app.shown(self.app.base_url, name)
        url = f"{repo['url']}/deployments/{deployment['id']}"
        return {
            **status,
            "node_id": f"DS_{status['id']}",
            "url": f"{url}/statuses/{status['id']}",
            "target_url": status["log_url"],
            "deployment_url": url,
            "repository_url": repo["url"],
            "updated_at": status["created_at"],
            "creator": self.app.user(status["creator"]),
            "performed_via_github_app": None,
        }
