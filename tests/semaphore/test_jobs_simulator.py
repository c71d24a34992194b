"""Jobs of the simulated Semaphore and their logs over real HTTP, every answer held against the documented shapes."""

from __future__ import annotations

import uuid
from typing import Any

from tests.semaphore.simulator import Hands, behave
from tests.support.receiving import eventually


def job_of(hands: Hands, ppl_id: str, number: int = 0) -> str:
    return str(hands("GET", f"/pipelines/{ppl_id}?detailed=true")["blocks"][0]["jobs"][number]["job_id"])


def events(hands: Hands, job: str) -> list[dict[str, Any]]:
    return list(hands("GET", f"/logs/{job}")["events"])


def test_a_job_goes_with_its_pipeline(hands: Hands) -> None:
    behave(hands.server, queued_s=0.2, duration_s=0.2, jobs=[{"name": "test", "logs": ["$ make test"]}])
    _, ppl_id = hands.run(parameters={"A": "1"})
    job = job_of(hands, ppl_id)
    first = hands("GET", f"/jobs/{job}")
    assert (first["metadata"]["name"], first["metadata"]["id"]) == ("test", job)
    assert (first["status"]["state"], first["status"]["result"], first["metadata"]["start_time"]) == ("QUEUED", "NONE", "0")
    assert first["spec"]["commands"] == ["make test"]
    eventually(lambda: hands("GET", f"/jobs/{job}")["status"]["state"] == "RUNNING")
    hands.done(ppl_id)
    done = hands("GET", f"/jobs/{job}")
    assert (done["status"]["state"], done["status"]["result"]) == ("FINISHED", "PASSED")
    assert int(done["metadata"]["finish_time"]) >= int(done["metadata"]["start_time"]) > 0


def test_a_job_that_is_stopped_stops_its_pipeline(hands: Hands) -> None:
    behave(hands.server, duration_s=-1)
    _, ppl_id = hands.run()
    job = job_of(hands, ppl_id)
    hands("POST", f"/jobs/{job}/stop")
    assert hands("GET", f"/jobs/{job}")["status"]["result"] == "STOPPED"
    assert hands.pipeline(ppl_id)["result"] == "stopped"
    assert [row["event"] for row in events(hands, job)][-1] == "job_finished"
    assert events(hands, job)[-2]["exit_code"] == 130


def test_errors_of_jobs_are_those_of_the_gateway(hands: Hands) -> None:
    _, ppl_id = hands.run()
    job = job_of(hands, ppl_id)
    for method, path in (("GET", f"/jobs/{uuid.uuid4()}"), ("POST", f"/jobs/{uuid.uuid4()}/stop")):
        assert hands(method, path, status=404)["code"] == 5
    hands.admin.put_state({"tokens": {"none": {"user": "u"}}})
    assert hands("GET", f"/jobs/{job}", status=404, headers={"authorization": "Token none"})["code"] == 5
    assert hands("DELETE", f"/jobs/{job}", status=501)["code"] == 12


def test_a_log_grows_while_its_job_runs(hands: Hands) -> None:
    behave(hands.server, duration_s=0.8, logs=["$ make", "one", "two", "$ make test", "three"])
    _, ppl_id = hands.run()
    job = job_of(hands, ppl_id)
    early = events(hands, job)
    assert early[0]["event"] == "job_started"
    assert not [row for row in early if row["event"] == "job_finished"]
    later = eventually(lambda: len(result := events(hands, job)) > len(early) and result)
    assert later[: len(early)] == early
    hands.done(ppl_id)
    whole = events(hands, job)
    assert "json" in hands.last.headers["content-type"]
    shown = [(row["event"], row.get("directive") or row.get("output") or row.get("result")) for row in whole]
    assert shown == [
        ("job_started", None),
        ("cmd_started", "make"),
        ("cmd_output", "one\n"),
        ("cmd_output", "two\n"),
        ("cmd_finished", "make"),
        ("cmd_started", "make test"),
        ("cmd_output", "three\n"),
        ("cmd_finished", "make test"),
        ("job_finished", "passed"),
    ]


def test_a_command_that_still_runs_has_not_finished(hands: Hands) -> None:
    behave(hands.server, duration_s=-1, logs=["$ make", "one", "$ make test", "two"])
    job = job_of(hands, hands.run()[1])
    assert [row["event"] for row in events(hands, job)] == ["job_started", "cmd_started", "cmd_output"], "half of it"


def test_each_job_has_its_own_log_and_the_last_command_of_a_failed_one_fails(hands: Hands) -> None:
    behave(
        hands.server, duration_s=0, result="failed", jobs=[{"name": "a", "logs": ["hello"]}, {"name": "b"}], logs=["$ x", "$ y"]
    )
    _, ppl_id = hands.run()
    first, second = (events(hands, job_of(hands, ppl_id, number)) for number in (0, 1))
    assert [row["output"] for row in first if row["event"] == "cmd_output"] == ["hello\n"]
    assert [row["exit_code"] for row in second if row["event"] == "cmd_finished"] == [0, 1]
    assert second[-1]["result"] == "failed"


def test_a_job_that_never_began_has_no_log(hands: Hands) -> None:
    behave(hands.server, queued_s=60)
    wf_id, ppl_id = hands.run()
    job = job_of(hands, ppl_id)
    assert isinstance(hands("GET", f"/logs/{job}", status=404), str)
    hands("POST", f"/plumber-workflows/{wf_id}/terminate")
    assert isinstance(hands("GET", f"/logs/{job}", status=404), str)
    assert hands("GET", f"/jobs/{job}")["status"]["result"] == "STOPPED"
    assert isinstance(hands("GET", f"/logs/{uuid.uuid4()}", status=404), str)


def test_a_missing_right_to_a_log_is_refused_in_plain_text(hands: Hands) -> None:
    _, ppl_id = hands.run()
    job = job_of(hands, ppl_id)
    hands.admin.put_state({"tokens": {"none": {"user": "u"}}})
    assert hands("GET", f"/logs/{job}", status=401, headers={"authorization": "Token none"}) == "Permission denied"
