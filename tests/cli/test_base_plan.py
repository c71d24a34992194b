"""``plan --base``: a pull request is compared with its base, in every format, with no secret and no provider."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from reconciler.cli import main as cli
from reconciler.manifests.schema import schema
from tests.support.gitrepo import GitRepo

SARIF = json.loads((Path(__file__).parents[1] / "contracts" / "sarif.schema.json").read_text())
SECRET = "kind: Secret\nmetadata: {name: code}\nspec: {provider: env, data: {token: {env: RECONCILER_SECRET_TOKEN}}}\n"
INTEGRATION = (
    "kind: Integration\nmetadata: {name: code}\nspec:\n  type: github\n  url: https://github.com/acme\n"
    "  auth: {use: token, token: {valueFrom: {secret: {name: code, key: token}}}}\n"
)
SOURCE = (
    "kind: EventSource\nmetadata: {name: pushes}\nspec:\n  integration: {name: code}\n"
    "  resource: {type: repository, name: shop}\n  events: [{type: push}]\n"
)
STAGE = (
    "kind: Stage\nmetadata: {name: deploy}\nspec:\n  connections: [{type: event-source, name: pushes}]\n"
    "  conditions: [{type: approval, approval: {count: 2}}]\n"
    "  executor: {type: github, integration: {name: code}, resource: {type: repository, name: shop}, "
    "spec: {workflow: deploy.yml, ref: main}}\n"
)
FILES = {"secret.yaml": SECRET, "code.yaml": INTEGRATION, "source.yaml": SOURCE, "stage.yaml": STAGE}


@pytest.fixture
def pull(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Return a function that plans a commit of ``files`` (None: deleted) over `FILES`: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    repo = GitRepo(tmp_path / "repo")
    repo.commit(dict(FILES), "base")

    def plan(files: dict[str, str | None], *options: str) -> tuple[int, str, str]:
        if files:
            repo.commit({**FILES, **files}, "pull request")
        code = cli.main(["--repo", str(repo.path), "plan", "--base", "main~1", *options])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return plan


def test_a_lowered_approval_is_in_every_format_and_means_pending_changes(pull) -> None:
    files: dict[str, str | None] = {"stage.yaml": STAGE.replace("count: 2", "count: 1")}
    code, text, _ = pull(files, "--detailed-exitcode")
    assert code == 2
    assert "after approval: 2 of anyone who may approve → 1 of anyone who may approve" in text
    assert "approves nothing" in text
    for output in ("json", "markdown", "github", "sarif"):
        code, shown, _ = pull({}, "-o", output)
        assert code == 0
        assert "1 of anyone who may approve" in shown, output
    jsonschema.Draft4Validator(SARIF).validate(json.loads(shown))
    jsonschema.Draft202012Validator(schema("plan")).validate(json.loads(pull({}, "-o", "json")[1]))


def test_an_invalid_manifest_is_an_error_and_not_a_delete(pull) -> None:
    code, shown, errors = pull({"stage.yaml": STAGE.replace("count: 2", "count: many")}, "-o", "json")
    assert code == 5
    assert "stage.yaml" in errors
    document = json.loads(shown)
    assert [problem["file"] for problem in document["problems"]] == ["stage.yaml"]
    assert document["resources"] == []
    code, shown, _ = pull({"code.yaml": INTEGRATION.replace("use: token", "use: nothing")}, "-o", "json")
    assert code == 5
    assert [plan["changes"] for plan in json.loads(shown)["plans"]] == []
    assert json.loads(shown)["unread"] == []


def test_a_suspension_in_a_manifest_holds_what_the_commit_changes(pull) -> None:
    changed = SOURCE.replace("{type: push}", "{type: release}") + "  lifecycle: {suspend: {reason: moving}}\n"
    _, text, _ = pull({"source.yaml": changed})
    assert "[held: Suspended]" in text
    assert "suspended until lifecycle.suspend is removed: moving" in text


def test_validate_writes_sarif_that_meets_its_schema(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a [x](y) b.yaml").write_text("kind: Stage\nmetadata: {name: x}\nspec: {evnts: []}\n")
    assert cli.main(["validate", "-o", "sarif", str(tmp_path)]) == 5
    document = json.loads(capsys.readouterr().out)
    jsonschema.Draft4Validator(SARIF).validate(document)
    assert document["runs"][0]["results"]
    (tmp_path / "a [x](y) b.yaml").unlink()
    assert cli.main(["validate", "-o", "sarif", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out)["runs"][0]["results"] == []


def test_the_schema_of_the_plan_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["schema", "plan"]) == 0
    jsonschema.Draft202012Validator.check_schema(json.loads(capsys.readouterr().out))
