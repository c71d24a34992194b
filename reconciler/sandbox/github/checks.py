"""Check runs of the GitHub simulator.

State: ``{"checks": {"<repository id>": [{"id", "app_id", "name", "head_sha", "status", "conclusion", "output", "annotations", …}]}}``.
Facts: GitHub's OpenAPI description, "Checks": only the installation token of an App writes, and only to check runs of the same App.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from reconciler.sandbox.app import Action, Call, Reply, Route
from reconciler.sandbox.github.commits import Commits
from reconciler.sandbox.github.deliveries import HookDeliveries
from reconciler.sandbox.github.records import StoredApp, StoredCheck, StoredInstallation
from reconciler.sandbox.github.request import body_of, link_of, refuse, text_of
from reconciler.sandbox.github.shapes import in_payload, stamp
from reconciler.sandbox.github.state import GitHubState, HookOwner
from reconciler.sandbox.shapes import is_object, json_object, json_objects, picked, whole

STATUSES = ("queued", "in_progress", "completed")
CONCLUSIONS = ("action_required", "cancelled", "failure", "neutral", "success", "skipped", "timed_out")
LEVELS = ("notice", "warning", "failure")
MAX_TEXT = 65_535
MAX_ANNOTATIONS = 50
"""In one request."""
MAX_DETAILS = 65_536
"""Bytes of the message of an annotation, and of its raw details."""
MAX_TITLE = 255
MAX_RUNS = 1_000
"""Runs of one name in a suite; the oldest ones beyond it are deleted."""
MAX_ACTIONS = 3
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_ACTION = {"label": 20, "description": 40, "identifier": 20}
_CREATE = (
    "name",
    "head_sha",
    "details_url",
    "external_id",
    "status",
    "started_at",
    "conclusion",
    "completed_at",
    "output",
    "actions",
)
_UPDATE = tuple(name for name in _CREATE if name != "head_sha")


class CheckRuns:
    """Handles ``…/check-runs`` and ``…/commits/REF/check-runs``."""

    def __init__(self, app: GitHubState, commits: Commits, deliveries: HookDeliveries) -> None:
        self.app = app
        self._commits, self._deliveries = commits, deliveries

    def routes(self, prefix: str) -> Iterable[Route]:
        """Return the routes below a repository."""
        yield from (
            ("POST", f"{prefix}/check-runs", self._create),
            ("GET", f"{prefix}/check-runs/{{check_id}}", self._get),
            ("PATCH", f"{prefix}/check-runs/{{check_id}}", self._update),
            ("GET", f"{prefix}/check-runs/{{check_id}}/annotations", self._annotations),
            ("GET", f"{prefix}/commits/{{ref+}}/check-runs", self._list),
        )

    def actions(self) -> Mapping[str, Action]:
        """``press_check`` {repository, id, identifier, sender}: a person presses a button of a check run; ``rerun_check`` {repository, id}:
        "Re-run"; ``rerun_checks`` {repository, app, head_sha}: "Re-run all checks" of an App.
        """
        return {"press_check": self._press, "rerun_check": self._rerun, "rerun_checks": self._rerun_suite}

    def _rows(self, target: HookOwner) -> list[StoredCheck]:
        return self.app.records["checks"].setdefault(str(target.repository_id), [])

    def _writer(self) -> StoredApp:
        token = self.app.token
        if token is None or not token["installation_id"]:
            raise refuse(403, "You must authenticate via a GitHub App.")
        installation = self.app.records["installations"][str(token["installation_id"])]
        return self.app.records["apps"][str(installation["app_id"])]

    def _named(self, target: HookOwner, check_id: str) -> StoredCheck:
        row = next((row for row in self._rows(target) if str(row["id"]) == check_id), None)
        if row is None:
            raise refuse(404, "Not Found")
        return row

    def _create(self, call: Call, **where: str) -> Reply:
        target = self.app.target(call, where, write=True, permission="checks")
        app, body = self._writer(), body_of(call)
        _only(body, _CREATE)
        sha, name = text_of(body, "head_sha"), text_of(body, "name")
        if not name.strip():
            raise refuse(422, "Invalid request.\n\nname is empty.")
        if "output" in body:
            text_of(json_object(body["output"]), "title")
        match = self._commits.find_any(target.name, sha)
        if match is None or match.sha != sha:
            raise refuse(422, f"No commit found for SHA: {sha}")
        row: StoredCheck = {
            "id": self.app.next_id(),
            "app_id": app["id"],
            "name": name,
            "head_sha": sha,
            "external_id": "",
            "details_url": "",
            "status": "queued",
            "conclusion": None,
            "started_at": None,
            "completed_at": None,
            "output": {},
            "annotations": [],
            "actions": [],
        }
        self._change(row, body)
        rows = self._rows(target)
        same = [each for each in rows if (each["app_id"], each["head_sha"], each["name"]) == (app["id"], sha, name)]
        for old in same[: max(0, len(same) - MAX_RUNS + 1)]:
            rows.remove(old)
        rows.append(row)
        return Reply(201, self.shown(target, row))

    def _update(self, call: Call, check_id: str, **where: str) -> Reply:
        target = self.app.target(call, where, write=True, permission="checks")
        app, row, body = self._writer(), self._named(target, check_id), body_of(call)
        if row["app_id"] != app["id"]:
            message = f"Invalid app_id `{app['id']}` - check run can only be modified by the GitHub App that created it."
            raise refuse(403, message)
        _only(body, _UPDATE)
        self._change(row, body)
        return Reply(200, self.shown(target, row))

    def _change(self, row: StoredCheck, body: Mapping[str, object]) -> None:
        status, conclusion = text_of(body, "status", ""), text_of(body, "conclusion", "")
        if (status and status not in STATUSES) or (conclusion and conclusion not in CONCLUSIONS):
            raise refuse(422, "Invalid request.\n\nstatus or conclusion is not a possible value.")
        if status == "completed" and not conclusion:
            raise refuse(422, 'Invalid request.\n\n"conclusion" wasn\'t supplied.')
        for time_field in ("started_at", "completed_at"):
            if time_field in body and not _TIME.fullmatch(text_of(body, time_field)):
                message = f"For 'properties/{time_field}', {body[time_field]!r} is not a valid date-time."
                raise refuse(422, f"Invalid request.\n\n{message}")
        link_of("CheckRun", body, "details_url")
        output, actions = _output(body), _actions(body)
        now = stamp(self.app.clock())
        if conclusion:
            row.update({"status": "completed", "conclusion": conclusion, "completed_at": text_of(body, "completed_at", now)})
        elif status:
            row.update({"status": status, "conclusion": None, "completed_at": None})
            row["started_at"] = row["started_at"] or text_of(body, "started_at", now)
        for field in ("name", "details_url", "external_id"):
            if field in body:
                row[field] = text_of(body, field)
        if output is not None:
            row["annotations"] += json_objects(output.pop("annotations", []))
            row["output"] = output
        if actions is not None:
            row["actions"] = actions

    def _get(self, call: Call, check_id: str, **where: str) -> Reply:
        target = self.app.target(call, where, write=False, permission="checks")
        return Reply(200, self.shown(target, self._named(target, check_id)))

    def _annotations(self, call: Call, check_id: str, **where: str) -> Reply:
        target = self.app.target(call, where, write=False, permission="checks")
        page, headers = self.app.page(call, self._named(target, check_id)["annotations"])
        return Reply(200, page, headers)

    def _list(self, call: Call, ref: str, **where: str) -> Reply:
        target = self.app.target(call, where, write=False, permission="checks")
        match = self._commits.find_any(target.name, ref)
        if match is None:
            raise refuse(422, f"No commit found for SHA: {ref}")
        if call.query.get("filter", "latest") not in ("latest", "all") or call.query.get("status", "queued") not in STATUSES:
            raise refuse(422, "Invalid request.\n\nfilter or status is not a possible value.")
        rows = [row for row in reversed(self._rows(target)) if row["head_sha"] == match.sha and _matches(row, call.query)]
        if call.query.get("filter", "latest") == "latest":
            newest = {(row["app_id"], row["name"]): row["id"] for row in reversed(rows)}
            rows = [row for row in rows if row["id"] in newest.values()]
        page, headers = self.app.page(call, rows)
        return Reply(200, {"total_count": len(rows), "check_runs": [self.shown(target, row) for row in page]}, headers)

    def shown(self, target: HookOwner, row: StoredCheck) -> dict[str, object]:
        """Return a check run as answers and payloads show it."""
        app = self.app.records["apps"][str(row["app_id"])]
        repo = self.app.shown(self.app.base_url, target.name)
        url = f"{repo['url']}/check-runs/{row['id']}"
        output = {"title": None, "summary": None, "text": None, **picked(row["output"], row["output"])}
        counted = {"annotations_count": len(row["annotations"]), "annotations_url": f"{url}/annotations"}
        return {
            **picked(row, ("id", "name", "head_sha", "external_id", "status", "conclusion", "started_at", "completed_at")),
            "node_id": f"CR_{row['id']}",
            "url": url,
            "html_url": f"{repo['html_url']}/runs/{row['id']}",
            "details_url": row["details_url"] or f"{repo['html_url']}/runs/{row['id']}",
            "output": {**output, **counted},
            "check_suite": {"id": _suite(row["app_id"], row["head_sha"])},
            "app": {**picked(app, ("id", "slug", "client_id", "name")), "owner": self.app.user(app["owner"])},
            "pull_requests": [],
        }

    # what people do

    def _press(self, options: Mapping[str, object]) -> object:
        target, row = self._target(options)
        identifier = str(options["identifier"])
        if identifier not in [action["identifier"] for action in row["actions"]]:
            raise ValueError(f"the check run has no button {identifier}")
        return self._send(target, row, "requested_action", options, {"requested_action": {"identifier": identifier}})

    def _rerun(self, options: Mapping[str, object]) -> object:
        target, row = self._target(options)
        return self._send(target, row, "rerequested", options, {})

    def _rerun_suite(self, options: Mapping[str, object]) -> object:
        target, sha = self._owner(options), str(options["head_sha"])
        app = self.app.records["apps"][str(whole(options["app"]))]
        suite: dict[str, object] = {"id": _suite(app["id"], sha), "head_branch": None, "head_sha": sha, "pull_requests": []}
        return self._tell(target, app, "check_suite", {"action": "rerequested", "check_suite": suite}, options)

    def _owner(self, options: Mapping[str, object]) -> HookOwner:
        name = str(options["repository"])
        number = self.app.records["repos"][name]["id"]
        return HookOwner(
            f"repos/{number}", f"/repos/{name}", f"/repositories/{number}", organization=False, repository_id=number, name=name
        )

    def _target(self, options: Mapping[str, object]) -> tuple[HookOwner, StoredCheck]:
        target = self._owner(options)
        return target, self._named(target, str(whole(options["id"])))

    def _send(
        self, target: HookOwner, row: StoredCheck, action: str, options: Mapping[str, object], more: Mapping[str, object]
    ) -> object:
        app = self.app.records["apps"][str(row["app_id"])]
        return self._tell(target, app, "check_run", {"action": action, "check_run": self.shown(target, row), **more}, options)

    def _tell(
        self, target: HookOwner, app: StoredApp, event: str, payload: Mapping[str, object], options: Mapping[str, object]
    ) -> object:
        """Send the event to the App of the check run alone, as GitHub does, if it subscribes to it."""
        installation = self._installation(app, target.name)
        if installation is None or event not in installation["events"] or not app["hook"]["active"]:
            return {"deliveries": []}
        whole_payload = {
            **payload,
            "repository": in_payload(self.app.shown(self.app.base_url, target.name)),
            "sender": self.app.user(str(options.get("sender", "sandbox-bot"))),
            "installation": {"id": installation["id"], "node_id": f"I_{installation['id']}"},
        }
        return {"deliveries": [self._deliveries.send(app["hook"], event, whole_payload)["id"]]}

    def _installation(self, app: StoredApp, name: str) -> StoredInstallation | None:
        rows = self.app.records["installations"].values()
        return next((row for row in rows if row["app_id"] == app["id"] and self.app.covers(row, name)), None)


def _suite(app_id: int, sha: str) -> int:
    """Return the id of the suite of an App and a commit."""
    return app_id * 100_000_000 + int(sha[:6], 16)


def _matches(row: StoredCheck, query: Mapping[str, str]) -> bool:
    name, status, app = query.get("check_name", row["name"]), query.get("status", row["status"]), query.get("app_id", "")
    return row["name"] == name and row["status"] == status and app in ("", str(row["app_id"]))


def _only(body: Mapping[str, object], known: Iterable[str]) -> None:
    for name in body:
        if name not in known:
            raise refuse(422, f'Invalid request.\n\n"{name}" is not a permitted key.')


def _output(body: Mapping[str, object]) -> dict[str, object] | None:
    """Return a copy of ``output``; raises a 422 for texts that are too long, and for annotations that GitHub would not show."""
    if "output" not in body:
        return None
    output = dict(json_object(body["output"]))
    text_of(output, "title", "" if "annotations" in output else None)
    for field in ("summary", "text"):
        default = None if field == "summary" else ""
        if len(text_of(output, field, default)) > MAX_TEXT:
            raise refuse(422, f"Invalid request.\n\nOnly {MAX_TEXT} characters are allowed; {field} is longer.")
    annotations = json_objects(output.get("annotations", []))
    if len(annotations) > MAX_ANNOTATIONS:
        raise refuse(
            422, f"Invalid request.\n\nNo more than {MAX_ANNOTATIONS} items are allowed; {len(annotations)} were supplied."
        )
    for row in annotations:
        if not text_of(row, "path") or text_of(row, "annotation_level") not in LEVELS or not text_of(row, "message"):
            raise refuse(422, "Invalid request.\n\nAn annotation is not valid.")
        if whole(row.get("start_line", 0)) < 1 or whole(row.get("end_line", 0)) < whole(row["start_line"]):
            raise refuse(422, "Invalid request.\n\nAn annotation has no line.")
        if ("start_column" in row or "end_column" in row) and row["start_line"] != row["end_line"]:
            raise refuse(422, "Invalid request.\n\nAn annotation of several lines has a column.")
        long = [field for field in ("message", "raw_details") if len(text_of(row, field, "").encode()) > MAX_DETAILS]
        if long or len(text_of(row, "title", "")) > MAX_TITLE:
            raise refuse(422, "Invalid request.\n\nA text of an annotation is too long.")
    return output


def _actions(body: Mapping[str, object]) -> list[dict[str, object]] | None:
    if "actions" not in body:
        return None
    actions = json_objects(body["actions"])
    if len(actions) > MAX_ACTIONS:
        raise refuse(422, f"Invalid request.\n\nNo more than {MAX_ACTIONS} actions are allowed; {len(actions)} were supplied.")
    for action in actions:
        for field, most in _ACTION.items():
            if not is_object(action) or len(text_of(action, field)) > most:
                raise refuse(422, f"Invalid request.\n\nOnly {most} characters are allowed in {field}.")
    return actions
