"""Promotions of the simulated Semaphore over real HTTP, every answer held against the documented shapes."""

from __future__ import annotations

import pytest

from reconciler.sandbox.server import SandboxServer
from tests.semaphore.simulator import Hands, behave
from tests.support.receiving import eventually

TARGETS = [{"name": "Production", "pipeline_file": ".semaphore/prod.yml"}, {"name": "staging"}]


@pytest.fixture
def hands(hands: Hands, server: SandboxServer) -> Hands:
    behave(server, duration_s=0, promotions=TARGETS)
    return hands


def test_a_promotion_is_a_pipeline_of_the_same_workflow_and_knows_where_it_comes_from(hands: Hands) -> None:
    wf_id, ppl_id = hands.run(parameters={"A": "1"})
    assert hands.pipeline(ppl_id)["switch_id"]
    body = {"pipeline_id": ppl_id, "name": "Production", "ENV": "live"}
    assert hands("POST", "/promotions", body) == "Promotion successfully triggered."
    (event,) = hands("GET", f"/promotions?pipeline_id={ppl_id}")
    user = next(iter(hands.admin.state()["tokens"].values()))["user"]
    assert (event["name"], event["status"], event["triggered_by"]) == ("Production", "passed", user)
    promoted = hands.pipeline(event["scheduled_pipeline_id"])
    assert (promoted["wf_id"], promoted["promotion_of"], promoted["yaml_file_name"]) == (wf_id, ppl_id, "prod.yml")
    assert promoted["env_vars"] == [{"name": "ENV", "value": "live"}], "its own, and nothing else"
    assert len(hands("GET", f"/pipelines?wf_id={wf_id}")) == 2
    assert hands("GET", f"/plumber-workflows/{wf_id}")["workflow"]["initial_ppl_id"] == ppl_id


def test_a_promotion_may_be_requested_with_a_form(hands: Hands) -> None:
    _, ppl_id = hands.run()
    hands("POST", "/promotions", data={"pipeline_id": ppl_id, "name": "staging", "X": "y"})
    (event,) = hands("GET", f"/promotions?pipeline_id={ppl_id}&name=staging")
    assert hands.pipeline(event["scheduled_pipeline_id"])["env_vars"] == [{"name": "X", "value": "y"}]
    assert hands("GET", f"/promotions?pipeline_id={ppl_id}&name=Production") == []


def test_a_request_token_promotes_once_and_without_one_each_request_does(hands: Hands) -> None:
    _, ppl_id = hands.run()
    for token in ("a", "a", "b"):
        hands("POST", "/promotions", {"pipeline_id": ppl_id, "name": "staging", "request_token": token})
    assert len(hands("GET", f"/promotions?pipeline_id={ppl_id}")) == 2
    for _ in range(2):
        hands("POST", "/promotions", {"pipeline_id": ppl_id, "name": "staging"})
    assert len(hands("GET", f"/promotions?pipeline_id={ppl_id}")) == 4


def test_a_pipeline_that_did_not_pass_is_only_promoted_with_override(hands: Hands) -> None:
    hands.admin.settings(run_result="failed")
    _, failed = hands.run()
    hands.admin.settings(run_duration_s=-1)
    _, running = hands.run()
    for ppl_id in (failed, running):
        body = {"pipeline_id": ppl_id, "name": "staging"}
        assert isinstance(hands("POST", "/promotions", body, status=400), str)
        hands("POST", "/promotions", {**body, "override": True})
        assert hands("GET", f"/promotions?pipeline_id={ppl_id}")[0]["override"] is True


def test_a_promotion_that_there_is_not_is_refused(hands: Hands) -> None:
    _, ppl_id = hands.run()
    assert "other" in hands("POST", "/promotions", {"pipeline_id": ppl_id, "name": "other"}, status=400)
    assert "name" in hands("POST", "/promotions", {"pipeline_id": ppl_id}, status=400)
    assert hands("POST", "/promotions", {"pipeline_id": "x", "name": "staging"}, status=404) == "Not Found"
    assert hands("GET", "/promotions", status=404) == "Not Found"


def test_some_promotions_happen_by_themselves_once_a_pipeline_passed(hands: Hands) -> None:
    behave(hands.server, duration_s=0.1, promotions=[{"name": "staging", "auto": True, "result": "failed"}])
    _, ppl_id = hands.run()
    assert hands("GET", f"/promotions?pipeline_id={ppl_id}") == []
    (event,) = eventually(lambda: hands("GET", f"/promotions?pipeline_id={ppl_id}"))
    assert event["triggered_by"] == "Pipeline Done request"
    promoted = hands.done(event["scheduled_pipeline_id"])
    assert promoted["result"] == "failed"
    assert hands("GET", f"/promotions?pipeline_id={promoted['ppl_id']}") == [], "a promotion has none of its own"
    hands.admin.settings(run_result="failed")
    _, failed = hands.run()
    hands.done(failed)
    assert hands("GET", f"/promotions?pipeline_id={failed}") == []


def test_somebody_may_promote_without_the_api(hands: Hands) -> None:
    wf_id, ppl_id = hands.run()
    promoted_to = hands.admin.do(
        "promote", pipeline_id=ppl_id, promotion="Production", parameters={"V": 7}, result="failed", error="no"
    )
    promoted = hands.pipeline(promoted_to["pipeline_id"])
    assert (promoted_to["workflow_id"], promoted["result"], promoted["error_description"]) == (wf_id, "failed", "no")
    assert promoted["env_vars"] == [{"name": "V", "value": "7"}]
    with pytest.raises(RuntimeError, match="refused"):
        hands.admin.do("promote", pipeline_id=ppl_id, promotion="other")


def test_a_failed_promotion_is_rebuilt_as_a_promotion(hands: Hands) -> None:
    behave(hands.server, duration_s=0, promotions=[{"name": "staging", "result": "failed"}])
    _, ppl_id = hands.run()
    promoted_to = hands.admin.do("promote", pipeline_id=ppl_id, promotion="staging")["pipeline_id"]
    again = hands("POST", f"/pipelines/{promoted_to}/partial_rebuild", {"request_token": "a"})["pipeline_id"]
    shown = hands.pipeline(again)
    assert (shown["promotion_of"], shown["partial_rerun_of"], shown["name"]) == (ppl_id, promoted_to, "staging")
