"""The example without static secrets, from an empty folder: the real program, a real OpenBao, moto, and the simulated GitHub."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.docs import pages as md
from tests.docs.pages import ROOT

EXAMPLE = ROOT / "examples" / "keyless"
MINUTE_S = 5.0
"""How long a minute of the example lasts here: its interval, and the pause after which a store is asked again (`tests.support.hurried`)."""
NEXT_CHECK_S = 75
TOKENS = re.compile(rb"PRIVATE KEY|ghs_\w{20}|\bs\.[A-Za-z0-9]{20}|eyJ[\w-]{20,}\.eyJ|\bA[KS]IA[A-Z0-9]{12,}")
STEPS = re.compile(r"(bao (secrets|kv|operator unseal)|reconciler (run|oidc|signing-key|reconcile|status|credentials)|sh trust-)")


def hurried_installation(folder: Path) -> Path:
    """Make an installation like the one that runs this, whose `reconciler` has a shorter minute; return its Python."""
    programs = folder / "bin"
    programs.mkdir(parents=True)
    shutil.copy(Path(sys.prefix) / "pyvenv.cfg", folder)
    (folder / "lib").symlink_to(Path(sys.prefix) / "lib")
    for name in ("python", "bao"):
        (programs / name).symlink_to(Path(sys.executable).parent / name)
    script = programs / "reconciler"
    script.write_text(
        f"#!{programs / 'python'}\nimport os, sys\nsys.path.insert(0, {str(ROOT)!r})\nos.environ['HURRIED_S'] = '{MINUTE_S}'\n"
        "from tests.support.hurried import main\nsys.exit(main())\n"
    )
    script.chmod(0o755)
    return programs / "python"


class Keyless:
    """The example as it runs, seen from its folder; `sh` runs a command as its operator does."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.daemon, self.operator = folder, folder / "daemon", folder / "operator"
        python = hurried_installation(folder.parent / "installation")
        example = shutil.copytree(EXAMPLE, folder.parent / "example")
        config = (example / "reconciler.yaml").read_text()
        assert "interval: 1m" in config
        (example / "reconciler.yaml").write_text(config.replace("interval: 1m", f"interval: {MINUTE_S:.0f}s"))
        with (folder.parent / "try.log").open("wb") as log:
            command = [str(python), str(example / "try.py"), "--keep", "--folder", str(folder)]
            env = {"PATH": os.environ["PATH"], "HOME": str(folder.parent), "PYTHONPATH": str(ROOT)}
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=env, cwd=folder.parent)
        self.wait(lambda: "until Ctrl-C" in self.output(), "it runs", 150)
        exports = re.findall(r"export (\w+)=(.*)", (self.operator / "env.sh").read_text())
        self.env = {**dict(exports), "PATH": f"{python.parent}:{os.environ['PATH']}", "HOME": str(folder.parent)}
        self.github = self.env["GITHUB"]

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)

    def output(self) -> str:
        return (self.folder.parent / "try.log").read_text()

    def sh(self, command: str) -> str:
        done = subprocess.run(["sh", "-c", command], env=self.env, cwd=self.daemon, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def at_github(self, method: str, path: str, body: Any = None) -> Any:
        answer = httpx.request(method, f"{self.github}/_sandbox/{path}", json=body, timeout=10).raise_for_status()
        return answer.json() if answer.content else None

    def do(self, action: str, **options: Any) -> Any:
        return self.at_github("POST", f"do/{action}", options)["result"]

    def requests(self, path: str = "", *statuses: int) -> list[dict[str, Any]]:
        rows = self.at_github("GET", f"requests?path={path}")["requests"]
        return [row for row in rows if not statuses or row["status"] in statuses]

    def condition(self, resource: str, kind: str) -> dict[str, Any]:
        document = json.loads((self.daemon / "state" / "status.json").read_text())
        rows = [row for row in document["resources"] if f"{row['kind']}/{row['name']}" == resource]
        return next((each for each in rows[0]["conditions"] if each["type"] == kind), {}) if rows else {}

    def ready(self) -> bool:
        summary = json.loads((self.daemon / "state" / "status.json").read_text())["summary"]
        return bool(summary["total"] == summary["ready"])

    def stalled(self, resource: str, words: str) -> bool:
        found = self.condition(resource, "Stalled")
        return found.get("status") == "True" and words in found["message"]

    def daemon_pid(self) -> int:
        """Return the process whose working folder is that of the daemon."""
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and self._is_daemon(entry):
                return int(entry.name)
        raise AssertionError("the daemon does not run")

    def _is_daemon(self, entry: Path) -> bool:
        try:
            return entry.joinpath("cwd").readlink() == self.daemon and entry.joinpath("cmdline").read_bytes().endswith(b"\0run\0")
        except OSError:
            return False

    def wait(self, check: Callable[[], object], what: str, seconds: float = NEXT_CHECK_S) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.output()
            if check():
                return
            time.sleep(0.2)
        log = self.daemon / "daemon.log"
        raise AssertionError(
            f"not within {seconds} s: {what}\n{self.output()}\n{log.read_text()[-4000:] if log.exists() else ''}"
        )

    def secrets_left(self) -> list[str]:
        """Return the files of the daemon's host, or its environment, that contain a secret of a provider or of OpenBao's operator."""
        places = [path for path in self.daemon.rglob("*") if path.is_file()]
        places.append(Path(f"/proc/{self.daemon_pid()}/environ"))
        values = [self.env[name].encode() for name in ("BAO_TOKEN", "UNSEAL_KEY")]
        texts = {path: path.read_bytes() for path in places if path.exists()}
        return [str(path) for path, text in texts.items() if TOKENS.search(text) or any(value in text for value in values)]

    def pushes(self) -> int:
        """Return the number of pushes that the daemon has stored."""
        return self.sh("reconciler events --source web -o json").count('"push"')

    def logins(self) -> set[str]:
        """Return the accessors of the tokens that OpenBao has issued and that have not ended."""
        return set(json.loads(self.sh("bao list -format=json auth/token/accessors")))


@pytest.fixture
def keyless(tmp_path: Path) -> Iterator[Keyless]:
    made = Keyless(tmp_path / "trial")
    yield made
    made.stop()


def reported(example: Keyless, sha: str) -> bool:
    rows = example.at_github("GET", "state")["commit_statuses"].values()
    return any(row["sha"] == sha and row["state"] == "success" for row in (row for each in rows for row in each))


@pytest.mark.slow
@pytest.mark.timeout(480)
def test_the_example_runs_without_a_static_secret_over_ended_tokens_a_new_key_and_a_sealed_store(keyless: Keyless) -> None:
    printed = keyless.output()
    lines = [line for block in md.blocks((EXAMPLE / "README.md").read_text()) for line in block.text.splitlines()]
    steps = [line for line in lines if STEPS.match(line)]
    assert len(steps) >= 10
    run = printed.replace(f"@{keyless.operator}/", "@").replace(' "$UNSEAL_KEY"', "")
    assert [step for step in steps if f"$ {step}\n" not in run] == []
    assert "assumed-role/reconciler/" in printed
    assert keyless.secrets_left() == []
    pid = keyless.daemon_pid()

    # The token of OpenBao ends, and the key of the App is replaced: a new login and the new key, without a restart.
    keyless.sh("bao lease revoke -prefix auth/jwt/login")
    before = keyless.logins()
    app = next(iter(keyless.at_github("GET", "state")["apps"].values()))
    (keyless.operator / "new.pem").write_text(keyless.do("new_app_key", app=app["id"])["pem"])
    keyless.at_github("DELETE", "requests")
    keyless.sh(f"bao kv put secret/ci/github-app private-key=@{keyless.operator}/new.pem")
    keyless.wait(lambda: keyless.requests("^/app$", 200, 304), "the new key signs")
    assert len(keyless.logins() - before) >= 1
    keyless.wait(keyless.ready, "ready with the new key")

    # OpenBao is sealed: what needs it is Stalled with the reason, and GitHub hears nothing, even if a push arrives.
    keyless.sh("bao operator seal")
    for resource in ("Secret/github-app", "Integration/github", "EventSource/web"):
        keyless.wait(lambda resource=resource: keyless.stalled(resource, "the server is sealed"), f"{resource} is stalled")
        assert "Secret/github-app" in keyless.condition(resource, "Stalled")["message"]
    assert keyless.condition("Integration/aws", "Ready")["status"] == "True"
    keyless.at_github("DELETE", "requests")
    pushes = keyless.pushes()
    sha = keyless.do("push", repo="acme/web", ref="refs/heads/main", commits=[{"message": "m"}])["sha"]
    keyless.wait(lambda: keyless.pushes() == pushes + 1, "the push is stored", 15)
    time.sleep(5)
    assert keyless.requests() == []

    # Unsealed: the daemon continues within one interval, and the push gets its result.
    keyless.sh('bao operator unseal "$UNSEAL_KEY"')
    keyless.wait(keyless.ready, "it continues")
    keyless.wait(lambda: reported(keyless, sha), "the commit shows the result")
    assert keyless.daemon_pid() == pid
    assert keyless.secrets_left() == []
