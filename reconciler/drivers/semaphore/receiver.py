"""Webhooks of Semaphore: signed with an HMAC over the body, sent once with hardly a retry, and not kept by the sender.

A missed delivery is therefore rebuilt from the pipeline that it was about, as a payload of version 1.0.0. What only the sender
knows (who pushed, ranges of commits, the text of a pull request) is null.
Facts: the notification service and the API of the provider's open server code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import orjson

from reconciler.drivers.common import matching, target_of
from reconciler.drivers.connection import Api
from reconciler.drivers.delivery import KeepsNoDeliveries, identity_of, kept_headers, oldest_first, signed_by
from reconciler.drivers.semaphore.api import (
    PIPELINES,
    Block,
    PipelineAnswer,
    SemaphoreJob,
    SemaphorePipeline,
    SemaphoreProject,
    SemaphoreWorkflow,
    epoch_of,
    iso_of,
    list_rows,
    lower,
    pipeline_of,
    projects,
    workflow_of,
)
from reconciler.drivers.semaphore.compile import EVENT, projects_of
from reconciler.drivers.wire import find
from reconciler.model.errors import NotFound, ProviderProtocolError
from reconciler.model.events import Delivery, Hook, PastDelivery, Refusal, Rejection
from reconciler.model.resources import Resource
from reconciler.model.secrets import SecretValue
from reconciler.model.values import JsonObject, JsonValue, canonical_json

SIGNATURE = "x-semaphore-signature-256"
WEBHOOK_ID = "x-semaphore-webhook-id"
VERSION = "1.0.0"
_KEPT = ("content-type", "user-agent", WEBHOOK_ID)
_ID = re.compile(r"[A-Za-z0-9._:-]{1,100}")
_PULL_REQUEST = re.compile(r"pull-request-([0-9]{1,10})")
_GIT_URL = re.compile(r"(?:[^@/]+@([^:/]+):|(?:ssh|https?)://(?:[^@/]+@)?([^/]+)/)(.+?)(?:\.git)?/?")


class _PipelineEvent(msgspec.Struct, frozen=True):
    id: str
    done_at: JsonValue = None


class _Repository(msgspec.Struct, frozen=True):
    owner: str | None = None
    name: str | None = None
    url: str | None = None


class SemaphoreReceiver(KeepsNoDeliveries):
    """Implements `reconciler.drivers.base.Receiver`."""

    signs_body = True

    def verify(self, headers: Mapping[str, str], body: bytes, keys: Sequence[SecretValue], *, now: float) -> Delivery | Rejection:
        """Return the delivery, if one of ``keys`` signed it.

        The signature is lower-case hex, bare or after ``sha256=``. Only the body is signed: the sender's id of the delivery is a
        header that anyone could replace, so the pipeline is the identity. There is no signed time either.
        """
        signature = headers.get(SIGNATURE, "").strip()
        if not signature:
            return Rejection(Refusal.UNSIGNED, "the secret that the notification names is missing, or has no WEBHOOK_SECRET")
        key = signed_by(body, signature.removeprefix("sha256="), keys)
        return Rejection(Refusal.WRONG) if key is None else _delivery(headers, body, key)

    async def missed(self, api: Api, source: Resource, hooks: Sequence[Hook], since: float) -> tuple[PastDelivery, ...]:
        """Return the pipelines of the source's projects that ended after ``since``, oldest first.

        Projects that the token cannot see are left out; raises `NotFound` if it sees none of them.
        """
        known = {project.metadata.name: project for project in await projects(api)}
        pattern = target_of(source, "project").match
        names = projects_of(source, {"projects": matching(pattern, known) if pattern else []})
        visible = [known[name] for name in names if name in known]
        if not visible:
            raise NotFound(
                f"{source.id}: the token sees no project '{names[0]}'", hint="Check the name, and grant the token `project.view`."
            )
        return oldest_first([delivery for project in visible for delivery in await _done(api, project, since)])

    async def fetch(self, api: Api, hook: Hook | None, past: PastDelivery) -> Delivery:
        """Return the event in the form of the webhook; what the API does not show is null."""
        answer = await pipeline_of(api, past.ref)
        workflow = await workflow_of(api, answer.pipeline.wf_id or "")
        payload = payload_of(api.connection.account, past.detail, workflow, answer)
        identity = f"pipeline:{past.ref}"
        return Delivery(identity, EVENT, canonical_json(payload), identity, epoch_of(answer.pipeline.done_at))


def _delivery(headers: Mapping[str, str], body: bytes, key: int) -> Delivery:
    kept = kept_headers(headers, _KEPT)
    sent_id = headers.get(WEBHOOK_ID, "")
    sent_id = sent_id if _ID.fullmatch(sent_id) else ""
    pipeline, problem = _read(body)
    if pipeline is None:
        digest = identity_of(body)
        return Delivery(sent_id or digest, EVENT, body, digest, headers=kept, key=key, problem=problem)
    identity = f"pipeline:{pipeline.id}"
    return Delivery(sent_id or identity, EVENT, body, identity, epoch_of(pipeline.done_at), kept, key)


def _read(body: bytes) -> tuple[_PipelineEvent | None, str]:
    """Return the pipeline that a payload is about, or None and the problem with the payload."""
    try:
        pipeline = find(orjson.loads(body), _PipelineEvent, "pipeline")
    except orjson.JSONDecodeError:
        return None, "the payload is not JSON"
    if pipeline is None or not _ID.fullmatch(pipeline.id):
        return None, "the payload has no pipeline with an id"
    return pipeline, ""


async def _done(api: Api, project: SemaphoreProject, since: float) -> list[PastDelivery]:
    """Return what the notification would have sent for one project: its filters let every pipeline pass, promotions too."""
    params: dict[str, str | int] = {"project_id": project.metadata.id, "done_after": int(since)}
    detail = {
        "project": {"name": project.metadata.name, "id": project.metadata.id},
        "repository": repository_of(project.spec),
    }
    past = []
    for pipeline in await list_rows(api, PIPELINES, list[SemaphorePipeline], params):
        if not pipeline.is_done:
            continue
        at = epoch_of(pipeline.done_at)
        if at is None:
            raise ProviderProtocolError(f"GET {PIPELINES}: a pipeline that is done has no time", request=f"GET {PIPELINES}")
        if at > since:
            past.append(PastDelivery(f"pipeline:{pipeline.id}", pipeline.id, EVENT, at, arrived=False, detail=detail))
    return past


# payload


def payload_of(organization: str, detail: JsonObject, workflow: SemaphoreWorkflow, answer: PipelineAnswer) -> JsonObject:
    """Return the payload; ``detail`` has its ``project`` and ``repository``."""
    pipeline = answer.pipeline
    return {
        "version": VERSION,
        "organization": {"name": organization, "id": workflow.organization_id or None},
        "project": detail.get("project"),
        "repository": detail.get("repository"),
        "revision": _revision(pipeline),
        "workflow": {
            "initial_pipeline_id": workflow.initial_ppl_id,
            "id": workflow.id,
            "created_at": iso_of(workflow.created_at),
        },
        "pipeline": {
            "id": pipeline.id,
            "name": pipeline.name,
            "yaml_file_name": pipeline.yaml_file_name,
            "working_directory": pipeline.working_directory,
            "error_description": pipeline.error_description,
            "state": lower(pipeline.state) or None,
            "result": lower(pipeline.result) or None,
            "result_reason": lower(pipeline.result_reason) or None,
            "created_at": iso_of(pipeline.created_at),
            "pending_at": iso_of(pipeline.pending_at),
            "queuing_at": iso_of(pipeline.queuing_at),
            "running_at": iso_of(pipeline.running_at),
            "stopping_at": iso_of(pipeline.stopping_at),
            "done_at": iso_of(pipeline.done_at),
        },
        "blocks": [_block(block) for block in answer.blocks or ()],
    }


def repository_of(spec: JsonValue) -> JsonObject:
    """Return slug and web address of the repository in a project's ``spec``; null where it does not give them."""
    repository = find(spec, _Repository, "repository") or _Repository()
    match = _GIT_URL.fullmatch(repository.url or "")
    return {
        "slug": f"{repository.owner}/{repository.name}" if repository.owner and repository.name else None,
        "url": f"https://{match[1] or match[2]}/{match[3]}" if match else None,
    }


def _revision(pipeline: SemaphorePipeline) -> JsonObject:
    """The API shows tags and pull requests as branches with special names."""
    branch = pipeline.branch_name or ""
    pull_request = _PULL_REQUEST.fullmatch(branch)
    revision: dict[str, Any] = {
        "tag": None,
        "sender": {"login": None, "email": None, "avatar_url": None},
        "pull_request": None,
        "commit_sha": pipeline.commit_sha,
        "commit_message": pipeline.commit_message,
        "branch": None,
    }
    if pull_request:
        unknown = dict.fromkeys(("head_repo_slug", "name", "head_sha", "branch_name", "commit_range"))
        revision["pull_request"] = {**unknown, "number": int(pull_request[1])}
        return {**revision, "reference_type": "pull_request", "reference": None}
    if branch.startswith("refs/tags/"):
        return {**revision, "reference_type": "tag", "reference": branch, "tag": {"name": branch.removeprefix("refs/tags/")}}
    revision["branch"] = {"name": branch, "commit_range": None}
    return {**revision, "reference_type": "branch", "reference": f"refs/heads/{branch}"}


def _block(block: Block) -> JsonObject:
    return {
        "name": block.name,
        "state": lower(block.state) or None,
        "result": lower(block.result) or None,
        "result_reason": lower(block.result_reason) or None,
        "jobs": [_job(job) for job in block.jobs or ()],
    }


def _job(job: SemaphoreJob) -> JsonObject:
    return {
        "id": job.key or None,
        "name": job.name,
        "index": job.index,
        "status": lower(job.status) or None,
        "result": lower(job.result) or None,
    }
