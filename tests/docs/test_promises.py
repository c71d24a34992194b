"""The promise of the README that no other test holds from outside: what is done is written down first."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.sandbox.server import SandboxServer, simulator
from reconciler.state import Store

CONFIG = """\
source: {url: manifests}
server: {publicUrl: "https://hooks.example.com"}
network: {allow: ["127.0.0.1"]}
"""
MANIFESTS = """\
kind: Secret
metadata: {{name: github}}
spec: {{provider: env, data: {{token: {{env: RECONCILER_SECRET_TOKEN}}}}}}
---
kind: Integration
metadata: {{name: github}}
spec:
  type: github
  url: https://github.com/acme
  apiUrl: {url}
  auth: {{use: token, token: {{valueFrom: {{secret: {{name: github, key: token}}}}}}}}
---
kind: EventSource
metadata: {{name: payments}}
spec: {{integration: {{name: github}}, resource: {{type: repository, name: payments}}, events: [{{type: push}}]}}
"""


@pytest.fixture
def provider() -> Iterator[SandboxServer]:
    with SandboxServer(simulator("github")) as server:
        yield server


def _outcomes(folder: Path) -> list[str]:
    """Outcomes of the audit rows of the hook, oldest first; empty where there is no state yet."""
    file = folder / "state" / "state.db"
    if not file.exists():
        return []
    store = Store.open(f"sqlite:///{file}", state_dir=file.parent, create=False)
    try:
        return [entry.outcome for _, entry in reversed(store.audit_tail(10)) if "repository-webhook" in entry.address]
    finally:
        store.close()


def test_p7_the_audit_row_is_committed_before_the_provider_has_answered_anything(provider: SandboxServer, tmp_path: Path) -> None:
    (tmp_path / "manifests").mkdir()
    (tmp_path / "reconciler.yaml").write_text(CONFIG, encoding="utf-8")
    (tmp_path / "manifests" / "all.yaml").write_text(MANIFESTS.format(url=provider.url), encoding="utf-8")
    provider.admin.fault(method="POST", path="/hooks$", effect="mute")  # accepted, and never answered
    environment = {**os.environ, "RECONCILER_SECRET_TOKEN": "ghp_sandbox"}
    command = [sys.executable, "-m", "reconciler", "apply", "--yes", "--config", str(tmp_path / "reconciler.yaml")]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=quiet, stderr=quiet) as process:
        try:
            deadline = time.monotonic() + 60
            while not provider.admin.requests("/hooks$", "POST"):
                assert process.poll() is None, "apply ended before it sent anything"
                assert time.monotonic() < deadline, "nothing was ever sent"
                time.sleep(0.05)
            assert _outcomes(tmp_path) == ["intent"]
        finally:
            process.kill()
    assert _outcomes(tmp_path) == ["intent"]
