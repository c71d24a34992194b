"""The payload of a webhook (version 1.0.0), made of what the API shows of a pipeline that is done. Pure.

What only the webhook's sender knows (who pushed, ranges of commits, the words of a pull request) is null.
Facts: the notification service of the provider's open server code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from reconciler.drivers.semaphore.api import Item, items_of, text_of
from reconciler.drivers.semaphore.times import iso_of
from reconciler.model.values import JsonObject

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


def job_id(job: Item) -> str:
    """Return the id of a block's job."""
    return text_of(job, "job_id") or text_of(job, "id")
