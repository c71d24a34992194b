"""What came of a replay: the state, read from its database, and the provider's own, held against what must be."""

from __future__ import annotations

import itertools
import time
from collections import Counter, defaultdict
from typing import Any

import orjson
import sqlalchemy as sa

from reconciler.model.codec import decode
from reconciler.model.events import Event
from reconciler.model.executions import Execution, Item
from reconciler.state import tables
from tests.flow.replay.inputs import APP, OUTSIDE, RESULTS, SHOP, STD, TAKEN, WEB, Schedule, Wanted, wanted
from tests.flow.stage_world import StageWorld


class Found:
    """The state, read from its database, and the provider's own."""

    def __init__(self, url: str, world: StageWorld) -> None:
        self._engine = sa.create_engine(url, poolclass=sa.NullPool)
        self._world = world

    def swept(self) -> bool:
        """Whether each source of GitHub has a place from which it is swept: what it misses from now on is looked for."""
        with self._engine.connect() as connection:
            names = connection.execute(sa.select(tables.cursor.c.name)).scalars()
            return sum(name.startswith("sweep/") for name in names) == len(TAKEN)

    def left(self) -> dict[str, int]:
        """Return how much is under way, by what it is."""
        e, i, x, r = tables.event, tables.item, tables.execution, tables.report
        queries = {
            "events": sa.select(sa.func.count()).where(e.c.state == "pending"),
            "items": sa.select(sa.func.count()).where(i.c.state.in_(("queued", "running"))),
            "executions": sa.select(sa.func.count()).where(x.c.state != "finished"),
            "reports": sa.select(sa.func.count()).where(r.c.done_at == 0),
        }
        with self._engine.connect() as connection:
            return {name: int(connection.execute(query).scalar_one()) for name, query in queries.items()}

    def missing(self) -> list[dict[str, Any]]:
        """Return the deliveries in the provider's list that never came in; from now on they look as if they were older."""
        e = tables.event
        with self._engine.connect() as connection:
            known = set(connection.execute(sa.select(e.c.delivery_id)).scalars())
        rows = [row for row in self.sent() if row["guid"] not in known and row["event"] != "ping"]
        old = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 60))
        for row in rows:
            row["delivered_at"] = min(row["delivered_at"], old)
        return rows

    def sent(self) -> list[dict[str, Any]]:
        """Return the provider's list of deliveries, of all hooks; the rows themselves, this process simulates it."""
        return [row for rows in list(self._world.servers["github"].app.state["deliveries"].values()) for row in list(rows)]

    def rows(self, table: sa.Table) -> list[Any]:
        with self._engine.connect() as connection:
            return list(connection.execute(sa.select(table)))


class OracleReport:
    """Holds what was found against what must be."""

    def __init__(self, world: StageWorld, found: Found, schedule: Schedule, *, strict: bool) -> None:
        self.world, self.found, self.schedule, self.strict = world, found, schedule, strict
        rows = found.rows(tables.event)
        self.bodies = {row.id: bytes(row.body) for row in rows}
        self.events: dict[str, Event] = {row.id: decode(Event, row.payload) for row in rows}
        self.by_delivery: dict[tuple[str, str], list[Event]] = defaultdict(list)
        for one in self.events.values():
            self.by_delivery[one.source.name, one.delivery_id].append(one)
        self.items: list[Item] = [decode(Item, row.payload) for row in found.rows(tables.item)]
        self.executions: list[Execution] = [decode(Execution, row.payload) for row in found.rows(tables.execution)]
        self.by_event: dict[str, Counter[str]] = defaultdict(Counter)
        for item in self.items:
            self.by_event[item.event_id][item.stage.name] += 1
        self.rejected: dict[str, dict[str, str]] = defaultdict(dict)
        for row in found.rows(tables.rejection):
            self.rejected[row.event_id][row.target.rpartition("/")[2]] = row.reason
        self.accounted: set[str] = set()

    def check(self) -> None:
        """Raise `AssertionError` for whatever is not as it must be."""
        self.deliveries()
        self.lost()
        self.inside()
        self.queues()
        self.outside()
        self.statuses()
        print(
            f"{len(self.events)} events, {len(self.items)} items, {len(self.executions)} executions, {len(self.world.runs(APP))} runs:",
            dict(Counter(item.stage.name for item in self.items)),
            dict(Counter(f"{one.origin.value} {one.state.value} {one.reason}".strip() for one in self.events.values())),
        )

    def deliveries(self) -> None:
        """What senders sent: one row each, with its effects; of equal ones together one has them; forged ones are not there."""
        said: dict[tuple[str, bytes], set[str]] = defaultdict(set)
        for shot in self.schedule.shots:
            if shot.forgery:
                assert (shot.source, shot.guid) not in self.by_delivery, f"{shot.forgery}: {shot}"
            elif not shot.dropped and shot.answer == 202:
                # The event's name is no part of what is signed at GitHub: equal bodies are one, unless they are bare.
                key = shot.body + (shot.guid.encode() if (shot.event == "ping" and shot.payload) or shot.source == STD else b"")
                said[shot.source, key].add(shot.guid)
        shots = {(shot.source, shot.guid): shot for shot in self.schedule.shots if shot.answer == 202}
        for (source, _), guids in said.items():
            alike = [self.one(source, guid) for guid in guids]
            shot = shots[source, alike[0].delivery_id]
            want = wanted(source, shot.event, shot.payload)
            effective = [one for one in alike if one.reason != "duplicate"]
            # What nobody may have is refused for its own reason as well where it came to two processes at once.
            assert len(effective) == 1 or (effective and want.state == "rejected"), f"of equal ones one has effects: {alike}"
            for one in alike:
                self.judged(one, want) if one in effective else self.without(one)
                if shot.payload is not None:
                    assert orjson.loads(self.bodies[one.id]) == shot.payload, one

    def lost(self) -> None:
        """What the provider sent by itself, or tried to: came, or was found, once."""
        hooks = {str(hook["id"]): name for name in (WEB, SHOP, APP) for hook in self.world.hooks(name)}
        for hook, rows in self.world.servers["github"].app.state["deliveries"].items():
            assert hook in hooks, "a hook was made twice"
            for row in rows:
                known = self.by_delivery.get((hooks[hook], row["guid"]), [])
                if row["event"] == "ping" and not known:
                    continue  # of a hook that was made when nobody listened
                payload = row["request"]["payload"]
                self.judged(self.one(hooks[hook], row["guid"]), wanted(hooks[hook], row["event"], payload))

    def one(self, source: str, guid: str) -> Event:
        rows = self.by_delivery.get((source, guid), [])
        assert len(rows) == 1, f"{source} {guid}: {len(rows)} rows"
        return rows[0]

    def judged(self, event: Event, want: Wanted) -> None:
        self.accounted.add(event.id)
        assert (event.state.value, event.reason) == (want.state, want.reason), event
        assert self.by_event[event.id] == {stage: 1 for stage, why in want.stages.items() if not why}, event
        assert self.rejected[event.id] == {stage: why for stage, why in want.stages.items() if why}, event

    def without(self, event: Event) -> None:
        self.accounted.add(event.id)
        assert not self.by_event[event.id], event
        assert not self.rejected[event.id], event

    def inside(self) -> None:
        """What stages said: one event an execution; nothing is there that nobody sent."""
        ends = {one.id: one for one in self.executions}
        for event in [one for one in self.events.values() if one.source.kind == "Stage"]:
            execution = ends.pop(event.delivery_id)
            assert execution.stage == event.source
            self.judged(event, Wanted(stages={"after": ""} if event.source.name == "build" else {}))
        assert not ends, f"ended, and did not say so: {list(ends)[:5]}"
        nobody = [one for one in self.events.values() if one.id not in self.accounted]
        assert not nobody, nobody[:5]

    def queues(self) -> None:
        """Each item has one execution, with the result of its stage; what a newer one replaced has none."""
        tries: dict[str, list[Execution]] = defaultdict(list)
        for execution in self.executions:
            tries[execution.item_id].append(execution)
        for item in self.items:
            mine, stage = tries.pop(item.id, []), item.stage.name
            if stage == "newest" and item.state.value == "discarded":
                assert (item.reason, mine) == ("superseded", []), item
                continue
            assert item.state.value == "done", item
            assert [one.result.value if one.result else "" for one in mine] == [RESULTS[stage]], (item, mine)
        assert not tries
        newest = [one for one in self.items if one.stage.name == "newest"]
        if newest:
            assert max(newest, key=lambda one: (one.created_at, one.id)).state.value == "done"
        for stage in ("one", "newest"):
            row = sorted((one for one in self.executions if one.stage.name == stage), key=lambda one: one.created_at)
            assert all(one.finished_at <= two.created_at for one, two in itertools.pairwise(row)), f"{stage} overlaps"
            if self.strict and stage == "one":
                order = sorted((one for one in self.items if one.stage.name == stage), key=lambda one: (one.created_at, one.id))
                assert [one.item_id for one in row] == [one.id for one in order], "first in, first out"

    def outside(self) -> None:
        """Each execution of a workflow has one run at the provider, and each run is of one execution."""
        ran = {one.id: one for one in self.executions if one.stage.name in OUTSIDE}
        runs = self.world.runs(APP)
        assert Counter(run["inputs"]["reconciler_execution_id"] for run in runs) == dict.fromkeys(ran, 1)
        for run in runs:
            execution = ran[run["inputs"]["reconciler_execution_id"]]
            assert execution.run is not None
            assert execution.run.external_id == str(run["id"])
            assert len(run["attempts"]) == 1

    def statuses(self) -> None:
        """What was written back: each state of each target once, in order."""
        inputs = {one.id: one.inputs for one in self.items}
        built = {str(inputs[one.item_id]["sha"]) for one in self.executions if one.stage.name == "build"}
        assert self.commits(WEB) == {(sha, "ci"): ["pending", "success"] for sha in built}
        events = {one.id: one.event_id for one in self.items}
        flaky = [events[one.item_id] for one in self.executions if one.stage.name == "flaky"]
        shas = {orjson.loads(self.bodies[event])["after"] for event in flaky}
        assert self.commits(SHOP) == {(sha, "flaky"): ["pending", "failure"] for sha in shas}
        made = self.world.deployments(WEB)
        assert Counter(one["sha"] for one in made) == dict.fromkeys(built, 1)
        told = [events[one.item_id] for one in self.executions if one.stage.name == "deploy"]
        targets = {orjson.loads(self.bodies[event])["deployment"]["id"] for event in told}
        for one in [*made, *self.world.deployments(SHOP)]:
            ours = [status["state"] for status in one["statuses"] if status["state"] != "inactive"]
            touched = one in made or one["id"] in targets
            assert ours == (["queued", "in_progress", "success"] if touched else []), one

    def commits(self, repo: str) -> dict[tuple[str, str], list[str]]:
        found: dict[tuple[str, str], list[str]] = defaultdict(list)
        for row in self.world.commit_statuses(repo):
            found[row["sha"], row["context"]].append(row["state"])
        return found
