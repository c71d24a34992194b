"""What runs of GitHub leave: outputs out of an artifact that anybody may have packed, and logs."""

import io
import json
import random
import zipfile

import pytest

from reconciler.drivers.github import run_output
from reconciler.drivers.github.run_output import MAX_BYTES, read_archive
from reconciler.model.errors import ProviderUnavailable
from reconciler.model.executions import Result
from reconciler.sandbox.github.logs import zipped
from tests.github.running import DEPLOY, PLAIN, SILENT, WEB, check_requests, executor, finish, started
from tests.github.simulator import Hands, put_workflows


@pytest.fixture
def hands(github):
    put_workflows(github, DEPLOY, SILENT, PLAIN)
    with Hands(github) as opened:
        yield opened
    check_requests(github)


# outputs


async def test_the_outputs_of_a_run_are_the_object_in_its_artifact(api, hands):
    what, run = await started(api, hands, {"outputs": {"image": "web:${{ inputs.version }}", "n": 3, "list": [1, {"a": None}]}})
    assert (await executor.poll(api, what, run)).outputs == {}
    finish(hands, run)
    assert (await executor.poll(api, what, run)).outputs == {"image": "web:", "n": 3, "list": [1, {"a": None}]}


async def test_a_run_without_the_artifact_has_no_outputs(api, hands):
    what, run = await started(api, hands, {"artifacts": {"dist": {"outputs.json": "{}"}, "reconciler-outputs-2": {"x": ""}}})
    finish(hands, run)
    report = await executor.poll(api, what, run)
    assert (report.outputs, report.message) == ({}, f"success: {run.url}")


async def test_the_newest_artifact_of_several_attempts_counts(api, hands):
    what, run = await started(api, hands, {"outputs": {"image": "${{ github.run_id }}-1"}})
    finish(hands, run, "failure")
    put_workflows(hands.github, {**DEPLOY, "outputs": {"image": "second"}})
    hands.post(f"{WEB}/actions/runs/{run.external_id}/rerun")
    assert (await executor.poll(api, what, run)).outputs == {}
    finish(hands, run)
    assert (await executor.poll(api, what, run)).outputs == {"image": "second"}


async def _polled_with(api, hands, files):
    what, run = await started(api, hands, {"artifacts": {"reconciler-outputs": files}})
    finish(hands, run)
    return await executor.poll(api, what, run)


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"other.json": "{}"}, "no file outputs.json"),
        ({"sub/outputs.json": "{}"}, "no file outputs.json"),
        ({"outputs.json": ""}, "not a readable JSON"),
        ({"outputs.json": "[]"}, "not an object"),
        ({"outputs.json": json.dumps({str(n): n for n in range(65)})}, "more than 64 keys"),
        ({"outputs.json": json.dumps({"a": "x" * (1 << 20)})}, "larger than 64 KiB"),
        ({"outputs.json": '{"a":' + "[" * 400 + "]" * 400 + "}"}, "not a readable JSON"),
        ({"outputs.json": "{}", "pad": random.Random(1).randbytes(70_000).hex()}, "larger than 64 KiB"),
    ],
)
async def test_outputs_that_cannot_be_used_are_none_and_the_result_stays(api, hands, files, why):
    report = await _polled_with(api, hands, files)
    assert (report.result, report.outputs) == (Result.PASSED, {})
    assert report.message.startswith("success: ")
    assert why in report.message


@pytest.mark.parametrize("status", [404, 403, 410, 400])
async def test_an_artifact_that_is_not_to_be_had_is_said(api, hands, status):
    hands.github.admin.fault(path="/zip$", status=status, body={"message": "no"})
    report = await _polled_with(api, hands, {"outputs.json": '{"a": 1}'})
    assert (report.outputs, "cannot be read" in report.message) == ({}, True)


async def test_a_failure_that_may_pass_is_no_end_without_outputs(api, hands):
    what, run = await started(api, hands, {"outputs": {"a": 1}})
    finish(hands, run)
    hands.github.admin.fault(path="/zip$", times=1, status=503)
    with pytest.raises(ProviderUnavailable):
        await executor.poll(api, what, run)
    assert (await executor.poll(api, what, run)).outputs == {"a": 1}


async def test_the_storage_is_asked_without_the_credential(api, hands):
    await _polled_with(api, hands, {"outputs.json": "{}"})
    [row] = hands.github.admin.requests(path="^/_actions/links/")
    assert "user-agent" in row["headers"]
    assert "authorization" not in row["headers"]


def _bomb(size):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("outputs.json", b'{"a":"' + b"x" * size + b'"}')
    return archive.getvalue()


def test_f15_an_archive_is_read_no_further_than_the_cap_whatever_it_says_of_itself():
    honest = _bomb(30 << 20)
    assert len(honest) < MAX_BYTES
    lying = honest.replace((30 * (1 << 20) + 8).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    assert lying != honest
    for archive in (honest, lying):
        with pytest.raises(ValueError, match=r"larger than|not a readable archive"):
            read_archive(archive)
    assert read_archive(_bomb(60_000)) == {"a": "x" * 60_000}


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_packings_that_may_ask_for_any_memory_are_not_read(method):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", method) as opened:
        opened.writestr("outputs.json", "{}")
    with pytest.raises(ValueError, match="use deflate"):
        read_archive(archive.getvalue())


def test_f15_a_damaged_archive_is_one_kind_of_error():
    whole, chance = zipped({"outputs.json": '{"image": "web:1", "n": [1, 2, 3]}'}), random.Random(7)
    for _ in range(3_000):
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        try:
            assert isinstance(read_archive(bytes(damaged[: chance.choice((len(damaged), chance.randrange(len(damaged))))])), dict)
        except ValueError:
            continue


# logs


async def test_the_log_of_a_job_is_shown_when_it_is_over_and_its_steps_before(api, hands):
    what, run = await started(
        api, hands, {"logs": ["building", "done"], "jobs": [{"name": "deploy", "steps": ["Set up", "Build"]}]}
    )
    first = await executor.logs(api, what, run, "")
    assert first.lines == (
        "deploy: step 'Set up' in progress",
        "deploy: step 'Set up' success",
        "deploy: step 'Build' in progress",
    )
    second = await executor.logs(api, what, run, first.cursor)
    assert (second.lines, second.cursor, first.complete, second.complete) == ((), first.cursor, False, False)
    finish(hands, run)
    third = await executor.logs(api, what, run, second.cursor)
    assert third.lines[0] == "deploy: step 'Build' success"
    assert [line.partition(" ")[2] for line in third.lines[1:]] == ["building", "done"]
    assert third.lines[1][:2] == "20"  # GitHub's times are kept
    assert third.complete
    fourth = await executor.logs(api, what, run, third.cursor)
    assert (fourth.lines, fourth.complete) == ((), True)


async def test_several_jobs_are_told_apart_on_all_pages_and_each_is_read_once(api, hands):
    jobs = [{"name": f"job {n}", "steps": ["x"], "logs": [f"line of {n}"]} for n in range(120)]
    what, run = await started(api, hands, {"jobs": jobs})
    finish(hands, run)
    outcome = await executor.logs(api, what, run, "")
    words = [line.split(" ", 3)[::3] for line in outcome.lines if line.startswith("[")]
    assert outcome.complete
    assert words[119] == ["[job", "line of 119"]
    assert len(words) == 120
    before = len(hands.github.admin.requests(path="/logs$"))
    assert (await executor.logs(api, what, run, outcome.cursor)).complete
    assert len(hands.github.admin.requests(path="/logs$")) == before == 120


async def test_a_log_that_is_late_is_waited_for_and_one_that_never_was_is_not(api, hands, monkeypatch):
    what, run = await started(api, hands, {"logs": ["late"], "jobs": [{"name": "a", "steps": ["x"]}]})
    finish(hands, run)
    hands.github.admin.fault(path="/logs$", times=2, status=404, body={"message": "Not Found"})
    first = await executor.logs(api, what, run, "")
    assert not first.complete
    monkeypatch.setattr(run_output, "LATE_S", -1.0)
    assert (await executor.logs(api, what, run, first.cursor)).complete
    monkeypatch.undo()
    second = await executor.logs(api, what, run, first.cursor)
    assert (second.complete, second.lines[-1].endswith(" late")) == (True, True)


async def test_a_log_that_has_expired_is_said_and_is_no_error(api, hands):
    what, run = await started(api, hands, {"logs": ["x"], "jobs": [{"name": "a", "steps": ["x"]}]})
    finish(hands, run)
    hands.github.admin.fault(path="/logs$", times=0, status=410, body={"message": "Server Error"})
    outcome = await executor.logs(api, what, run, "")
    assert (outcome.complete, "cannot be shown" in outcome.lines[-1]) == (True, True)


async def test_the_log_of_a_new_attempt_follows_that_of_the_old_one(api, hands):
    what, run = await started(api, hands, {"logs": ["again"], "jobs": [{"name": "a", "steps": ["x"]}]})
    finish(hands, run, "failure")
    first = await executor.logs(api, what, run, "")
    hands.post(f"{WEB}/actions/runs/{run.external_id}/rerun")
    second = await executor.logs(api, what, run, first.cursor)
    assert (first.complete, second.complete) == (True, False)
    finish(hands, run)
    third = await executor.logs(api, what, run, second.cursor)
    assert (third.complete, third.lines[-1].endswith(" again")) == (True, True)
