"""The daemon as its users meet it: commits, folders, broken files, limits, commands, signals."""

import contextlib
import getpass
import json
import signal
import sqlite3
import stat
import time
import urllib.request

import pytest

from tests.engine.world import TOKENS, World
from tests.support.githttp import GitHttpServer
from tests.support.gitrepo import GitRepo


def running(world: World) -> None:
    world.process = world.daemon()
    world.wait(world.all_ready, "all ready")


def test_a_saved_file_is_acted_on_at_once_although_the_next_pass_is_an_hour_away(world: World) -> None:
    world.configure(source=str(world.manifests), reconcile="{interval: 1h, settle: 2s}")
    world.source("one")
    running(world)
    world.source("two")
    world.wait(lambda: world.hooks("two"), "the second hook")


@pytest.mark.fault
def test_c5_an_emptied_folder_changes_nothing(world: World) -> None:
    world.source("one")
    running(world)
    for path in world.manifests.iterdir():
        path.unlink()
    world.wait(lambda: world.status()["source"].get("error"), "the refusal in the status file")
    assert world.hooks("one")
    world.source("one")


@pytest.mark.fault
def test_c6_a_mass_deletion_is_blocked_until_its_digest_is_approved(world: World) -> None:
    names = [f"r{i}" for i in range(10)]
    world.repos(*names)
    for name in names:
        world.source(name)
    running(world)
    for name in names[:5]:
        world.remove(name)
    plan = world.wait(lambda: next((p for p in world.status()["plans"] if p["blocked"]), None), "the blocked plan")
    time.sleep(3)
    assert all(world.hooks(name) for name in names)
    assert world.condition("EventSource", "r0", "PlanBlocked")["status"] == "True"
    assert world.cli("plan", "--detailed-exitcode").returncode == 4
    assert world.cli("approve", "sha256:" + "0" * 64).returncode == 1
    approved = world.cli("approve", plan["blocked"]["sha256"])
    assert approved.returncode == 0, approved.stderr
    world.wait(lambda: not any(world.hooks(name) for name in names[:5]), "the approved deletes")
    assert all(world.hooks(name) for name in names[5:])
    world.wait(world.all_ready, "ready again")


@pytest.mark.fault
def test_c7_one_bad_file_leaves_its_resource_at_its_last_spec_and_prunes_nothing(world: World) -> None:
    for name in ("one", "two"):
        world.source(name)
    running(world)
    world.write(
        "source-one.yaml",
        "kind: EventSource\nmetadata: {name: one}\nspec:\n  integration: {name: github}\n  recource: {type: repository, name: one}",
    )
    world.remove("two")
    world.source("three")
    world.wait(lambda: world.hooks("three"), "the good file is applied")
    world.wait(lambda: (world.condition("EventSource", "one") or {}).get("reason") == "InvalidManifest", "the bad one says so")
    assert world.hooks("one")
    assert world.hooks("two")
    world.source("one")
    world.wait(lambda: not world.hooks("two"), "the mended revision prunes")


def test_a_commit_over_http_is_applied_and_a_rewritten_history_is_survived(world: World) -> None:
    remotes = world.folder / "remotes"
    remotes.mkdir()
    repo = GitRepo(remotes / "m.git")
    with GitHttpServer(remotes) as server:
        world.configure(source=server.url("m.git"))
        files = {path.name: path.read_text() for path in world.manifests.iterdir()}
        world.source("one")
        first = {**files, "one.yaml": (world.manifests / "source-one.yaml").read_text()}
        repo.commit(first, "first")
        running(world)
        world.source("two")
        head = repo.commit({"two.yaml": (world.manifests / "source-two.yaml").read_text()}, "second")
        world.wait(lambda: world.hooks("two"), "the second commit")
        world.wait(lambda: world.status()["source"]["lastApplied"].endswith(head), "lastApplied")
        server.status = 503
        world.wait(lambda: world.status()["source"]["error"], "the failing remote is shown")
        world.set_hooks("one", [])
        world.wait(lambda: world.hooks("one"), "drift is repaired while Git is away")
        server.status = 0
        world.wait(lambda: not world.status()["source"]["error"], "the remote is back")


def test_suspend_stops_writes_is_never_green_and_resume_ends_it(world: World) -> None:
    world.source("one")
    running(world)
    assert world.cli("suspend", "EventSource/one", "--reason", "incident 7").returncode == 0
    world.wait(lambda: (world.condition("EventSource", "one") or {}).get("status") == "Unknown", "Ready is Unknown")
    world.set_hooks("one", [])
    time.sleep(4)
    assert world.hooks("one") == []
    assert "incident 7" in world.condition("EventSource", "one", "Suspended")["message"]
    assert world.cli("status", "--exit-code").returncode == 2
    assert world.cli("resume", "EventSource/one").returncode == 0
    world.wait(lambda: world.hooks("one"), "repaired after resume")
    assert world.cli("resume", "EventSource/one").returncode == 1


def test_reconcile_waits_for_the_look_and_explain_and_history_tell_the_story(world: World) -> None:
    world.source("one")
    running(world)
    time.sleep(3)  # seen in a list since it was made: from now on its absence counts at once
    world.set_hooks("one", [])
    done = world.cli("reconcile", "EventSource/one", "--wait")
    assert world.hooks("one"), done.stdout
    told = world.cli("explain", "eventsource/one")
    assert told.returncode == 0, told.stderr
    assert "source-one.yaml:1" in told.stdout
    assert "drift" in told.stdout
    rows = json.loads(world.cli("history", "EventSource/one", "-o", "json").stdout)["rows"]
    assert [row["outcome"] for row in rows if row["outcome"]][:2] == ["done", "intent"]
    assert [row["actor"] for row in rows if row["verb"] == "reconcile"] == [getpass.getuser()]
    assert world.cli("history", "--verify").returncode == 0
    assert world.cli("reconcile", "EventSource/nosuch").returncode == 1


@pytest.mark.fault
def test_f2_f3_a_broken_configuration_on_reload_changes_nothing_and_a_good_one_is_taken(world: World) -> None:
    world.source("one")
    running(world)
    good = world.config.read_text()
    world.config.write_text(good + "reconsile: {}\n")
    world.process.send_signal(signal.SIGHUP)
    world.wait(lambda: "reload_refused" in world.log(), "the refusal")
    assert world.process.poll() is None
    world.config.write_text(good.replace("interval: 2s", "interval: 3s"))
    world.process.send_signal(signal.SIGHUP)
    world.wait(lambda: world.log().count("daemon_started") == 2, "a second life with the new configuration")
    world.set_hooks("one", [])
    world.wait(lambda: world.hooks("one"), "it goes on")
    assert world.process.poll() is None


@pytest.mark.fault
def test_f5_no_secret_stands_in_any_output_or_in_any_byte_of_the_state(wide: World) -> None:
    wide.source("one")
    wide.write(
        "pipelines.yaml",
        "kind: EventSource\nmetadata: {name: pipelines}\nspec: {integration: {name: semaphore}, resource: {type: project, name: payments}}",
    )
    running(wide)
    outputs = [
        wide.cli(*words)
        for words in (
            ("status",),
            ("status", "-o", "json"),
            ("plan",),
            ("plan", "-o", "json"),
            ("explain", "EventSource/one"),
            ("history",),
            ("doctor",),
        )
    ]
    signing = wide.cli("signing-key", "EventSource/one").stdout.strip()
    assert len(signing) >= 32
    wide.process.terminate()
    wide.process.wait()
    secrets = [*(token.encode() for token in TOKENS.values()), signing.encode()]
    data = [(out.stdout + out.stderr).encode() for out in outputs]
    data += [path.read_bytes() for path in wide.folder.rglob("*") if path.is_file() and "remotes" not in path.parts]
    for secret in secrets:
        assert not any(secret in one for one in data)
    for path in (wide.folder / "state").iterdir():
        if path.is_file():
            assert stat.S_IMODE(path.stat().st_mode) & 0o007 == 0, path


def test_doctor_is_healthy_although_only_the_running_daemon_can_read_a_secret(world: World) -> None:
    running(world)
    world.extra_env = {"RECONCILER_SECRET_GITHUB": ""}
    done = world.cli("doctor")
    assert done.returncode == 0, done.stdout
    assert "not checked here: Secret/github key 'token'" in done.stdout
    assert "The running daemon acts as sandbox-bot" in done.stdout
    world.extra_env = {"RECONCILER_SECRET_GITHUB": "a-token-that-is-refused"}
    assert world.cli("doctor").returncode == 1
    world.extra_env = {"RECONCILER_SECRET_GITHUB": ""}
    world.process.kill()
    world.process.wait()
    assert world.cli("doctor").returncode == 1


def test_healthz_readyz_and_metrics_answer(world: World) -> None:
    world.configure(source=str(world.manifests), server='{listen: "127.0.0.1:18473", publicUrl: "https://hooks.example"}')
    world.source("one")
    running(world)
    base = "http://127.0.0.1:18473"
    assert urllib.request.urlopen(f"{base}/healthz").read() == b"ok\n"
    assert urllib.request.urlopen(f"{base}/readyz").status == 200
    text = urllib.request.urlopen(f"{base}/metrics").read().decode()
    assert 'reconciler_resources{condition="Ready",kind="EventSource",status="True"} 1.0' in text
    assert 'reconciler_resources{condition="Ready",kind="EventSource",status="False"} 0.0' in text
    assert 'reconciler_resources{condition="Drifted",kind="EventSource",status="True"} 0.0' in text
    assert 'reconciler_apply_operations_total{action="create",outcome="done",type="github/repository-webhook"} 1.0' in text
    assert world.cli("healthcheck").returncode == 0


@pytest.mark.fault
def test_b11_the_requests_and_leases_may_be_lost_and_everything_goes_on(world: World) -> None:
    world.source("one")
    running(world)
    world.process.send_signal(signal.SIGKILL)
    world.process.wait()
    with contextlib.closing(sqlite3.connect(world.folder / "state" / "state.db")) as connection, connection:
        connection.execute("DELETE FROM reconcile_request")
        connection.execute("DELETE FROM lease")
    world.set_hooks("one", [])
    world.process = world.daemon()
    world.wait(lambda: world.hooks("one"), "repaired after the restart")


def test_a_rename_with_moved_from_keeps_the_hook(world: World) -> None:
    world.source("one", name="old")
    running(world)
    before = world.hooks("one")[0]["id"]
    world.remove("old")
    world.source("one", name="new", more="  lifecycle: {movedFrom: old}\n")
    world.wait(lambda: (world.condition("EventSource", "new") or {}).get("status") == "True", "the new name is Ready")
    assert [h["id"] for h in world.hooks("one")] == [before]
    assert world.requests("github", "DELETE") == []


@pytest.mark.fault
def test_a1_a_daemon_killed_within_a_slice_goes_on_with_that_integration_after_a_restart(world: World) -> None:
    """The lease of the killed process must not delay its successor."""
    world.source("one")
    running(world)
    world.servers["github"].admin.settings(latency_s=1.5)
    world.wait(lambda: "daemon_started" in world.log(), "started")
    time.sleep(2.5)  # within a slice, which now takes longer than the interval
    world.process.send_signal(signal.SIGKILL)
    world.process.wait()
    world.servers["github"].admin.settings(latency_s=0)
    world.set_hooks("one", [])
    world.process = world.daemon()
    world.wait(lambda: world.hooks("one"), "repaired after the restart", 20)


def test_a_first_start_without_a_source_binds_the_state_to_nobody_and_a_used_state_stays_its_owners(world: World) -> None:
    world.source("one")
    good = world.config.read_text()
    world.config.write_text(good.replace("owner: ", "owner: typo"))
    world.config.write_text("\n".join(row for row in world.config.read_text().splitlines() if not row.startswith("source:")))
    done = world.cli("run")
    assert (done.returncode, "source.url is not set" in done.stderr) == (78, True), done.stderr
    world.config.write_text(good)
    running(world)
    world.process.terminate()
    assert world.process.wait(30) == 0
    world.config.write_text(good.replace("owner: ", "owner: typo"))
    done = world.cli("run")
    assert (done.returncode, "RC7010" in done.stderr) == (78, True), done.stderr
