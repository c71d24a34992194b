"""An Integration moves from a GitHub App back to a token, through the real program: no event is lost, none has two effects."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.engine.grants import JUST_NOW_S
from tests.flow.stage_world import NOOP, WORKFLOW
from tests.flow.test_app_move import APP, INSTALLATION, PERMISSIONS, AppWorld


class LeavingWorld(AppWorld):
    """`AppWorld` in which an App delivers to the daemon."""

    def begin(self) -> None:
        self.token = self.written("github.yaml")
        self.use_app()
        self.source("web")
        self.stage("build", after="{type: event-source, name: web}")
        self.ready()
        self.connect_app()
        self.sent = [self.push()["sha"]]
        self.wait(lambda: len(self.executions("build")) == 1, "the App delivers")
        assert self.hooks("web") == []

    def written(self, name: str) -> str:
        return (self.manifests / name).read_text()

    def use_token(self) -> None:
        self.write("github.yaml", self.token)

    def cursor_of(self, prefix: str) -> tuple[str, Any]:
        with contextlib.closing(sqlite3.connect(self.folder / "state" / "state.db", timeout=30)) as state:
            name, value = state.execute("SELECT name, value FROM cursor WHERE name LIKE ?", (f"{prefix}%",)).fetchone()
        return name, json.loads(value)

    def put_cursor(self, name: str, value: Any) -> None:
        with contextlib.closing(sqlite3.connect(self.folder / "state" / "state.db", timeout=30)) as state, state:
            state.execute("UPDATE cursor SET value = ? WHERE name = ?", (json.dumps(value), name))

    def each_once(self) -> None:
        self.wait(lambda: len(self.executions("build")) >= len(self.sent), "a run for each push", 90)
        time.sleep(2)
        assert sorted(self.shas()) == sorted(self.sent)
        assert len(self.executions("build")) == len(self.sent)


@pytest.fixture
def leaving(tmp_path: Path) -> Iterator[LeavingWorld]:
    world = LeavingWorld(tmp_path)
    yield world
    world.close()


def test_pushes_while_the_webhooks_are_made_are_neither_lost_nor_doubled(leaving: LeavingWorld) -> None:
    leaving.begin()
    leaving.github.fault(method="POST", path="/repos/acme/web/hooks$", status=500, times=3)
    leaving.source("shop")
    leaving.use_token()
    deadline = time.monotonic() + 60
    while True:
        _, use = leaving.cursor_of("app-use/")
        if leaving.hooks("web"):
            break
        assert use["at"] == 0, "the App counts until its webhook is replaced"
        assert time.monotonic() < deadline, leaving.log()[-3000:]
        leaving.sent.append(leaving.push()["sha"])
        time.sleep(0.2)
    leaving.sent += [leaving.push()["sha"] for _ in range(3)]  # both deliver
    leaving.wait(leaving.all_ready, "ready")
    leaving.each_once()
    condition = leaving.condition("EventSource", "web", "Delivering")
    assert condition is not None
    assert condition["status"] == "True"
    quiet = leaving.condition("EventSource", "shop", "Delivering")
    assert quiet is not None
    assert "App" not in quiet["message"]


@pytest.mark.parametrize("failpoint", ["inbox-before-commit", "inbox-after-commit", "events-before-settle"])
def test_kill_9_after_the_move_back_loses_and_doubles_nothing(leaving: LeavingWorld, failpoint: str) -> None:
    leaving.begin()
    leaving.stop()
    leaving.use_token()
    leaving.sent.append(leaving.push()["sha"])  # nobody listens: the App's list has it, and no repository has a webhook
    leaving.github.fault(method="POST", path="/repos/acme/web/hooks$", status=500, times=2)
    process = leaving.doomed(failpoint)
    leaving.wait(leaving.listens, "the receiver listens")
    deadline = time.monotonic() + 60
    while process.poll() is None:
        assert time.monotonic() < deadline, f"{failpoint} was not reached"
        leaving.sent.append(leaving.push()["sha"])
        time.sleep(0.3)
    assert process.returncode == -signal.SIGKILL
    leaving.daemon()
    leaving.wait(leaving.listens, "the receiver listens again")
    leaving.wait(lambda: leaving.hooks("web"), "the webhook is made")
    leaving.sent.append(leaving.push()["sha"])
    leaving.each_once()


def test_the_app_is_forgotten_an_hour_after_the_webhooks_are_there(leaving: LeavingWorld) -> None:
    from reconciler.engine.former_apps import OVERLAP_S

    assert OVERLAP_S == 3600
    leaving.begin()
    leaving.use_token()
    leaving.wait(lambda: leaving.hooks("web"), "the webhook is made")
    leaving.wait(leaving.all_ready, "ready")
    name, use = leaving.cursor_of("app-use/")
    assert leaving.wait(lambda: leaving.cursor_of("app-use/")[1]["at"], "the webhook is seen") > 0
    leaving.stop()
    leaving.put_cursor(name, {**use, "at": time.time() - OVERLAP_S - 60})
    leaving.daemon()
    leaving.wait(leaving.listens, "the receiver listens again")
    leaving.github.put_state({"hooks": {}})
    leaving.wait(lambda: leaving.cursor_of("app-use/")[1] is None, "it is forgotten")


def test_an_app_that_integrations_name_in_different_ways_is_refused(leaving: LeavingWorld) -> None:
    leaving.begin()
    leaving.github.put_state({"orgs": {"globex": {}}, "repos": {"globex/web": {}}})
    leaving.github.do("install_app", app=APP, account="globex")
    own = leaving.written("github.yaml")
    other = own.replace("name: github}", "name: globex}").replace("github.com/acme", "github.com/globex")
    leaving.write("globex.yaml", other.replace("clientId: Iv23canary", f"appId: {APP}"))
    source = leaving.written("source-web.yaml").replace("name: web}\nspec", "name: theirs}\nspec")
    leaving.write("source-theirs.yaml", source.replace("name: github}", "name: globex}"))

    def says(source: str, *texts: str) -> bool:
        condition = leaving.condition("EventSource", source, "Delivering")
        return condition is not None and condition["status"] == "False" and all(text in condition["message"] for text in texts)

    leaving.wait(lambda: says("theirs", "Integration/github names the same App as Iv23canary", "`clientId`"), "it is refused")
    leaving.wait(lambda: says("web", f"Integration/globex names the same App as {APP}"), "so is the other")
    leaving.write("globex.yaml", other)
    leaving.wait(lambda: leaving.condition("EventSource", "web", "Delivering")["status"] == "True", "all is well")  # type: ignore[index]


def test_blocked_runs_and_statuses_go_on_as_soon_as_the_permission_is_granted(leaving: LeavingWorld) -> None:
    leaving.configure(reconcile="{interval: 10m, settle: 2s, retry: {min: 5m, max: 10m}}")
    leaving.use_app()
    leaving.workflows("web", {**WORKFLOW, "duration_s": 0.2, "outputs": {}})
    leaving.source("web")
    leaving.stage(
        "build",
        """
        executor:
          type: github
          integration: {name: github}
          resource: {type: repository, name: web}
          spec: {workflow: ci.yml, ref: main, inputs: {sha: x}}
        """,
        after="{type: event-source, name: web}",
    )
    leaving.stage("quick", "report: {commitStatus: {context: quick}}", NOOP, after="{type: event-source, name: web}")
    leaving.daemon()
    leaving.wait(leaving.listens, "the receiver listens")
    leaving.wait(lambda: leaving.condition("EventSource", "web", "Delivering"), "the source is reconciled")
    leaving.connect_app()
    leaving.push()
    leaving.wait(lambda: [row for row in leaving.executions("build") if "actions: write" in row["message"]], "the run is blocked")
    leaving.wait(lambda: "status_retry_scheduled" in leaving.log(), "the status is blocked")
    time.sleep(JUST_NOW_S + 2)  # the first delivery of the App counts as a grant, too
    assert leaving.commit_statuses() == []
    allowed = PERMISSIONS | {"actions": "write", "statuses": "write"}
    leaving.github.do("change_app", app=APP, permissions=allowed, events=["push"])
    began = time.monotonic()
    leaving.github.do("accept_permissions", installation=INSTALLATION)
    leaving.wait(leaving.runs, "the run", 5)
    leaving.wait(leaving.commit_statuses, "the status", max(0.5, 5 - (time.monotonic() - began)))
    assert len(leaving.runs()) == 1
