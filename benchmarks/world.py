"""A world to measure in: a Git repository of N webhooks, one manifest and one remote repository each, and a configuration."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.floors.http import TOKEN

IN_FLIGHT = 100
GIT = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "bench",
    "GIT_AUTHOR_EMAIL": "bench@example.org",
    "GIT_COMMITTER_NAME": "bench",
    "GIT_COMMITTER_EMAIL": "bench@example.org",
}


@dataclass(frozen=True, slots=True)
class Run:
    """One process: wall and CPU seconds, the largest resident set in MB, what it printed."""

    wall: float
    cpu: float
    rss_mb: float
    out: str
    code: int


def timed(command: list[str], *, cwd: Path | None = None, env: dict[str, str] | None = None, ok: tuple[int, ...] = (0,)) -> Run:
    """Run a process to its end; raises `RuntimeError` with its last lines when it failed."""
    began = time.perf_counter()
    with subprocess.Popen(command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        out = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in ok:
        raise RuntimeError(f"{' '.join(command)} left with {process.returncode}:\n{out[-3000:]}")
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, out, process.returncode)


class World:
    """``folder`` holds the Git repository ``manifests``, ``reconciler.yaml`` and the state."""

    def __init__(
        self, folder: Path, api_url: str, count: int, *, pace: str = "", listen: str = "127.0.0.1:0", level: str = "warning"
    ) -> None:
        self.folder = folder
        self.count = count
        self.manifests = folder / "manifests"
        (self.manifests / "sources").mkdir(parents=True)
        self.config = folder / "reconciler.yaml"
        self.config.write_text(
            f'owner: bench\nsource: {{url: "{self.manifests}", interval: 1h}}\n'
            f'server: {{listen: "{listen}", publicUrl: "https://hooks.example"}}\n'
            f"reconcile: {{interval: 1h, settle: 2s, concurrency: {IN_FLIGHT}, retry: {{min: 1s, max: 4s}}}}\n"
            'network: {allow: ["127.0.0.1"]}\nstatus: {file: state/status.json, heartbeat: 10s}\n'
            f"log: {{level: {level}}}\n" + pace
        )
        self.write(
            "integration.yaml",
            (
                "kind: Secret\nmetadata: {name: github}\nspec: {provider: env, data: {token: {env: RECONCILER_SECRET_GITHUB}}}\n---\n"
                "kind: Integration\nmetadata: {name: github}\nspec:\n  type: github\n  url: https://github.com/acme\n"
                f"  apiUrl: {api_url}\n  auth: {{use: token, token: {{valueFrom: {{secret: {{name: github, key: token}}}}}}}}"
            ),
        )
        for number in range(count):
            self.source(number)
        self.git("init", "-q", "-b", "main")
        self.git("config", "gc.auto", "0")  # nothing of Git's own in the background
        self.git("config", "maintenance.auto", "false")
        self.commit()

    def source(self, number: int, *, events: tuple[str, ...] = ("push", "pull_request")) -> None:
        """Write the manifest of one webhook, of about 30 lines as people write them."""
        lines = "".join(f"    - type: {event}\n" for event in events)
        self.write(
            f"sources/r{number:05}.yaml",
            (
                f"# Webhook of repository r{number:05}.\nkind: EventSource\nmetadata:\n  name: r{number:05}\nspec:\n  integration:\n    name: github\n"
                f"  resource:\n    type: repository\n    name: r{number:05}\n  events:\n{lines}".rstrip()
            ),
        )

    def write(self, name: str, text: str) -> None:
        (self.manifests / name).write_text(text + "\n")

    def git(self, *arguments: str) -> str:
        return subprocess.run(
            ["git", "-c", "gc.auto=0", *arguments],
            cwd=self.manifests,
            env={**os.environ, **GIT},
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    def commit(self) -> None:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "Change manifests")

    @property
    def env(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("RECONCILER_")}
        return {**kept, "RECONCILER_SECRET_GITHUB": TOKEN, "NO_COLOR": "1", "PYTHONPATH": str(Path(__file__).parents[1])}

    def cli(self, *arguments: str, ok: tuple[int, ...] = (0,)) -> Run:
        """Run a verb of the product as a whole process."""
        return timed(
            [sys.executable, "-m", "reconciler", *arguments, "--config", str(self.config)], cwd=self.folder, env=self.env, ok=ok
        )

    def worker(self, what: str, **options: Any) -> dict[str, Any]:
        """Run a measurement inside the product's own engine, in a process of its own; see `benchmarks.worker`."""
        run = timed(
            [sys.executable, "-m", "benchmarks.worker", str(self.config), what, json.dumps(options)],
            cwd=self.folder,
            env=self.env,
        )
        found = json.loads(run.out.splitlines()[-1])
        return {**found, "rss_mb": run.rss_mb, "wall": run.wall}
