"""What runs at the simulated Semaphore: workflows and pipelines over real HTTP, every answer held against the documented shapes."""

from __future__ import annotations

import time

import pytest

from reconciler.sandbox.semaphore.app import Semaphore
from reconciler.sandbox.semaphore.shapes import project_id
from reconciler.sandbox.server import SandboxServer
from tests.semaphore.simulator import WEB, Hands, behave
from tests.support.receiving import eventually

NEVER = "1970-01-01 00:00:00.000000Z"


def test_a_workflow_runs_its_pipeline_to_the_end(hands: Hands) -> None:
    behave(hands.server, queued_s=0.1, duration_s=0.2)
    wf_id, ppl_id = hands.run()
    first = hands.pipeline(ppl_id)
    assert first["state"] == "queuing"
    assert first["running_at"] == first["done_at"] == NEVER
    assert "result" not in first
    assert eventually(lambda: hands.pipeline(ppl_id)["state"] == "running")
    done = hands.done(ppl_id)
    assert (done["wf_id"], done["result"], done["result_reason"]) == (wf_id, "passed", "test")
    assert done["created_at"] < done["running_at"] < done["done_at"]
    assert (done["working_directory"], done["yaml_file_name"]) == (".semaphore", "semaphore.yml")


def test_what_a_workflow_was_started_with_only_its_pipeline_shows(hands: Hands) -> None:
    wf_id, ppl_id = hands.run(parameters={"ENV": "prod", "NONE": None}, pipeline_file="deploy/it.yml")
    assert "prod" not in hands.http.get(f"/plumber-workflows/{wf_id}").text
    assert "prod" not in hands.http.get(f"/plumber-workflows?project_id={WEB}").text
    shown = hands.pipeline(ppl_id)
    assert shown["env_vars"] == [{"name": "ENV", "value": "prod"}, {"name": "NONE", "value": ""}]
    assert (shown["working_directory"], shown["yaml_file_name"]) == ("deploy", "it.yml")


def test_a_start_that_is_repeated_starts_again(hands: Hands) -> None:
    assert hands.run() != hands.run()
    assert len(hands("GET", f"/plumber-workflows?project_id={WEB}")) == 2


def test_a_workflow_shows_its_trigger_as_a_word_and_in_a_list_as_a_number(hands: Hands) -> None:
    wf_id, ppl_id = hands.run(reference="topic", commit_sha="c" * 40)
    shown = hands("GET", f"/plumber-workflows/{wf_id}")["workflow"]
    assert (shown["triggered_by"], shown["branch_name"], shown["commit_sha"]) == ("API", "topic", "c" * 40)
    assert shown["initial_ppl_id"] == ppl_id
    assert set(shown["created_at"]) == {"seconds", "nanos"}
    (listed,) = hands("GET", f"/plumber-workflows?project_id={WEB}")
    assert listed == {**shown, "triggered_by": 2}
    pushed = hands.admin.do("run_pipeline", project="web", branch="main", commit_sha="d" * 40)
    assert hands("GET", f"/plumber-workflows/{pushed['workflow_id']}")["workflow"]["triggered_by"] == "HOOK"
    later = hands("GET", f"/plumber-workflows/{hands.run()[0]}")["workflow"]
    assert later["commit_sha"] == "d" * 40, "the branch's newest"


@pytest.mark.parametrize(
    ("reference", "branch"),
    [("refs/heads/a/b", "a/b"), ("refs/tags/v1", "refs/tags/v1"), ("refs/pull/7", "pull-request-7"), ("plain", "plain")],
)
def test_references_become_the_names_of_branches(hands: Hands, reference: str, branch: str) -> None:
    assert hands.pipeline(hands.run(reference=reference)[1])["branch_name"] == branch


def test_lists_are_bare_arrays_newest_first_with_links_to_other_pages(hands: Hands) -> None:
    workflows = [hands.run()[0] for _ in range(5)]
    page = hands("GET", f"/plumber-workflows?project_id={WEB}&page_size=2&page=2")
    assert [row["wf_id"] for row in page] == [workflows[2], workflows[1]]
    headers = hands.last.headers
    assert (headers["total"], headers["per-page"], headers["total-pages"], headers["page-number"]) == ("5", "2", "3", "2")
    links = {link["rel"]: link["url"] for link in hands.last.links.values()}
    assert set(links) == {"first", "prev", "next", "last"}
    assert "page=3&page_size=2" in "&".join(sorted(links["next"].partition("?")[2].split("&")))
    assert hands("GET", links["next"])[0]["wf_id"] == workflows[0]


def test_a_list_is_filtered_by_branch_and_time(hands: Hands) -> None:
    start = int(time.time())
    wf_id, _ = hands.run(reference="topic")
    hands.run()
    root = f"/plumber-workflows?project_id={WEB}"
    assert [row["wf_id"] for row in hands("GET", f"{root}&branch_name=topic")] == [wf_id]
    assert len(hands("GET", f"{root}&created_after={start - 1}")) == 2
    assert hands("GET", f"{root}&created_after={start + 60}") == []
    assert hands("GET", f"{root}&created_before={start - 1}") == []
    assert hands("GET", f"/plumber-workflows?project_id={project_id('payments')}") == []


def test_a_list_may_lag_behind_and_a_workflow_never_does(hands: Hands) -> None:
    hands.admin.settings(run_list_lag_s=60)
    wf_id, ppl_id = hands.run()
    assert hands("GET", f"/plumber-workflows?project_id={WEB}") == []
    assert hands("GET", f"/pipelines?project_id={WEB}") == []
    assert hands("GET", f"/plumber-workflows/{wf_id}")["workflow"]["initial_ppl_id"] == ppl_id


def test_pipelines_are_listed_in_capitals_and_with_other_times(hands: Hands) -> None:
    behave(hands.server, duration_s=-1)
    wf_id, ppl_id = hands.run()
    (row,) = hands("GET", f"/pipelines?wf_id={wf_id}")
    assert (row["ppl_id"], row["state"]) == (ppl_id, "RUNNING")
    assert "result" not in row
    assert row["done_at"] == {"seconds": 0, "nanos": 0}
    hands.admin.do("finish_pipeline", pipeline_id=ppl_id, result="failed", reason="malformed", error="no such file")
    (row,) = hands("GET", f"/pipelines?project_id={WEB}&done_after=1&branch_name=main")
    assert (row["state"], row["result"], row["result_reason"]) == ("DONE", "FAILED", "MALFORMED")
    assert row["error_description"] == "no such file"
    assert hands("GET", f"/pipelines?project_id={WEB}&done_before=1") == []
    assert hands("GET", f"/pipelines?project_id={WEB}&yml_file_path=other.yml") == []


def test_blocks_and_jobs_are_only_shown_in_detail(hands: Hands) -> None:
    behave(hands.server, jobs=[{"name": "lint"}, {"name": "test"}])
    _, ppl_id = hands.run()
    hands.done(ppl_id)
    assert hands("GET", f"/pipelines/{ppl_id}?detailed=false")["blocks"] == []
    (block,) = hands("GET", f"/pipelines/{ppl_id}?detailed=true")["blocks"]
    assert (block["state"], block["result"]) == ("done", "passed")
    assert [(job["name"], job["status"], job["result"]) for job in block["jobs"]] == [
        ("lint", "FINISHED", "PASSED"),
        ("test", "FINISHED", "PASSED"),
    ]


def test_a_stopped_pipeline_is_stopped_and_one_that_had_not_begun_is_canceled(hands: Hands) -> None:
    behave(hands.server, duration_s=-1, stopping_s=0.1)
    wf_id, ppl_id = hands.run()
    assert hands("POST", f"/plumber-workflows/{wf_id}/terminate") == "Termination started for 1 pipelines."
    assert hands.pipeline(ppl_id)["state"] == "stopping"
    done = hands.done(ppl_id)
    assert (done["result"], done["result_reason"]) == ("stopped", "user")
    assert done["terminated_by"] == next(iter(hands.admin.state()["tokens"].values()))["user"]
    behave(hands.server, queued_s=60)
    _, waiting = hands.run()
    assert hands("PATCH", f"/pipelines/{waiting}", {"terminate_request": True}) == "Pipeline termination started."
    assert hands.done(waiting)["result"] == "canceled"


def test_terminating_a_workflow_that_is_done_succeeds_and_changes_nothing(hands: Hands) -> None:
    wf_id, ppl_id = hands.run()
    before = hands.done(ppl_id)
    assert hands("POST", f"/plumber-workflows/{wf_id}/terminate") == "Termination started for 0 pipelines."
    assert hands.pipeline(ppl_id) == before


@pytest.mark.parametrize("value", ["true", 1, False, None])
def test_terminating_a_pipeline_requires_the_value_true(hands: Hands, value: object) -> None:
    _, ppl_id = hands.run()
    assert isinstance(hands("PATCH", f"/pipelines/{ppl_id}", {"terminate_request": value}, status=400), str)


def test_a_workflow_is_run_again_once_for_each_token(hands: Hands) -> None:
    wf_id, _ = hands.run(parameters={"ENV": "prod"}, commit_sha="c" * 40)
    assert hands("POST", f"/plumber-workflows/{wf_id}/reschedule", status=400) == "Missing required post parameter request_token."
    again = hands("POST", f"/plumber-workflows/{wf_id}/reschedule?request_token=a")
    assert hands("POST", f"/plumber-workflows/{wf_id}/reschedule?request_token=a") == again
    assert hands("POST", f"/plumber-workflows/{wf_id}/reschedule?request_token=b") != again
    shown = hands("GET", f"/plumber-workflows/{again['wf_id']}")["workflow"]
    assert (shown["rerun_of"], shown["commit_sha"]) == (wf_id, "c" * 40)
    assert hands.pipeline(again["ppl_id"])["env_vars"] == [{"name": "ENV", "value": "prod"}]


def test_what_failed_is_rebuilt_in_the_same_workflow_once_for_each_token(hands: Hands) -> None:
    behave(hands.server, duration_s=0, result="failed")
    wf_id, ppl_id = hands.run()
    path = f"/pipelines/{ppl_id}/partial_rebuild"
    assert hands("POST", path, {}, status=400) == "Missing required post parameter request_token."
    behave(hands.server, result="passed")
    rebuild = hands("POST", path, {"request_token": "a"})
    assert hands("POST", path, {"request_token": "a"}) == rebuild
    rebuilt = hands.pipeline(rebuild["pipeline_id"])
    assert (rebuilt["wf_id"], rebuilt["partial_rerun_of"], rebuilt["result"]) == (wf_id, ppl_id, "passed")
    assert hands.pipeline(ppl_id)["result"] == "failed"
    assert "passed" in hands("POST", f"/pipelines/{rebuild['pipeline_id']}/partial_rebuild", {"request_token": "b"}, status=400)


def test_a_lost_workflow_is_not_found_any_more(hands: Hands) -> None:
    wf_id, ppl_id = hands.run()
    hands.admin.do("lose_workflow", workflow_id=wf_id)
    for path in (f"/plumber-workflows/{wf_id}", f"/pipelines/{ppl_id}"):
        assert hands("GET", path, status=404) == "Not Found"
    assert hands("GET", f"/plumber-workflows?project_id={WEB}") == []
    with pytest.raises(RuntimeError, match="refused"):
        hands.admin.do("lose_workflow", workflow_id=wf_id)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/plumber-workflows"),
        ("GET", "/plumber-workflows"),
        ("GET", "/plumber-workflows/x"),
        ("POST", "/plumber-workflows/x/terminate"),
        ("POST", "/plumber-workflows/x/reschedule?request_token=t"),
        ("GET", "/pipelines"),
        ("GET", "/pipelines?project_id=x"),
        ("GET", "/pipelines/x"),
        ("PATCH", "/pipelines/x"),
        ("POST", "/pipelines/x/partial_rebuild"),
    ],
)
def test_what_is_out_of_reach_is_not_found_in_plain_text(hands: Hands, method: str, path: str) -> None:
    assert hands(method, path, status=404) == "Not Found"


def test_a_token_without_the_right_finds_nothing(hands: Hands) -> None:
    wf_id, ppl_id = hands.run()
    hands.admin.put_state({"tokens": {"reader": {"user": "u", "permissions": ["project.view"]}, "none": {"user": "u"}}})
    reader, none = ({"headers": {"authorization": f"Bearer {name}"}} for name in ("reader", "none"))
    assert hands("GET", f"/pipelines/{ppl_id}", **reader)["pipeline"]["ppl_id"] == ppl_id
    assert hands("GET", f"/pipelines/{ppl_id}", status=404, **none) == "Not Found"
    body = {"project_id": WEB, "reference": "main"}
    assert hands("POST", "/plumber-workflows", body, status=404, **reader) == "Not Found"
    assert hands("POST", f"/plumber-workflows/{wf_id}/terminate", status=404, **reader) == "Not Found"


def test_mistakes_of_the_caller_are_answered_with_a_json_text(hands: Hands) -> None:
    start = "/plumber-workflows"
    assert isinstance(hands("POST", start, {"project_id": WEB}, status=400), str)
    body = {"project_id": WEB, "reference": "main", "parameters": {"N": 7}}
    assert isinstance(hands("POST", start, body, status=400), str)
    assert hands("GET", f"/plumber-workflows?project_id={WEB}") == []


def test_answers_declare_no_json_type_and_a_broken_body_is_refused_in_plain_text() -> None:
    with SandboxServer(Semaphore()) as server:
        hands = Hands(server)
        with hands.http:
            hands.run()
            assert "json" not in hands.last.headers["content-type"]
            assert hands("POST", "/plumber-workflows", status=400, content=b"{").startswith("Malformed request: ")


def test_settings_decide_for_every_run_and_a_push_decides_for_itself(hands: Hands) -> None:
    hands.admin.settings(run_duration_s=0, run_result="failed")
    assert hands.pipeline(hands.run()[1])["result"] == "failed"
    pushed = hands.admin.do("run_pipeline", project="web", tag="v1", result="passed", pipeline_file="x.yml", parameters={"A": 1})
    shown = hands.pipeline(pushed["pipeline_id"])
    assert (shown["result"], shown["branch_name"], shown["commit_sha"]) == ("passed", "refs/tags/v1", pushed["commit_sha"])
    assert shown["env_vars"] == [{"name": "A", "value": "1"}]


def test_a_file_may_behave_otherwise_than_its_project(hands: Hands) -> None:
    behave(hands.server, duration_s=0, files={"deploy.yml": {"result": "failed", "error": "no"}})
    assert hands.pipeline(hands.run()[1])["result"] == "passed"
    assert hands.pipeline(hands.run(pipeline_file=".semaphore/deploy.yml")[1])["error_description"] == "no"


def test_what_cannot_happen_is_refused_by_the_sandbox_itself(hands: Hands) -> None:
    for action, options in (
        ("run_pipeline", {"project": "nowhere"}),
        ("run_pipeline", {"project": "web", "result": "fine"}),
        ("finish_pipeline", {"pipeline_id": "x"}),
        ("finish_pipeline", {}),
    ):
        with pytest.raises(RuntimeError, match="refused"):
            hands.admin.do(action, **options)


def test_pipelines_of_a_state_that_is_put_back_go_on(hands: Hands) -> None:
    behave(hands.server, duration_s=0.3)
    _, ppl_id = hands.run()
    hands.admin.put_state(hands.admin.state(), replace=True)
    assert hands.pipeline(ppl_id)["state"] == "running"
    assert hands.done(ppl_id)["result"] == "passed"
