"""A world to run the real program in: simulated providers, a folder of manifests, a configuration, processes that can be killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from reconciler.sandbox.server import SandboxServer, simulator
from tests.support import hurried

TOKENS = {
    "github": "canary-github-7be2f1",
    "semaphore": "canary-semaphore-03ac",
    "buddy": "canary-buddy-55d0",
    "digitalocean": "dop_v1_" + "ca" * 32,
    "gitlab": "glpat-canary-" + "c4" * 10,
    "dockerhub": "dckr_pat_canary" + "c4" * 10,
    "newrelic": "NRAK-CANARY" + "C4" * 11,
}
OWNER = "team-a"


class World:
    """One GitHub organization, by default; ``providers`` may name more. Everything that is started is ended."""

    program = "reconciler"
    """The module that the commands run."""

    def __init__(self, folder: Path, providers: tuple[str, ...] = ("github",), *, git_url: str = "") -> None:
        self.folder = folder
        self.manifests = folder / "manifests"
        self.manifests.mkdir()
        self._stack = contextlib.ExitStack()
        self.servers = {name: self._stack.enter_context(SandboxServer(simulator(name))) for name in providers}
        self.processes: list[subprocess.Popen[bytes]] = []
        self.extra_env: dict[str, str] = {}
        self._seed()
        self.configure(source=git_url or str(self.manifests))
        self.write(
            "secrets.yaml",
            "\n---\n".join(
                f"kind: Secret\nmetadata: {{name: {name}}}\nspec: {{provider: env, data: {{token: {{env: RECONCILER_SECRET_{name.upper()}}}}}}}"
                for name in providers
            ),
        )
        for name in providers:
            self.write(f"{name}.yaml", self.integration(name))

    def _seed(self) -> None:
        for name, server in self.servers.items():
            first = next(iter(server.admin.state()["tokens"].values()))
            server.admin.put_state({"tokens": {TOKENS[name]: first}})

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()
        self._stack.close()

    # -- declare ----------------------------------------------------------------------------------------------------

    def configure(self, *, source: str = "", **more: str) -> None:
        """Write the configuration; ``more`` are further top-level sections in flow style."""
        sections = {
            "owner": OWNER,
            "source": f'{{url: "{source or self.manifests}", interval: 1s}}',
            "server": '{listen: "127.0.0.1:0", publicUrl: "https://hooks.example"}',
            "reconcile": "{interval: 2s, settle: 2s, retry: {min: 1s, max: 4s}}",
            "network": '{allow: ["127.0.0.1"]}',
            "status": "{file: state/status.json, heartbeat: 1s}",
            **more,
        }
        self.config = self.folder / "reconciler.yaml"
        self.config.write_text("".join(f"{name}: {value}\n" for name, value in sections.items()))

    def write(self, name: str, text: str) -> None:
        (self.manifests / name).write_text(text + "\n")

    def integration(self, name: str) -> str:
        urls = {
            "github": "https://github.com/acme",
            "semaphore": "https://acme.semaphoreci.com",
            "buddy": "https://app.buddy.works/acme",
            "digitalocean": "https://cloud.digitalocean.com",
            "gitlab": "https://gitlab.com",
            "dockerhub": "https://hub.docker.com",
            "newrelic": "https://one.newrelic.com",
        }
        value = f"{{valueFrom: {{secret: {{name: {name}, key: token}}}}}}"
        auth = (
            f"{{use: basic, basic: {{username: acme, password: {value}}}}}"
            if name == "dockerhub"
            else f"{{use: token, token: {value}}}"
        )
        return (
            f"kind: Integration\nmetadata: {{name: {name}}}\nspec:\n  type: {name}\n  url: {urls[name]}\n  apiUrl: {self.servers[name].url}\n"
            f"  auth: {auth}"
        )

    def source(self, repo: str, *, events: str = "[{type: push}]", more: str = "", name: str = "") -> None:
        """Declare the EventSource of one repository, in a file of its own."""
        self.write(
            f"source-{name or repo}.yaml",
            f"kind: EventSource\nmetadata: {{name: {name or repo}}}\nspec:\n  integration: {{name: github}}\n"
            f"  resource: {{type: repository, name: {repo}}}\n  events: {events}\n{more}",
        )

    def remove(self, name: str) -> None:
        (self.manifests / f"source-{name}.yaml").unlink()

    def repos(self, *names: str) -> None:
        """Make repositories at GitHub."""
        self.servers["github"].admin.put_state({"repos": {f"acme/{name}": {} for name in names}})

    # -- run --------------------------------------------------------------------------------------------------------

    @property
    def env(self) -> dict[str, str]:
        env = {key: value for key, value in os.environ.items() if not key.startswith("RECONCILER_")}
        env |= {f"RECONCILER_SECRET_{name.upper()}": token for name, token in TOKENS.items()}
        return env | {"NO_COLOR": "1", "PYTHONWARNINGS": "default"} | self.extra_env

    def command(self, verb: str, *arguments: str) -> list[str]:
        return [sys.executable, "-m", self.program, verb, "--config", str(self.config), *arguments]

    def hurry(self, seconds: float) -> None:
        """Let a minute of the program, after which it asks a store of secrets again, last ``seconds`` (`tests.support.hurried`)."""
        self.program = hurried.__name__
        self.extra_env |= hurried.environment(seconds)

    def cli(
        self, verb: str, *arguments: str, env: dict[str, str] | None = None, timeout: float = 90
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(verb, *arguments),
            capture_output=True,
            text=True,
            env=self.env | (env or {}),
            cwd=self.folder,
            timeout=timeout,
        )

    def killed_at(self, failpoint: str, *, verb: str = "apply", hit: int = 1) -> None:
        """Run a verb that kills itself at ``failpoint``; fails when it did not get there."""
        arguments = ("--yes",) if verb == "apply" else ("--once",)
        done = self.cli(verb, *arguments, env={"RECONCILER_FAILPOINTS": "1", "RECONCILER_FAILPOINT": f"{failpoint}:{hit}"})
        assert done.returncode == -signal.SIGKILL, f"{failpoint} was not reached: {done.returncode}\n{done.stdout}\n{done.stderr}"

    def daemon(self) -> subprocess.Popen[bytes]:
        with (self.folder / "daemon.log").open("ab") as log:
            process = subprocess.Popen(self.command("run"), env=self.env, cwd=self.folder, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def log(self) -> str:
        path = self.folder / "daemon.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def status(self) -> dict[str, Any]:
        try:
            return json.loads((self.folder / "state" / "status.json").read_text())
        except (OSError, ValueError):
            return {
                "resources": [],
                "summary": {"total": 0, "ready": -1},
                "source": {"problems": [], "lastValid": ""},
                "plans": [],
            }

    def resource(self, kind: str, name: str) -> dict[str, Any]:
        return next(
            (r for r in self.status()["resources"] if (r["kind"], r["name"]) == (kind, name)),
            {"conditions": [{"type": "Ready", "status": "?", "reason": "", "message": ""}]},
        )

    def condition(self, kind: str, name: str, condition: str = "Ready") -> dict[str, Any] | None:
        return next((c for c in self.resource(kind, name)["conditions"] if c["type"] == condition), None)

    def all_ready(self) -> bool:
        summary = self.status()["summary"]
        return bool(summary["total"]) and summary["total"] == summary["ready"]

    def wait(self, check: Any, what: str = "", seconds: float = 60) -> Any:
        """Return what ``check`` returns once it is true."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = check()
            if found:
                return found
            time.sleep(0.05)
        raise AssertionError(
            f"not within {seconds} s: {what or check}\n{json.dumps(self.status().get('resources'), indent=1)[:3000]}\n{self.log()[-4000:]}"
        )

    # -- look and touch ---------------------------------------------------------------------------------------------

    def hooks(self, repo: str) -> list[dict[str, Any]]:
        state = self.servers["github"].admin.state()
        return state["hooks"].get(f"repos/{state['repos'][f'acme/{repo}']['id']}", [])

    def set_hooks(self, repo: str, hooks: list[dict[str, Any]]) -> None:
        admin = self.servers["github"].admin
        state = admin.state()
        admin.put_state({"hooks": {f"repos/{state['repos'][f'acme/{repo}']['id']}": hooks}})

    def requests(self, provider: str = "github", *methods: str) -> list[dict[str, Any]]:
        rows = self.servers[provider].admin.requests()
        return [row for row in rows if not methods or row["method"] in methods]

    def writes(self, provider: str = "github") -> list[dict[str, Any]]:
        return self.requests(provider, "POST", "PUT", "PATCH", "DELETE")

    def forget_requests(self, provider: str = "github") -> None:
        self.servers[provider].admin.clear_requests()
