"""A stored event is handed on anew: by hand, or since its sender sent it again; what happened is not repeated."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.events.commands import NoSuch, Waits
from reconciler.events.requests import EventListRequest, EventRequest, ReplayRequest
from reconciler.model.resources import ResourceId
from tests.flow.inside import inside
from tests.flow.test_nasty import delivered, states

OWN = "{type: event-source, name: own}"
WRONG = "{type: event-source, name: own, filters: [{type: data, data: {expression: '$.branch == \"main\"'}}]}"
RIGHT = "{type: event-source, name: own, filters: [{type: data, data: {expression: '$.ref == \"main\"'}}]}"


@pytest.mark.parametrize("by_sender", [False, True])
async def test_n27_an_event_refused_by_a_wrong_filter_is_had_again_once_it_is_repaired(
    tmp_path: Path, *, by_sender: bool
) -> None:
    async with inside(tmp_path) as here:
        here.world.webhook()
        here.world.stage("build", after=WRONG)
        await here.sync()
        assert await delivered(here, "own", b'{"ref": "main"}', {"x-delivery-id": "one"}) == 202
        await here.turn()
        assert await states(here) == [("failed", "error")]
        here.world.stage("build", after=RIGHT)
        await here.sync()
        for _ in range(2):  # twice asked, once had
            if by_sender:
                assert await delivered(here, "own", b'{"ref": "main"}', {"x-delivery-id": "one"}) == 202
            else:
                await here.working.commands.replay(ReplayRequest(id="one"), "ada")
            await here.turn()
        assert await states(here) == [("processed", "")]
        assert len(await here.executions("build")) == 1
        assert (await here.working.commands.event(EventRequest(id="one")))["rejectedBy"] == []


@pytest.mark.parametrize("filtered", ['$.ref == "main"', '$.branch == "main"'], ids=["filtered", "error"])
async def test_n27_a_source_that_filtered_it_lets_it_through_when_its_sender_sends_it_again(
    tmp_path: Path, filtered: str
) -> None:
    async with inside(tmp_path) as here:
        here.world.webhook(more=f"  events: [{{type: '*', filters: [{{type: data, data: {{expression: '{filtered}'}}}}]}}]")
        here.world.stage("build", after=OWN)
        await here.sync()
        assert await delivered(here, "own", b'{"ref": "dev"}', {"x-delivery-id": "one"}) == 202
        await here.turn()
        here.world.webhook()
        await here.sync()
        assert await delivered(here, "own", b'{"ref": "dev"}', {"x-delivery-id": "one"}) == 202
        await here.turn()
        assert await states(here) == [("processed", "")]
        assert len(await here.executions("build")) == 1


async def test_n27_what_a_group_took_and_a_stage_ran_is_not_repeated(tmp_path: Path) -> None:
    async with inside(tmp_path) as here:
        here.world.webhook()
        here.world.stage("build", after=OWN)
        here.world.stage("late", after=WRONG)
        group = "connections: [{type: event-source, name: own}]\n  groupBy: {fields: [{name: ref, expression: $.ref}]}"
        here.world.write("group.yaml", f"kind: ConnectionGroup\nmetadata: {{name: both}}\nspec:\n  {group}")
        here.world.stage("after", after="{type: connection-group, name: both}")
        await here.sync()
        assert await delivered(here, "own", b'{"ref": "main"}', {"x-delivery-id": "one"}) == 202
        await here.turn()
        here.world.stage("late", after=RIGHT)
        await here.sync()
        await here.working.commands.replay(ReplayRequest(id="one"), "ada")
        await here.turn(6)
        assert [len(await here.executions(name)) for name in ("build", "after", "late")] == [1, 1, 1]
        for name in ("build", "after", "late"):  # nor is it said again
            said = await here.deps.store.journal_of(ResourceId("Stage", "default", name), 100)
            assert [one.event for one in said].count("item_queued") == 1


async def test_n27_what_waits_or_is_not_there_cannot_be_replayed(tmp_path: Path) -> None:
    async with inside(tmp_path) as here:
        here.world.webhook()
        await here.sync()
        with pytest.raises(NoSuch):
            await here.working.commands.replay(ReplayRequest(id="nothing"), "ada")
        assert await delivered(here, "own", b"{}", {"x-delivery-id": "one"}) == 202
        with pytest.raises(Waits):
            await here.working.commands.replay(ReplayRequest(id="one"), "ada")


async def test_n18_what_led_to_nothing_is_found_by_one_filter(tmp_path: Path) -> None:
    async with inside(tmp_path) as here:
        here.world.webhook()
        here.world.webhook("other")
        here.world.stage(
            "build",
            "inputs: [{name: a}]",
            "inputMappings: [{values: [{name: a, valueFrom: {eventData: {connection: own, expression: $.a.b}}}]}]",
            "executor: {type: noop}",
            after=OWN,
        )
        await here.sync()
        assert await delivered(here, "own", b'{"a": {"b": "x"}}', {"x-delivery-id": "good"}) == 202
        assert await delivered(here, "own", b'{"a": {}}', {"x-delivery-id": "bad"}) == 202
        assert await delivered(here, "other", b"{}", {"x-delivery-id": "unconnected"}) == 202
        await here.turn()
        failed = (await here.working.commands.events(EventListRequest(state="failed")))["events"]
        assert [one["deliveryId"] for one in failed] == ["bad"]
        assert [(one["target"], one["reason"]) for one in failed[0]["rejectedBy"]] == [("Stage/build", "error")]
        nothing = (await here.working.commands.events(EventListRequest(state="nothing")))["events"]
        assert {"bad", "unconnected"} == {one["deliveryId"] for one in nothing if one["source"].startswith("EventSource/")}
        assert (await here.engine.read_event_status(None)).failed == 1


async def test_n62_what_a_group_puts_together_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from reconciler.state import joins

    monkeypatch.setattr(joins, "MAX_SET_BYTES", 1_000)
    async with inside(tmp_path) as here:
        connections = []
        for name in ("small", "large", "medium"):
            here.world.webhook(name)
            connections.append(f"{{type: event-source, name: {name}}}")
        group = f"connections: [{', '.join(connections)}]\n  groupBy: {{fields: [{{name: ref, expression: $.ref}}]}}"
        here.world.write("group.yaml", f"kind: ConnectionGroup\nmetadata: {{name: all}}\nspec:\n  {group}")
        await here.sync()
        for name, size in (("small", 10), ("large", 900), ("medium", 400)):
            assert await delivered(here, name, b'{"ref": "main", "pad": "' + b"x" * size + b'"}', {"x-delivery-id": name}) == 202
        await here.turn()
        [made] = (await here.working.commands.events(EventListRequest(source="ConnectionGroup/all")))["events"]
        payload = (await here.working.commands.event(EventRequest(id=made["id"])))["payload"]
        assert payload["truncated"] == ["large"]
        assert payload["events"]["large"] is None
        assert payload["events"]["medium"]["ref"] == "main"


async def test_n18_what_led_to_nothing_is_found_behind_more_events_than_are_looked_at_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reconciler.state import inbox

    monkeypatch.setattr(inbox.InboxStore.events_end, "__kwdefaults__", {"source": "", "before": "", "look_at": 3})
    async with inside(tmp_path) as here:
        here.world.webhook()
        here.world.stage("build", after=RIGHT)
        await here.sync()
        for number in range(9):
            body = b'{"ref": "main"}' if number in (2, 3, 4, 5, 6, 8) else b'{"ref": "dev"}'
            assert await delivered(here, "own", body, {"x-delivery-id": str(number)}) == 202
        await here.turn()
        first = await here.working.commands.events(EventListRequest(state="nothing", source="own", limit=2))
        assert [one["deliveryId"] for one in first["events"]] == ["7", "1"]
        rest = await here.working.commands.events(EventListRequest(state="nothing", source="own", limit=2, before=first["next"]))
        assert ([one["deliveryId"] for one in rest["events"]], rest["next"]) == (["0"], "")
        everything = await here.working.commands.events(EventListRequest(state="nothing"))
        named = [one["deliveryId"] for one in everything["events"] if one["source"] == "EventSource/own"]
        assert named == ["7", "1", "0"]
