"""The verbs of events and stages, against a running daemon and against the state alone."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.cli.staged import declare, payload, started, waiting
from tests.engine.world import World


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One daemon for all tests that only ask it for things."""
    world = World(tmp_path_factory.mktemp("staged"))
    world.repos("one", "two")
    declare(world, workflow=True)
    started(world)
    yield world
    world.close()


def test_trigger_waits_for_all_that_was_queued_and_exits_0_only_if_it_passed(staged: World) -> None:
    done = staged.cli("trigger", "hand", "--payload", payload("quick"), "--wait", "--timeout", "60", "-o", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert (report["formatVersion"], report["passed"]) == (1, True)
    assert [one["stage"] for one in report["items"]] == ["Stage/quick"]
    unmatched = staged.cli("trigger", "hand", "--payload", payload("nobody"), "--wait", "--timeout", "60")
    assert unmatched.returncode == 6
    assert "nothing was queued" in unmatched.stdout
    assert "Stage/quick rejected it" in unmatched.stderr
    late = staged.cli("trigger", "hand", "--payload", payload("asked"), "--wait", "--timeout", "2")
    assert late.returncode == 6
    assert "approval" in late.stdout
    assert "not finished within 2 s" in late.stderr


def test_the_payload_comes_from_the_line_a_file_or_stdin_and_nothing_else_passes(staged: World) -> None:
    path = staged.folder / "payload.json"
    path.write_text(payload("quick"))
    assert staged.cli("trigger", "hand", "--payload", f"@{path}").returncode == 0
    piped = subprocess.run(
        staged.command("trigger", "hand", "--payload", "-"),
        input=payload("quick"),
        text=True,
        capture_output=True,
        env=staged.env,
    )
    assert piped.returncode == 0, piped.stderr
    for bad in ("[1]", "{", "@/nosuch/file"):
        done = staged.cli("trigger", "hand", "--payload", bad)
        assert (done.returncode, "RC3001" in done.stderr) == (64, True), bad
    assert "RC6025" in staged.cli("trigger", "hnad").stderr


def test_what_waits_says_why_and_an_approval_of_what_was_reviewed_lets_it_run(staged: World) -> None:
    item = waiting(staged)
    listed = staged.cli("executions", "--state", "queued").stdout
    assert item["id"] in listed
    assert "approval: " in listed
    one = staged.cli("executions", item["id"]).stdout
    assert item["digest"] in one
    assert "version=1.2.3" in one
    assert "waits for" in one
    moved = staged.cli("approve", item["id"], "--digest", "sha256:" + "0" * 64)
    assert (moved.returncode, "RC6032" in moved.stderr) == (1, True)
    assert staged.cli("approve", item["id"], "--digest", item["digest"]).returncode == 0
    staged.wait(lambda: "passed" in staged.cli("executions", item["id"]).stdout, "it ran")
    again = staged.cli("approve", item["id"])
    assert (again.returncode, "RC6031" in again.stderr) == (1, True)


def test_cancel_takes_an_item_out_and_rerun_repeats_what_has_ended(staged: World) -> None:
    item = waiting(staged)
    assert f"discarded {item['id']}" in staged.cli("cancel", item["id"]).stdout
    assert "RC6031" in staged.cli("cancel", item["id"]).stderr
    done = staged.cli("trigger", "hand", "--payload", payload("quick"), "--wait", "-o", "json")
    ran = json.loads(done.stdout)["items"][0]
    again = staged.cli("rerun", ran["id"], "--wait", "--timeout", "60", "-o", "json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["items"][0]["inputs"] == {"version": "1.2.3"}
    assert json.loads(again.stdout)["item"] != ran["id"]


def test_logs_follow_a_run_until_it_is_complete(staged: World) -> None:
    item = json.loads(staged.cli("trigger", "hand", "--payload", payload("deploy"), "-o", "json").stdout)["event"]
    items = staged.wait(lambda: json.loads(staged.cli("events", item, "-o", "json").stdout)["items"], "it is queued")
    done = staged.cli("logs", items[0]["id"], "--follow")
    assert done.returncode == 0, done.stderr
    assert "building 1.2.3" in done.stdout
    assert "done" in done.stdout
    assert staged.cli("logs", "nosuch").returncode == 1
    assert "RC6030" in staged.cli("logs", "nosuch").stderr


def test_events_show_rejections_with_their_reasons_and_one_event_its_payload(staged: World) -> None:
    staged.cli("trigger", "hand", "--payload", payload("quick"), "--wait")
    listed = json.loads(staged.cli("events", "--source", "hand", "--limit", "1", "-o", "json").stdout)
    assert listed["formatVersion"] == 1
    event = listed["events"][0]
    assert {one["target"] for one in event["rejectedBy"]} == {"Stage/asked", "Stage/deploy"}
    text = staged.cli("events", event["id"]).stdout
    assert '"for": "quick"' in text
    assert "rejected by" in text
    assert "\x1b[" not in text
    assert "Stage/asked" in staged.cli("events", "--state", "processed").stdout
    assert staged.cli("events", "nosuch").returncode == 1


def test_redeliver_looks_at_every_source_of_a_provider(staged: World) -> None:
    staged.source("one")
    staged.wait(lambda: (staged.condition("EventSource", "one") or {}).get("status") == "True", "the source is there")
    done = staged.cli("redeliver", "--since", "2h", "-o", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [one["source"] for one in json.loads(done.stdout)["sources"]] == ["EventSource/one"]
    assert staged.cli("redeliver", "one").returncode == 0
    assert staged.cli("redeliver", "--since", "soon").returncode == 64


def test_without_a_daemon_what_looks_reads_the_state_and_what_acts_names_the_next_step(world: World) -> None:
    declare(world, workflow=True)
    assert "RC7021" in world.cli("events").stderr
    process = started(world)
    done = world.cli("trigger", "hand", "--payload", payload("deploy"), "--wait", "-o", "json")
    assert done.returncode == 0, done.stderr
    execution = json.loads(done.stdout)["items"][0]["execution"]["id"]
    process.send_signal(signal.SIGTERM)
    process.wait(30)
    assert "Stage/deploy" in world.cli("executions").stdout
    assert world.cli("events", "--source", "hand").returncode == 0
    assert "building 1.2.3" in world.cli("logs", execution).stdout
    for arguments in (["trigger", "hand"], ["cancel", execution], ["rerun", execution], ["redeliver"], ["approve", "itm-x"]):
        refused = world.cli(*arguments)
        assert (refused.returncode, "RC8002" in refused.stderr, "reconciler run" in refused.stderr) == (1, True, True), arguments


def test_help_of_every_verb_of_stages_is_printed() -> None:
    for verb in ("events", "executions", "logs", "trigger", "approve", "cancel", "rerun", "redeliver"):
        done = subprocess.run([sys.executable, "-m", "reconciler", verb, "--help"], capture_output=True, text=True)
        assert done.returncode == 0
        assert "usage: reconciler" in done.stdout
