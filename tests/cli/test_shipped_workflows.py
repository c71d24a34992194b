"""The CI workflows that `init` and the examples ship, run line by line in the checkout that a hosted runner leaves."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from reconciler.cli.init import files
from reconciler.sandbox.server import SandboxServer, simulator
from tests.support.hosted import ROOT, HostedRunner, checkout, files_of, wheel

STAGE = """\
kind: Stage
metadata: {name: reviewed}
spec:
  connections: [{type: event-source, name: SOURCE}]
  executor: {type: noop}
"""
SHIPPED = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "examples").glob("*/.github/workflows/*.y*ml"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel(tmp_path_factory.mktemp("wheel"))


def runner(folder: Path, built: Path, base: str = "main") -> HostedRunner:
    return HostedRunner(folder, {"vars.RECONCILER_WHEEL": str(built), "github.base_ref": base})


def run_all(folder: Path, built: Path, repository: dict[str, str | bytes | None], workflow: str, source: str) -> str:
    work = checkout(folder, repository, {"reviewed.yaml": STAGE.replace("SOURCE", source)})
    hosted = runner(folder, built)
    for step in hosted.run(workflow, work):
        assert step.returncode == 0, f"{step.args[-1]}\n{step.stdout}\n{step.stderr}"
    return hosted.summary.read_text()


def test_n16_the_workflow_of_init_plans_what_the_pull_request_checked_out(tmp_path: Path, built: Path) -> None:
    repository: dict[str, str | bytes | None] = dict(files())
    summary = run_all(tmp_path, built, repository, files()[".github/workflows/plan.yaml"], "your-repository")
    assert "create `Stage/reviewed` at `reviewed.yaml:1:1`" in summary
    assert "1 new" in summary
    assert "your-organization" not in summary, "only what the pull request changes is shown"


def steps(workflow: str, chosen: slice) -> str:
    """Return a workflow with some of the steps."""
    document = yaml.safe_load(workflow)
    return yaml.safe_dump({"jobs": {"plan": {"steps": document["jobs"]["plan"]["steps"][chosen]}}})


def test_the_workflow_keeps_one_comment_and_writes_none_for_a_fork(tmp_path: Path, built: Path) -> None:
    marker, repository = "<!-- reconciler-plan -->", dict(files())
    workflow = files()[".github/workflows/plan.yaml"]
    with SandboxServer(simulator("github")) as server:
        token = {"kind": "installation", "login": "github-actions[bot]", "permissions": {"pull_requests": "write"}}
        first = next(iter(server.admin.state()["tokens"].values()))
        server.admin.put_state(
            {"tokens": {"ghs_actions": {**first, **token}}, "users": {"github-actions[bot]": {}, "mallory": {}}}
        )
        server.admin.do("open_pull", repository="acme/web", head_sha="a" * 40)
        server.admin.do("write_comment", repository="acme/web", number=1, sender="mallory", body=f"{marker} I am the plan")
        server.admin.settings(page_size=1)
        context = {
            "vars.RECONCILER_WHEEL": str(built),
            "github.base_ref": "main",
            "github.token": "ghs_actions",
            "github.api_url": server.url,
            "github.repository": "acme/web",
            "github.event.pull_request.number": "1",
            "github.event.pull_request.head.repo.full_name": "mallory/web",
        }
        hosted = HostedRunner(tmp_path, context)
        assert [step.returncode for step in hosted.run(steps(workflow, slice(0, 3)), tmp_path)] == [0]

        def run(at: str, change: dict[str, str | bytes | None]) -> list[str]:
            (tmp_path / at).mkdir()
            done = hosted.run(steps(workflow, slice(4, None)), checkout(tmp_path / at, repository, change))
            assert {step.returncode for step in done} == {0}, done[-1].stdout + done[-1].stderr
            state = server.admin.state()
            rows = state["comments"].get(str(state["repos"]["acme/web"]["id"]), [])
            return [row["body"] for row in rows if row["author"] == "github-actions[bot]"]

        reviewed = STAGE.replace("SOURCE", "your-repository")
        assert run("fork", {"reviewed.yaml": reviewed}) == []
        context["github.event.pull_request.head.repo.full_name"] = "acme/web"
        assert run("nothing", {"README.md": "hello"}) == []
        (body,) = run("first", {"reviewed.yaml": reviewed})
        assert body.startswith(marker)
        assert "Stage/reviewed" in body
        (body,) = run("second", {"again.yaml": reviewed.replace("reviewed", "again")})
        assert "Stage/again" in body
        assert "Stage/reviewed" not in body


@pytest.mark.parametrize("path", SHIPPED)
def test_n16_the_workflow_of_an_example_plans_what_the_pull_request_checked_out(path: str, tmp_path: Path, built: Path) -> None:
    example = ROOT / Path(*Path(path).parts[:2])
    sources = [
        document["metadata"]["name"]
        for file in example.rglob("*.yaml")
        for document in yaml.safe_load_all(file.read_text())
        if isinstance(document, dict) and document.get("kind") == "EventSource"
    ]
    summary = run_all(tmp_path, built, files_of(example), (ROOT / path).read_text(), sources[0])
    assert "create `Stage/reviewed`" in summary


def test_n16_every_example_with_a_workflow_is_run() -> None:
    assert SHIPPED == ["examples/small-team/.github/workflows/plan.yaml"]


def test_n16_an_invalid_pull_request_fails_the_workflow_at_its_line(tmp_path: Path, built: Path) -> None:
    repository: dict[str, str | bytes | None] = dict(files())
    work = checkout(tmp_path, repository, {"broken.yaml": "kind: Stage\nmetadata: {name: broken}\nspec: {executr: {}}\n"})
    done = runner(tmp_path, built).run(files()[".github/workflows/plan.yaml"], work)
    assert [step.returncode for step in done] == [0, 5], "installed, then refused"
    assert "::error file=broken.yaml,line=3" in done[-1].stdout


def test_n16_a_base_branch_with_a_shell_s_characters_runs_nothing(tmp_path: Path, built: Path) -> None:
    repository: dict[str, str | bytes | None] = dict(files())
    work = checkout(tmp_path, repository, {"reviewed.yaml": STAGE.replace("SOURCE", "your-repository")})
    done = runner(tmp_path, built, base='x";touch${IFS}owned;"').run(files()[".github/workflows/plan.yaml"], work)
    assert done[-1].returncode == 1
    assert not (work / "owned").exists()


def test_n16_the_shipped_pre_commit_hooks_run_a_verb_that_exists(tmp_path: Path, built: Path) -> None:
    entries = [
        hook["entry"]
        for text in (files()[".pre-commit-config.yaml"], (ROOT / "examples/small-team/.pre-commit-config.yaml").read_text())
        for repo in yaml.safe_load(text)["repos"]
        for hook in repo["hooks"]
    ]
    entries += [hook["entry"] for hook in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())]
    repository: dict[str, str | bytes | None] = dict(files())
    work = checkout(tmp_path, repository, {"reviewed.yaml": STAGE.replace("SOURCE", "your-repository")})
    hosted = runner(tmp_path, built)
    steps = yaml.safe_dump(
        {"jobs": {"hooks": {"steps": [{"run": f"pip install {built}"}, *({"run": entry} for entry in entries)]}}}
    )
    done = hosted.run(steps, work)
    assert len(done) == 1 + len(entries)
    assert {step.returncode for step in done} == {0}


def cli(work: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    import os
    import sys

    env = {key: value for key, value in os.environ.items() if not key.startswith("RECONCILER_")}
    command = [sys.executable, "-m", "reconciler", *arguments]
    return subprocess.run(command, cwd=work, env=env | {"NO_COLOR": "1"}, capture_output=True, text=True, timeout=60)


def test_n16_a_plan_in_a_detached_checkout_says_what_is_checked_out_and_how_to_plan_it(tmp_path: Path) -> None:
    work = checkout(tmp_path, dict(files()), {"reviewed.yaml": STAGE.replace("SOURCE", "your-repository")})
    done = cli(work, "plan", "--repo", ".")
    assert done.returncode == 1
    assert "HEAD is detached" in done.stderr
    assert "reconciler plan --base REF" in done.stderr


def test_n16_a_base_that_went_on_shows_only_the_step_of_the_pull_request(tmp_path: Path) -> None:
    work = checkout(tmp_path, dict(files()), {"reviewed.yaml": STAGE.replace("SOURCE", "your-repository")})
    git = ["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.com", "-C", str(work)]
    subprocess.run([*git, "checkout", "-q", "origin/main"], check=True)
    (work / "later.yaml").write_text(STAGE.replace("reviewed", "later").replace("SOURCE", "your-repository"))
    for arguments in (("add", "."), ("commit", "-q", "-m", "later"), ("update-ref", "refs/remotes/origin/main", "HEAD")):
        subprocess.run([*git, *arguments], check=True)
    subprocess.run([*git, "checkout", "-q", "refs/remotes/pull/1/merge"], check=True)
    done = cli(work, "plan", "--repo", ".", "--base", "origin/main")
    assert "create Stage/reviewed" in done.stdout
    assert "later" not in done.stdout


def test_n17_a_plan_says_its_revision_first_and_that_the_working_tree_differs(tmp_path: Path) -> None:
    source = "kind: EventSource\nmetadata: {name: by-hand}\nspec: {type: manual}\n"
    work = checkout(tmp_path, {"source.yaml": source}, {"reviewed.yaml": STAGE.replace("SOURCE", "by-hand")})
    git = ["git", "-C", str(work)]
    subprocess.run([*git, "checkout", "-q", "-b", "main", "origin/main"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    env = ("plan", "--repo", ".")
    clean = cli(work, *env)
    assert clean.stdout.startswith(f"Revision: main@sha1:{head[:8]}\n"), clean.stderr
    assert "working tree" not in clean.stderr
    (work / "edited.yaml").write_text(STAGE.replace("SOURCE", "by-hand"))
    edited = cli(work, *env)
    assert (
        "note: the working tree (branch main is checked out) differs from this revision in 1 manifest: edited.yaml"
        in edited.stderr
    )
    assert f"reconciler plan {work}" in edited.stderr
    assert "create Stage/reviewed" in cli(work, "plan", ".").stdout
    (work / "edited.yaml").unlink()
    subprocess.run([*git, "checkout", "-q", "-b", "feature", "refs/remotes/pull/1/merge"], check=True)
    assert "(branch feature is checked out) differs" in cli(work, *env).stderr


def test_n17_a_repository_without_a_commit_says_so(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    for path, text in files().items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    done = cli(tmp_path, "plan")
    assert done.returncode == 1
    assert "has no commit yet" in done.stderr
    assert "reconciler plan PATH" in done.stderr
