"""What people see on a terminal of 80 and of 120 columns, and what scripts read from a pipe: real commands, a real daemon."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.cli.widths import width_of
from tests.cli.staged import declare, payload, started, waiting
from tests.engine.world import World
from tests.support.terminal import Terminal, lines_of

AGE = r"(?:\d+[smhd](?:\d+[smh])?)"


@pytest.fixture(scope="module")
def seen() -> Iterator[World]:
    """A daemon with a waiting item, finished executions, a rejected event, a test delivery and a schedule.

    Its folder has a short path: one that is wider than a cell is broken at any place, on purpose.
    """
    folder = tempfile.TemporaryDirectory(prefix="seen-", dir="/tmp")
    world = World(Path(folder.name))
    world.repos("one", "two")
    declare(world, workflow=True)
    world.source("one")
    world.source("two", name="a-source-with-a-name-that-is-nearly-as-long-as-a-name-may-be")
    world.write("clock.yaml", "kind: EventSource\nmetadata: {name: clock}\nspec: {type: schedule, schedule: {cron: '0 3 * * *'}}")
    started(world)
    waiting(world)
    for name in ("quick", "deploy"):
        done = world.cli("trigger", "hand", "--payload", payload(name), "--wait", "--timeout", "60")
        assert done.returncode == 0, done.stderr
    assert world.cli("trigger", "hand", "--payload", payload("nobody"), "--wait", "--timeout", "20").returncode == 6
    ping = json.loads(world.cli("trigger", "hand", "--type", "ping", "-o", "json").stdout)["event"]
    world.wait(
        lambda: json.loads(world.cli("events", ping, "-o", "json").stdout)["state"] != "pending", "the test delivery is settled"
    )
    yield world
    world.close()
    folder.cleanup()


def on_terminal(world: World, *arguments: str, columns: int = 80, **env: str) -> tuple[int, str]:
    return Terminal(world.command(*arguments), {**world.env, "NO_COLOR": "", **env}, world.folder, columns=columns, rows=60).end()


LISTS = (
    ["status"],
    ["events", "--all"],
    ["executions"],
    ["history"],
    ["credentials"],
    ["doctor"],
    ["explain", "EventSource/one"],
)


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("arguments", LISTS, ids=lambda arguments: arguments[0])
def test_no_line_is_wider_than_the_terminal_and_no_word_of_a_cell_is_broken(
    seen: World, arguments: list[str], columns: int
) -> None:
    _, shown = on_terminal(seen, *arguments, columns=columns)
    lines = lines_of(shown)
    assert len(lines) > 3
    assert [line for line in lines if width_of(line) > columns] == []
    piped = {word for line in seen.cli(*arguments).stdout.splitlines() for word in line.split()}
    piped |= {"ahead", "of", "behind", "now"}  # the second command compares the clocks again, and runs later
    broken = {word for line in lines for word in line.split() if not word.startswith(("/", "http"))} - piped
    assert [word for word in broken if not re.search(r"[…/:@._=-]", word) and not re.search(r"\d", word)] == []


def test_a_list_says_states_in_colour_only_on_a_terminal_that_wants_it(seen: World) -> None:
    assert "\x1b[32mTrue\x1b[0m" in on_terminal(seen, "status")[1]
    assert "\x1b[33mqueued\x1b[0m" in on_terminal(seen, "executions")[1]
    for quiet in (on_terminal(seen, "status", NO_COLOR="1")[1], seen.cli("status").stdout):
        assert "\x1b" not in quiet


def test_status_has_ages_stages_and_the_next_run_of_a_schedule(seen: World) -> None:
    text = seen.cli("status").stdout
    assert re.search(rf"EventSource/one +True +Reconciled +{AGE} +1 object as declared", text)
    assert re.search(rf"SCHEDULE +NEXT RUN\nEventSource/clock +in {AGE}\n", text)
    assert re.search(rf"Stage/deploy +0 +0 +passed +{AGE} +rcl-", text)
    assert "@sha1:" not in text
    assert re.search(r"EventSource/clock +20\d\d-\d\d-\d\dT03:00:00Z\n", seen.cli("status", "--utc").stdout)
    assert re.search(r"EventSource/one .* source-one.yaml:1 ", seen.cli("status", "-o", "wide").stdout)
    assert "EventSource/one\n" in seen.cli("status", "-o", "name").stdout


def test_events_say_what_each_led_to_and_hide_test_deliveries(seen: World) -> None:
    done = seen.cli("events")
    assert "1 test delivery not shown: use --all" in done.stderr
    assert " ping " not in done.stdout
    assert re.search(r"hand +manual +processed +Stage/quick passed; not Stage/asked: ", done.stdout)
    assert re.search(r"hand +manual +processed +Stage/asked queued; ", done.stdout)
    newest = seen.cli("events", "--limit", "1").stdout.splitlines()
    assert len(newest) == 2, "test deliveries do not count towards the limit"
    assert " manual " in newest[1]
    everything = seen.cli("events", "--all")
    assert " ping " in everything.stdout
    answer = json.loads(seen.cli("events", "-o", "json").stdout)["events"]
    assert {event["type"] for event in answer} >= {"ping", "manual"}
    effects = [effect for event in answer for effect in event["effects"]]
    assert {(one["stage"], one["result"]) for one in effects} >= {("Stage/quick", "passed"), ("Stage/asked", "")}
    names = seen.cli("events", "-o", "name").stdout.split()
    assert seen.cli("events", names[0]).returncode == 0


def test_executions_say_where_they_come_from(seen: World) -> None:
    answer = json.loads(seen.cli("executions", "-o", "json").stdout)
    assert all(run["origin"]["source"] == "EventSource/hand" for run in answer["executions"])
    text = seen.cli("executions").stdout
    assert re.search(rf"itm-\w+ +Stage/asked .* queued +{AGE} +- +approval: ", text)
    assert re.search(rf"rcl-\w+ +Stage/deploy .* passed +{AGE} ", text)
    names = seen.cli("executions", "-o", "name").stdout.split()
    assert [name[:4] for name in names].count("itm-") == len(answer["queued"])


def test_watch_draws_the_list_again_in_place_and_ends_with_ctrl_c(seen: World) -> None:
    terminal = Terminal(seen.command("events", "--watch"), seen.env, seen.folder, columns=100, rows=12)
    terminal.read(until="LED TO")
    event = json.loads(seen.cli("trigger", "hand", "--payload", payload("quick"), "-o", "json").stdout)["event"]
    terminal.read(until=event)
    terminal.type("\x03")
    code, shown = terminal.end()
    assert code == 130
    assert "Traceback" not in shown
    frames = shown.split("\x1b[H")
    assert len(frames) > 2
    assert all(frame.count("\n") < 12 for frame in frames)
    assert "more lines: enlarge the terminal" not in frames[1] or frames[1].count("\n") == 10


@pytest.mark.parametrize("verb", ["status", "events", "executions", "history"])
def test_watch_into_a_pipe_ends_when_its_reader_leaves(seen: World, verb: str) -> None:
    command = " ".join(f"'{part}'" for part in seen.command(verb, "--watch"))
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} | head -n 1"],
        capture_output=True, text=True, env=seen.env, cwd=seen.folder, timeout=20,
    )  # fmt: skip
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert len(done.stdout.splitlines()) == 1


def test_watch_into_a_pipe_prints_again_only_what_has_changed(seen: World) -> None:
    process = subprocess.Popen(
        seen.command("executions", "--watch", "-o", "name"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=seen.env,
        text=True,
    )
    try:
        process.wait(3)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130, err
    assert len(out.split()) == len(set(out.split())) > 2
    assert err == ""


# -- apply ----------------------------------------------------------------------------------------------------------------


def test_apply_shows_each_change_as_it_goes_and_a_bar_when_it_takes_longer(world: World) -> None:
    for name in ("one", "two", "three"):
        world.source(name)
    world.servers["github"].admin.settings(latency_s=0.6)
    terminal = Terminal(world.command("apply"), world.env, world.folder, columns=80)
    terminal.read(until="[y/N]")
    terminal.type("y\n")
    code, shown = terminal.end()
    assert code == 0, shown
    assert "reading the providers [" in shown
    assert "  creating EventSource/" in shown
    one_line = re.sub(r"\s+", " ", shown)
    done = re.findall(r"\+ EventSource/(\w+) github/repository-webhook\[acme/\w+\]: creating… done after \d+\.\d s", one_line)
    assert sorted(done) == ["one", "three", "two"]
    assert re.search(r"applying \[#+-*\] \d/3  |reading the providers again… ", shown)
    last = lines_of(shown)[-1]
    assert last == "✓ 3 applied, 0 failed, 0 blocked, 0 moved; 5 manifests now in force"
    assert not re.search(r'"level":|\[(?:info|warning|error)', shown)


def test_apply_into_a_pipe_prints_one_line_for_each_change_and_no_bar(world: World) -> None:
    world.source("one")
    world.servers["github"].admin.settings(latency_s=0.6)
    done = world.cli("apply", "--yes")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(
        r"  \+ EventSource/one github/repository-webhook\[acme/one\]: creating… done after \d+\.\d s \(id \d+\)\n", done.stderr
    ), done.stderr


def test_apply_that_fails_in_part_says_once_what_failed_and_what_to_do(world: World) -> None:
    for name in ("one", "two", "nowhere"):
        world.source(name)
    world.servers["github"].admin.fault(method="POST", path="/repos/acme/two/hooks", times=9, effect="answer", status=422)
    done = world.cli("apply", "--yes")
    assert done.returncode == 6, done.stderr
    assert re.search(r"two github/repository-webhook\[acme/two\]: creating… failed after \d+\.\d s \(RC\d{4}\)\n", done.stderr)
    assert re.search(r"^EventSource/two github/repository-webhook\[acme/two\]: RC\d{4}: ", done.stderr, re.MULTILINE)
    assert "\\n" not in done.stderr
    assert re.search(r"^RC5014: .*nowhere.*\n  \S", done.stderr, re.MULTILINE), done.stderr
    assert done.stdout.splitlines()[-1].startswith("✗ 1 applied, 1 failed, 0 blocked, 0 moved, 1 could not be read")
    history = world.cli("history", "--limit", "2").stdout
    assert "EventSource/two" in history
    assert "create refused" in history
    assert " intent " not in history
    assert " create intent " in world.cli("history", "-o", "wide").stdout


# -- errors ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["statuss"], "Did you mean status?"),
        (["status", "-o", "jsn"], "Did you mean json?"),
        (["status", "EventSorce"], "Did you mean EventSource?"),
        (["status", "EventSource/on"], "Did you mean EventSource/one?"),
        (["explain", "EventSorce/one"], "Did you mean EventSource/one?"),
        (["reconcile", "EventSource/onne"], "Did you mean EventSource/one?"),
        (["executions", "--stage", "quik"], "Did you mean Stage/quick?"),
        (["events", "--source", "hnad"], "Did you mean EventSource/hand?"),
        (["trigger", "hnad"], "Did you mean EventSource/hand?"),
        (["history", "Stage/quik"], "Did you mean Stage/quick?"),
        (["ping", "EventSource/onne"], "Did you mean EventSource/one?"),
        (["export", "gihub"], "Did you mean Integration/github?"),
        (["signing-key", "EventSource/onne"], "Did you mean EventSource/one?"),
        (["app", "status", "gihub"], "Did you mean Integration/github?"),
        (["credentials", "--until", "soon"], "For example: --until 30d"),
    ],
)
def test_a_wrong_word_is_answered_with_the_nearest_one(seen: World, arguments: list[str], said: str) -> None:
    done = seen.cli(*arguments)
    assert done.returncode in {1, 64}
    assert said in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def test_an_error_of_a_manifest_shows_its_line_at_80_columns(world: World) -> None:
    world.write(
        "bad.yaml", "kind: EventSource\nmetadata: {name: bad}\nspec:\n  integration: {name: guthib}\n  evnts: [{type: push}]\n"
    )
    for verb in (["validate", "manifests"], ["plan"], ["apply", "--yes"]):
        code, shown = on_terminal(world, *verb)
        assert code == 5, shown
        assert re.search(
            r"\n     5 \|   evnts: \[\{type: push\}\]\n       \|   \^\^\^\^\^\n    Did you mean 'events'\?", shown
        ), shown
        assert max(map(width_of, lines_of(shown))) <= 80
