"""The demo's environment: a Git remote, simulated providers and a daemon process, and what people do at the providers."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import httpx
import msgspec

from reconciler.cli.demo.accounts import NOTIFICATION, REVIEWS, TOKENS, VALUES, private_key, seed
from reconciler.cli.demo.people import people
from reconciler.cli.demo.repository import FULL_NAME, ManifestRepository
from reconciler.cli.demo.shapes import IntegrationList, ListedNotification, NotificationList, RepositoryWebhook
from reconciler.cli.sink import err
from reconciler.cli.status import read
from reconciler.credentials.process import end_with_parent
from reconciler.model.errors import StateError
from reconciler.model.status_document import SourceProblem, StatusDocument
from reconciler.sandbox.githttp import GitHttpServer
from reconciler.sandbox.server import SandboxServer, simulator

_PORTS = range(20_000, 32_000)
"""Outside the range from which systems take ports by themselves: neither a client nor a server on port 0 gets one."""


def free_port() -> int:
    """Return a free port on loopback, one that no other program gets by chance while the daemon is not running."""
    for port in random.sample(_PORTS, 100):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def contains(path: Path, values: Sequence[bytes]) -> bool:
    """Whether a file has one of ``values`` in it. False for a file that is gone: the daemon removes journals while it works."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return False
    return any(value in content for value in values)


class DemoWorld:
    """A context manager that ends everything it started."""

    EXPECTED_OBJECTS = 9
    """payments, web, checkout, search, the organization; secret and notification; two Buddy integrations."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.people = people()
        self.repository = ManifestRepository(folder, self._announce)
        self.config = folder / "reconciler.yaml"
        self.status_file = folder / "state" / "status.json"
        self._listen = f"127.0.0.1:{free_port()}"
        self.receiver = f"http://{self._listen}"
        self.providers: dict[str, SandboxServer] = {}
        self._stack = contextlib.ExitStack()
        self._daemon: subprocess.Popen[bytes] | None = None
        self._git: GitHttpServer | None = None
        self._http = httpx.Client(timeout=10, trust_env=False)
        self._app_key = private_key()

    def __enter__(self) -> DemoWorld:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop_daemon()
        self._stack.close()
        self._http.close()

    # -- start ------------------------------------------------------------------------------------------------------

    def start_providers(self) -> None:
        """Start the simulators, with an organization each, and the Git remote."""
        for name in ("github", "semaphore", "buddy", "slack"):
            self.providers[name] = self._stack.enter_context(SandboxServer(simulator(name)))
        seed(self.providers, self._app_key)
        self._git = self._stack.enter_context(GitHttpServer(self.repository.remotes))

    @property
    def git_url(self) -> str:
        """Clone URL of the manifests."""
        if self._git is None:
            raise RuntimeError("the Git remote is not started")
        return self._git.url(f"{FULL_NAME}.git")

    def push_example(self) -> str:
        """Make the repository, point its Integrations at the sandbox, commit and push; returns the commit."""
        self.repository.create()
        for name, path in (
            ("github", "github/integration.yaml"),
            ("semaphore", "semaphore/integration.yaml"),
            ("buddy", "buddy/integrations.yaml"),
        ):
            file = self.repository.work / path
            file.write_text(
                file.read_text().replace(f"  type: {name}\n", f"  type: {name}\n  apiUrl: {self.providers[name].url}\n", 1)
            )
        (self.repository.work / "reviews.yaml").write_text(REVIEWS.format(url=self.providers["github"].url))
        (self.repository.work / "notifications.yaml").write_text(NOTIFICATION.format(url=self.providers["slack"].url))
        self._write_config()
        return self.repository.commit("Declare the integrations")

    def _write_config(self) -> None:
        tokens = "\n".join(f"    - {person.configured}" for person in self.people.values())
        self.config.write_text(f"""\
owner: demo
source: {{url: "{self.git_url}", interval: 1s}}
server:
  listen: "{self._listen}"
  publicUrl: "{self.receiver}"
  tokens:
{tokens}
review: {{integration: reviews, interval: 5s, approvers: [ada]}}
reconcile: {{interval: 2s, settle: 5s, retry: {{min: 1s, max: 10s}}}}
network: {{allow: ["127.0.0.1"]}}
status: {{file: state/status.json, heartbeat: 1s}}
""")

    def environment(self) -> dict[str, str]:
        """Return the environment of the daemon, the only place of the secrets."""
        env = {key: value for key, value in os.environ.items() if not key.startswith("RECONCILER_")}
        env |= {f"RECONCILER_SECRET_{name.upper()}_TOKEN": token for name, token in TOKENS.items()}
        env |= {f"RECONCILER_SECRET_{name}": value for name, value in VALUES.items()}
        return env | {"RECONCILER_SECRET_APP_KEY": self._app_key, "NO_COLOR": "1"}

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a verb as a user."""
        command = [sys.executable, "-m", "reconciler", arguments[0], "--config", str(self.config), *arguments[1:]]
        return subprocess.run(
            command, capture_output=True, text=True, env=self.environment(), cwd=self.folder, timeout=120, check=False
        )

    def start_daemon(self) -> None:
        """Start ``reconciler run``."""
        with (self.folder / "daemon.log").open("ab") as log:
            self._daemon = subprocess.Popen(
                [sys.executable, "-m", "reconciler", "run", "--config", str(self.config)],
                stderr=log,
                stdout=log,
                env=self.environment(),
                cwd=self.folder,
                start_new_session=True,  # Ctrl-C is for the demo, which ends the daemon
                preexec_fn=end_with_parent(),
            )

    def stop_daemon(self) -> int:
        """Send SIGTERM and return the exit code; 0 if no daemon runs."""
        if self._daemon is None:
            return 0
        daemon, self._daemon = self._daemon, None
        daemon.send_signal(signal.SIGTERM)
        try:
            return daemon.wait(timeout=40)
        except subprocess.TimeoutExpired:
            daemon.kill()
            return daemon.wait()

    def kill_daemon(self) -> None:
        """Kill the daemon with SIGKILL."""
        if self._daemon is not None:
            daemon, self._daemon = self._daemon, None
            daemon.kill()
            daemon.wait()

    def show_log(self) -> None:
        """Print the end of the daemon's log."""
        path = self.folder / "daemon.log"
        if path.exists():
            for line in path.read_text(errors="replace").splitlines()[-25:]:
                err(line)

    def _announce(self, commit: str) -> None:
        """Let GitHub know a commit of the manifests."""
        self.providers["github"].admin.put_state({"repos": {FULL_NAME: {"branches": {"main": commit}, "commits": {commit: {}}}}})

    # -- read -------------------------------------------------------------------------------------------------------

    def status(self) -> StatusDocument | None:
        """Return the status document; None if there is none yet."""
        try:
            return read(self.status_file)
        except StateError:
            return None

    def all_ready(self) -> bool:
        """Whether the running daemon reports all declared resources as Ready. Raises `RuntimeError` if it has ended."""
        if self._daemon is not None and self._daemon.poll() is not None:
            raise RuntimeError(f"the daemon ended with {self._daemon.returncode}")
        status = self.status()
        if status is None or self._daemon is None or status.daemon.pid != self._daemon.pid:
            return False  # the file of a daemon that was killed
        return 0 < status.summary.total == status.summary.ready

    def applied(self, commit: str) -> bool:
        """Whether the daemon has applied a commit."""
        status = self.status()
        return status is not None and status.source.last_applied.endswith(commit)

    def problems(self) -> tuple[SourceProblem, ...]:
        """Return the problems of the manifests."""
        status = self.status()
        return status.source.problems if status is not None else ()

    def github(self, method: str, path: str, body: object = None) -> bytes:
        """Call GitHub's API with the token, as a person does."""
        answer = self._http.request(
            method,
            self.providers["github"].url + path,
            json=body,
            headers={
                "authorization": f"Bearer {TOKENS['github']}",
                "accept": "application/vnd.github+json",
                "user-agent": "somebody",
            },
        )
        answer.raise_for_status()
        return answer.content

    def hooks(self, repo: str) -> list[RepositoryWebhook]:
        """Return the hooks of ``acme/<repo>`` as GitHub shows them."""
        return msgspec.json.decode(self.github("GET", f"/repos/acme/{repo}/hooks"), type=list[RepositoryWebhook])

    def org_hooks(self) -> list[RepositoryWebhook]:
        """Return the organization's hooks."""
        return msgspec.json.decode(self.github("GET", "/orgs/acme/hooks"), type=list[RepositoryWebhook])

    def _semaphore(self, method: str, path: str, body: object = None) -> bytes:
        answer = self._http.request(
            method, self.providers["semaphore"].url + path, json=body, headers={"authorization": f"Token {TOKENS['semaphore']}"}
        )
        answer.raise_for_status()
        return answer.content

    def notifications(self) -> list[ListedNotification]:
        """Return Semaphore's notifications."""
        return msgspec.json.decode(self._semaphore("GET", "/api/v1alpha/notifications"), type=NotificationList).notifications

    def notification_is_ours(self) -> bool:
        """Whether the notification sends to our URL."""
        notifications = self.notifications()
        return bool(notifications) and self.receiver in notifications[0].endpoint

    def buddy_integrations(self) -> list[str]:
        """Return the identifiers of Buddy's integrations."""
        answer = self._http.get(
            self.providers["buddy"].url + "/workspaces/acme/integrations", headers={"authorization": f"Bearer {TOKENS['buddy']}"}
        )
        answer.raise_for_status()
        return [row.identifier for row in msgspec.json.decode(answer.content, type=IntegrationList).integrations]

    def writes(self) -> int:
        """Return the number of writes that the providers received."""
        return sum(
            1 for server in self.providers.values() for row in server.admin.requests() if row["method"] not in {"GET", "HEAD"}
        )

    def requests(self) -> int:
        """Return the number of requests that the providers received."""
        return sum(len(server.admin.requests()) for server in self.providers.values())

    def leaks(self) -> list[str]:
        """Return the files of the daemon that contain a secret in clear text."""
        secret = (*TOKENS.values(), *VALUES.values(), *(person.token for person in self.people.values()))
        canaries = [value.encode() for value in (*secret, self._app_key.splitlines()[3])]
        files = [path for path in (self.folder / "state").rglob("*") if path.is_file()] + [self.folder / "daemon.log"]
        return [str(path.relative_to(self.folder)) for path in files if contains(path, canaries)]

    # -- change -----------------------------------------------------------------------------------------------------

    def finish_deployments(self) -> None:
        """Let deployments at Semaphore end by themselves from now on."""
        self.providers["semaphore"].admin.put_state({"behaviour": {"web": {"duration_s": 8}}})

    def delete_hook(self, repo: str, identity: int) -> None:
        """Delete a hook at GitHub."""
        self.github("DELETE", f"/repos/acme/{repo}/hooks/{identity}")

    def edit_hook(self, repo: str, identity: int, body: Mapping[str, object]) -> None:
        """Edit a hook at GitHub."""
        self.github("PATCH", f"/repos/acme/{repo}/hooks/{identity}", body)

    def spoil_notification(self) -> None:
        """Let the notification send to another URL."""
        notification = self.notifications()[0]
        path = f"/api/v1alpha/notifications/{notification.metadata.id}"
        text = self._semaphore("GET", path).replace(notification.endpoint.encode(), b"https://elsewhere.example/hook")
        self._semaphore("PATCH", path, msgspec.json.decode(text, type=dict[str, object]))
