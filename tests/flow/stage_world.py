"""A world in which events come in and stages run: the real program, reachable by its simulated providers."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import json
import signal
import socket
import subprocess
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reconciler.credentials.keys import KeyRing, read_key
from reconciler.model.errors import ReconcilerError
from reconciler.model.resources import ResourceId
from reconciler.server.admin import call
from tests.engine.world import OWNER, World

WORKFLOW = {
    "id": 11,
    "name": "CI",
    "path": ".github/workflows/ci.yml",
    "on": {"workflow_dispatch": {"inputs": {"sha": {}, "reconciler_execution_id": {}}}},
    "run_name": "CI ${{ inputs.reconciler_execution_id }}",
    "duration_s": 0.2,
    "logs": ["hello"],
    "outputs": {"version": "1.2.3"},
}
NOOP = "executor: {type: noop}"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class StageWorld(World):
    """`World` with events that are delivered, stages, and eyes for what they did."""

    def __init__(self, folder: Path, providers: tuple[str, ...] = ("github",)) -> None:
        self.port = free_port()
        super().__init__(folder, providers)
        self.configure()
        if "github" in self.servers:
            self.repos("web", "shop")
            self.workflows("web", WORKFLOW)
        for server in self.servers.values():
            server.admin.settings(deliver=True)

    def configure(self, *, source: str = "", **more: str) -> None:
        url = f"http://127.0.0.1:{self.port}"
        defaults = {
            "server": f'{{listen: "127.0.0.1:{self.port}", publicUrl: "{url}"}}',
            "log": "{format: json, level: info}",
        }
        super().configure(source=source, **(defaults | more))

    # -- declare ----------------------------------------------------------------------------------------------------

    def workflows(self, repo: str, *rows: Mapping[str, Any]) -> None:
        self.github.put_state({"workflows": {f"acme/{repo}": [dict(row) for row in rows]}})

    def manual(self, name: str = "hand") -> None:
        self.write(f"source-{name}.yaml", f"kind: EventSource\nmetadata: {{name: {name}}}\nspec: {{type: manual}}")

    def webhook(self, name: str = "own", signature: str = "hmac-sha256", more: str = "") -> None:
        self.write(
            f"source-{name}.yaml",
            f"kind: EventSource\nmetadata: {{name: {name}}}\nspec:\n  type: webhook\n  webhook: {{signature: {signature}}}\n{more}",
        )

    def stage(self, name: str, *parts: str, after: str = "{type: event-source, name: hand}") -> None:
        """Declare a stage; ``parts`` are further lines of its spec."""
        body = textwrap.indent("\n".join(textwrap.dedent(part).strip("\n") for part in parts or (NOOP,)), "  ")
        self.write(f"stage-{name}.yaml", f"kind: Stage\nmetadata: {{name: {name}}}\nspec:\n  connections: [{after}]\n{body}")

    # -- run --------------------------------------------------------------------------------------------------------

    def ready(self) -> None:
        """Start the daemon and wait until everything that is declared is as declared."""
        self.daemon()
        self.up()

    def up(self) -> None:
        """Wait until the running daemon has published everything as ready."""
        pid = self.processes[-1].pid
        self.wait(lambda: self.status().get("daemon", {}).get("pid") == pid and self.all_ready(), "ready")
        self.wait(self.listens, "the receiver listens")

    def listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 0.5):
            return True
        return False

    def kill(self) -> None:
        """End the newest daemon as a crash does."""
        self.processes[-1].kill()
        self.processes[-1].wait()

    def stop(self) -> None:
        self.processes[-1].terminate()
        assert self.processes[-1].wait(timeout=40) == 0

    def doomed(self, failpoint: str) -> subprocess.Popen[bytes]:
        """Start a daemon that kills itself at ``failpoint`` (``name`` or ``name:n``, the n-th time that it gets there)."""
        self.extra_env |= {"RECONCILER_FAILPOINTS": "1", "RECONCILER_FAILPOINT": failpoint}
        try:
            return self.daemon()
        finally:
            self.extra_env.clear()

    def died(self, process: subprocess.Popen[bytes], what: str) -> None:
        """Wait for the end of a daemon that was started with `doomed`."""
        try:
            code = process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{what} was not reached\n{self.log()[-4000:]}") from None
        assert code == -signal.SIGKILL, f"{what}: {code}\n{self.log()[-4000:]}"

    def wait(self, check: Any, what: str = "", seconds: float = 60) -> Any:
        """Return what ``check`` returns once it is true; says what is not ready otherwise."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = check()
            if found:
                return found
            time.sleep(0.05)
        unready = [
            (one["name"], one["conditions"][0]) for one in self.status()["resources"] if one["conditions"][0]["status"] != "True"
        ]
        lines = [line for line in self.log().splitlines() if "pass_finished" not in line]
        raise AssertionError(
            "\n".join([f"not within {seconds} s: {what or check}", str(self.status()["source"]), str(unready), *lines[-25:]])
        )

    # -- ask --------------------------------------------------------------------------------------------------------

    def ask(self, verb: str, **more: Any) -> dict[str, Any]:
        return dict(call(self.folder / "state", {"verb": verb, **more}))

    def trigger(self, source: str = "hand", **payload: Any) -> str:
        """Make an event; returns its id."""
        return str(self.ask("trigger", source=source, payload=payload)["event"])

    def executions(self, stage: str = "") -> list[dict[str, Any]]:
        """Return executions, oldest first; empty while there is no daemon, or no such stage yet."""
        try:
            found = self.ask("executions", limit=1000, **({"stage": stage} if stage else {}))
        except ReconcilerError:
            return []
        return list(reversed(found["executions"]))

    def queued(self, stage: str = "") -> list[dict[str, Any]]:
        found = self.ask("executions", state="queued", limit=1000, **({"stage": stage} if stage else {}))
        return list(found["queued"])

    def waiting(self, stage: str, reason: str = "") -> dict[str, Any]:
        """Wait for an item in the queue of ``stage`` (with ``reason``) and return it."""
        return dict(
            self.wait(
                lambda: next((one for one in self.queued(stage) if reason in ("", one["reason"])), None),
                f"an item of {stage} waits for {reason or 'anything'}",
            )
        )

    def finished(self, stage: str, count: int = 1, seconds: float = 60) -> list[dict[str, Any]]:
        """Wait until ``count`` executions of ``stage`` have ended and return them, oldest first."""

        def done() -> list[dict[str, Any]]:
            rows = [one for one in self.executions(stage) if one["state"] == "finished"]
            return rows if len(rows) >= count else []

        return list(self.wait(done, f"{count} executions of {stage} have ended; there are {self.executions(stage)}", seconds))

    def running(self, stage: str) -> dict[str, Any]:
        return dict(
            self.wait(lambda: next((one for one in self.executions(stage) if one["state"] == "running"), None), f"{stage} runs")
        )

    def details(self, execution: str) -> dict[str, Any]:
        """Return one execution with its outputs."""
        return dict(self.ask("execution", id=execution)["execution"])

    def events(self, **more: Any) -> list[dict[str, Any]]:
        return list(reversed(self.ask("events", limit=1000, **more)["events"]))

    def quiet(self) -> bool:
        """Nothing waits to be looked at, to run, or to run on."""
        return not self.ask("events", state="pending")["events"] and not any(
            one["state"] != "finished" for one in self.executions()
        )

    # -- what the providers saw -------------------------------------------------------------------------------------

    @property
    def github(self) -> Any:
        return self.servers["github"].admin

    @property
    def semaphore(self) -> Any:
        return self.servers["semaphore"].admin

    @property
    def buddy(self) -> Any:
        return self.servers["buddy"].admin

    def push(self, repo: str = "web", ref: str = "refs/heads/main", **more: Any) -> dict[str, Any]:
        return dict(self.github.do("push", repo=f"acme/{repo}", ref=ref, **more) or {})

    def runs(self, repo: str = "web") -> list[dict[str, Any]]:
        state = self.github.state()
        return list(state["runs"].get(str(state["repos"][f"acme/{repo}"]["id"]), []))

    def deployments(self, repo: str = "web") -> list[dict[str, Any]]:
        state = self.github.state()
        return list(state["deployments"].get(str(state["repos"][f"acme/{repo}"]["id"]), []))

    def states(self, repo: str = "web") -> list[list[str]]:
        """The states of every Deployment, in the order in which they were written."""
        return [[status["state"] for status in one["statuses"]] for one in self.deployments(repo)]

    def commit_statuses(self, repo: str = "web") -> list[dict[str, Any]]:
        state = self.github.state()
        return list(state["commit_statuses"].get(str(state["repos"][f"acme/{repo}"]["id"]), []))

    # -- a sender of one's own --------------------------------------------------------------------------------------

    def place(self, name: str, rotation: int = 0) -> tuple[str, str, str]:
        """Return the path of a source's hook, its key, and its key in the form of Standard Webhooks."""
        ring = KeyRing(read_key(self.folder / "state" / "master.key"))
        uid = ResourceId("EventSource", "default", name).uid(OWNER)
        keys = ring.signing_key(OWNER, uid, rotation), ring.standard_webhooks_secret(OWNER, uid, rotation)
        return f"/hooks/{OWNER}/{uid}", keys[0].reveal(), keys[1].reveal()

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
        try:
            connection.request("POST", path, body=body, headers=dict(headers))
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def send(self, name: str, payload: Any, delivery: str = "", **headers: str) -> int:
        """Send a signed delivery to a source of type webhook; returns the status of the answer."""
        path, key, _ = self.place(name)
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        return self.post(path, body, {**signed(key, body), **({"x-delivery-id": delivery} if delivery else {}), **headers})[0]


def signed(key: str, body: bytes, header: str = "x-signature-256") -> dict[str, str]:
    return {header: "sha256=" + hmac.new(key.encode(), body, hashlib.sha256).hexdigest()}
