"""Every verb as a user calls it: what it prints, what it writes, what it exits with."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.cli.main import build_parser, main
from reconciler.cli.tables import short_revision
from reconciler.cli.verbs import VERBS
from tests.engine.world import OWNER, World
from tests.support.gitrepo import GitRepo

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str, cwd: Path | None = None, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "reconciler", *arguments], capture_output=True, text=True, cwd=cwd, **options)  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize(
    "arguments",
    [["plan", "--nonsense"], ["nonsense"], ["apply", "--plan"], ["status", "-o", "xml"], ["suspend", "EventSource/x"]],
)
def test_wrong_usage_exits_64_and_says_how_to_get_help(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 64
    assert "RC3001" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "guess"),
    [
        (["statsu"], "reconciler: RC3001: no verb 'statsu'\n  Did you mean status? Try 'reconciler --help'."),
        (["plan", "--detailed-exit-code"], "Did you mean --detailed-exitcode? Try 'reconciler plan --help'."),
        (["xyz", "plan"], "reconciler: RC3001: no verb 'xyz'\n  Try 'reconciler --help'."),
        (["plan", "--nope=1"], "reconciler plan: RC3001: unrecognized arguments: --nope=1\n  Try 'reconciler plan --help'."),
        (["schema", "stge"], "Did you mean Stage?"),
        (["sandbox", "gitub"], "Did you mean github?"),
    ],
)
def test_wrong_usage_names_the_nearest_word_and_the_help_of_its_verb(arguments: list[str], guess: str) -> None:
    done = run(*arguments)
    assert done.returncode == 64
    assert guess in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["events", "--limit", "-5"],
        ["executions", "--limit", "0"],
        ["history", "--limit", "many"],
        ["reconcile", "EventSource/x", "--timeout", "-1"],
        ["rerun", "itm-x", "--wait", "--timeout", "nan"],
        ["trigger", "x", "--timeout", "inf"],
        ["healthcheck", "--max-age", "0"],
        ["sandbox", "--port", "65536"],
    ],
)
def test_a_number_out_of_range_is_wrong_usage(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 64
    assert f"{arguments[-1]!r} must be a" in done.stderr


def test_the_value_of_an_option_is_not_the_verb(tmp_path: Path) -> None:
    for option in ("--config", "--conf"):
        done = run(option, "plan", "status", "--exit-code", cwd=tmp_path)
        assert (done.returncode, "RC3010" in done.stderr) == (1, True), done.stderr


def test_no_line_of_any_help_is_wider_than_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for arguments in ([], *([verb.name] for verb in VERBS)):
        assert main([*arguments, "--help"]) == 0
        shown = capsys.readouterr().out
        assert shown.startswith("usage: reconciler")
        assert [line for line in shown.splitlines() if len(line) > 80] == []
    monkeypatch.setenv("COLUMNS", "40")
    assert main(["--help"]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if len(line) > 40] == []


def test_every_verb_has_a_module_with_its_function_and_help() -> None:
    import importlib

    for verb in VERBS:
        module = importlib.import_module(f"reconciler.cli.{verb.module}")
        assert callable(getattr(module, verb.function or verb.name.replace("-", "_"))), verb.name
        assert verb.help
    assert run("--help").returncode == 0
    assert build_parser().parse_args(["plan", "--config", "x"]).config == "x"
    assert build_parser().parse_args(["--config", "x", "plan"]).config == "x"


def test_version_schema_and_completion_print_to_stdout(tmp_path: Path) -> None:
    assert run("version").stdout.startswith("reconciler ")
    assert json.loads(run("version", "-o", "json").stdout)["formatVersion"] == 1
    assert json.loads(run("schema").stdout)["title"]
    assert json.loads(run("schema", "eventsource").stdout)["title"] == "EventSource"
    assert "EventSource" in run("schema", "--list").stdout
    assert run("schema", "nosuch").returncode == 64
    script = tmp_path / "completion.bash"
    script.write_text(run("completion", "bash").stdout)
    subprocess.run(["bash", "-n", str(script)], check=True)


def test_init_writes_a_repository_that_validates_and_is_never_overwritten(tmp_path: Path) -> None:
    assert run("init", str(tmp_path / "new")).returncode == 0
    assert run("validate", cwd=tmp_path / "new").returncode == 0
    again = run("init", str(tmp_path / "new"))
    assert again.returncode == 1
    assert "RC3002" in again.stderr
    assert run("init", str(tmp_path / "new"), "--force").returncode == 0


def test_validate_names_every_problem_with_its_place_in_every_format(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("kind: EventSource\nmetadata: {name: a}\nspec:\n  type: webhook\n  evnts: []\n")
    text = run("validate", cwd=tmp_path)
    assert text.returncode == 5
    assert "bad.yaml:5:3" in text.stdout
    assert "Did you mean 'events'?" in text.stdout
    assert run("validate", "-o", "github", cwd=tmp_path).stdout.startswith("::error file=bad.yaml,line=5")
    assert json.loads(run("validate", "-o", "json", cwd=tmp_path).stdout)["valid"] is False
    sarif = json.loads(run("validate", "-o", "sarif", cwd=tmp_path).stdout)
    assert sarif["version"] == "2.1.0"
    assert sarif["runs"][0]["results"]
    assert run("validate", "nosuch", cwd=tmp_path).returncode == 64


def test_apply_asks_and_without_a_terminal_the_answer_is_no(world: World) -> None:
    world.source("one")
    done = world.cli("apply")
    assert done.returncode == 1
    assert "--yes" in done.stderr
    assert world.hooks("one") == []


def test_apply_with_a_digest_refuses_a_moved_world_and_prints_what_moved(world: World) -> None:
    world.source("one")
    assert world.cli("apply", "--yes").returncode == 0
    world.source("two")
    digest = json.loads(world.cli("plan", "-o", "json").stdout)["sha256"]
    world.source("three")
    moved = world.cli("apply", "--plan", digest)
    assert moved.returncode == 1
    assert "RC6001" in moved.stderr
    assert "acme/three" in moved.stderr
    assert world.hooks("two") == []
    world.remove("three")
    assert world.cli("apply", "--plan", digest).returncode == 0
    assert world.hooks("two")


def test_plan_of_a_folder_and_against_a_base_need_no_credentials(world: World) -> None:
    repo = GitRepo(world.folder / "repo.git")
    files = {path.name: path.read_text() for path in world.manifests.iterdir()}
    repo.commit(files, "first")
    world.source("one")
    repo.commit({"source-one.yaml": (world.manifests / "source-one.yaml").read_text()}, "second")
    world.configure(source=str(repo.path))
    bare = {key: "" for key in world.env if key.startswith("RECONCILER_SECRET_")}
    base = world.cli("plan", "--base", "main~1", "-o", "markdown", env=bare)
    assert base.returncode == 0, base.stderr
    assert "acme/one" in base.stdout
    assert "<!-- reconciler-plan -->" in base.stdout
    assert world.cli("plan", "--base", "main~1", "--detailed-exitcode", env=bare).returncode == 2
    assert world.requests() == []
    assert world.cli("plan", "--base", "nosuch", env=bare).returncode == 1
    folder = world.cli("plan", str(world.manifests))
    assert folder.returncode == 0, folder.stderr
    assert "create" in folder.stdout


def test_plan_against_the_daemon_s_snapshot_needs_no_credentials(world: World) -> None:
    world.source("one")
    assert world.cli("run", "--once").returncode == 0
    world.source("two")
    world.forget_requests()
    planned = world.cli("plan", "--snapshot", str(world.folder / "state" / "snapshot.json"), "-o", "json")
    assert planned.returncode == 0, planned.stderr
    assert [c["address"] for p in json.loads(planned.stdout)["plans"] for c in p["changes"]] == [
        "EventSource/default/two#github/repository-webhook[acme/two]"
    ]
    assert world.requests() == []


def test_adopt_takes_over_a_named_hook_and_forget_drops_it_again(world: World) -> None:
    world.set_hooks(
        "one",
        [
            {
                "id": 77,
                "name": "web",
                "active": True,
                "events": ["push"],
                "config": {"url": "https://old.example/x", "content_type": "json", "insecure_ssl": "0"},
            }
        ],
    )
    world.source("one", more="  lifecycle: {management: observe}\n")
    assert world.cli("run", "--once").returncode in {0, 6}
    world.source("one")
    done = world.cli("adopt", "EventSource/one", "--external-id", "77", "--yes")
    assert done.returncode == 0, done.stderr
    assert [h["id"] for h in world.hooks("one")] == [77]
    assert f"/hooks/{OWNER}/" in world.hooks("one")[0]["config"]["url"]
    assert world.cli("forget", "EventSource/one", "--yes").returncode == 1  # still declared
    world.remove("one")
    world.source("two")
    forgotten = world.cli("forget", "EventSource/one", "--yes")
    assert forgotten.returncode == 0, forgotten.stderr
    assert [h["id"] for h in world.hooks("one")] == [77]


def test_rebuild_finds_markers_and_natural_keys_and_makes_nothing(wide: World) -> None:
    wide.source("one")
    wide.write(
        "buddy-docker.yaml",
        "kind: BuddyIntegration\nmetadata: {name: docker}\nspec:\n  integration: {name: buddy}\n  workspace: acme\n  type: GIT_HUB\n"
        "  token: {valueFrom: {secret: {name: buddy, key: token}}}",
    )
    assert wide.cli("apply", "--yes").returncode == 0
    for path in (wide.folder / "state").glob("state.db*"):
        path.unlink()
    for provider in ("github", "buddy"):
        wide.forget_requests(provider)
    before = wide.cli("run", "--once")
    assert before.returncode == 6, before.stderr
    assert (wide.condition("BuddyIntegration", "docker") or {})["reason"] == "Conflict"
    done = wide.cli("recover", "--yes")
    assert done.returncode == 0, done.stderr
    assert "found again" in done.stdout
    assert [r for r in wide.requests("buddy") if r["method"] in {"POST", "DELETE"}] == []
    assert [r for r in wide.requests("github") if r["method"] in {"POST", "DELETE"}] == []
    assert wide.cli("run", "--once").returncode == 0


def test_sweep_lists_and_deletes_what_carries_our_mark_without_a_manifest(world: World) -> None:
    world.source("one")
    world.source("two")
    assert world.cli("apply", "--yes").returncode == 0
    orphan = {**world.hooks("one")[0], "id": 991}
    orphan["config"] = {**orphan["config"], "url": f"https://hooks.example/hooks/{OWNER}/00112233445566778899?key=x"}
    world.set_hooks("one", [*world.hooks("one"), orphan])
    listed = world.cli("orphans")
    assert listed.returncode == 0, listed.stderr
    assert "991" in listed.stdout
    assert world.cli("orphans", "--delete", "--yes").returncode == 0
    assert [h["id"] for h in world.hooks("one")] != []
    assert all(h["id"] != 991 for h in world.hooks("one"))


def test_export_writes_manifests_that_validate_and_holds_no_foreign_url_as_a_value(world: World) -> None:
    world.set_hooks(
        "one",
        [
            {
                "id": 77,
                "name": "web",
                "active": True,
                "events": ["push", "release"],
                "config": {
                    "url": "https://user:pw@old.example/x?token=canary-url-token",
                    "content_type": "json",
                    "insecure_ssl": "0",
                },
            }
        ],
    )
    world.source("two")
    assert world.cli("apply", "--yes").returncode == 0
    done = world.cli("export", "github", "--scope", "acme/one")
    assert done.returncode == 0, done.stderr
    assert "canary-url-token" not in done.stdout
    assert "# sends to https://old.example today" in done.stdout
    world.write("exported.yaml", done.stdout)
    assert world.cli("validate", str(world.manifests)).returncode == 0


def test_accept_drift_and_rotate_edit_the_yaml_and_keep_its_comments(world: World) -> None:
    world.source("one", more="  # a comment that stays\n")
    assert world.cli("apply", "--yes").returncode == 0
    hook = world.hooks("one")[0]
    world.set_hooks("one", [{**hook, "events": ["push", "release"]}])
    shown = world.cli("accept-drift", "EventSource/one", "--dir", str(world.manifests), "--dry-run")
    assert shown.returncode == 0, shown.stderr
    assert "release" in shown.stdout
    assert world.cli("accept-drift", "EventSource/one", "--dir", str(world.manifests)).returncode == 0
    text = (world.manifests / "source-one.yaml").read_text()
    assert "release" in text
    assert "# a comment that stays" in text
    assert world.cli("plan", "--detailed-exitcode").returncode in {0, 2}
    first = world.cli("signing-key", "EventSource/one").stdout
    rotated = world.cli("rotate", "EventSource/one", "--dir", str(world.manifests))
    assert rotated.returncode == 0, rotated.stderr
    assert "keyRotation: 1" in (world.manifests / "source-one.yaml").read_text()
    assert world.cli("apply", "--yes").returncode == 0
    assert world.cli("signing-key", "EventSource/one").stdout != first
    assert world.cli("signing-key", "EventSource/one", "--previous").stdout == first


def test_suspend_and_resume_without_a_daemon_name_the_resource_as_it_is_typed(world: World) -> None:
    world.source("one")
    assert world.cli("apply", "--yes").returncode == 0
    done = world.cli("suspend", "EventSource/one", "--reason", "moving")
    assert done.stdout == "suspended EventSource/one; end it with: reconciler resume EventSource/one\n", done.stderr
    assert world.cli("resume", "EventSource/one").stdout == "resumed EventSource/one\n"


@pytest.mark.parametrize(
    ("revision", "short"),
    [
        ("main@sha1:101bcd6446097808f25bf4e41ae1b6532ae8a1f1", "main@101bcd64"),
        ("feature/a@b@sha256:101bcd6446", "feature/a@b@101bcd64"),
        ("working-folder", "working-folder"),
        ("", ""),
    ],
)
def test_a_revision_is_short_in_text(revision: str, short: str) -> None:
    assert short_revision(revision) == short


def test_ping_asks_the_provider_for_a_test_delivery(world: World) -> None:
    world.source("one")
    assert world.cli("apply", "--yes").returncode == 0
    done = world.cli("ping", "EventSource/one")
    assert done.returncode == 0, done.stderr
    assert [r["path"] for r in world.requests("github", "POST")][-1].endswith("/pings")


def test_doctor_is_healthy_on_a_good_installation_and_names_what_is_wrong_on_a_bad_one(world: World) -> None:
    world.source("one")
    assert world.cli("apply", "--yes").returncode == 0
    good = world.cli("doctor")
    assert good.returncode == 0, good.stdout + good.stderr
    world.extra_env = {"RECONCILER_SECRET_GITHUB": "wrong-token-canary-9"}
    bad = world.cli("doctor", "-o", "json")
    assert bad.returncode == 1
    assert any(f["level"] == "error" and "github" in f["check"] for f in json.loads(bad.stdout)["findings"])
    world.extra_env = {"RECONCILER_SECRET_GITHUB": ""}
    absent = world.cli("doctor").stdout
    assert "RC4001" in absent
    assert "Date header" not in absent  # the provider was not called
    (world.folder / "state" / "master.key").chmod(0o644)
    assert "chmod 600" in world.cli("doctor").stdout


def test_status_reads_the_file_and_its_exit_code_tells_a_script(world: World) -> None:
    assert world.cli("status").returncode == 1
    world.source("one")
    assert world.cli("run", "--once").returncode == 0
    assert world.cli("status", "--exit-code").returncode == 0
    assert "EventSource/one" in world.cli("status", "EventSource").stdout
    assert "EventSource/one" not in world.cli("status", "Integration").stdout
    world.source("nosuch")
    assert world.cli("run", "--once").returncode == 6
    assert world.cli("status", "--exit-code").returncode == 2


def test_invalid_manifests_exit_5_and_what_is_valid_is_applied(world: World) -> None:
    world.source("one")
    world.write("bad.yaml", "kind: EventSource\nmetadata: {name: bad}\nspec: {}")
    done = world.cli("run", "--once")
    assert done.returncode == 5
    assert world.hooks("one")
    assert world.cli("plan").returncode == 5


def test_without_a_public_address_no_webhook_is_made_that_would_send_nowhere(world: World) -> None:
    world.configure(source=str(world.manifests), server='{listen: "127.0.0.1:0"}')
    world.source("one")
    done = world.cli("apply", "--yes")
    assert done.returncode == 6
    assert "RC3020" in done.stderr
    assert "server.publicUrl" in (done.stderr + json.dumps(world.status()))
    assert world.writes() == []
