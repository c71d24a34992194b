"""Run this example on this machine: a real OpenBao, moto in place of AWS, and a simulated GitHub with an App. No account is needed.

``FOLDER`` gets three folders. ``daemon`` is everything that the host of the daemon has. ``operator`` is what a person has during the
set-up. ``openbao`` is the storage of the server. The commands are those of README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

HERE = Path(__file__).resolve().parent
PUBLIC = "https://ci.acme.example"
PERMISSIONS = {"actions": "write", "contents": "read", "statuses": "write"}
WORKFLOW = {
    "id": 7,
    "name": "CI",
    "path": ".github/workflows/ci.yml",
    "on": {"workflow_dispatch": {"inputs": {"sha": {}, "reconciler_execution_id": {}}}},
    "run_name": "CI ${{ inputs.reconciler_execution_id }}",
    "duration_s": 0.5,
}
STARTED_S = 60.0
SECRET = re.compile(rb"PRIVATE KEY|ghs_\w{20}|\bs\.[A-Za-z0-9]{20}|hvs\.\w{20}|eyJ[\w-]{20,}\.eyJ|A[KS]IA[A-Z0-9]{16}")
"""App keys, installation tokens, tokens of OpenBao, ID tokens, access keys of AWS."""


def free_port() -> int:
    """Return a free port on loopback, below those that the system gives to other programs."""
    for port in random.sample(range(20_000, 30_000), 100):
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port
    raise SystemExit("no free port")


def call(method: str, url: str, body: object = None, token: str = "") -> Any:
    """Return the decoded answer of an HTTP request. Raises `httpx.HTTPError`, also for an error status."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    answer = httpx.request(method, url, json=body, headers=headers, timeout=10, trust_env=False).raise_for_status()
    return answer.json() if answer.content else None


def answers(url: str) -> bool:
    """Whether a server answers with success. Raises `httpx.HTTPError` if no server does."""
    return httpx.get(url, timeout=10, trust_env=False).is_success


class Trial:
    """Everything that runs, and the commands of a person; a context manager that ends what it started."""

    def __init__(self, root: Path) -> None:
        self.daemon, self.operator, self.storage = root / "daemon", root / "operator", root / "openbao"
        for folder in (self.daemon, self.operator, self.storage):
            folder.mkdir(parents=True)
        self.bao, self.github, self.aws, self.listen = (f"http://127.0.0.1:{free_port()}" for _ in range(4))
        self.env = {
            **os.environ,
            "BAO_ADDR": self.bao,
            "PATH": f"{self.operator}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        self.known: list[bytes] = []
        """Secrets of the operator, line by line, that must not be on the daemon's host."""
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Trial:
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes):
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
            process.kill()

    def start(self, name: str, command: Sequence[str], folder: Path, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start a server; its output goes to ``name``.log in ``folder``."""
        with (folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self._processes.append(process)
        return process

    def sh(self, command: str, *, shown: bool = True) -> str:
        """Run a command of README.md in the folder of the daemon's configuration, as a person does; return what it prints."""
        if shown:
            print(f"$ {command}", flush=True)
        done = subprocess.run(["sh", "-c", command], cwd=self.daemon, env=self.env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{command}\n{done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def wait(self, what: str, check: Callable[[], object], seconds: float = STARTED_S) -> None:
        """Return when ``check`` is true; an error of the network counts as false. A server that ended ends the trial."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            ended = [process.args for process in self._processes if process.poll() is not None]
            if ended:
                raise SystemExit(f"{what}: {ended} has ended; its log is next to it")
            with contextlib.suppress(httpx.HTTPError):
                if check():
                    return
            time.sleep(0.1)
        raise SystemExit(f"not within {seconds:.0f} s: {what}")

    # -- what stands in for the internet ----------------------------------------------------------------------------

    def start_openbao(self) -> None:
        """Start, initialize and unseal OpenBao. Its root token and its unseal key are the operator's."""
        listener = {"address": self.bao.removeprefix("http://"), "tls_disable": True}
        (self.storage / "data").mkdir()
        config = {
            "storage": {"raft": {"path": "data", "node_id": "one"}},
            "api_addr": self.bao,
            "cluster_addr": f"http://127.0.0.1:{free_port()}",
            "listener": {"tcp": listener},
        }
        (self.storage / "openbao.json").write_text(json.dumps(config))
        self.start("openbao", ["bao", "server", "-config=openbao.json"], self.storage, self.env)
        self.wait("OpenBao starts", lambda: answers(f"{self.bao}/v1/sys/seal-status"))
        made = json.loads(self.sh("bao operator init -key-shares=1 -key-threshold=1 -format=json"))
        self.env |= {"BAO_TOKEN": made["root_token"], "UNSEAL_KEY": made["unseal_keys_b64"][0]}
        self.known += [self.env["BAO_TOKEN"].encode(), self.env["UNSEAL_KEY"].encode()]
        self.sh('bao operator unseal "$UNSEAL_KEY"')
        self.wait("OpenBao is active", lambda: answers(f"{self.bao}/v1/sys/health"))

    def start_github(self) -> str:
        """Start the simulated GitHub; return the client id of the App, whose key is the operator's ``app.pem``."""
        port = self.github.rpartition(":")[2]
        self.start("github", ["reconciler", "sandbox", "github", "--port", port], self.operator, self.env)
        self.wait("the sandbox starts", lambda: answers(f"{self.github}/_sandbox/settings"))
        call("PATCH", f"{self.github}/_sandbox/settings", {"deliver": True, "deliver_to": {PUBLIC: self.listen}})
        call("PUT", f"{self.github}/_sandbox/state", {"repos": {"acme/web": {}}, "workflows": {"acme/web": [WORKFLOW]}})
        app = self.at_github("create_app", owner="acme", title="reconciler", permissions=PERMISSIONS, events=["push"], url=PUBLIC)
        self.at_github("install_app", app=app["id"], account="acme")
        (self.operator / "app.pem").write_text(app["pem"])
        self.known += [line.encode() for line in app["pem"].splitlines()[1:-1]]
        return str(app["client_id"])

    def at_github(self, action: str, **options: object) -> Any:
        """Let something happen at GitHub that a person does on its pages."""
        return call("POST", f"{self.github}/_sandbox/do/{action}", options)["result"]

    def start_aws(self) -> None:
        """Start moto, with the role of the example, and an ``aws`` for the two commands that `oidc trust aws` prints."""
        port = self.aws.rpartition(":")[2]
        self.start("moto", [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", port], self.operator, self.env)
        self.wait("moto starts", lambda: answers(f"{self.aws}/moto-api/data.json"))
        script = self.operator / "aws"
        script.write_text(AWS.format(python=sys.executable, endpoint=self.aws))
        script.chmod(0o700)
        self.sh("aws iam create-role --role-name reconciler --assume-role-policy-document '{}'", shown=False)

    # -- the daemon -------------------------------------------------------------------------------------------------

    def write_daemon(self, client_id: str) -> None:
        """Copy the example, with the addresses of this machine in it."""
        shutil.copytree(HERE / "manifests", self.daemon / "manifests")
        shutil.copy(HERE / "reconciler.yaml", self.daemon)
        host = "127.0.0.1"
        places = {
            "https://bao.acme.example:8200": self.bao,
            "bao.acme.example": host,
            "127.0.0.1:8080": self.listen.removeprefix("http://"),
            "Iv23liExampleExample": client_id,
            "\n  type: github\n": f"\n  type: github\n  apiUrl: {self.github}\n",
            "\n  type: aws\n": f"\n  type: aws\n  apiUrl: {self.aws}\n",
        }
        for file in (*self.daemon.glob("manifests/*.yaml"), self.daemon / "reconciler.yaml"):
            text = file.read_text()
            for public, private in places.items():
                text = text.replace(public, private)
            file.write_text(text)

    def start_daemon(self) -> subprocess.Popen[bytes]:
        """Start the daemon with an empty environment but for PATH."""
        print("$ reconciler run", flush=True)
        path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
        process = self.start("daemon", ["reconciler", "run"], self.daemon, {"PATH": path, "HOME": str(self.daemon)})
        self.wait("the daemon starts", lambda: answers(f"{self.listen}/healthz"))
        return process

    def status(self) -> dict[str, Any]:
        """Return the status file; empty while there is none."""
        with contextlib.suppress(OSError, ValueError):
            document: dict[str, Any] = json.loads((self.daemon / "state" / "status.json").read_text())
            return document
        return {}

    def says(self, resource: str, condition: str, words: str) -> bool:
        """Whether a condition of a resource is True and its message contains ``words``."""
        rows = [row for row in self.status().get("resources", []) if f"{row['kind']}/{row['name']}" == resource]
        found = [each for row in rows for each in row["conditions"] if each["type"] == condition]
        return any(each["status"] == "True" and words in each["message"] for each in found)

    def all_ready(self) -> bool:
        """Whether the manifests are valid, and every resource is Ready."""
        document = self.status()
        summary = document.get("summary", {"total": 0})
        return bool(summary["total"]) and summary["total"] == summary["ready"] and not document["source"]["problems"]

    def secrets_of(self, process: subprocess.Popen[bytes]) -> list[str]:
        """Return the files of the daemon's host, and the environment of its process, that contain a secret of a provider."""
        places = [path for path in self.daemon.rglob("*") if path.is_file()]
        places += [Path(f"/proc/{process.pid}/environ")] if Path("/proc/self/environ").exists() else []
        contents = {path: path.read_bytes() for path in places if path.exists()}
        return [str(path) for path, text in contents.items() if SECRET.search(text) or any(value in text for value in self.known)]


AWS = """#!{python}
# The command `aws iam`, as far as the trust policy needs it: the same calls, by boto3, to moto.
import sys
import boto3

action, words = sys.argv[2], sys.argv[3:]
options = {{name.removeprefix("--"): value for name, value in zip(words[::2], words[1::2])}}
policy = options.get("policy-document", options.get("assume-role-policy-document", ""))
text = open(policy.removeprefix("file://")).read() if policy.startswith("file://") else policy
iam = boto3.client("iam", endpoint_url="{endpoint}", region_name="eu-central-1", aws_access_key_id="a", aws_secret_access_key="b")
if action == "create-role":
    iam.create_role(RoleName=options["role-name"], AssumeRolePolicyDocument=text)
elif action == "create-open-id-connect-provider":
    iam.create_open_id_connect_provider(Url=options["url"], ClientIDList=[options["client-id-list"]])
elif action == "update-assume-role-policy":
    iam.update_assume_role_policy(RoleName=options["role-name"], PolicyDocument=text)
else:
    sys.exit(f"aws iam {{action}} is not simulated")
"""


def set_up(trial: Trial) -> subprocess.Popen[bytes]:
    """Follow README.md from its first step to a daemon whose resources are all Ready; return its process."""
    print("# 1. The private key of the App goes into OpenBao")
    trial.start_openbao()
    client_id = trial.start_github()
    trial.sh("bao secrets enable -version=2 -path=secret kv")
    trial.sh(f"bao kv put secret/ci/github-app private-key=@{trial.operator}/app.pem")
    print("# 2. The daemon starts; nothing trusts it yet")
    trial.start_aws()
    trial.write_daemon(client_id)
    daemon = trial.start_daemon()
    trial.wait("OpenBao refuses the daemon", lambda: trial.says("Secret/github-app", "Stalled", "login by oidc"))
    print("# 3. OpenBao trusts the daemon")
    trial.sh("reconciler oidc trust vault Secret/github-app --dir manifests > trust-openbao.sh")
    script = trial.daemon / "trust-openbao.sh"  # OpenBao cannot reach ci.acme.example here: it reads the keys from the daemon
    script.write_text(
        script.read_text().replace(f"oidc_discovery_url={PUBLIC}", f"jwks_url={trial.listen}/.well-known/jwks.json")
    )
    trial.sh("sh trust-openbao.sh")
    print("# 4. The role at AWS trusts the daemon")
    trial.sh("reconciler oidc trust aws Integration/aws --dir manifests > trust-aws.sh")
    trial.sh("sh trust-aws.sh")
    print("# 5. The daemon sets the webhook of the App")
    (trial.operator / "app.pem").unlink()
    trial.sh("reconciler reconcile Integration/github --wait")
    trial.wait("every resource is Ready", trial.all_ready, 120)
    print(trial.sh("reconciler app status Integration/github"))
    print("# 6. Everything is in force")
    print(trial.sh("reconciler status"))
    print(trial.sh("reconciler credentials"))
    return daemon


def push(trial: Trial) -> None:
    """Push to main; return when the commit shows the result of the workflow."""
    sha = trial.at_github("push", repo="acme/web", ref="refs/heads/main", commits=[{"message": "change"}])["sha"]

    def reported() -> bool:
        rows = call("GET", f"{trial.github}/_sandbox/state")["commit_statuses"].values()
        return any(row["sha"] == sha and row["state"] == "success" for row in (row for each in rows for row in each))

    trial.wait("the commit shows the result", reported)
    print(f"a push of {sha[:8]} ran the workflow, and the commit shows its result")


@contextlib.contextmanager
def _folder(named: str) -> Iterator[Path]:
    if named:
        yield Path(named).resolve()
        return
    with tempfile.TemporaryDirectory(prefix="reconciler-keyless-") as folder:
        yield Path(folder)


def main() -> int:
    """Return 0 if everything worked and the daemon's host has no secret of a provider."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", default="", help="an empty folder to work in (default: a temporary one)")
    parser.add_argument("--keep", action="store_true", help="keep everything running until Ctrl-C")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with _folder(options.folder) as root, Trial(root) as trial:
        daemon = set_up(trial)
        push(trial)
        left = trial.secrets_of(daemon)
        if left:
            raise SystemExit(f"secrets of a provider are in: {', '.join(left)}")
        print("the daemon's host has no secret of a provider: only the master key", flush=True)
        if options.keep:
            values = {name: trial.env[name] for name in ("BAO_ADDR", "BAO_TOKEN", "UNSEAL_KEY")} | {"GITHUB": trial.github}
            (trial.operator / "env.sh").write_text("".join(f"export {name}={value}\n" for name, value in values.items()))
            print(f"everything runs until Ctrl-C: cd {trial.daemon}; . {trial.operator}/env.sh", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                daemon.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
