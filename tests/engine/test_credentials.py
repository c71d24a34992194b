"""Credentials through the real program: five answers, one alert with all that depends on it, rotation, expiry, and no value anywhere."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from reconciler.engine.credentials import announcements
from reconciler.engine.reconcile import ReconcileResult
from reconciler.model.errors import AuthFailed, ReconcilerError
from reconciler.model.records import CredentialAlert
from reconciler.model.resources import ResourceId
from reconciler.model.status import CredentialReport
from reconciler.model.times import epoch_of
from tests.engine.world import TOKENS, World

ALL = ("github", "semaphore", "buddy", "gitlab", "dockerhub", "newrelic", "digitalocean")
STAGE = """kind: Stage
metadata: {name: deploy}
spec:
  connections: [{type: event-source, name: web}]
  executor: {type: noop}"""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    made.repos("web")
    made.source("web")
    made.write("stage.yaml", STAGE)
    yield made
    made.close()


@pytest.fixture
def gitlab(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, providers=("gitlab",))
    yield made
    made.close()


def lines(text: str, event: str) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return [row for row in rows if row.get("event") == event]


def expiring(world: World, **ahead: float) -> list[dict[str, Any]]:
    end = (datetime.now(UTC) + timedelta(**ahead)).date().isoformat()
    world.servers["gitlab"].admin.put_state({"tokens": {TOKENS["gitlab"]: {"expires_at": end}}})
    done = world.cli("run", "--once")
    assert done.returncode == 0, done.stderr
    return lines(done.stderr + done.stdout, "credential_expiring")


def secret_from(world: World, how: str, path: Path) -> None:
    if how == "file":
        world.configure(secrets=f'{{folder: "{path.parent}"}}')
        world.write(
            "secrets.yaml",
            f"kind: Secret\nmetadata: {{name: github}}\nspec: {{provider: file, data: {{token: {{path: {path.name}}}}}}}",
        )
    else:
        world.extra_env |= {"RECONCILER_SECRET_GITHUB": "", "RECONCILER_SECRET_GITHUB_FILE": str(path)}


@pytest.mark.parametrize("how", ["file", "env-file"])
def test_a_dead_credential_is_one_alert_and_recovers_without_a_commit(world: World, tmp_path: Path, how: str) -> None:
    secret = tmp_path / "secrets" / "github"
    secret.parent.mkdir()
    secret.write_text("wrong-canary-1b7e")
    secret.chmod(0o600)
    secret_from(world, how, secret)
    world.configure(**({"secrets": f'{{folder: "{secret.parent}"}}'} if how == "file" else {}), log="{format: json}")
    world.daemon()
    world.wait(lambda: (world.condition("Integration", "github", "CredentialsValid") or {}).get("reason") == "Refused", "refused")
    time.sleep(7)  # three intervals
    refused = [row for row in world.requests() if row["status"] == 401]
    assert len(refused) == 1
    (alert,) = lines(world.log(), "credential_refused")
    assert alert["affected"] >= 2
    assert "EventSource/web" in alert["resources"]
    assert "Stage/deploy" in alert["resources"]
    assert not lines(world.log(), "integration_failed")
    (row,) = world.status()["credentials"]
    assert (row["valid"], row["unknown"]["identity"]) == (False, "the credential is refused")
    secret.write_text(TOKENS["github"])
    world.wait(world.all_ready, "green without a commit", 20)
    assert len(lines(world.log(), "credential_accepted")) == 1
    assert "wrong-canary-1b7e" not in world.log()


def test_a_replaced_secret_is_used_within_one_interval_though_the_old_one_still_works(world: World, tmp_path: Path) -> None:
    secret = tmp_path / "secrets" / "github"
    secret.parent.mkdir()
    secret.write_text(TOKENS["github"])
    secret.chmod(0o600)
    secret_from(world, "env-file", secret)
    world.daemon()
    world.wait(world.all_ready, "ready")
    first = {row["headers"].get("authorization") for row in world.requests()}
    state = world.servers["github"].admin.state()
    world.servers["github"].admin.put_state({"tokens": {"canary-second-9d21": state["tokens"][TOKENS["github"]]}})
    secret.write_text("canary-second-9d21")
    world.forget_requests()
    world.wait(lambda: {row["headers"].get("authorization") for row in world.requests()} - first, "the new token is used", 30)
    assert "canary-second-9d21" not in world.log()


def test_an_end_is_announced_once_for_each_threshold_also_over_restarts(gitlab: World) -> None:
    gitlab.configure(log="{format: json}")
    assert expiring(gitlab, days=40) == []
    assert [row["days"] for row in expiring(gitlab, days=12)] == [14]
    assert expiring(gitlab, days=12) == []
    assert [row["days"] for row in expiring(gitlab, days=6)] == [7]
    condition = gitlab.condition("Integration", "gitlab", "CredentialsValid")
    assert condition is not None
    assert (condition["status"], condition["reason"]) == ("True", "Expiring")
    assert "in 7 days or less" in condition["message"]
    assert expiring(gitlab, days=6) == []
    assert [row["days"] for row in expiring(gitlab, days=1)] == [1]
    assert expiring(gitlab, days=300) == []
    assert [row["days"] for row in expiring(gitlab, days=1)] == [1]  # another end


def result(expires_at: str = "", error: ReconcilerError | None = None) -> ReconcileResult:
    report = CredentialReport(True, "me", expires_at) if error is None else None
    return ReconcileResult(ResourceId("Integration", "default", "x"), error=error, credential=report)


def test_what_is_announced_depends_on_what_was_announced() -> None:
    now, alert = epoch_of("2030-01-01T00:00:00Z"), CredentialAlert()

    def said(end: str = "", error: ReconcilerError | None = None, later_days: float = 0.0) -> list[Any]:
        nonlocal alert
        alert, events = announcements(result(end, error), alert, now + later_days * 86_400)
        return [fields.get("days", name) for name, fields in events]

    assert said("2030-02-01T00:00:00Z") == []
    assert said("2030-01-10T00:00:00Z") == [14]
    assert said("2030-01-10T00:00:59Z") == []  # the same end, told in seconds that are left
    assert said("2030-01-10T00:00:00Z", later_days=4) == [7]
    assert said("2030-01-10T00:00:00Z", later_days=1) == []  # the clock was set back
    assert said("2030-01-10T00:00:00Z", later_days=4) == []
    assert said(error=AuthFailed("no"), later_days=5) == ["credential_refused"]
    assert said(error=AuthFailed("no"), later_days=5) == []
    assert said("2030-01-10T00:00:00Z", later_days=5) == ["credential_accepted"]
    assert said("2030-01-10T00:00:00Z", later_days=8.5) == [1]
    assert said("2030-01-10T00:00:00Z", later_days=10) == []
    assert said("2030-04-10T00:00:00Z", later_days=10) == []  # renewed
    assert said("2030-04-10T00:00:00Z", later_days=95) == [7]
    assert said("not a time", later_days=95) == []


def test_five_answers_for_every_credential_and_no_value_anywhere(tmp_path: Path) -> None:
    world = World(tmp_path, providers=ALL)
    try:
        done = world.cli("run", "--once")
        assert done.returncode == 0, (done.stdout, done.stderr)
        rows = {row["name"].rpartition("/")[2]: row for row in world.status()["credentials"]}
        assert set(rows) == set(ALL)
        for row in rows.values():
            assert row["valid"] is True
            answered = {"identity": row["identity"], "granted": row["granted"], "expiresAt": row["expiresAt"]}
            for question, answer in answered.items():
                assert answer or row["unknown"].get(question), (row["name"], question)
        shown = world.cli("credentials")
        assert shown.returncode == 0, shown.stderr
        table = [line for line in shown.stdout.splitlines() if line.startswith(tuple(f"Integration/{name} " for name in ALL))]
        assert len(table) == len(ALL)
        for line in table:
            assert len(re.split(r" {2,}", line)) == 6
        assert "New Relic tells no end of a user key" in " ".join(shown.stdout.split())
        doctor = world.cli("doctor")
        assert doctor.returncode == 0, doctor.stdout
        assert "unknown" in doctor.stdout
        outputs = [
            done,
            shown,
            doctor,
            world.cli("status"),
            world.cli("status", "-o", "json"),
            world.cli("credentials", "-o", "json"),
        ]
        outputs += [world.cli("plan"), world.cli("history"), world.cli("explain", "Integration/gitlab")]
        said = "".join(each.stdout + each.stderr for each in outputs).encode()
        for folder, _, names in os.walk(world.folder / "state"):
            said += b"".join((Path(folder) / name).read_bytes() for name in names if (Path(folder) / name).is_file())
        for token in TOKENS.values():
            assert token.encode() not in said
    finally:
        world.close()


def test_the_calendar_shows_what_stops_and_unknown_ends(gitlab: World) -> None:
    end = (datetime.now(UTC) + timedelta(days=10)).date().isoformat()
    gitlab.servers["gitlab"].admin.put_state({"tokens": {TOKENS["gitlab"]: {"expires_at": end}}})
    gitlab.write("stage.yaml", STAGE.replace("[{type: event-source, name: web}]", "[{type: event-source, name: hourly}]"))
    gitlab.write("hourly.yaml", "kind: EventSource\nmetadata: {name: hourly}\nspec: {type: manual}")
    assert gitlab.cli("run", "--once").returncode == 0
    shown = gitlab.cli("credentials", "--until", "30d").stdout
    assert f"{end}  9 days" in shown
    assert "nothing that has a known end stops within 5d" in gitlab.cli("credentials", "--until", "5d").stdout
    answer = json.loads(gitlab.cli("credentials", "-o", "json").stdout)
    assert [row["credential"] for row in answer["calendar"]] == ["Integration/gitlab"]
    assert gitlab.cli("credentials", "--until", "soon").returncode != 0
    gitlab.servers["gitlab"].admin.put_state({"tokens": {TOKENS["gitlab"]: {"expires_at": None}}})
    assert gitlab.cli("run", "--once").returncode == 0
    assert json.loads(gitlab.cli("credentials", "-o", "json").stdout)["unknownEnds"] == ["Integration/gitlab"]
