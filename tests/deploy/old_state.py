"""The state that version 0.1 left (`tests/fixtures/v0_1/make.py`), unpacked beside simulators that hold what its providers held."""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import reconciler.sandbox.server as sandbox
from tests.flow.stage_world import StageWorld
from tests.support.postgres import Postgres

FIXTURES = Path(__file__).parents[1] / "fixtures" / "v0_1"
PORTS = {
    "sqlite": {"daemon": 18410, "github": 18411, "semaphore": 18412, "buddy": 18413},
    "postgresql": {"daemon": 18420, "github": 18421, "semaphore": 18422, "buddy": 18423},
}
"""The addresses that the state records (make.py)."""


class OldState(StageWorld):
    """A `StageWorld` whose manifests, configuration, state and providers come from the fixture."""

    def __init__(self, folder: Path, kind: str, postgres: Postgres | None = None) -> None:
        self.kind, self.port, self.folder = kind, PORTS[kind]["daemon"], folder
        self.manifests, self.config = folder / "manifests", folder / "reconciler.yaml"
        self.processes: list[subprocess.Popen[bytes]] = []
        self.extra_env: dict[str, str] = {}
        self.servers: dict[str, Any] = {}
        with tarfile.open(FIXTURES / f"{kind}.tar.gz") as tar:
            tar.extractall(folder, filter="data")
        for path in (folder / "state").iterdir():
            path.chmod(0o600)
        self.url = f"sqlite:///{folder / 'state' / 'state.db'}"
        if postgres is not None:
            self.url = postgres.database()
            postgres.load(self.url, folder / "state.sql")
        text = self.config.read_text().replace("@FOLDER@", str(folder))
        self.config.write_text(text.replace(f"sqlite:///{folder}/state/state.db", self.url).replace("@STATE@", self.url))

    @contextmanager
    def providers(self) -> Iterator[None]:
        """Serve what the providers held, at the addresses that the state records."""
        text = (self.folder / "providers.json").read_text()
        held = json.loads(text.replace('"said":', '"sent":'))  # the one word in which the simulators of 0.1 differ
        try:
            for name in ("github", "semaphore", "buddy"):
                app = sandbox.simulator(name)
                app.put_state({**app.state, **held[name]}, replace=True)
                server = self.servers[name] = sandbox.SandboxServer(app, PORTS[self.kind][name]).start()
                server.admin.settings(deliver=True)
            yield
        finally:
            for process in self.processes:
                if process.poll() is None:
                    process.kill()
                    process.wait()
            for server in self.servers.values():
                server.stop()


def objects_of(world: StageWorld) -> dict[str, list[str]]:
    """Return every object that the daemon manages at the providers, as JSON text."""
    github, semaphore, buddy = (world.servers[name].admin.state() for name in ("github", "semaphore", "buddy"))
    found = {
        "hooks": [hook for hooks in github["hooks"].values() for hook in hooks],
        "notifications": semaphore["notifications"],
        "secrets": semaphore["secrets"],
        "webhooks": buddy["workspaces"]["acme"]["webhooks"],
    }
    return {name: sorted(str(row["id"]) for row in rows) for name, rows in found.items()}
