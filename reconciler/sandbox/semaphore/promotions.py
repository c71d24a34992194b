"""Promotions of the simulated Semaphore: a pipeline starts another one of the same workflow, by hand or automatically.

What a pipeline can be promoted to is its ``promotions`` (see `semaphore_pipelines`); with ``auto`` it is once it passed. Whatever a
request has besides its own fields becomes a variable of the new pipeline.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reconciler.sandbox.app import Call, Reply, Route
from reconciler.sandbox.semaphore import run_shapes as shapes
from reconciler.sandbox.semaphore.pipelines import BEHAVIOUR, SemaphorePipelines, Start
from reconciler.sandbox.semaphore.records import PromotionEvent, StoredSemaphorePipeline
from reconciler.sandbox.semaphore.run_shapes import life_of, refuse_user
from reconciler.sandbox.semaphore.state import SemaphoreState
from reconciler.sandbox.shapes import json_object, picked

ROOT = "/api/v1alpha/promotions"
PER_PAGE = 10
BY_ITSELF = "Pipeline Done request"
_OWN = frozenset({"pipeline_id", "name", "override", "request_token"})


@dataclass(frozen=True, slots=True)
class _Why:
    """Who triggered a promotion, and how."""

    triggered_by: str
    override: bool = False
    request_token: str = ""


class Promotions:
    """Handles ``/promotions``."""

    def __init__(self, app: SemaphoreState, pipelines: SemaphorePipelines) -> None:
        self.app, self._pipelines = app, pipelines

    def routes(self) -> Iterable[Route]:
        """Return the paths."""
        yield "GET", ROOT, self._list
        yield "POST", ROOT, self._trigger

    def pipeline_done(self, pipeline: StoredSemaphorePipeline) -> None:
        """Run the automatic promotions."""
        if life_of(pipeline, self.app.clock()).result == "passed":
            for target in pipeline["promotions"]:
                if target.get("auto"):
                    self._promote(pipeline, target, {}, _Why(BY_ITSELF))

    def by_hand(self, options: Mapping[str, object]) -> dict[str, object]:
        """Promote a pipeline (action ``promote``), whatever its result: {pipeline_id, promotion, parameters, keys of a behaviour}."""
        pipeline = self._pipelines.find(str(options["pipeline_id"]))
        target = None if pipeline is None else _target(pipeline, str(options["promotion"]))
        if pipeline is None or target is None:
            raise LookupError("unknown pipeline or promotion")
        given = {key: options[key] for key in BEHAVIOUR if key in options and key != "name"}
        parameters = {str(name): str(value) for name, value in json_object(options.get("parameters")).items()}
        created = self._promote(pipeline, {**target, **given}, parameters, _Why("sandbox", override=True))
        return {"workflow_id": created["wf_id"], "pipeline_id": created["ppl_id"]}

    def _promote(
        self, pipeline: StoredSemaphorePipeline, target: Mapping[str, object], parameters: Mapping[str, str], why: _Why
    ) -> StoredSemaphorePipeline:
        workflow = self.app.workflows_by_id()[pipeline["wf_id"]]
        file = str(target.get("pipeline_file") or f".semaphore/{target['name']}.yml")
        behaviour = {key: target[key] for key in BEHAVIOUR if key in target and key != "name"}
        now = self.app.clock()
        start = Start(file, parameters, {"name": str(target["name"]), **behaviour}, promotion_of=pipeline["ppl_id"])
        created = self._pipelines.start(workflow, start)
        pipeline["promoted"].append(
            {
                "name": str(target["name"]),
                "triggered_at": now,
                "triggered_by": why.triggered_by,
                "override": why.override,
                "request_token": why.request_token,
                "scheduled_at": now,
                "scheduled_pipeline_id": created["ppl_id"],
            }
        )
        return created

    def _list(self, call: Call) -> Reply:
        """What a pipeline was promoted to, newest first."""
        pipeline = self._pipelines.seen(call, call.query.get("pipeline_id", ""))
        name = call.query.get("name", "")
        events = [row for row in reversed(pipeline["promoted"]) if name in ("", row["name"])]
        return shapes.paged(call, [_shown(row) for row in events], size=PER_PAGE)

    def _trigger(self, call: Call) -> Reply:
        """Once for each token; a pipeline that did not pass, or still runs, only with ``override``."""
        given = shapes.parameters_of(call)
        pipeline = self._pipelines.seen(call, str(given.get("pipeline_id") or ""), "project.job.rerun")
        name, token = shapes.required(given, "name"), str(given.get("request_token") or "")
        target = _target(pipeline, name)
        if target is None:
            refuse_user(f"Promotion target '{name}' not found.")
        override = given.get("override") in (True, "true")
        if life_of(pipeline, self.app.clock()).result != "passed" and not override:
            refuse_user("Promotion request was refused.")
        parameters = shapes.texts_of({key: value for key, value in given.items() if key not in _OWN})
        if not token or all(row["request_token"] != token for row in pipeline["promoted"]):
            why = _Why(self.app.user(call), override=override, request_token=token)
            self._promote(pipeline, target, parameters, why)
        return shapes.answered(200, "Promotion successfully triggered.")


def _target(pipeline: StoredSemaphorePipeline, name: str) -> dict[str, object] | None:
    return next((row for row in pipeline["promotions"] if row["name"] == name), None)


def _shown(event: PromotionEvent) -> dict[str, object]:
    times = {"triggered_at": shapes.stamp(event["triggered_at"]), "scheduled_at": shapes.stamp(event["scheduled_at"])}
    return {**picked(event, ("name", "triggered_by", "override", "scheduled_pipeline_id")), **times, "status": "passed"}
