"""Any sequence of renames, transfers, names used again and edits of the manifest leaves each declared repository its one hook.

The real engine works on a real SQLite state; the simulator's log of calls is the witness.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from reconciler.config.load import load_config
from reconciler.daemon.session import Options, open_session
from reconciler.engine.controller import Controller
from reconciler.sandbox.server import SandboxServer
from tests.engine.world import TOKENS, World

NAMES = ("acme/a", "acme/b", "acme/c", "umbrella/a", "umbrella/b")
ORGANIZATIONS = ("acme", "umbrella")


@dataclass
class Scene:
    """What the steps changed so far: repositories by name, and what each of two sources declares."""

    world: World
    declared: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def server(self) -> SandboxServer:
        return self.world.servers["github"]

    @property
    def state(self) -> dict[str, Any]:
        return self.server.app.state

    def find(self, name: str) -> int | None:
        """The id of what a name leads to, as GitHub follows it."""
        repos = self.state["repos"]
        if name in repos:
            return int(repos[name]["id"])
        number = self.state["renamed"].get(name)
        return number if number in {repo["id"] for repo in repos.values()} else None

    def hooks(self) -> dict[int, list[tuple[int, str]]]:
        """Hooks by repository id: (id, the source that its URL marks)."""
        found: dict[int, list[tuple[int, str]]] = {}
        for key, rows in self.state["hooks"].items():
            for hook in rows:
                found.setdefault(int(key.partition("/")[2]), []).append((hook["id"], hook["config"]["url"].partition("?")[0]))
        return found

    def at(self, path: str) -> int:
        """The id of the repository that an API path names."""
        _, kind, *rest = path.split("/")
        return int(rest[0]) if kind == "repositories" else self.find("/".join(rest[:2])) or 0

    def wanted(self) -> set[tuple[int, str]]:
        """Each (repository id, source) that is declared and there."""
        return {
            (number, source)
            for source, names in self.declared.items()
            for name in names
            if (number := self.find(name)) is not None
        }

    def declare(self, source: str, names: tuple[str, ...]) -> None:
        self.declared[source] = names
        listed = ", ".join(names)
        self.world.write(
            f"source-{source}.yaml",
            f"kind: EventSource\nmetadata: {{name: {source}}}\nspec:\n  integration: {{name: github}}\n"
            f"  resource: {{type: repository, names: [{listed}]}}\n  events: [{{type: push}}]",
        )

    def rename(self, old: str, new: str) -> None:
        if old in self.state["repos"] and new not in self.state["repos"]:
            self.server.admin.do("rename", **{"from": old, "to": new})

    def make(self, name: str) -> None:
        if name not in self.state["repos"]:
            self.server.admin.put_state({"repos": {name: {}}})

    def rename_organization(self, old: str) -> None:
        """To a new name and back again, so that the other names stay what they are: all redirects are made."""
        other = f"{old}-inc"
        self.server.admin.do("rename_organization", **{"from": old, "to": other})
        self.server.admin.do("rename_organization", **{"from": other, "to": old})


STEPS = st.one_of(
    st.tuples(st.just("rename"), st.sampled_from(NAMES), st.sampled_from(NAMES)),
    st.tuples(st.just("make"), st.sampled_from(NAMES)),
    st.tuples(st.just("swap"), st.sampled_from(NAMES), st.sampled_from(NAMES)),
    st.tuples(st.just("declare"), st.sampled_from(("x", "y")), st.sets(st.sampled_from(NAMES), min_size=1, max_size=3)),
    st.tuples(st.just("organization"), st.sampled_from(ORGANIZATIONS)),
    st.just(("pass",)),
)


def play(scene: Scene, step: tuple[Any, ...]) -> None:
    match step:
        case ("rename", old, new):
            scene.rename(old, new)
        case ("make", name):
            scene.make(name)
        case ("swap", one, other):
            if one != other and {one, other} <= set(scene.state["repos"]):
                scene.rename(one, "acme/tmp")
                scene.rename(other, one)
                scene.rename("acme/tmp", other)
        case ("declare", source, names):
            scene.declare(source, tuple(sorted(names)))
        case ("organization", name):
            scene.rename_organization(name)


@contextlib.asynccontextmanager
async def engine_of(world: World) -> AsyncIterator[Controller]:
    config = load_config(world.config, {})
    async with open_session(config, Options(log_level="error")) as session:
        yield session.engine


async def one_pass(scene: Scene, engine: Controller) -> None:
    """One pass. No repository that is declared before and after loses its last hook on the way, unless the plan said so."""
    had = scene.hooks()
    scene.server.admin.clear_requests()
    await engine.sync()
    result = await engine.run_all(ignore_backoff=True)
    said = {str(c.external_id) for c in result.changes if c.action in {"delete", "replace"} and c.disposition == "execute"}
    count = {number: len(rows) for number, rows in had.items()}
    where = {str(hook): number for number, rows in had.items() for hook, _ in rows}
    kept = {number for number, _ in scene.wanted() if had.get(number)}
    for row in scene.server.admin.requests():
        if row["status"] == 204 and row["method"] == "DELETE":
            hook = row["path"].rpartition("/")[2]
            assert hook in said, f"{row['path']} was deleted, and no plan said so"
            count[where[hook]] -= 1
            assert where[hook] not in kept or count[where[hook]] > 0, f"{row['path']} left a declared repository without a hook"
        elif row["status"] == 201 and row["path"].endswith("/hooks"):
            number = scene.at(row["path"])
            count[number] = count.get(number, 0) + 1


async def run(steps: list[tuple[Any, ...]], folder: Path) -> None:
    world = World(folder)
    try:
        world.configure(reconcile="{interval: 1h, settle: 0s, limits: {deletePercent: 0, deleteMax: 0}}")
        world.servers["github"].app.state["repos"].clear()
        world.servers["github"].app.reindex()
        world.servers["github"].admin.put_state({"orgs": {"umbrella": {}}, "repos": {"acme/a": {}, "acme/b": {}}})
        scene = Scene(world)
        scene.declare("x", ("acme/a", "acme/b"))
        async with engine_of(world) as engine:
            await one_pass(scene, engine)
            for step in [*steps, ("pass",)]:
                if step == ("pass",):
                    await one_pass(scene, engine)
                else:
                    play(scene, step)
            for _ in range(3):  # deletes are proven, and limits of one batch are over
                await one_pass(scene, engine)
            await check(scene, engine)
    finally:
        world.close()


async def check(scene: Scene, engine: Controller) -> None:
    """Exactly one hook for each declared repository and source, none elsewhere; and nothing is left to do."""
    [integration] = await engine.integrations()
    uids = {engine.current.active.resources[r].id.uid(engine.deps.owner): r.name for r in engine.current.active.resources}
    found = [(number, uids[url.rpartition("/")[2]]) for number, rows in scene.hooks().items() for _, url in rows]
    assert sorted(found) == sorted(scene.wanted())
    again = await engine.plan(integration)
    assert again.plan is not None
    assert [change for change in again.plan.changes if change.disposition == "execute"] == []


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), phases=(Phase.explicit, Phase.generate))
@example([("declare", "x", {"acme/b"}), ("declare", "y", {"acme/a"})])
@example([("rename", "acme/a", "acme/c"), ("make", "acme/a"), ("pass",), ("declare", "x", {"acme/a", "acme/c"})])
@example([("swap", "acme/a", "acme/b"), ("rename", "acme/b", "umbrella/b"), ("declare", "x", {"umbrella/b", "acme/a"})])
@given(st.lists(STEPS, min_size=1, max_size=8))
def test_n1_any_renames_and_edits_leave_each_declared_repository_exactly_one_hook(steps: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECONCILER_SECRET_GITHUB", TOKENS["github"])
        asyncio.run(run(steps, Path(folder)))
