"""An installation that is an OIDC issuer: a folder of manifests, the real program, and its documents over HTTP."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MANIFESTS = {
    "cloud.yaml": "Integration cloud {type: aws, auth: {use: oidc, oidc: {audience: sts.amazonaws.com, "
    "roleArn: 'arn:aws:iam::123456789012:role/deploy'}}}",
    "tenant.yaml": "Integration tenant {type: azure, auth: {use: oidc, oidc: {audience: 'api://AzureADTokenExchange', "
    "subject: deploy-bot, tenantId: t, clientId: 11111111-2222-3333-4444-555555555555, subscriptionId: s}}}",
    "project.yaml": "Integration project {type: google, auth: {use: oidc, oidc: {audience: ci, serviceAccount: "
    "ci@p.iam.gserviceaccount.com, workloadIdentityProvider: projects/7/locations/global/workloadIdentityPools/pool/providers/ours}}}",
    "code.yaml": "Integration code {type: github, url: 'https://github.com/acme', auth: {use: token, token: {valueFrom: "
    "{secret: {name: token, key: value}}}}}",
    "token.yaml": "Secret token {provider: env, data: {value: {env: RECONCILER_SECRET_TOKEN}}}",
    "static.yaml": "Secret static {provider: vault, vault: {address: 'https://bao.example.com', path: ci, auth: {use: token, token: "
    "{valueFrom: {secret: {name: token, key: value}}}}}}",
    "hand.yaml": "EventSource hand {type: manual}",
    "deploy.yaml": "Stage deploy {connections: [{type: event-source, name: hand}], executor: {type: noop}}",
}


def free_port() -> int:
    """Return a TCP port that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class Issuer:
    """One process of an installation; several may share ``state`` and the master key of ``keys``."""

    def __init__(self, folder: Path, *, path: str = "", oidc: str = "", state: str = "", keys: Path | None = None) -> None:
        self.folder, self.port = folder, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.issuer = self.url + path
        self.oidc, self.state = oidc or f"{{issuer: '{self.issuer}'}}", state
        self.key, self.previous = (keys or folder) / "master.key", ""
        self.manifests = folder / "manifests"
        self.manifests.mkdir(parents=True)
        for name, text in MANIFESTS.items():
            kind, resource, spec = text.split(" ", 2)
            self.manifests.joinpath(name).write_text(
                f"apiVersion: v1\nkind: {kind}\nmetadata: {{name: {resource}}}\nspec: {spec}\n"
            )
        self.process: subprocess.Popen[bytes] | None = None
        self.configure()

    def configure(self) -> None:
        """Write the configuration file."""
        state = self.state or f"sqlite:///{self.folder / 'state' / 'state.db'}"
        previous = f", previousFile: '{self.previous}'" if self.previous else ""
        (self.folder / "reconciler.yaml").write_text(
            f"owner: acme\nsource: {{url: '{self.manifests}', interval: 1s}}\nstate: {{url: '{state}'}}\n"
            f"server: {{listen: '127.0.0.1:{self.port}', publicUrl: '{self.url}'}}\n"
            f"oidc: {self.oidc}\nnetwork: {{allow: ['127.0.0.1']}}\n"
            f"masterKey: {{file: '{self.key}'{previous}}}\nlog: {{format: json, level: info}}\n"
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the program on this installation."""
        command = [sys.executable, "-m", "reconciler", "--config", str(self.folder / "reconciler.yaml"), *arguments]
        environment = {**os.environ, "RECONCILER_SECRET_TOKEN": "t"}
        return subprocess.run(command, capture_output=True, text=True, cwd=self.folder, env=environment, timeout=60, check=False)

    def must(self, *arguments: str) -> str:
        """Return what a command that must succeed prints."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def token(self, *arguments: str) -> str:
        """Return a signed token of ``Integration/cloud``."""
        shown = self.must("oidc", "token", "Integration/cloud", "--dir", str(self.manifests), "--show", "-o", "json", *arguments)
        token: str = json.loads(shown)["token"]
        return token

    def spawn(self) -> None:
        """Start the daemon, and do not wait."""
        with (self.folder / "daemon.log").open("ab") as log:
            command = [sys.executable, "-m", "reconciler", "run", "--config", str(self.folder / "reconciler.yaml")]
            environment = {**os.environ, "RECONCILER_SECRET_TOKEN": "t"}
            self.process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, env=environment)

    def start(self) -> None:
        """Start the daemon, and wait until it answers."""
        self.spawn()
        deadline = time.monotonic() + 40
        while time.monotonic() < deadline:
            assert self.process is not None
            assert self.process.poll() is None, self.log()
            try:
                self.get("/healthz")
            except OSError:
                time.sleep(0.1)
            else:
                return
        raise AssertionError(f"the daemon did not start: {self.log()}")

    def stop(self, how: int = signal.SIGTERM) -> None:
        """End the daemon."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(40)
            self.process = None

    def log(self) -> str:
        """Return the log of the daemon."""
        return (self.folder / "daemon.log").read_text()

    def get(self, path: str, method: str = "GET") -> tuple[bytes, Mapping[str, str]]:
        """Return body and headers of an answer. Raises `OSError` for an error status, and if nobody listens."""
        request = urllib.request.Request(self.url + path, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.read(), {name.lower(): value for name, value in answer.headers.items()}
        except urllib.error.HTTPError as refused:
            refused.close()  # it holds the socket, which the caller would leave open
            raise

    def key_ids(self) -> list[str]:
        """Return the ids in the published key set."""
        document: dict[str, Any] = json.loads(self.get("/.well-known/jwks.json")[0])
        return [key["kid"] for key in document["keys"]]
