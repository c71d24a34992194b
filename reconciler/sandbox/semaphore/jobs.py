"""Jobs of the simulated Semaphore, and their logs, which grow while they run.

Jobs belong to the gateway's family of answers, logs to that of what runs. Facts: the provider's API documentation and its open
server code (public-api-gateway, public-api/v1alpha/logs). A line of a log that begins with ``$`` and a space is a command.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from reconciler.sandbox.app import Call, RefusedCall, Reply, Route
from reconciler.sandbox.runs import logged_so_far
from reconciler.sandbox.semaphore import run_shapes as shapes
from reconciler.sandbox.semaphore.pipelines import SemaphorePipelines
from reconciler.sandbox.semaphore.records import PipelineJob, StoredSemaphorePipeline
from reconciler.sandbox.semaphore.run_shapes import PipelineTimeline, life_of, span_of
from reconciler.sandbox.semaphore.shapes import NOT_FOUND, refuse
from reconciler.sandbox.semaphore.state import SemaphoreState

_COMMAND = "$ "
_STATES = {"queuing": "QUEUED", "running": "RUNNING", "stopping": "RUNNING", "done": "FINISHED"}
_RESULTS = {"passed": "PASSED", "failed": "FAILED", "stopped": "STOPPED", "canceled": "STOPPED", "": "NONE"}
_EXIT = {"passed": 0, "failed": 1}
_KILLED = 130


class Jobs:
    """Handles ``/jobs`` and ``/logs``."""

    def __init__(self, app: SemaphoreState, pipelines: SemaphorePipelines) -> None:
        self.app, self._pipelines = app, pipelines

    def routes(self) -> Iterable[Route]:
        """Return the paths."""
        yield "GET", "/api/v1alpha/jobs/{key}", self._get
        yield "POST", "/api/v1alpha/jobs/{key}/stop", self._stop
        yield "GET", "/api/v1alpha/logs/{key}", self._log

    def _find(self, key: str) -> tuple[StoredSemaphorePipeline, PipelineJob] | None:
        for pipeline in reversed(self.app.records["pipelines"]):
            for job in pipeline["jobs"]:
                if job["id"] == key:
                    self._pipelines.settle(pipeline)
                    return pipeline, job
        return None

    def _seen(self, call: Call, key: str, permission: str) -> tuple[StoredSemaphorePipeline, PipelineJob]:
        place = self._find(key)
        if place is None or not self.app.may(call, permission):
            refuse(NOT_FOUND, f"Job {key} not found")
        return place

    def _get(self, call: Call, key: str) -> Reply:
        """Times are texts; a job that never began has no start."""
        pipeline, job = self._seen(call, key, "project.view")
        life, made_at = life_of(pipeline, self.app.clock()), pipeline["created_at"]
        times = {
            "create_time": made_at,
            "update_time": life.done_at or life.running_at or made_at,
            "start_time": life.running_at,
            "finish_time": life.done_at,
        }
        agent = {"ip": "", "name": "", "ports": []}
        status = {"result": _RESULTS[life.result], "state": _STATES[life.state], "agent": agent}
        spec = {
            "project_id": self.app.workflows_by_id()[pipeline["wf_id"]]["project_id"],
            "env_vars": [{"name": name, "value": value} for name, value in pipeline["env_vars"].items()],
            "commands": [line.removeprefix(_COMMAND) for line in job["logs"] if line.startswith(_COMMAND)],
        }
        metadata = {"name": job["name"], "id": job["id"], **{name: str(int(at)) for name, at in times.items()}}
        return Reply(200, {"metadata": metadata, "spec": spec, "status": status})

    def _stop(self, call: Call, key: str) -> Reply:
        """Stops the other jobs of the pipeline too."""
        pipeline, _ = self._seen(call, key, "project.job.stop")
        self._pipelines.stop(pipeline, self.app.user(call))
        return Reply(200, {})

    def _log(self, call: Call, key: str) -> Reply:
        """All events so far, each time; a job that has not begun has none."""
        place = self._find(key)
        if place is None:
            raise RefusedCall(shapes.answered(404, "Job not found"))
        if not self.app.may(call, "project.view"):
            raise RefusedCall(Reply(401, "Permission denied"))
        pipeline, job = place
        now = self.app.clock()
        life = life_of(pipeline, now)
        if not life.running_at:
            raise RefusedCall(shapes.answered(404, "Logs not found"))
        return Reply(200, {"events": list(_events(pipeline, job, life, now))})


def _events(
    pipeline: StoredSemaphorePipeline, job: PipelineJob, life: PipelineTimeline, now: float
) -> Iterator[dict[str, object]]:
    started, at = int(life.running_at), int(life.done_at or now)
    by_hand = life.done and pipeline["finished_at"] is not None
    share = 1.0 if by_hand else span_of(pipeline).share(life.stopping_at or life.done_at or now)
    yield {"event": "job_started", "timestamp": started}
    commands = list(_commands(logged_so_far(job["logs"], share), job["name"]))
    for number, (directive, outputs) in enumerate(commands):
        last = number == len(commands) - 1
        yield {"event": "cmd_started", "timestamp": started, "directive": directive}
        yield from ({"event": "cmd_output", "timestamp": started, "output": f"{line}\n"} for line in outputs)
        if not last or life.done:
            yield {
                "event": "cmd_finished",
                "timestamp": at,
                "directive": directive,
                "exit_code": _EXIT.get(life.result, _KILLED) if last else 0,
                "started_at": started,
                "finished_at": at,
            }
    if life.done:
        yield {"event": "job_finished", "timestamp": at, "result": life.result}


def _commands(lines: Sequence[str], name: str) -> Iterator[tuple[str, list[str]]]:
    """Yield commands with their output; output before the first command belongs to the job."""
    directive, outputs = "", []
    for line in lines:
        if not line.startswith(_COMMAND):
            outputs.append(line)
            continue
        if directive or outputs:
            yield directive or name, outputs
        directive, outputs = line.removeprefix(_COMMAND), []
    if directive or outputs:
        yield directive or name, outputs
