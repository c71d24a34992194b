"""`plan` and `apply` as people and CI run them: the plan that was shown is what runs, and what could not be read is said first."""

import json
import re
import subprocess
import time
from collections.abc import Callable

import pytest

from tests.engine.world import World
from tests.support.terminal import on_a_terminal

REFUSED = {"RECONCILER_SECRET_GITHUB": "wrong-token-canary-9"}


def beside(world: World, *arguments: str, when: Callable[[], bool], do: Callable[[], None]) -> tuple[int, str, str]:
    """Run a command; once ``when`` holds, ``do`` something at the provider."""
    process = subprocess.Popen(
        world.command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=world.env, cwd=world.folder, text=True
    )
    world.processes.append(process)
    deadline = time.monotonic() + 60
    while not when() and time.monotonic() < deadline:
        time.sleep(0.02)
    do()
    out, err = process.communicate(timeout=90)
    return process.returncode, out, err


def methods(world: World) -> list[str]:
    return [row["method"] for row in world.writes()]


@pytest.fixture
def drifting(world: World) -> World:
    """Two hooks applied, and one update committed."""
    world.source("one")
    world.source("two")
    assert world.cli("run", "--once").returncode == 0
    world.source("one", events="[{type: push}, {type: release}]")
    world.forget_requests()
    return world


def test_n0_what_is_answered_with_yes_is_what_was_shown(drifting: World) -> None:
    code, text = on_a_terminal(drifting.command("apply"), drifting.env, drifting.folder, lambda: drifting.set_hooks("two", []))
    assert code == 6, text
    assert methods(drifting) == ["PATCH"]
    assert drifting.hooks("two") == []
    assert "RC6040" in text
    assert re.search(r"~ EventSource/one github/repository-webhook\[acme/one\]: updating… done after \d+\.\d s \(id \d+\)", text)
    assert re.search(r"create +EventSource/two github/repository-webhook", text)
    assert "reconciler plan" in text
    assert "✗ 1 applied, 0 failed, 0 blocked, 1 moved" in text


def test_n0_a_reviewed_digest_is_executed_as_reviewed_also_where_the_api_is_slow(drifting: World) -> None:
    digest = json.loads(drifting.cli("plan", "-o", "json").stdout)["sha256"]
    drifting.servers["github"].admin.fault(method="PATCH", path="/repos/acme/one/hooks", commit=True, delay_s=1.5)
    drifting.forget_requests()
    code, out, err = beside(
        drifting,
        "apply",
        "--plan",
        digest,
        when=lambda: "release" in drifting.hooks("one")[0]["events"],  # written, and not answered yet
        do=lambda: drifting.set_hooks("two", []),
    )
    assert code == 6, err
    assert methods(drifting) == ["PATCH"]
    assert "acme/two" in err
    assert "1 applied, 0 failed, 0 blocked, 1 moved" in out


def test_n0_the_last_line_counts_every_round(world: World) -> None:
    world.servers["github"].admin.settings(accept_duplicates=True)
    for name in ("one", "two", "three"):
        world.source(name)
    world.servers["github"].admin.fault(method="POST", path="/repos/acme/one/hooks", effect="reset", commit=True)
    done = world.cli("apply", "--yes", "-o", "json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["failed"], document["blocked"], document["moved"]) == (0, 0, [])
    assert {row["address"].rpartition("[")[2] for row in document["applied"]} == {"acme/one]", "acme/two]", "acme/three]"}
    again = world.cli("apply", "--yes")
    assert (again.returncode, again.stdout.splitlines()[-1]) == (0, "✓ nothing to do")


def test_n0_rebuild_records_what_it_showed_and_makes_nothing_else(world: World) -> None:
    world.source("one")
    assert world.cli("apply", "--yes").returncode == 0
    for path in (world.folder / "state").glob("state.db*"):
        path.unlink()
    world.forget_requests()
    done = world.cli("recover", "--yes")
    assert done.returncode == 0, done.stderr
    assert "1 object found again, 0 not found, 0 failed" in done.stdout
    assert world.writes() == []


def test_n0_approving_a_blocked_set_without_a_daemon_runs_that_set_only(world: World) -> None:
    world.source("one", more="  lifecycle: {preventDestroy: true}\n")
    assert world.cli("run", "--once").returncode == 0
    world.remove("one")
    world.source("two")
    document = json.loads(world.cli("plan", "-o", "json").stdout)
    digest = next(plan["blocked"]["sha256"] for plan in document["plans"] if plan["blocked"])
    world.forget_requests()
    done = world.cli("approve", digest)
    assert done.returncode == 0, done.stderr
    assert methods(world) == ["DELETE"]
    assert world.hooks("two") == []


def test_n0_apply_beside_a_running_daemon_writes_nothing_and_names_it(world: World) -> None:
    process = world.daemon()
    world.wait(lambda: world.status()["resources"], "the daemon runs")
    done = world.cli("apply", "--yes")
    assert done.returncode == 1
    assert str(process.pid) in done.stderr
    assert world.writes() == []


# ---- what could not be read


def broken(world: World, how: str) -> dict[str, str]:
    """Make something unreadable that the plan needs; returns the environment to run with."""
    admin = world.servers["github"].admin
    if how == "a refused token":
        return REFUSED
    if how == "a missing variable":
        return {"RECONCILER_SECRET_GITHUB": ""}
    if how == "a repository that answers 404":
        admin.fault(method="GET", path="/repos/acme/one", times=0, status=404, body={"message": "Not Found"})
    else:
        admin.fault(method="GET", path="/repos/acme/one/hooks", times=0, status=503, body="busy")
    return {}


@pytest.mark.parametrize("how", ["a refused token", "a missing variable", "a repository that answers 404", "a 503"])
def test_n8_what_could_not_be_read_is_an_error_before_all_and_every_format_names_it(world: World, how: str) -> None:
    world.source("one")
    world.source("two")
    assert world.cli("run", "--once").returncode == 0
    env = broken(world, how)
    for verb in ("plan", "drift"):
        done = world.cli(verb, "--detailed-exitcode", env=env)
        assert done.returncode == 1, (verb, done.stdout, done.stderr)
        assert "could not be read" in done.stdout
        code = re.search(r"RC\d{4}", done.stdout)
        assert code is not None
    plain = world.cli("plan", env=env)
    assert "could not be read" in plain.stdout
    assert json.loads(world.cli("plan", "-o", "json", env=env).stdout)["unread"][0]["code"] == code[0]
    assert code[0] in world.cli("plan", "-o", "markdown", env=env).stdout
    assert re.search(rf"^::error .*title={code[0]}::", world.cli("plan", "-o", "github", env=env).stdout, re.MULTILINE)
    sarif = json.loads(world.cli("plan", "-o", "sarif", env=env).stdout)
    assert code[0] in {result["ruleId"] for result in sarif["runs"][0]["results"]}


def test_n8_apply_never_says_nothing_to_do_of_what_it_could_not_read(world: World) -> None:
    world.source("one")
    assert world.cli("run", "--once").returncode == 0
    done = world.cli("apply", "--yes", env=REFUSED)
    assert done.returncode == 6
    assert "✓" not in done.stdout
    assert done.stdout.splitlines()[-1].startswith("✗ 0 applied")
    assert "could not be read" in done.stdout.splitlines()[-1]


def test_n8_the_last_line_is_never_green_where_the_exit_code_is_not_0(world: World) -> None:
    world.set_hooks(
        "one", [{"id": 5, "name": "web", "active": True, "events": ["push"], "config": {"url": "https://x.example/"}}]
    )
    world.source("one", more="  lifecycle: {adopt: always, externalId: '999'}")
    for _ in range(2):  # the first puts the manifests in force; the second has nothing else to say
        done = world.cli("apply", "--yes")
        assert (done.returncode, done.stdout.splitlines()[-1]) == (
            6,
            "✗ 0 applied, 0 failed, 0 blocked, 0 moved, 1 in conflict or refused",
        )
    world.source("one", events="[{type: nonsense}]")
    done = world.cli("apply", "--yes")
    assert done.returncode == 5
    assert "✓" not in done.stdout


def test_n20_a_new_manifest_shows_what_it_declares_and_no_empty_lifecycle(world: World) -> None:
    world.source("one")
    world.source("two", more="  lifecycle: {preventDestroy: true}")
    shown = world.cli("plan").stdout
    assert "/lifecycle: {}" not in shown
    assert "/lifecycle/preventDestroy: true" in shown


def test_n8_sweep_rebuild_accept_drift_and_status_do_not_call_the_unreadable_clean(world: World) -> None:
    world.source("one")
    assert world.cli("run", "--once").returncode == 0
    env = REFUSED
    swept = world.cli("orphans", env=env)
    assert swept.returncode == 1
    assert "could not be read" in swept.stdout
    accepted = world.cli("accept-drift", "EventSource/one", "--dir", str(world.manifests), env=env)
    assert accepted.returncode == 1
    assert "no drift" not in accepted.stdout
    assert world.cli("recover", "--yes", env=env).returncode == 6
    assert world.cli("run", "--once", env=env).returncode == 6
    assert world.cli("status", "--exit-code").returncode == 2


def test_n8_a_plan_without_credentials_names_what_it_could_not_compile(world: World) -> None:
    from tests.support.gitrepo import GitRepo

    repo = GitRepo(world.folder / "repo.git")
    repo.commit({path.name: path.read_text() for path in world.manifests.iterdir()}, "first")
    repo.commit({"gitlab.yaml": GITLAB, "source-one.yaml": SOURCE}, "second")
    world.configure(source=str(repo.path))
    done = world.cli("plan", "--base", "main~1", "--detailed-exitcode")
    assert done.returncode == 1, done.stdout
    assert "gitlab.yaml" in done.stdout
    assert "1 could not be read" in done.stdout


GITLAB = (
    "kind: Integration\nmetadata: {name: gitlab}\nspec: {type: gitlab, url: 'https://gitlab.com/acme', auth: "
    "{use: token, token: {valueFrom: {secret: {name: github, key: token}}}}}\n"
)
SOURCE = (
    "kind: EventSource\nmetadata: {name: one}\nspec:\n  integration: {name: gitlab}\n"
    "  resource: {type: project, name: one}\n  events: [{type: push}]\n"
)


# ---- the first plan


def test_n49_the_digest_of_the_first_plan_approves_it(world: World) -> None:
    world.source("one")
    planned = world.cli("plan", "-o", "json")
    document = json.loads(planned.stdout)
    assert document["approvable"] is True
    key = world.folder / "state" / "master.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert not (world.folder / "state" / "state.db").exists()
    assert "approves nothing" not in world.cli("plan").stdout
    assert json.loads(world.cli("plan", "-o", "json").stdout)["sha256"] == document["sha256"]
    done = world.cli("apply", "--plan", document["sha256"])
    assert done.returncode == 0, done.stderr
    assert len(world.hooks("one")) == 1


def test_n49_where_no_key_can_be_made_the_digest_says_that_it_approves_nothing(world: World) -> None:
    world.source("one")
    (world.folder / "file").write_text("not a folder")
    world.configure(masterKey="{file: file/master.key}")
    planned = world.cli("plan", "-o", "json")
    assert planned.returncode == 0, planned.stderr
    assert json.loads(planned.stdout)["approvable"] is False
    assert "approves nothing" in planned.stderr


# ---- what a pass says of itself


def test_n47_the_daemon_s_summary_says_how_long_the_slices_took(world: World) -> None:
    world.source("one")
    world.servers["github"].admin.fault(method="POST", path="/repos/acme/one/hooks", delay_s=0.3)
    world.daemon()
    world.wait(world.all_ready, "ready")
    world.wait(lambda: "pass_finished" in world.log(), "a summary")
    rows = [json.loads(line) for line in world.log().splitlines() if line.startswith("{") and "pass_finished" in line]
    assert max(row["duration_ms"] for row in rows if row["changed"]) >= 300
    assert all(row["duration_ms"] > 0 for row in rows)
