"""One trace from a delivery to its last status: the real daemon, the simulated code host, a collector that parses what it gets."""

import contextlib
import json
import sqlite3
from typing import Any

from opentelemetry.semconv._incubating.attributes import cicd_attributes as cicd
from opentelemetry.semconv._incubating.attributes import vcs_attributes as vcs

from tests.engine.world import TOKENS
from tests.flow.stage_world import StageWorld
from tests.support.collector import Collector, Span, unpacked

CI = (
    "executor: {type: github, integration: {name: github}, resource: {type: repository, name: web}, "
    "spec: {workflow: ci.yml, ref: main}}"
)
REPORT = "report: {commitStatus: {context: ci}}"
APPROVAL = "conditions: [{type: approval, approval: {count: 1}}]"
CREDENTIAL = "collector-canary-5f1e"


def run_pipeline(world: StageWorld) -> None:
    """A push is approved, built, reported, and followed by a second stage."""
    world.source("web")
    world.stage("build", CI, REPORT, APPROVAL, after="{type: event-source, name: web}")
    world.stage("after", after="{type: stage, name: build}")
    world.ready()
    world.push()
    world.ask("approve", id=world.waiting("build", "approval")["id"])
    world.finished("after")


def lines(world: StageWorld) -> list[dict[str, Any]]:
    return [json.loads(line) for line in world.log().splitlines() if line.startswith("{")]


def edges(spans: list[Span]) -> set[tuple[str, str]]:
    names = {span.id: span.name for span in spans}
    return {(span.name, names.get(span.parent, "")) for span in spans}


def test_a_delivery_and_all_that_follows_is_one_trace(world: StageWorld, collector: Collector) -> None:
    endpoint = f"{{enabled: true, endpoint: '{collector.url}', headers: ['x-key={CREDENTIAL}']}}"
    world.configure(telemetry=endpoint)
    run_pipeline(world)
    world.wait(
        lambda: len(collector.named("report commit")) == 2 and collector.named("event execution_finished")[1:], "all spans"
    )
    world.stop()
    push = collector.named("event push")[-1]
    own = [span for span in collector.spans if span.trace == push.trace]
    assert {
        ("event push", ""),
        ("filter push", "event push"),
        ("queue build", "event push"),
        ("approval build", "queue build"),
        ("RUN build", "event push"),
        ("start build", "RUN build"),
        ("web", "RUN build"),
        ("report commit", "event push"),
        ("POST", "report commit"),
        ("POST", "RUN build"),
        ("event execution_finished", "RUN build"),
        ("queue after", "event execution_finished"),
        ("RUN after", "event execution_finished"),
    } <= edges(own)
    assert collector.twice() == []
    assert all(span.start <= span.end for span in own)
    run = collector.named("RUN build")[0]
    item = world_item(collector)
    assert run.kind == "SERVER"
    assert push.kind == "CONSUMER"
    assert run.error == ""
    assert (
        run.attributes
        | {
            cicd.CICD_PIPELINE_NAME: "build",
            cicd.CICD_PIPELINE_ACTION_NAME: "RUN",
            cicd.CICD_PIPELINE_RESULT: "success",
            cicd.CICD_PIPELINE_RUN_ID: run.attributes["reconciler.execution.id"],
            vcs.VCS_REPOSITORY_NAME: "acme/web",
            vcs.VCS_REF_HEAD_NAME: "refs/heads/main",
            vcs.VCS_PROVIDER_NAME: "github",
            "reconciler.item.id": item,
        }
        == run.attributes
    )
    assert run.attributes[cicd.CICD_PIPELINE_RUN_URL_FULL].startswith("https://github.com/acme/web/actions/runs/")
    assert len(run.attributes[vcs.VCS_REF_HEAD_REVISION]) == 40
    assert run.attributes["reconciler.revision"].startswith("dir@sha256:")
    assert run.attributes["reconciler.stage.digest"].startswith("sha256:")
    assert (
        collector.named("web")[0].attributes[cicd.CICD_PIPELINE_TASK_RUN_ID]
        == run.attributes[cicd.CICD_PIPELINE_RUN_URL_FULL].rpartition("/")[2]
    )
    assert push.resource["service.name"] == "reconciler"
    assert push.resource["reconciler.owner"] == "team-a"
    reconciles(collector)
    logs(world, push, run)
    no_secret_leaves(world, collector)


def world_item(collector: Collector) -> str:
    return str(collector.named("queue build")[0].attributes["reconciler.item.id"])


def reconciles(collector: Collector) -> None:
    """A reconciliation is a trace of its own, with its plan."""
    first = collector.named("reconcile github")[0]
    below = [span for span in collector.spans if span.trace == first.trace]
    assert {("plan", "reconcile github"), ("apply", "reconcile github"), ("POST", "apply")} <= edges(below)
    assert first.attributes["reconciler.plan.digest"].startswith("sha256:")
    assert first.attributes["reconciler.revision"].startswith("dir@sha256:")


def logs(world: StageWorld, push: Span, run: Span) -> None:
    """Lines that are written within a span name it; others have no ids."""
    by_event = {line["event"]: line for line in lines(world) if line.get("name") != "after"}
    assert by_event["item_queued"]["trace_id"] == push.trace
    assert (by_event["execution_started"]["trace_id"], by_event["execution_started"]["span_id"]) == (run.trace, run.id)
    assert by_event["status_reported"]["trace_id"] == push.trace
    assert by_event["object_changed"]["trace_id"] != push.trace
    assert "trace_id" not in by_event["daemon_started"]


def no_secret_leaves(world: StageWorld, collector: Collector) -> None:
    sent = b"".join(unpacked(headers, body) for _, headers, body in collector.requests)
    assert TOKENS["github"].encode() not in sent
    assert world.place("web")[1].encode() not in sent
    assert CREDENTIAL.encode() not in sent
    assert all(headers["x-key"] == CREDENTIAL for _, headers, _ in collector.requests)
    assert CREDENTIAL not in world.log()
    assert all("traceparent" not in row["headers"] for row in world.github.requests())
    assert all(b"?" not in url.encode() for span in collector.spans if (url := str(span.attributes.get("url.full", ""))))


def test_without_telemetry_nothing_of_opentelemetry_is_imported_and_nothing_is_stored(world: StageWorld) -> None:
    """Python itself tells what it imports, to the log."""
    world.configure()
    world.manual()
    world.stage("noop")
    world.extra_env["PYTHONPROFILEIMPORTTIME"] = "1"
    world.ready()
    world.trigger()
    world.finished("noop")
    world.stop()
    modules = {line.rpartition("|")[2].strip() for line in world.log().splitlines() if line.startswith("import time:")}
    assert "reconciler.daemon.main" in modules
    assert {name for name in modules if name.startswith(("opentelemetry", "google", "reconciler.telemetry"))} == set()
    with contextlib.closing(sqlite3.connect(world.folder / "state" / "state.db")) as db:
        assert db.execute("SELECT count(*) FROM trace_span").fetchone() == (0,)
    assert "trace_id" not in world.log()


def test_a_daemon_without_the_extra_ends_with_the_line_that_installs_it(world: StageWorld) -> None:
    hidden = world.folder / "hidden" / "opentelemetry"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise ImportError(name='opentelemetry')\n")
    world.extra_env["PYTHONPATH"] = str(hidden.parent)
    ended = world.cli("run")
    assert ended.returncode == 78
    assert "RC3012" in ended.stderr
    assert "pip install 'integrations-reconciler[otel]'" in ended.stderr
