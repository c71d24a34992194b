"""An Integration moves from a token to a GitHub App, through the real program: no event is lost, none has two effects."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from reconciler.credentials.keys import KeyRing, read_key
from tests.engine.world import OWNER
from tests.flow.app_deliveries import CLIENT, app_uid, derived_key
from tests.flow.stage_world import StageWorld

PERMISSIONS = {"contents": "read", "metadata": "read", "repository_hooks": "write"}
APP, INSTALLATION = 7001, 8001


class AppWorld(StageWorld):
    """A GitHub with an App on `acme`, whose webhook leads nowhere at first."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        key = rsa.generate_private_key(65537, 2048)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()
        self.public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        self._pem = pem
        self.host = self.servers["github"].url.removeprefix("http://")
        self.app_hook("", "")
        self.github.put_state({"installations": {str(INSTALLATION): self.installed()}})

    @property
    def env(self) -> dict[str, str]:
        return super().env | {"RECONCILER_SECRET_PEM": self._pem}

    def installed(self, **more: Any) -> dict[str, Any]:
        row = {"app_id": APP, "account": "acme", "permissions": PERMISSIONS, "events": ["push", "repository"]}
        return row | {"repository_selection": "all", **more}

    def app_hook(self, url: str, secret: str, content_type: str = "json") -> None:
        """Set the App's webhook as a person does in the App's settings."""
        config = {"url": url, "content_type": content_type, "insecure_ssl": "0", **({"secret": secret} if secret else {})}
        hook = {"id": 9001, "name": "web", "active": bool(url), "events": [], "config": config}
        state = {
            "id": APP,
            "client_id": CLIENT,
            "slug": "deployer",
            "name": "deployer",
            "owner": "acme",
            "public_key": self.public,
        }
        events = {"permissions": PERMISSIONS, "events": ["push", "repository"]}
        self.github.put_state({"apps": {str(APP): {**state, **events, "hook": hook}}})

    def use_app(self) -> None:
        self.write(
            "pem.yaml", "kind: Secret\nmetadata: {name: pem}\nspec: {provider: env, data: {pem: {env: RECONCILER_SECRET_PEM}}}"
        )
        self.write(
            "github.yaml",
            f"kind: Integration\nmetadata: {{name: github}}\nspec:\n  type: github\n  url: https://github.com/acme\n"
            f"  apiUrl: {self.servers['github'].url}\n"
            f"  auth: {{use: github-app, githubApp: {{clientId: {CLIENT}, privateKey: {{valueFrom: {{secret: {{name: pem, key: pem}}}}}}}}}}",
        )

    def connect_app(self) -> None:
        """Point the App's webhook at the daemon."""
        uid = app_uid(host=self.host)
        ring = KeyRing(read_key(self.folder / "state" / "master.key"))
        self.app_hook(f"http://127.0.0.1:{self.port}/hooks/apps/{OWNER}/{uid}?key={ring.key_id}", derived_key(ring, uid))

    def shas(self, name: str = "web") -> list[str]:
        """The commits of the pushes that were routed."""
        rows = self.events(source=f"EventSource/{name}", state="processed")
        return [self.ask("event", id=row["id"])["payload"]["after"] for row in rows if row["type"] == "push"]

    def shows(self, reason: str, name: str = "web") -> bool:
        resource = self.resource("EventSource", name)
        return any(reason in (each["reason"], each["message"]) or reason in each["message"] for each in resource["conditions"])


@pytest.fixture
def moving(tmp_path: Path) -> Iterator[AppWorld]:
    world = AppWorld(tmp_path)
    yield world
    world.close()


def test_the_webhook_of_a_repository_goes_once_the_app_delivers_and_no_event_is_lost_or_doubled(moving: AppWorld) -> None:
    moving.source("web")
    moving.stage("build", after="{type: event-source, name: web}")
    moving.ready()
    sent = [moving.push()["sha"]]
    moving.use_app()
    moving.wait(lambda: moving.shows("NotReplaced"), "the webhook is kept")
    assert len(moving.hooks("web")) == 1
    sent.append(moving.push()["sha"])
    moving.connect_app()
    sent += [moving.push()["sha"] for _ in range(5)]
    moving.wait(lambda: not moving.hooks("web"), "the webhook is deleted")
    sent.append(moving.push()["sha"])
    moving.wait(lambda: len(moving.executions("build")) == len(sent), "a run for each push")
    moving.wait(moving.all_ready, "ready")
    assert sorted(moving.shas()) == sorted(sent)
    assert not [each for each in moving.requests("github", "POST") if each["path"].endswith("/hooks")][1:]


@pytest.mark.parametrize(
    "failpoint", ["inbox-before-commit", "inbox-after-commit", "events-before-settle", "events-after-settle"]
)
def test_kill_9_while_both_deliver_loses_and_doubles_nothing(moving: AppWorld, failpoint: str) -> None:
    moving.source("web")
    moving.stage("build", after="{type: event-source, name: web}")
    moving.ready()
    moving.use_app()
    moving.wait(lambda: moving.shows("NotReplaced"), "the webhook is kept")
    moving.connect_app()
    moving.stop()
    process = moving.doomed(failpoint)
    moving.wait(moving.listens, "the receiver listens")
    sent = [moving.push()["sha"]]
    moving.died(process, failpoint)
    sent.append(moving.push()["sha"])  # nobody listens
    moving.daemon()
    moving.wait(moving.listens, "the receiver listens again")
    sent.append(moving.push()["sha"])
    moving.wait(lambda: len(moving.executions("build")) >= len(sent), "a run for each push", seconds=90)
    moving.wait(lambda: not moving.hooks("web"), "the webhook is deleted")
    assert sorted(moving.shas()) == sorted(sent)
    assert len(moving.executions("build")) == len(sent)


def test_what_is_missed_while_nobody_listens_is_recovered_from_the_list_of_the_app(moving: AppWorld) -> None:
    moving.use_app()
    moving.source("web")
    moving.source("shop")
    moving.ready()
    moving.connect_app()
    first = moving.push()["sha"]
    moving.wait(lambda: moving.shas() == [first], "it delivers")
    moving.wait(moving.all_ready, "ready")
    moving.ask("redeliver")
    moving.processes[-1].send_signal(signal.SIGKILL)
    moving.processes[-1].wait()
    lost = [moving.push()["sha"] for _ in range(3)]
    other = moving.push("shop")["sha"]
    moving.daemon()
    moving.wait(moving.listens, "the receiver listens again")
    moving.wait(lambda: len(moving.shas()) == 4, "all recovered", seconds=90)
    assert sorted(moving.shas()) == sorted([first, *lost])
    assert moving.shas("shop") == [other]
    assert not moving.hooks("web")


def test_a_wrong_webhook_of_the_app_is_a_condition_that_says_what_to_set(moving: AppWorld) -> None:
    moving.use_app()
    moving.source("web")
    moving.ready()

    def says(*texts: str) -> bool:
        condition = moving.condition("EventSource", "web", "Delivering")
        return condition is not None and all(text in condition["message"] for text in texts)

    moving.wait(
        lambda: says("Webhook URL to http://127.0.0.1", app_uid(host=moving.host), "Webhook secret"), "all that is missing"
    )
    url = f"http://127.0.0.1:{moving.port}/hooks/apps/{OWNER}/{app_uid(host=moving.host)}"
    moving.app_hook(url, "x", "form")
    moving.wait(lambda: says("application/json") and not says("Webhook URL") and not says("Webhook secret"), "the form is left")
    moving.connect_app()
    moving.push()
    moving.wait(lambda: says("deliveries arrive and are verified"), "all is well")


def test_a_change_of_the_installation_shows_at_once(moving: AppWorld) -> None:
    moving.configure(reconcile="{interval: 10m, settle: 2s, retry: {min: 1s, max: 4s}}")
    moving.use_app()
    moving.source("web")
    moving.ready()
    moving.connect_app()
    moving.push()
    moving.wait(moving.all_ready, "ready")

    def suspended() -> bool:
        condition = moving.condition("Integration", "github", "CredentialsValid")
        return condition is not None and condition["status"] == "False" and "suspended" in condition["message"]

    moving.github.do("suspend_installation", installation=INSTALLATION)
    moving.wait(suspended, "suspended", seconds=10)
    moving.github.do("unsuspend_installation", installation=INSTALLATION)
    moving.wait(moving.all_ready, "ready again", seconds=10)
    moving.github.do("remove_repositories", installation=INSTALLATION, repositories=["acme/web"])
    moving.wait(lambda: moving.shows("does not contain acme/web"), "out of reach", seconds=10)
    moving.github.do("add_repositories", installation=INSTALLATION, repositories=["acme/web"])
    moving.wait(moving.all_ready, "in reach again", seconds=10)


def test_blocked_work_goes_on_as_soon_as_the_missing_permission_is_granted(moving: AppWorld) -> None:
    moving.configure(reconcile="{interval: 10m, settle: 2s, retry: {min: 5m, max: 10m}}")
    moving.source("web")
    moving.ready()
    moving.connect_app()
    moving.github.do("change_app", app=APP, permissions={"contents": "read", "metadata": "read"}, events=["push"])
    moving.use_app()
    moving.push()
    moving.wait(lambda: moving.shows("repository_hooks"), "the permission is missing")
    assert len(moving.hooks("web")) == 1
    moving.github.do("change_app", app=APP, permissions=PERMISSIONS, events=["push"])
    moving.github.do("accept_permissions", installation=INSTALLATION)
    moving.wait(lambda: not moving.hooks("web"), "the webhook is deleted", seconds=8)
