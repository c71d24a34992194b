"""How the simulated Semaphore shows workflows, pipelines and blocks, and how this family of answers refuses.

Facts: the provider's API documentation and its open server code (public-api/v1alpha). Answers are JSON without saying so; an
error is a JSON text, or a bare text where a project or an object is out of reach. Times have three forms here.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn, NotRequired, TypedDict
from urllib.parse import parse_qsl, urlencode

import orjson

from reconciler.sandbox.app import Call, RefusedCall, Reply
from reconciler.sandbox.runs import Span
from reconciler.sandbox.semaphore.records import StoredSemaphorePipeline, StoredSemaphoreWorkflow
from reconciler.sandbox.shapes import fits, is_object, json_object

TRIGGERS = ("HOOK", "SCHEDULE", "API", "MANUAL_RUN")
"""What starts a workflow; lists show the number, a single workflow the word."""
DEFAULT_FILE = ".semaphore/semaphore.yml"
PER_PAGE = 30


@dataclass(frozen=True, slots=True)
class PipelineTimeline:
    """The state of a pipeline at a moment. Times are epoch seconds, 0 for what has not happened."""

    state: str
    result: str
    reason: str
    running_at: float
    stopping_at: float
    done_at: float

    @property
    def done(self) -> bool:
        return self.state == "done"


def span_of(pipeline: StoredSemaphorePipeline) -> Span:
    """Return when a pipeline runs, unless an action stops or finishes it."""
    return Span.of(pipeline["created_at"], pipeline["queued_s"], pipeline["duration_s"])


def life_of(pipeline: StoredSemaphorePipeline, now: float) -> PipelineTimeline:
    """Return the state of a pipeline, by the clock and by the actions that stopped or finished it.

    A pipeline stopped before it ran is canceled, later it is stopped.
    """
    span, stopped_at, finished_at = span_of(pipeline), pipeline["stopped_at"], pipeline["finished_at"]
    if finished_at is not None and now >= finished_at:
        return PipelineTimeline(
            "done", pipeline["result"], pipeline["reason"], min(span.begins_at, finished_at), 0.0, finished_at
        )
    if stopped_at is not None and now >= stopped_at:
        if stopped_at < span.begins_at:
            return PipelineTimeline("done", "canceled", "user", 0.0, 0.0, stopped_at)
        done_at = stopped_at + pipeline["stopping_s"]
        if now < done_at:
            return PipelineTimeline("stopping", "", "", span.begins_at, stopped_at, 0.0)
        return PipelineTimeline("done", "stopped", "user", span.begins_at, stopped_at, done_at)
    if span.ends_at is not None and now >= span.ends_at:
        return PipelineTimeline("done", pipeline["result"], pipeline["reason"], span.begins_at, 0.0, span.ends_at)
    return PipelineTimeline(
        "running" if now >= span.begins_at else "queuing", "", "", span.begins_at if now >= span.begins_at else 0.0, 0.0, 0.0
    )


def ends_at(pipeline: StoredSemaphorePipeline) -> float | None:
    """Return when a pipeline is done, as far as is known now."""
    if pipeline["finished_at"] is not None:
        return float(pipeline["finished_at"])
    if pipeline["stopped_at"] is not None:
        return float(pipeline["stopped_at"] + pipeline["stopping_s"])
    return span_of(pipeline).ends_at


# references


def full_reference(reference: str) -> str:
    """Return a bare branch as ``refs/heads/…``."""
    return reference if reference.startswith("refs/") else f"refs/heads/{reference}"


def branch_name(reference: str) -> str:
    """Return what stands for the branch: a tag's whole reference, ``pull-request-N``, or the branch."""
    if reference.startswith("refs/pull/"):
        return f"pull-request-{reference.removeprefix('refs/pull/')}"
    return reference.removeprefix("refs/heads/")


def reference_type(reference: str) -> str:
    """Return ``tag``, ``pull_request`` or ``branch``."""
    return "tag" if reference.startswith("refs/tags/") else "pull_request" if reference.startswith("refs/pull/") else "branch"


# times


def stamp(at: float) -> dict[str, int]:
    """Return a time as lists and workflows show it."""
    micros = round(at * 1_000_000)
    return {"seconds": micros // 1_000_000, "nanos": micros % 1_000_000 * 1000}


def spaced(at: float) -> str:
    """Return a time as a pipeline shows it; 1970 stands for never."""
    return dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y-%m-%d %H:%M:%S.%fZ")


def iso(at: float) -> str:
    """Return a time as webhooks show it, in whole seconds; 1970 stands for never."""
    return dt.datetime.fromtimestamp(int(at), dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# what is shown


def shown_workflow(workflow: StoredSemaphoreWorkflow, organization: str, *, listed: bool) -> dict[str, object]:
    """Return a workflow; its parameters are not in it."""
    trigger = workflow["triggered_by"]
    return {
        "wf_id": workflow["wf_id"],
        "triggered_by": TRIGGERS.index(trigger) if listed else trigger,
        "rerun_of": workflow["rerun_of"],
        "requester_id": workflow["requester_id"],
        "repository_id": workflow["repository_id"],
        "project_id": workflow["project_id"],
        "organization_id": organization,
        "initial_ppl_id": workflow["initial_ppl_id"],
        "hook_id": workflow["hook_id"],
        "created_at": stamp(workflow["created_at"]),
        "commit_sha": workflow["commit_sha"],
        "branch_name": branch_name(workflow["reference"]),
        "branch_id": workflow["branch_id"],
    }


def shown_pipeline(
    pipeline: StoredSemaphorePipeline, workflow: StoredSemaphoreWorkflow, now: float, *, listed: bool
) -> dict[str, object]:
    """Return a pipeline: a list has capitals and other times; a result is only there once it is done."""
    life, folder = life_of(pipeline, now), pipeline["file"].rpartition("/")
    time, case = (stamp, str.upper) if listed else (spaced, str.lower)
    done = {"result": case(life.result), "result_reason": case(life.reason)} if life.done else {}
    return {
        "ppl_id": pipeline["ppl_id"],
        "wf_id": pipeline["wf_id"],
        "name": pipeline["name"],
        "state": case(life.state),
        **done,
        "project_id": workflow["project_id"],
        "branch_name": branch_name(workflow["reference"]),
        "branch_id": workflow["branch_id"],
        "hook_id": workflow["hook_id"],
        "commit_sha": workflow["commit_sha"],
        "commit_message": workflow["commit_message"],
        "yaml_file_name": folder[2],
        "working_directory": folder[0],
        "created_at": time(pipeline["created_at"]),
        "pending_at": time(pipeline["created_at"]),
        "queuing_at": time(pipeline["created_at"]),
        "running_at": time(life.running_at),
        "stopping_at": time(life.stopping_at),
        "done_at": time(life.done_at),
        "error_description": pipeline["error"],
        "terminated_by": pipeline["terminated_by"],
        "terminate_request": "stop" if pipeline["stopped_at"] is not None else "",
        "promotion_of": pipeline["promotion_of"],
        "partial_rerun_of": pipeline["partial_rerun_of"],
        "partially_rerun_by": pipeline["partially_rerun_by"],
        "switch_id": pipeline["switch_id"],
        "with_after_task": False,
        "after_task_id": "",
        "snapshot_id": "",
        "env_vars": [{"name": name, "value": value} for name, value in pipeline["env_vars"].items()],
        "triggerer": {
            "wf_triggered_by": TRIGGERS.index(workflow["triggered_by"]),
            "wf_triggerer_id": workflow["hook_id"],
            "wf_triggerer_user_id": workflow["requester_id"],
            "workflow_rerun_of": workflow["rerun_of"],
        },
        "queue": {
            "queue_id": workflow["branch_id"],
            "name": f"{branch_name(workflow['reference'])}-{pipeline['file']}",
            "scope": "project",
            "type": 0,
        },
    }


class ShownJob(TypedDict):
    """A job as a block lists it; status and result are in capitals."""

    name: str
    index: int
    job_id: str
    status: str
    result: str


class ShownBlock(TypedDict):
    """A block as a detailed pipeline lists it; it has a result once it is done."""

    block_id: str
    name: str
    state: str
    error_description: str
    result: NotRequired[str]
    result_reason: NotRequired[str]
    jobs: list[ShownJob]


def shown_blocks(pipeline: StoredSemaphorePipeline, now: float) -> list[ShownBlock]:
    """Return the one block that all jobs are in; states are small, those of jobs are capitals."""
    life = life_of(pipeline, now)
    state = {"queuing": "waiting"}.get(life.state, life.state)
    jobs: list[ShownJob] = [
        {"name": job["name"], "index": index, "job_id": job["id"], "status": job_status(life), "result": life.result.upper()}
        for index, job in enumerate(pipeline["jobs"])
    ]
    block: ShownBlock = {
        "block_id": pipeline["block_id"],
        "name": pipeline["block"],
        "state": state,
        "error_description": "",
        "jobs": jobs,
    }
    return [{**block, "result": life.result, "result_reason": life.reason, "jobs": jobs} if life.done else block]


def job_status(life: PipelineTimeline) -> str:
    """Return the word for a job of a pipeline."""
    return {"queuing": "ENQUEUED", "done": "FINISHED"}.get(life.state, life.state.upper())


# answers of this family


def answered(status: int, body: object, headers: Mapping[str, str] | None = None) -> Reply:
    """Return a JSON answer without a JSON content type (bytes are sent as they are)."""
    return Reply(status, orjson.dumps(body), headers or {})


def paged(call: Call, rows: Sequence[object], *, size: int = PER_PAGE, most: int = 0) -> Reply:
    """Return one page of a bare array; the headers count and link, with absolute addresses."""
    number, size = _positive(call, "page", 1), _positive(call, "page_size", size)
    size = min(size, most or size)
    pages = max(1, -(-len(rows) // size))
    links = {"first": 1, "last": pages}
    links |= {"next": number + 1} if number < pages else {}
    links |= {"prev": number - 1} if number > 1 else {}
    link = ", ".join(
        f'<{call.base_url}{call.path}?{urlencode({**call.query, "page": page})}>; rel="{rel}"' for rel, page in links.items()
    )
    counts = {"total": len(rows), "per-page": size, "total-pages": pages, "page-number": number}
    return answered(
        200, rows[(number - 1) * size : number * size], {"link": link, **{key: str(value) for key, value in counts.items()}}
    )


def _positive(call: Call, key: str, default: int) -> int:
    text = call.query.get(key, "")
    return int(text) if text.isdigit() and int(text) > 0 else default


def moment(call: Call, key: str) -> float | None:
    """Return a Unix time of the query; None for anything else."""
    text = call.query.get(key, "")
    return float(text) if text.isdigit() else None


def parameters_of(call: Call) -> dict[str, object]:
    """Return what query and body say together; the body is JSON, or a form."""
    if "form-urlencoded" in call.headers.get("content-type", ""):
        return {**call.query, **dict(parse_qsl(call.body.decode("utf-8", "replace"), keep_blank_values=True))}
    try:
        body = call.json()
    except ValueError as error:
        raise RefusedCall(Reply(400, f"Malformed request: {error}")) from None
    return {**call.query, **(body if is_object(body) else {})}


def refuse_user(message: str) -> NoReturn:
    """Refuse a user error: 400 with a JSON text."""
    raise RefusedCall(answered(400, message))


def refuse_unseen() -> NoReturn:
    """Refuse an unknown or hidden object: 404 with a bare text."""
    raise RefusedCall(Reply(404, "Not Found"))


def required(parameters: Mapping[str, object], name: str) -> str:
    """Return a required text."""
    value = parameters.get(name)
    if not isinstance(value, str) or not value:
        refuse_user(f"Missing required post parameter {name}.")
    return value


def texts_of(parameters: object) -> dict[str, str]:
    """Return parameters as they become variables: texts, and nothing for null; refuses anything else."""
    if not fits(parameters, dict[str, str | None]):
        refuse_user("Parameters must be texts by name.")
    return {name: str(value or "") for name, value in json_object(parameters).items()}
