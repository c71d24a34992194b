"""`appWebhook.manage` in the real program: the webhook of an App is one object, whoever shares the App and whatever a person changes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.credentials.keys import KeyRing, read_key
from tests.engine.world import OWNER
from tests.flow.app_deliveries import CLIENT, app_uid, derived_key
from tests.flow.test_app_move import APP, AppWorld

MANAGE = "  appWebhook: {manage: true}"
ELSEWHERE = "https://elsewhere.example/in"
POINTS = [
    "apply-before-begin",
    "state-begin-after-commit",
    "apply-after-begin",
    "apply-before-settle",
    "state-settle-before-commit",
    "apply-after-settle",
]


class ManagedWorld(AppWorld):
    """An App whose webhook a person pointed elsewhere."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.app_hook(ELSEWHERE, "theirs", "form")
        self.write(
            "pem.yaml", "kind: Secret\nmetadata: {name: pem}\nspec: {provider: env, data: {pem: {env: RECONCILER_SECRET_PEM}}}"
        )
        self.use("github")
        self.source("web")

    def use(self, name: str, more: str = MANAGE, auth: str = "", account: str = "acme") -> None:
        key = f"clientId: {CLIENT}, privateKey: {{valueFrom: {{secret: {{name: pem, key: pem}}}}}}{auth}"
        self.write(
            f"{name}.yaml",
            f"kind: Integration\nmetadata: {{name: {name}}}\nspec:\n  type: github\n  url: https://github.com/{account}\n"
            f"  apiUrl: {self.servers['github'].url}\n  auth: {{use: github-app, githubApp: {{{key}}}}}\n{more}",
        )

    @property
    def config_now(self) -> dict[str, str]:
        return dict(self.github.state()["apps"][str(APP)]["hook"]["config"])

    @property
    def wanted(self) -> dict[str, str]:
        uid, ring = app_uid(host=self.host), KeyRing(read_key(self.folder / "state" / "master.key"))
        url = f"http://127.0.0.1:{self.port}/hooks/apps/{OWNER}/{uid}?key={ring.key_id}"
        return {"url": url, "content_type": "json", "insecure_ssl": "0", "secret": derived_key(ring, uid)}

    def patches(self) -> int:
        return len([row for row in self.requests("github", "PATCH") if row["path"].endswith("/app/hook/config")])

    def owned(self, name: str) -> list[str]:
        return [row["address"] for row in self.resource("Integration", name).get("objects", [])]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ManagedWorld]:
    made = ManagedWorld(tmp_path)
    yield made
    made.close()


def test_it_is_planned_set_once_and_then_delivers(world: ManagedWorld) -> None:
    plan = json.loads(world.cli("plan", "-o", "json").stdout)
    (change,) = [row for each in plan["plans"] for row in each["changes"]]
    assert (change["action"], change["resource"]) == ("adopt", "Integration/default/github")
    assert {field["path"] for field in change["fields"]} == {"/config/url", "/config/content_type", "/config/secret"}
    assert "theirs" not in json.dumps(plan)
    world.ready()
    assert world.config_now == world.wanted
    assert world.owned("github") == [f"Integration/default/github#github/app-webhook[{world.host}/{CLIENT}]"]
    sha = world.push()["sha"]
    world.wait(lambda: world.shas() == [sha], "the push arrives")
    assert world.patches() == 1
    again = world.cli("plan", "--detailed-exitcode")
    assert again.returncode == 0, again.stdout


@pytest.mark.parametrize(
    "change",
    [
        {"url": ELSEWHERE},
        {"content_type": "form"},
        {"insecure_ssl": "1"},
        {"secret": ""},
        {"url": ELSEWHERE, "secret": "theirs", "content_type": "form"},
    ],
)
def test_what_a_person_changes_is_repaired(world: ManagedWorld, change: dict[str, str]) -> None:
    world.ready()
    before = world.config_now
    changed = {key: value for key, value in (before | change).items() if value}
    state = world.github.state()["apps"][str(APP)]
    world.github.put_state({"apps": {str(APP): {**state, "hook": {**state["hook"], "config": None}}}})
    world.github.put_state({"apps": {str(APP): {"hook": {"config": changed}}}})
    assert world.config_now == changed
    world.wait(lambda: world.config_now == before, "repaired")
    world.wait(world.all_ready, "ready")
    assert world.patches() == 2


@pytest.mark.parametrize("point", POINTS)
def test_kill_9_at_any_point_ends_with_the_webhook_set(world: ManagedWorld, point: str) -> None:
    world.died(world.doomed(point), point)
    world.ready()
    assert world.config_now == world.wanted
    assert world.patches() <= 2
    assert len(world.owned("github")) == 1
    again = world.cli("plan", "--detailed-exitcode")
    assert again.returncode == 0, again.stdout


def test_integrations_that_share_the_app_have_one_object_and_the_next_one_takes_over(world: ManagedWorld) -> None:
    world.github.put_state({"orgs": {"initech": {}}, "installations": {"8002": world.installed(account="initech")}})
    world.use("another", account="initech")
    world.use("zz", more="")
    world.ready()
    assert [len(world.owned(name)) for name in ("another", "github", "zz")] == [1, 0, 0]
    assert world.config_now == world.wanted
    (world.manifests / "another.yaml").unlink()
    world.wait(lambda: len(world.owned("github")) == 1, "the next one owns it")
    world.wait(world.all_ready, "ready")
    assert world.config_now == world.wanted
    assert world.patches() == 1


def test_it_stays_as_it_is_when_nobody_manages_it_any_more(world: ManagedWorld) -> None:
    world.ready()
    world.stop()
    world.use("github", more="")
    plan = world.cli("plan")
    assert "it stays at the provider as it is" in plan.stdout
    world.daemon()
    world.wait(lambda: not world.owned("github"), "it is forgotten")
    world.up()
    assert world.config_now == world.wanted
    assert world.patches() == 1
    world.app_hook(ELSEWHERE, "theirs")
    world.wait(lambda: world.shows("set the Webhook URL"), "the status says what to set")
    assert world.config_now["url"] == ELSEWHERE


def test_the_webhook_of_another_installation_is_never_taken(world: ManagedWorld) -> None:
    theirs = f"https://ci.example/hooks/apps/team-b/{'a' * 20}?key=1"
    world.app_hook(theirs, "theirs")
    world.daemon()
    found: Any = world.wait(lambda: world.condition("Integration", "github", "Stalled"), "it is stalled")
    assert found["reason"] == "Conflict"
    assert "team-b" in found["message"]
    assert world.config_now["url"] == theirs
    assert world.patches() == 0


def test_a_webhook_secret_that_changes_is_pushed(world: ManagedWorld) -> None:
    world.write(
        "pem.yaml",
        "kind: Secret\nmetadata: {name: pem}\nspec: {provider: file, data: {pem: {path: pem}, hook: {path: hook}}}",
    )
    folder = world.folder / "secrets"
    folder.mkdir(mode=0o700)
    (folder / "pem").write_text(world._pem)
    (folder / "hook").write_text("first")
    for path in folder.iterdir():
        path.chmod(0o600)
    world.use("github", auth=", webhookSecret: {valueFrom: {secret: {name: pem, key: hook}}}")
    world.ready()
    assert world.config_now["secret"] == "first"
    (folder / "hook").write_text("second")
    world.wait(lambda: world.config_now["secret"] == "second", "the new secret is set")
    assert world.patches() == 2


def test_a_manifest_that_uses_no_app_cannot_manage_its_webhook(world: ManagedWorld) -> None:
    world.write("github.yaml", world.integration("github") + "\n" + MANAGE)
    done = world.cli("validate", str(world.manifests))
    assert done.returncode == 5
    assert "RC1206" in done.stdout + done.stderr


def test_a_plan_without_credentials_shows_it(world: ManagedWorld) -> None:
    import subprocess

    def git(*words: str) -> None:
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=world.manifests, check=True, capture_output=True
        )

    world.use("github", more="")
    git("init", "-q", "-b", "main")
    git("add", ".")
    git("commit", "-qm", "one")
    world.use("github")
    git("checkout", "-qb", "two")
    git("commit", "-qam", "two")
    done = world.cli("plan", "--repo", str(world.manifests), "--base", "main", "-o", "json")
    assert "github/app-webhook" in done.stdout, done.stderr
