"""What people may ask twice, what they may call it, and what an event may choose: reruns, keys, resources, deleted refs, texts."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

from reconciler.events.requests import (
    ApproveRequest,
    CancelRequest,
    EventRequest,
    ExecutionListRequest,
    ExecutionRequest,
    RerunRequest,
    TriggerRequest,
)
from reconciler.events.routing import RoutingJob, route, wire
from reconciler.manifests import SourceFile, load
from reconciler.manifests.templates import resolve, resolve_text
from reconciler.model.errors import ReconcilerError
from reconciler.model.executions import ReportKind
from reconciler.model.times import iso
from reconciler.stages import statuses
from reconciler.stages.inputs import MAX_RESOLVED, SpecTooLarge, resolved_spec
from reconciler.stages.provenance import origin_of
from reconciler.stages.resource_names import matches
from tests.flow.inside import inside
from tests.flow.test_pure import MANUAL, NOW, PUSH, event, item, loaded, routed, stage_spec
from tests.flow.test_receiver import delivered

GITHUB = """
kind: Secret
metadata: {name: token}
spec: {provider: env, data: {token: {env: RECONCILER_SECRET_T}}}
---
kind: Integration
metadata: {name: gh}
spec: {type: github, url: 'https://github.com/Acme', auth: {use: token, token: {valueFrom: {secret: {name: token, key: token}}}}}
---
"""


def stage(executor: str, more: str = "") -> str:
    return (
        MANUAL
        + GITHUB
        + f"kind: Stage\nmetadata: {{name: s}}\nspec:\n  connections: [{{type: event-source, name: hand}}]\n{more}  executor:\n{executor}"
    )


def github(name: str, allow: str = "", spec: str = "{workflow: ci.yml, ref: main}") -> str:
    lines = ["    type: github", "    integration: {name: gh}", f"    resource: {{type: repository, name: '{name}'}}"]
    return "\n".join([*lines, *([f"    allow: {allow}"] if allow else []), f"    spec: {spec}"]) + "\n"


# N28, N29: keys


async def test_n28_a_rerun_asked_for_eight_times_at_once_is_queued_once(tmp_path: Path) -> None:
    async with inside(tmp_path) as here:
        here.world.manual()
        here.world.stage("s")
        await here.sync()
        await here.trigger()
        await here.turn()
        [done] = await here.executions("s")
        commands = here.working.commands
        answers = await asyncio.gather(
            *(commands.rerun(RerunRequest(id=done.id), "ada") for _ in range(8)), return_exceptions=True
        )
        assert sum(isinstance(one, dict) for one in answers) == 1
        assert {one.code for one in answers if isinstance(one, ReconcilerError)} == {"RC6031"}
        assert len(await here.items("s")) == 2
        await here.turn()
        assert len(await here.executions("s")) == 2
        again = await commands.rerun(RerunRequest(id=done.id), "ada")  # what was repeated has ended: it may be repeated once more
        assert again["new"] is True


async def test_n28_a_rerun_with_a_key_is_one_for_good_also_by_the_id_of_its_item(tmp_path: Path) -> None:
    async with inside(tmp_path) as here:
        here.world.manual()
        here.world.stage("s")
        await here.sync()
        await here.trigger()
        await here.turn()
        [done] = await here.executions("s")
        commands = here.working.commands
        first, *others = await asyncio.gather(*(commands.rerun(RerunRequest(id=done.id, key="k"), "ada") for _ in range(8)))
        assert [one["item"] for one in others] == [first["item"]] * 7
        assert [first["new"], *(one["new"] for one in others)].count(True) == 1
        await here.turn()
        assert (await commands.rerun(RerunRequest(id=first["item"], key="k"), "bob")) == {"item": first["item"], "new": False}
        assert (await commands.rerun(RerunRequest(id=done.id, key="other"), "ada"))["item"] != first["item"]
        with pytest.raises(ReconcilerError, match="one line of text"):
            await commands.rerun(RerunRequest(id=done.id, key="a\nb"), "ada")


async def test_n29_a_key_of_a_user_never_meets_an_id_of_ours(tmp_path: Path) -> None:
    async with inside(tmp_path) as here:
        here.world.write(
            "tick.yaml", 'kind: EventSource\nmetadata: {name: tick}\nspec: {type: schedule, schedule: {cron: "* * * * *"}}'
        )
        here.world.webhook()
        here.world.stage("s", after="{type: event-source, name: tick}")
        await here.sync()
        await here.turn(1)
        commands = here.working.commands
        coming = [iso(60.0 * (int(here.now) // 60 + step)) for step in range(1, 3)]
        for at in coming:
            assert (await commands.trigger(TriggerRequest(source="tick", key=f"slot/{at}"), "ada"))["new"] is True
        here.later(61)
        await here.turn()
        found = await here.deps.store.events(source="EventSource/default/tick")
        assert sorted(one.origin.value for one in found) == ["manual", "manual", "scheduled"]
        assert {one.delivery_id.partition("/")[0] for one in found} == {"key", "slot"}
        assert (await commands.event(EventRequest(id=f"slot/{coming[1]}")))["deliveryId"] == f"key/slot/{coming[1]}"
        same = [await commands.trigger(TriggerRequest(source="own", key="release-1"), "ada") for _ in range(2)]
        assert [one["new"] for one in same] == [True, False]


async def test_n29_an_id_that_a_sender_chose_silences_no_key_and_no_trigger(tmp_path: Path) -> None:
    async with inside(tmp_path) as here:
        here.world.webhook()
        await here.sync()
        for sent in ("key/a", "manual/b", "a"):
            assert await delivered(here, "own", b'{"n": 1}', {"x-delivery-id": sent}) == 202
        commands = here.working.commands
        assert [(await commands.trigger(TriggerRequest(source="own", key=key), "ada"))["new"] for key in ("a", "key/a", "b")] == [
            True
        ] * 3


# N47: ids that are not there


async def test_n47_an_id_that_is_not_there_is_answered_with_those_that_are(tmp_path: Path) -> None:
    async with inside(tmp_path) as here:
        here.world.manual()
        here.world.stage("s", "conditions: [{type: approval, approval: {count: 1}}]", "executor: {type: noop}")
        await here.sync()
        commands = here.working.commands
        for attempt in (
            commands.approve(ApproveRequest(id="itm-nope"), "ada"),
            commands.cancel(CancelRequest(id="itm-nope"), "ada"),
            commands.rerun(RerunRequest(id="itm-nope"), "ada"),
        ):
            with pytest.raises(ReconcilerError, match="no item or execution 'itm-nope'") as nothing:
                await attempt
            assert (nothing.value.code, nothing.value.hint) == ("RC6030", "Nothing waits. See `reconciler executions`.")
        await here.trigger()
        await here.turn(1)
        [waits] = await here.items("s")
        with pytest.raises(ReconcilerError) as unknown:
            await commands.approve(ApproveRequest(id="itm-nope"), "ada")
        assert f"{waits.id} (s: approval)" in unknown.value.hint
        with pytest.raises(ReconcilerError) as mistyped:
            await commands.approve(ApproveRequest(id=waits.id[:-1] + "x"), "ada")
        assert mistyped.value.hint == f"Did you mean {waits.id}?"
        with pytest.raises(ReconcilerError, match="no item or execution"):
            await commands.execution(ExecutionRequest(id="rcl-nope"))


async def test_n47_a_schedule_tells_when_it_fires_next(tmp_path: Path) -> None:
    async with inside(tmp_path) as here:
        here.world.write(
            "tick.yaml", 'kind: EventSource\nmetadata: {name: tick}\nspec: {type: schedule, schedule: {cron: "0 0 1 1 *"}}'
        )
        await here.sync()
        assert here.engine.read_event_status is not None
        [row] = (await here.engine.read_event_status(None)).schedules
        assert (row["name"], row["suspended"]) == ("tick", "")
        assert str(row["nextAt"]).endswith("-01-01T00:00:00Z")


# N21: what an approver sees


async def test_n21_whoever_approves_sees_where_it_came_from_what_runs_and_what_ran_before(tmp_path: Path) -> None:
    async with inside(tmp_path) as here:
        here.world.manual()
        here.world.stage(
            "s",
            "conditions: [{type: approval, approval: {count: 1}}]",
            "executor: {type: http, spec: {url: 'https://x.example/${{ event.ref }}', headers: {A: '${{ secrets.t }}'}}}",
            "secrets: [{name: t, valueFrom: {secret: {name: t, key: t}}}]",
        )
        here.world.write(
            "t.yaml", "kind: Secret\nmetadata: {name: t}\nspec: {provider: env, data: {t: {env: RECONCILER_SECRET_T}}}"
        )
        await here.sync()
        commands = here.working.commands
        await commands.trigger(TriggerRequest(source="hand", payload={"ref": "v1"}, type="deploy\u00e9"), "ada")
        await here.turn(1)
        [waits] = (await commands.executions(ExecutionListRequest(state="queued")))["queued"]
        assert (waits["origin"]["sender"], waits["origin"]["source"]) == ("ada", "EventSource/hand")
        shown = await commands.execution(ExecutionRequest(id=waits["id"]))
        assert shown["runs"]["spec"] == {"url": "https://x.example/v1", "headers": {"A": "***"}}
        assert shown["previous"] is None


def test_n21_what_a_stranger_wrote_is_one_short_line_and_links_come_from_the_manifest() -> None:
    wiring = wire("r1", loaded(stage(github("web"))))
    head = {"id": "a" * 40, "message": "Fix\x1b[31m \u202eit\nmore", "author": {"username": "ada"}, "url": "https://evil.example"}
    payload = {**PUSH, "head_commit": head, "sender": {"login": "bob" * 100}}
    job = RoutingJob(event(kind="push"), orjson.dumps(payload), "Integration/default/gh")
    found = route(job, wiring, last=lambda *_: None, now=NOW)
    about = found.items[0].origin["about"]
    assert (about["author"], about["message"], len(about["sender"])) == ("ada", "Fix[31m it", 200)
    assert about["url"] == f"https://github.com/acme/web/commit/{'a' * 40}"


# N44: resources out of events


@pytest.mark.parametrize(
    ("name", "becomes"),
    [
        ("web", "acme/web"),
        ("acme/Svc-Pay", "acme/svc-pay"),
        ("ACME/svc-a", "acme/svc-a"),
        ("other", ""),
        ("evil/web", ""),
        ("acme/../evil", ""),
        ("..", ""),
        ("acme/web/x", ""),
        ("acme%2fweb", ""),
        ("svc-\n", ""),
        ("", ""),
        (7, ""),
        (None, ""),
    ],
)
def test_n44_a_resource_out_of_an_event_is_one_that_was_allowed(name: Any, becomes: str) -> None:
    wiring = wire("r1", loaded(stage(github("${{ event.repository.name }}", "[web, 'acme/svc-*']"))))
    found = routed(wiring, {"repository": {"name": name}})
    assert [one.resource for one in found.items] == ([becomes] if becomes else [])
    assert len(found.rejections) == (0 if becomes else 1)


def buddy(project: str, pipeline: str, allow: str) -> str:
    return stage(
        "    type: buddy\n    integration: {name: bd}\n"
        f"    resource: {{type: pipeline, name: '{pipeline}'}}\n    allow: {allow}\n"
        f"    spec: {{workspace: acme, project: '{project}'}}\n"
    ) + (
        "---\nkind: Integration\nmetadata: {name: bd}\n"
        "spec: {type: buddy, auth: {use: token, token: {valueFrom: {secret: {name: token, key: token}}}}}\n"
    )


@pytest.mark.parametrize(
    ("project", "pipeline", "allow", "payload", "becomes"),
    [
        ("web", "${{ event.p }}", "['Deploy *']", {"p": "Deploy live"}, "Deploy live"),
        ("web", "${{ event.p }}", "['Deploy *']", {"p": "Remove all"}, ""),
        ("${{ event.j }}", "${{ event.p }}", "['web/*']", {"j": "web", "p": "build"}, "build"),
        ("${{ event.j }}", "build", "['web/*']", {"j": "web"}, "build"),
        ("${{ event.j }}", "build", "['web/*']", {"j": "other"}, ""),
        ("${{ event.j }}", "build", "['*/*']", {"j": "../x"}, ""),
        ("web", "${{ event.p }}", "['*']", {"p": "a/b"}, ""),
    ],
)
def test_n44_a_pipeline_and_a_project_of_buddy_are_bounded_too(
    project: str, pipeline: str, allow: str, payload: Any, becomes: str
) -> None:
    found = routed(wire("r1", loaded(buddy(project, pipeline, allow))), payload)
    assert [one.resource for one in found.items] == ([becomes] if becomes else [])


@pytest.mark.parametrize(
    ("executor", "code"),
    [
        (github("${{ event.r }}"), "RC1265"),
        (github("web", "[web]"), "RC1206"),
        (github("${{ secrets.r }}", "[web]"), "RC1302"),
        (github("${{ inputs.r }}", "[web]"), "RC1302"),
        (github("${{ event.r }}", "[]"), "RC1101"),
    ],
)
def test_n44_a_resource_that_nothing_bounds_does_not_validate(executor: str, code: str) -> None:
    found = load([SourceFile("x.yaml", "b", stage(executor).encode())], revision="r1")
    assert code in {one.code for one in found.problems} or (code == "RC1101" and found.problems)


def test_n44_matching_takes_no_longer_than_both_lengths_multiplied() -> None:
    assert matches("*a" * 100 + "b", "a" * 20_000) is False
    found = [matches(*pair) for pair in (("svc-?", "svc-a"), ("**", ""), ("svc-*", "svc-/a"), ("?", ""))]
    assert found == [True, True, False, False]


# N25: values in texts


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (False, "false"),
        (None, ""),
        ({"a": [1, None]}, '{"a":[1,null]}'),
        (3, "3"),
        (1.5, "1.5"),
        ("x", "x"),
        ([], "[]"),
    ],
)
def test_n25_there_is_one_way_from_a_value_to_text(value: Any, text: str) -> None:
    scope = {"inputs": {"v": value}}
    assert resolve("a ${{ inputs.v }}", scope) == f"a {text}"
    assert resolve_text({"k": ["${{ inputs.v }}"]}, scope) == {"k": [text]}
    assert resolve("${{ inputs.v }}", scope) == value
    spec = {"ref": "${{ inputs.v }}", "parameters": {"p": "${{ inputs.v }}"}, "clientPayload": {"p": "${{ inputs.v }}"}}
    assert resolved_spec(spec, scope) == {"ref": text, "parameters": {"p": text}, "clientPayload": {"p": value}}

    report = stage_spec({"report": {"deployment": {"create": True, "environment": "${{ inputs.v }}"}}})
    origin = {"integration": "i", "repository": "acme/web", "sha": "a" * 40}
    [payload] = statuses.targets(item(0, origin=origin, inputs={"v": value}), report).values()
    assert payload.create is not None
    assert payload.create.environment == (text or "production")


def test_a_spec_that_names_large_values_many_times_is_refused_before_it_is_built() -> None:
    scope = {"inputs": {"large": "x" * (MAX_RESOLVED // 4), "small": 1}}
    fits = {"body": "${{ inputs.large }}" * 4}
    assert len(resolved_spec(fits, scope)["body"]) == MAX_RESOLVED
    with pytest.raises(SpecTooLarge, match=f"becomes {MAX_RESOLVED + 1} characters") as refused:
        resolved_spec({**fits, "headers": {"X-Small": "${{ inputs.small }}"}}, scope)
    assert refused.value.code == "RC6066"


# N26, N6: deleted refs and what an event is about

GONE = {"ref": "refs/heads/x", "after": "0" * 40, "before": "a" * 40, "deleted": True, "head_commit": None}
SHA_INPUT = "  inputs: [{name: sha}]\n  inputMappings: [{values: [{name: sha, valueFrom: {eventData: {connection: hand, expression: $.after}}}]}]\n"


def test_n26_a_deleted_branch_hands_no_zeros_on_and_runs_on_no_ref_that_is_gone() -> None:
    for text, kind, payload in (
        (stage(github("web", spec="{workflow: a.yml, ref: main, inputs: {sha: '${{ inputs.sha }}'}}"), SHA_INPUT), "push", GONE),
        (stage(github("web", spec="{workflow: a.yml, ref: '${{ event.ref }}'}")), "push", GONE),
        (stage(github("web", spec="{workflow: a.yml, ref: '${{ event.ref }}'}")), "delete", {"ref": "x", "ref_type": "branch"}),
    ):
        found = routed(wire("r1", loaded(text)), payload, kind=kind)
        assert found.items == ()
        assert "deleted refs/heads/x" in found.rejections[0].message
    cleanup = stage(github("web", spec="{workflow: clean.yml, ref: main, inputs: {branch: '${{ event.ref }}'}}"))
    assert len(routed(wire("r1", loaded(cleanup)), GONE, kind="push").items) == 1
    made = {**GONE, "ref": "refs/heads/new", "before": "0" * 40, "after": "b" * 40, "deleted": False}
    before = stage(github("web", spec="{workflow: a.yml, ref: main, inputs: {before: '${{ event.before }}'}}"))
    assert len(routed(wire("r1", loaded(before)), made, kind="push").items) == 1


def test_n26_no_deployment_and_no_status_is_asked_for_a_ref_that_is_gone() -> None:
    origin = {**origin_of("i", "push", {**GONE, "repository": {"full_name": "acme/web"}})}
    assert origin == {"integration": "i", "repository": "acme/web", "deleted": "refs/heads/x"}
    spec = stage_spec({"report": {"commitStatus": {"context": "c"}, "deployment": {"create": True, "ref": "${{ event.ref }}"}}})
    one = item(0, origin=origin, event={"ref": "refs/heads/x"})
    assert statuses.targets(one, spec) == {}
    assert set(statuses.without_target(one, spec)) == {ReportKind.COMMIT, ReportKind.DEPLOYMENT}


@pytest.mark.parametrize(
    ("kind", "payload", "wanted"),
    [
        ("push", {"ref": "refs/tags/v1", "after": "b" * 40, "head_commit": {"id": "a" * 40}}, {"sha": "a" * 40}),
        ("push", {"ref": "refs/tags/v1", "after": "b" * 40, "head_commit": None}, {"sha": None}),
        ("push", {"ref": "refs/heads/x", "after": "b" * 40}, {"sha": "b" * 40}),
        ("merge_group", {"merge_group": {"head_sha": "a" * 40}}, {"sha": "a" * 40}),
        ("pull_request_review_comment", {"pull_request": {"head": {"sha": "a" * 40}}}, {"sha": "a" * 40}),
        ("commit_comment", {"comment": {"commit_id": "a" * 40}}, {"sha": "a" * 40}),
        ("deployment_review", {"workflow_run": {"head_sha": "a" * 40}}, {"sha": "a" * 40}),
        ("registry_package", {"registry_package": {"package_version": {"target_oid": "a" * 40}}}, {"sha": "a" * 40}),
        ("release", {"release": {"tag_name": "v1"}}, {"sha": None, "lookup": "refs/tags/v1"}),
        ("release", {"release": {"tag_name": "v1", "draft": True}}, {"sha": None, "lookup": None}),
        ("create", {"ref": "v1", "ref_type": "tag"}, {"lookup": "refs/tags/v1"}),
        ("create", {"ref": "x", "ref_type": "branch"}, {"lookup": "refs/heads/x"}),
        ("workflow_dispatch", {"ref": "refs/heads/x"}, {"lookup": "refs/heads/x"}),
        ("issue_comment", {"issue": {"pull_request": {}}}, {"sha": None, "lookup": None}),
        ("gollum", {"pages": [{"sha": "a" * 40}]}, {"sha": None}),
        ("pipeline_done", {"revision": {"commit_sha": "a" * 40, "pull_request": {"head_sha": "b" * 40}}}, {"sha": "b" * 40}),
        ("EXECUTION_FINISHED", {"execution": {"to_revision": {"revision": "a" * 40}}}, {"sha": "a" * 40}),
        ("EXECUTION_FINISHED", {"execution": {"to_revision": {"revision": "HEAD"}}}, {"sha": None}),
    ],
)
def test_n6_the_commit_of_an_event_is_a_commit(kind: str, payload: Any, wanted: dict[str, Any]) -> None:
    found = origin_of("i", kind, payload)
    assert {name: found.get(name) for name in wanted} == wanted


@pytest.mark.parametrize(
    ("origin", "why"),
    [
        ({}, "no Integration"),
        (
            {"integration": "i", "provider": "semaphore", "repository": "a/b", "sha": "a" * 40},
            "semaphore, which takes no statuses",
        ),
        ({"integration": "i"}, "no repository"),
        ({"integration": "i", "repository": "a/b"}, "names no commit"),
        ({"integration": "i", "repository": "a/b", "deleted": "refs/heads/x"}, "deleted refs/heads/x"),
    ],
)
def test_n6_a_report_without_a_target_says_why(origin: Any, why: str) -> None:
    spec = stage_spec({"report": {"commitStatus": {"context": "c"}}})
    assert why in statuses.without_target(item(0, origin=origin), spec)[ReportKind.COMMIT]
    assert statuses.at_phase(item(0, origin=origin), spec, statuses.QUEUED, 0.0) == ()
