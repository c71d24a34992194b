"""`app create` in the real program: a browser confirms the App, and the daemon starts with what was printed."""

from __future__ import annotations

import json
import re
import signal
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.flow.stage_world import StageWorld
from tests.support.browser import Browser, fetch, form_of

SECRETS = re.compile(rb"PRIVATE KEY|[?&]code=|client_secret")


class CreateWorld(StageWorld):
    """`app create` runs beside the test, which is its browser."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.root = self.servers["github"].url
        self.lines: list[str] = []
        self.browser = Browser()

    def configure(self, *, source: str = "", **more: str) -> None:
        super().configure(source=source, **({"secrets": "{folder: keys}"} | more))

    @property
    def keys(self) -> list[Path]:
        folder = self.folder / "keys"
        return sorted(folder.iterdir()) if folder.exists() else []

    def create(self, *arguments: str) -> subprocess.Popen[str]:
        """Start it, and return once it shows its page."""
        place = ("--org", "acme", "--url", self.root, "--dir", str(self.manifests), "--no-browser")
        process = subprocess.Popen(
            self.command("app", "create", *place, *arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.env,
            cwd=self.folder,
        )
        self.processes.append(process)  # type: ignore[arg-type]
        assert process.stderr is not None
        for line in process.stderr:
            self.lines.append(line)
            if line.startswith("Open http"):
                self.page = line.split()[1]
                return process
        raise AssertionError("".join(self.lines))

    def end(self, process: subprocess.Popen[str], seconds: float = 60) -> tuple[int, str, str]:
        out, err = process.communicate(timeout=seconds)
        return process.returncode, out, "".join(self.lines) + err

    def asked(self) -> dict[str, Any]:
        """The manifest that the page sends."""
        return dict(json.loads(form_of(self.browser.open(self.page))[1]["manifest"]))

    @property
    def callback(self) -> str:
        return self.asked()["redirect_url"]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[CreateWorld]:
    made = CreateWorld(tmp_path)
    yield made
    made.close()


def test_an_app_is_made_in_one_click_and_the_daemon_that_uses_it_gets_its_deliveries(world: CreateWorld) -> None:
    (world.manifests / "github.yaml").write_text(world.integration("github").replace("https://github.com", world.root))
    world.source("web")
    process = world.create()
    asked = world.asked()
    assert asked["default_permissions"] == {"contents": "read", "metadata": "read"}
    assert asked["default_events"] == ["push", "repository"]
    done = world.browser.open(world.browser.confirm(world.page))
    assert (done.status, "is registered" in done.text) == (200, True)
    code, out, err = world.end(process)
    assert code == 0, err
    assert [stat.S_IMODE(path.stat().st_mode) for path in world.keys] == [0o600, 0o600]
    key, secret = world.keys
    assert key.read_text().startswith("-----BEGIN")
    shown = (out + err + done.text).encode()
    assert secret.read_bytes() not in shown
    assert SECRETS.search(shown) is None
    (app,) = world.github.state()["apps"].values()
    world.github.do("install_app", app=app["id"], account="acme")
    (world.manifests / "secrets.yaml").unlink()
    (world.manifests / "github.yaml").write_text(out)
    world.ready()
    config = next(iter(world.github.state()["apps"].values()))["hook"]["config"]
    assert config["secret"] == secret.read_text()
    assert (config["url"].partition("?")[0], config["content_type"]) == (app_url(world), "json")
    sha = world.push()["sha"]
    world.wait(lambda: [row for row in world.events(source="EventSource/web") if row["type"] == "push"], "the push arrives")
    (event,) = [row for row in world.events(source="EventSource/web") if row["type"] == "push"]
    assert world.ask("event", id=event["id"])["payload"]["after"] == sha
    assert world.hooks("web") == []
    status = world.cli("app", "status", "--exit-code")
    assert status.returncode == 0, status.stdout + status.stderr
    assert "missing: nothing" in status.stdout


def app_url(world: CreateWorld) -> str:
    from reconciler.drivers.apps import AppInstallation
    from tests.engine.world import OWNER

    (app,) = world.github.state()["apps"].values()
    uid = AppInstallation(f"{world.root.removeprefix('http://')}/{app['client_id']}", "").uid(OWNER)
    return f"http://127.0.0.1:{world.port}/hooks/apps/{OWNER}/{uid}"


def test_callbacks_that_are_not_ours_are_refused_and_the_right_one_counts_once(world: CreateWorld) -> None:
    process = world.create()
    good = world.browser.confirm(world.page)
    port = world.page.split(":")[2].partition("/")[0]
    base, query = good.split("?")
    code = re.search(r"code=([^&]+)", query)
    assert code is not None
    assert world.browser.open(f"{base}?code={code[1]}").status == 400
    assert world.browser.open(f"{base}?code={code[1]}&state=other").status == 400
    assert world.browser.open(f"{base}?{query}&state=other").status == 400
    assert fetch(base).status == 400
    assert world.browser.open(re.sub("code=[^&]+&?", "", good)).status == 400
    assert fetch(good, host="evil.example").status == 403
    assert fetch(good, host=f"evil.example:{port}").status == 403
    assert fetch(good, origin="https://evil.example").status == 403
    assert fetch(world.page, host="evil.example").status == 403
    assert fetch(f"http://127.0.0.1:{port}/").status == 404
    assert fetch(good, host=f"localhost:{port}", **world.browser.cookie).status == 403
    assert fetch(good, "POST", {}, **world.browser.cookie).status == 501
    assert fetch(good).status == 400
    assert fetch(good, cookie="reconciler_app=other").status == 400
    assert fetch(world.page).status == 409
    assert world.browser.open(world.page).status == 200
    assert world.browser.open(f"{base}?{'&'.join(['x=1'] * 50)}").status == 400
    assert world.keys == []
    assert world.browser.open(good).status == 200
    ended, _, err = world.end(process)
    assert ended == 0
    assert err.count("refused:") == 14
    assert len(world.keys) == 2


def test_a_second_callback_while_the_code_is_exchanged_changes_nothing(world: CreateWorld) -> None:
    world.github.fault(method="POST", path="conversions", delay_s=2)
    process = world.create()
    good = world.browser.confirm(world.page)
    answers: list[int] = []
    first = threading.Thread(target=lambda: answers.append(world.browser.open(good).status))
    first.start()
    world.wait(lambda: world.keys, "the code is exchanged")
    assert world.browser.open(good).status == 409
    first.join()
    assert answers == [200]
    assert world.end(process)[0] == 0
    assert len(world.requests("github", "POST")) == 2  # the form, and one exchange


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({}, "RC4203"),
        ({"status": 422, "body": {"message": "nope"}}, "RC4204"),
        ({"status": 500, "body": "<html>"}, "RC5"),
        ({"status": 201, "body": {"id": 1}}, "RC5"),
        ({"status": 201, "body": {"id": 1, "client_id": "x", "slug": "x", "pem": "none"}}, "RC"),
        ({"effect": "reset"}, "RC5"),
    ],
)
def test_a_code_that_cannot_be_exchanged_is_a_clear_error_and_leaves_nothing(
    world: CreateWorld, fault: dict[str, Any], code: str
) -> None:
    process = world.create()
    if fault:
        world.github.fault(method="POST", path="conversions", **fault)
        good = world.browser.confirm(world.page)
    else:
        state = re.search(r"state=([^&]+)", world.browser.confirm(world.page))
        assert state is not None
        good = f"{world.callback}?code=0123456789abcdef&state={state[1]}"
    shown = world.browser.open(good)
    assert shown.status == 502
    ended, out, err = world.end(process)
    assert (ended, out) == (1, "")
    assert f"reconciler: {code}" in err
    used = re.search(r"code=([^&]+)", good)
    assert used is not None
    assert used[1] not in err + shown.text
    assert world.keys == []


def test_nobody_confirms_in_time(world: CreateWorld) -> None:
    process = world.create("--timeout", "1")
    ended, _, err = world.end(process)
    assert ended == 1
    assert "RC4205" in err
    assert world.keys == []


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_leaves_nothing(world: CreateWorld, name: signal.Signals) -> None:
    process = world.create()
    process.send_signal(name)
    ended, out, _ = world.end(process)
    assert (ended, out) == (130 if name is signal.SIGINT else 143, "")
    assert world.keys == []


def test_an_interruption_while_the_code_is_exchanged_leaves_nothing(world: CreateWorld) -> None:
    world.github.fault(method="POST", path="conversions", delay_s=5)
    process = world.create()
    good = world.browser.confirm(world.page)
    reader = threading.Thread(target=lambda: world.browser.open(good))
    reader.start()
    world.wait(lambda: world.keys, "the code is exchanged")
    process.send_signal(signal.SIGTERM)
    assert world.end(process)[0] == 143
    reader.join()
    assert world.keys == []


def test_a_file_that_exists_is_never_replaced_and_no_app_is_made_for_it(world: CreateWorld) -> None:
    (world.folder / "keys").mkdir()
    taken = world.folder / "keys" / "github-app.private-key.pem"
    taken.symlink_to(world.folder / "elsewhere")
    done = world.cli("app", "create", "--org", "acme", "--url", world.root, "--dir", str(world.manifests), "--no-browser")
    assert done.returncode == 1
    assert "RC4206" in done.stderr
    assert world.requests() == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("--event", "issue_comment"),
            "RC4201: the event 'issue_comment' needs the permission issues: read or pull_requests: read",
        ),
        (("--event", "psuh"), "Did you mean 'push'?"),
        (("--event", "team"), "no App can subscribe"),
        (("--permission", "check=write"), "Did you mean 'checks'?"),
        (("--permission", "checks=admin"), "RC4202: 'admin' is not a level"),
        (("--permission", "workflows=read"), "Its levels: write."),
        (("--permission", "checks"), "is not NAME=LEVEL"),
        (("--name", "x" * 35), "RC4202"),
        (("--user", "octocat"), "--org or --user"),
        (("--org", "a/b"), "is not the name of an account"),
        (("--url", "ftp://x"), "is not the root of a web site"),
        (("--exit-code",), "--exit-code goes with `app status`"),
    ],
)
def test_what_github_would_refuse_is_refused_before_anything_is_sent(
    world: CreateWorld, arguments: tuple[str, ...], said: str
) -> None:
    place = ("--org", "acme", "--url", world.root, "--dir", str(world.manifests), "--no-browser")
    done = world.cli("app", "create", *place, *arguments)
    assert done.returncode in {1, 64}
    assert said in done.stderr
    assert world.requests() == []
    assert world.keys == []


def test_options_add_permissions_and_events(world: CreateWorld) -> None:
    process = world.create("--permission", "checks=write", "--permission", "webhooks=read", "--event", "check_run", "--event", "PUSH",
                           "--permission", "contents=read", "--name", "Deploy bot")  # fmt: skip
    asked = world.asked()
    assert asked["default_permissions"] == {"checks": "write", "contents": "read", "metadata": "read", "repository_hooks": "read"}
    assert asked["default_events"] == ["check_run", "push", "repository"]
    assert (asked["name"], asked["public"]) == ("Deploy bot", False)
    process.terminate()
    world.end(process)
