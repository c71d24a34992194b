"""Webhooks of Semaphore: proved by an HMAC over the body, sent once with hardly a retry, and kept nowhere by their sender.

A delivery that was missed is therefore made again out of the pipeline that it was about. Facts: the notification service and
the API of the provider's open server code.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from reconciler.drivers.base import Api
from reconciler.drivers.semaphore.api import (
    PIPELINES,
    Item,
    epoch_of,
    iso_of,
    items_of,
    job_id,
    listed,
    pipeline_of,
    projects,
    text_of,
    workflow_of,
)
from reconciler.drivers.semaphore.compile import EVENT, matching, projects_of
from reconciler.model.errors import NotFound, ProviderProtocolError
from reconciler.model.events import Delivery, Hook, PastDelivery, Refusal, Rejection
from reconciler.model.resources import Resource
from reconciler.model.secrets import SecretValue
from reconciler.model.values import JsonObject, canonical_json

SIGNATURE = "x-semaphore-signature-256"
WEBHOOK_ID = "x-semaphore-webhook-id"
_KEPT = ("content-type", "user-agent", WEBHOOK_ID)
_ID = re.compile(r"[A-Za-z0-9._:-]{1,100}")


class SemaphoreReceiver:
    """Implements `reconciler.drivers.base.Receiver`."""

    keeps_deliveries = False
    signs_body = True

    def verify(self, headers: Mapping[str, str], body: bytes, keys: Sequence[SecretValue], *, now: float) -> Delivery | Rejection:
        """Return the delivery, if one of ``keys`` signed it.

        The signature is lower-case hex, bare or after ``sha256=``. The sender signs nothing but the body: its own id of the
        delivery is a header that anybody could exchange, so that the pipeline is the identity. There is no signed time either.
        """
        signature = headers.get(SIGNATURE, "").strip()
        if not signature:
            return Rejection(Refusal.UNSIGNED, "the secret that the notification names is missing, or has no WEBHOOK_SECRET")
        key = _signed_by(body, signature, keys)
        return Rejection(Refusal.WRONG) if key is None else _delivery(headers, body, key)

    async def missed(self, api: Api, source: Resource, hooks: Sequence[Hook], since: float) -> tuple[PastDelivery, ...]:
        """Return the pipelines of the source's projects that were done after ``since``, oldest first.

        A project that the token does not see cannot be read; raises `NotFound` when that is all of them.
        """
        known = {str(one["metadata"]["name"]): one for one in await projects(api)}
        pattern = source.spec.get("resource", {}).get("match")
        names = projects_of(source, {"projects": matching(str(pattern), known) if pattern else []})
        seen = [known[name] for name in names if name in known]
        if not seen:
            raise NotFound(
                f"{source.id}: the token sees no project '{names[0]}'", hint="Check the name, and grant the token `project.view`."
            )
        found = [one for project in seen for one in await _done(api, project, since)]
        return tuple(sorted(found, key=lambda one: (one.at, one.id)))

    async def redeliver(self, api: Api, hook: Hook, past: PastDelivery) -> bool:
        """Semaphore sends nothing twice."""
        return False

    async def fetch(self, api: Api, hook: Hook | None, past: PastDelivery) -> Delivery:
        """Return the event in the form of the webhook; what the API does not tell is null."""
        pipeline, blocks = await pipeline_of(api, past.ref)
        workflow = await workflow_of(api, text_of(pipeline, "wf_id"))
        payload = payload_of(api.connection.account, past.detail, workflow, pipeline, blocks)
        identity = f"pipeline:{past.ref}"
        return Delivery(identity, EVENT, canonical_json(payload), identity, epoch_of(pipeline.get("done_at")))


def _signed_by(body: bytes, signature: str, keys: Sequence[SecretValue]) -> int | None:
    """Return the number of the first key that made ``signature``; every key is tried, whatever was found. An empty one proves nothing."""
    given = signature.removeprefix("sha256=").encode("utf-8", "replace")
    proof: int | None = None
    for number, key in enumerate(keys):
        expected = hmac.new(key.reveal().encode(), body, hashlib.sha256).hexdigest().encode()
        if hmac.compare_digest(expected, given) and key and proof is None:
            proof = number
    return proof


def _delivery(headers: Mapping[str, str], body: bytes, key: int) -> Delivery:
    kept = {name: headers[name][:200] for name in _KEPT if name in headers}
    sent_id = headers.get(WEBHOOK_ID, "")
    sent_id = sent_id if _ID.fullmatch(sent_id) else ""
    pipeline = _pipeline(body)
    if isinstance(pipeline, str):
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        return Delivery(sent_id or digest, EVENT, body, digest, headers=kept, key=key, problem=pipeline)
    identity = f"pipeline:{pipeline['id']}"
    return Delivery(sent_id or identity, EVENT, body, identity, epoch_of(pipeline.get("done_at")), kept, key)


def _pipeline(body: bytes) -> Mapping[str, Any] | str:
    """Return the pipeline that a payload is about, or what is wrong with the payload."""
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError:
        return "the payload is not JSON"
    pipeline = payload.get("pipeline") if isinstance(payload, Mapping) else None
    if not isinstance(pipeline, Mapping):
        return "the payload has no pipeline"
    identity = pipeline.get("id")
    return pipeline if isinstance(identity, str) and _ID.fullmatch(identity) else "the payload's pipeline has no id"


async def _done(api: Api, project: Item, since: float) -> list[PastDelivery]:
    """Return what the notification would have told of one project: its filters let every pipeline pass, promotions too."""
    metadata = project["metadata"]
    rows = await listed(api, PIPELINES, "ppl_id", {"project_id": str(metadata["id"]), "done_after": int(since)})
    shown = {"project": {"name": metadata["name"], "id": metadata["id"]}, "repository": repository_of(project)}
    found = []
    for row in rows:
        if text_of(row, "state").lower() != "done":
            continue
        at = epoch_of(row.get("done_at"))
        if at is None:
            raise ProviderProtocolError(f"GET {PIPELINES}: a pipeline that is done tells no time", request=f"GET {PIPELINES}")
        if at > since:
            found.append(PastDelivery(f"pipeline:{row['ppl_id']}", str(row["ppl_id"]), EVENT, at, arrived=False, detail=shown))
    return found


VERSION = "1.0.0"
_TIMES = ("created_at", "pending_at", "queuing_at", "running_at", "stopping_at", "done_at")
_PULL_REQUEST = re.compile(r"pull-request-([0-9]{1,10})")
_GIT_URL = re.compile(r"(?:[^@/]+@([^:/]+):|(?:ssh|https?)://(?:[^@/]+@)?([^/]+)/)(.+?)(?:\.git)?/?")


def payload_of(organization: str, detail: JsonObject, workflow: Item, pipeline: Item, blocks: Iterable[Item]) -> JsonObject:
    """Return the payload; ``detail`` has ``project`` and ``repository`` as they go into it."""
    return {
        "version": VERSION,
        "organization": {"name": organization, "id": workflow.get("organization_id") or None},
        "project": detail.get("project"),
        "repository": detail.get("repository"),
        "revision": _revision(pipeline),
        "workflow": {
            "initial_pipeline_id": workflow.get("initial_ppl_id"),
            "id": workflow.get("wf_id"),
            "created_at": iso_of(workflow.get("created_at")),
        },
        "pipeline": {
            "id": pipeline.get("ppl_id"),
            **{key: pipeline.get(key) for key in ("name", "yaml_file_name", "working_directory", "error_description")},
            **{key: text_of(pipeline, key).lower() or None for key in ("state", "result", "result_reason")},
            **{key: iso_of(pipeline.get(key)) for key in _TIMES},
        },
        "blocks": [_block(block) for block in blocks],
    }


def repository_of(project: Item) -> JsonObject:
    """Return slug and web address of a project's repository, as far as its spec tells them."""
    spec = project.get("spec")
    repository = spec.get("repository") if isinstance(spec, Mapping) else None
    if not isinstance(repository, Mapping):
        return {"slug": None, "url": None}
    owner, name = text_of(repository, "owner"), text_of(repository, "name")
    found = _GIT_URL.fullmatch(text_of(repository, "url"))
    url = f"https://{found[1] or found[2]}/{found[3]}" if found else None
    return {"slug": f"{owner}/{name}" if owner and name else None, "url": url}


def _revision(pipeline: Item) -> JsonObject:
    """A tag's and a pull request's runs show up under a branch's name that says so."""
    branch = text_of(pipeline, "branch_name")
    found = _PULL_REQUEST.fullmatch(branch)
    revision: dict[str, Any] = {
        "tag": None,
        "sender": {"login": None, "email": None, "avatar_url": None},
        "pull_request": None,
        "commit_sha": pipeline.get("commit_sha"),
        "commit_message": pipeline.get("commit_message"),
        "branch": None,
    }
    if found:
        words = dict.fromkeys(("head_repo_slug", "name", "head_sha", "branch_name", "commit_range"))
        revision["pull_request"] = {**words, "number": int(found[1])}
        return {**revision, "reference_type": "pull_request", "reference": None}
    if branch.startswith("refs/tags/"):
        return {**revision, "reference_type": "tag", "reference": branch, "tag": {"name": branch.removeprefix("refs/tags/")}}
    revision["branch"] = {"name": branch, "commit_range": None}
    return {**revision, "reference_type": "branch", "reference": f"refs/heads/{branch}"}


def _block(block: Item) -> JsonObject:
    jobs = [
        {
            "id": job_id(job) or None,
            "name": job.get("name"),
            "index": job.get("index"),
            **{key: text_of(job, key).lower() or None for key in ("status", "result")},
        }
        for job in items_of(block.get("jobs"))
    ]
    words = {key: text_of(block, key).lower() or None for key in ("state", "result", "result_reason")}
    return {"name": block.get("name"), **words, "jobs": jobs}
