"""Notifications of the simulated Semaphore: sends a finished pipeline to the webhooks of every matching rule.

Facts: the notification service of the provider's open server code. Each matching rule sends one request, signed with the variable
``WEBHOOK_SECRET`` of the secret that the webhook names; where that is missing, the request is unsigned. Any status counts as
delivered; only a timeout is retried, with the same id. There is no redelivery on demand.

State: ``deliveries``, oldest first: ``{"id", "at", "notification", "rule", "pipeline_id", "url", "method", "headers", "body",
"attempts": [{"at", "status"}], "outcome"}``. The outcome is ``sending``, ``delivered``, ``timeout`` or ``failed``; ``dropped`` for
what a setting took away, ``off`` where the setting ``deliver`` is.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence

import orjson

from reconciler.sandbox.runs import KEPT, Outgoing, Sender, send
from reconciler.sandbox.semaphore import run_shapes as shapes
from reconciler.sandbox.semaphore.records import (
    SemaphoreDelivery,
    SemaphoreOrganization,
    SendAttempt,
    StoredNotification,
    StoredSemaphorePipeline,
    StoredSemaphoreWorkflow,
)
from reconciler.sandbox.semaphore.run_shapes import ShownBlock, life_of
from reconciler.sandbox.semaphore.state import SemaphoreState
from reconciler.sandbox.shapes import fill, json_object, texts, whole

VARIABLE = "WEBHOOK_SECRET"
CONNECT_S = 1.0
RESPONSE_S = 0.5
MAX_TIMEOUT_S = 15.0
MAX_RETRIES = 5
RETRY_S = 0.5


class NotificationSender:
    """Sends the notifications of finished pipelines."""

    def __init__(self, app: SemaphoreState) -> None:
        self.app = app
        self._sender = Sender(app)

    def restored(self) -> None:
        """Fill what a state from outside leaves out."""
        fill(self.app.state, {"deliveries": []})

    def pipeline_done(self, pipeline: StoredSemaphorePipeline) -> None:
        """Send the webhooks of all matching rules."""
        workflow = self.app.workflows_by_id().get(pipeline["wf_id"])
        if workflow is None:
            return
        life = life_of(pipeline, self.app.clock())
        content = b""
        for notification, rule in self._matching(workflow, pipeline, life.result):
            content = content or orjson.dumps(payload_of(self.app.records["organization"], workflow, pipeline, self.app.clock()))
            self._record(notification, rule, pipeline, content)

    def _matching(
        self, workflow: StoredSemaphoreWorkflow, pipeline: StoredSemaphorePipeline, result: str
    ) -> Iterator[tuple[StoredNotification, dict[str, object]]]:
        for notification in self.app.records["notifications"]:
            if not self._creator_sees(notification):
                continue
            for rule in notification["spec"]["rules"]:
                webhook = _webhook_of(rule)
                active = webhook.get("endpoint") and webhook.get("status") != "INACTIVE"
                if active and matches(json_object(rule.get("filter")), workflow, pipeline["file"], result):
                    yield notification, rule

    def _creator_sees(self, notification: StoredNotification) -> bool:
        """A notification whose creator lost access to the project sends nothing; one without a creator still sends."""
        creator = notification.get("creator_id")
        tokens = [token for token in self.app.records["tokens"].values() if token.get("user") == creator]
        return not creator or any({"*", "project.view"} & set(token.get("permissions", ())) for token in tokens)

    def _record(
        self, notification: StoredNotification, rule: dict[str, object], pipeline: StoredSemaphorePipeline, content: bytes
    ) -> None:
        webhook = _webhook_of(rule)
        headers = {
            "Content-type": "application/json",
            "User-Agent": "Semaphore-Webhook",
            "X-Semaphore-Webhook-Id": str(uuid.uuid4()),
        }
        key = self._key(str(webhook.get("secret") or ""))
        if key:
            headers["X-Semaphore-Signature-256"] = hmac.new(key.encode(), content, hashlib.sha256).hexdigest()
        row: SemaphoreDelivery = {
            "id": headers["X-Semaphore-Webhook-Id"],
            "at": self.app.clock(),
            "notification": notification["name"],
            "rule": str(rule.get("name") or ""),
            "pipeline_id": pipeline["ppl_id"],
            "url": str(webhook["endpoint"]),
            "method": str(webhook.get("action") or "post").upper(),
            "headers": headers,
            "body": content.decode(),
            "attempts": [],
            "outcome": "",
        }
        rows = self.app.records["deliveries"]
        rows.append(row)
        del rows[:-KEPT]
        response_s = whole(webhook.get("timeout") or 0) / 1000 or RESPONSE_S
        retries = min(whole(webhook.get("retries") or 0), MAX_RETRIES)
        row["outcome"] = self._sender.dispatch("pipeline_done", lambda: self._deliver(row, response_s, retries))

    def _key(self, name: str) -> str:
        """Return the signing key of the organization's secret ``name``; empty if it, or its variable, is missing."""
        secret = next((row for row in self.app.records["secrets"] if row["name"] == name), None)
        variables = secret["data"]["env_vars"] if secret is not None else []
        return next((row["value"] for row in variables if row["name"] == VARIABLE), "")

    async def _deliver(self, row: SemaphoreDelivery, response_s: float, retries: int) -> None:
        """Send until it is answered; both timeouts double with each attempt."""
        for number in range(retries + 1):
            if number:
                await asyncio.sleep(RETRY_S * 2 ** (number - 1))
            connect_s, answer_s = (min(base * 2**number, MAX_TIMEOUT_S) for base in (CONNECT_S, response_s))
            request = Outgoing(row["method"], row["url"], row["headers"], row["body"].encode(), connect_s, answer_s)
            attempt: SendAttempt = {"at": self.app.clock(), "status": 0}
            row["attempts"].append(attempt)
            try:
                attempt["status"] = await send(request)
            except TimeoutError:
                row["outcome"] = "timeout"
                continue
            except (OSError, ValueError):
                row["outcome"] = "failed"
                return
            row["outcome"] = "delivered"
            return


def _webhook_of(rule: Mapping[str, object]) -> dict[str, object]:
    return json_object(json_object(rule.get("notify")).get("webhook"))


def matches(filters: Mapping[str, object], workflow: StoredSemaphoreWorkflow, file: str, result: str) -> bool:
    """Whether a rule matches a pipeline: every list must contain a matching pattern.

    An empty list matches everything, except for projects, where it matches nothing. The branch of a tag's run is not
    compared, nor the tag of a branch's run. Blocks and states are stored and never compared.
    """
    reference = workflow["reference"]
    tag = reference.removeprefix("refs/tags/") if reference.startswith("refs/tags/") else ""
    place = ("tags", tag) if tag else ("branches", shapes.branch_name(reference))
    if not _any_fits(texts(filters.get("projects")), workflow["project"]):
        return False
    criteria = (place, ("pipelines", file.rpartition("/")[2]), ("results", result))
    return all(not filters.get(key) or _any_fits(texts(filters[key]), value) for key, value in criteria)


def _any_fits(patterns: Sequence[str], value: str) -> bool:
    """A pattern between slashes is a regular expression that may match anywhere; any other must equal the value."""
    return any(
        re.search(pattern[1:-1], value) is not None if re.fullmatch(r"/.*/", pattern) else pattern == value
        for pattern in patterns
    )


def payload_of(
    organization: SemaphoreOrganization, workflow: StoredSemaphoreWorkflow, pipeline: StoredSemaphorePipeline, now: float
) -> dict[str, object]:
    """Return the payload, version 1.0.0."""
    life, name = life_of(pipeline, now), workflow["project"]
    folder = pipeline["file"].rpartition("/")
    times = {
        **dict.fromkeys(("created_at", "pending_at", "queuing_at"), pipeline["created_at"]),
        "running_at": life.running_at,
        "stopping_at": life.stopping_at,
        "done_at": life.done_at,
    }
    return {
        "version": "1.0.0",
        "organization": {"name": organization["name"], "id": organization["id"]},
        "project": {"name": name, "id": workflow["project_id"]},
        "repository": {"slug": f"acme/{name}", "url": f"https://github.com/acme/{name}"},
        "revision": _revision(workflow),
        "workflow": {
            "initial_pipeline_id": workflow["initial_ppl_id"],
            "id": workflow["wf_id"],
            "created_at": shapes.iso(workflow["created_at"]),
        },
        "pipeline": {
            "id": pipeline["ppl_id"],
            "name": pipeline["name"],
            "yaml_file_name": folder[2],
            "working_directory": folder[0],
            "state": life.state,
            "result": life.result,
            "result_reason": life.reason,
            "error_description": pipeline["error"],
            **{key: shapes.iso(at) for key, at in times.items()},
        },
        "blocks": [_block(block) for block in shapes.shown_blocks(pipeline, now)],
    }


def _revision(workflow: StoredSemaphoreWorkflow) -> dict[str, object]:
    reference, sha = workflow["reference"], workflow["commit_sha"]
    kind, commit_range = shapes.reference_type(reference), f"{'0' * 40}...{sha}"
    branch = {"name": shapes.branch_name(reference), "commit_range": commit_range}
    request = {
        "head_repo_slug": f"acme/{workflow['project']}",
        "number": int(number) if (number := reference.rpartition("/")[2]).isdigit() else 0,
        "name": workflow["commit_message"],
        "head_sha": sha,
        "branch_name": shapes.branch_name(reference),
        "commit_range": commit_range,
    }
    return {
        "tag": {"name": reference.removeprefix("refs/tags/")} if kind == "tag" else None,
        "sender": {"login": "ada", "email": "ada@acme.test", "avatar_url": "https://avatars.acme.test/ada"},
        "reference_type": kind,
        "reference": reference,
        "pull_request": request if kind == "pull_request" else None,
        "commit_sha": sha,
        "commit_message": workflow["commit_message"],
        "branch": branch if kind == "branch" else None,
    }


def _block(block: ShownBlock) -> dict[str, object]:
    jobs = [
        {
            "id": job["job_id"],
            "name": job["name"],
            "index": job["index"],
            "status": job["status"].lower(),
            "result": job["result"].lower(),
        }
        for job in block["jobs"]
    ]
    return {
        "name": block["name"],
        "state": block["state"],
        "result": block["result"],
        "result_reason": block["result_reason"],
        "jobs": jobs,
    }
