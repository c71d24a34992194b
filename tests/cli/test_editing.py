"""Edits of manifests: the diff holds what was accepted or rotated, and nothing else, however the manifest is spelled."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.cli.edit import EditableDocument, _accept_events
from reconciler.manifests.parse import parse_file
from reconciler.model.resources import ResourceId
from tests.engine.world import World

IDENTITY = ResourceId("EventSource", "default", "web")
HEAD = "# first\nkind: Canvas\nmetadata: {name: other}   # kept\n---\n"
HEAD += "kind: 'EventSource'\nmetadata: {name: \"web\"}\nspec:\n  integration: {name: github}  # who\n"
TAIL = "\n  # last words\n\n---\n# another\nkind: Canvas\nmetadata:   {name:   third}\n"
SPELLINGS = (
    "  events: [{type: push}, {type: release}]",
    "  events: [type: push, type: release]",
    '  events: [ {"type": "push"}, {"type": "release"} ]   # both',
    "  events: [{type: 'push'}, {type: 'release'}]",
    "  events:\n  - type: push\n  - type: release",
    "  events:\n    - type: push   # why\n\n    # the second\n    - type: release # end",
    "  events:\n  - {type: push}\n  - {type: release}",
    "  events:\n  - type: push\n    filters: [{type: data, data: {expression: '$.a == 1'}}]\n  - type: release",
    "  events: [\n    {type: push},  # one\n    {type: release}  # two\n  ]",
    "  events: [\n    {type: push},\n    {type: release},\n  ]",
)
OTHER = "  resource: {type: repository, name: web}\n"


def edited(text: str, observed: list[str]) -> str:
    document = EditableDocument.find(Path("x.yaml"), IDENTITY, text=text)
    assert document is not None
    _accept_events(document, observed)
    return document.render()


def types(text: str) -> list[str]:
    [source] = [document for document in parse_file(text.encode(), sandbox=True).documents if document.name == "web"]
    assert source.valid, parse_file(text.encode(), sandbox=True).problems
    return [entry["type"] for entry in source.spec["events"]]


observations = st.lists(st.sampled_from(["push", "release", "issues", "fork"]), min_size=1, max_size=4, unique=True)


@given(st.sampled_from(SPELLINGS), st.booleans(), st.booleans(), observations)
def test_n51_accepting_events_changes_their_lines_only(spelling: str, first: bool, windows: bool, observed: list[str]) -> None:
    body = f"{spelling}\n{OTHER}" if first else f"{OTHER}{spelling}\n"
    text = HEAD + body.removesuffix("\n") + TAIL
    text = text.replace("\n", "\r\n") if windows else text
    after = edited(text, observed)
    assert sorted(types(after)) == sorted(observed)
    assert ("\r\n" in after) == windows
    assert after.count("\n") == after.count("\r\n") or not windows
    gone, new = {"push", "release"} - set(observed), set(observed) - {"push", "release"}
    for line in difflib.ndiff(text.splitlines(), after.splitlines()):
        if line[:2] == "- ":
            assert any(name in line for name in gone) or "events" in line or "{type:" in line, line
        if line[:2] == "+ ":
            assert any(name in line for name in (*new, "events", "type")), line
    if not gone and not new:
        assert after == text


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_n51_what_is_the_same_stays_as_it_was_spelled(spelling: str) -> None:
    text = HEAD + OTHER + spelling + TAIL
    assert edited(text, ["release", "push"]) == text


@pytest.mark.parametrize(
    ("before", "observed", "after"),
    [
        ("[{type: push}]", ["push", "release"], "[{type: push}, {type: release}]"),
        ("[type: push]", ["push", "release"], "[type: push, type: release]"),
        ("[{'type': 'push'}]", ["push", "release"], "[{'type': 'push'}, {'type': 'release'}]"),
        ("[{type: push}, {type: release}]", ["release"], "[{type: release}]"),
        ("[{type: push}, {type: release}]", ["push"], "[{type: push}]"),
        ("[{type: push}, {type: release}]", ["push", "issues"], "[{type: push}, {type: issues}]"),
        ("\n  - type: push  # a\n  - type: release", ["push", "issues"], "\n  - type: push  # a\n  - type: issues"),
        ("\n  - type: push  # a\n  # b\n  - type: release", ["push", "release", "issues"], "\n  - type: push  # a\n  # b\n  - type: release\n  - type: issues"),
    ],
)  # fmt: skip
def test_n51_a_new_event_is_spelled_like_its_neighbours(before: str, observed: list[str], after: str) -> None:
    text = edited(f"{HEAD}{OTHER}  events: {before}{TAIL}".replace("events: \n", "events:\n"), observed)
    assert text == f"{HEAD}{OTHER}  events: {after}{TAIL}".replace("events: \n", "events:\n")


def test_n51_a_value_that_no_manifest_can_hold_is_not_written(world: World) -> None:
    world.source("one")
    assert world.cli("apply", "--yes").returncode == 0
    hook = world.hooks("one")[0]
    world.set_hooks("one", [{**hook, "events": ["push", "x\u202e\n---\nkind: Stage"]}])
    before = (world.manifests / "source-one.yaml").read_bytes()
    done = world.cli("accept-drift", "EventSource/one", "--dir", str(world.manifests))
    assert done.returncode == 64, done.stdout + done.stderr
    assert "nothing was written" in done.stderr
    assert (world.manifests / "source-one.yaml").read_bytes() == before


def test_n50_rotate_all_raises_every_source_that_somebody_sends_to_and_keeps_the_rest(tmp_path: Path) -> None:
    import subprocess
    import sys

    text = (
        "# all of them\nkind: EventSource\nmetadata: {name: a}\nspec: {type: webhook}  # first\n---\n"
        "kind: EventSource\nmetadata: {name: b}\nspec:\n  type: webhook\n  keyRotation: 4 # why\n  webhook: {signature: hmac-sha256}\n---\n"
        "kind: EventSource\nmetadata: {name: c}\nspec: {type: manual}\n"
    )
    (tmp_path / "x.yaml").write_text(text)
    (tmp_path / "y.yaml").write_bytes(b"kind: EventSource\r\nmetadata: {name: d}\r\nspec:\r\n  type: webhook")
    command = [sys.executable, "-m", "reconciler", "rotate", "--dir", str(tmp_path)]
    done = subprocess.run([*command, "--all"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "3 sources" in done.stdout
    expected = text.replace("{type: webhook}", "{type: webhook, keyRotation: 1}").replace("keyRotation: 4 #", "keyRotation: 5 #")
    assert (tmp_path / "x.yaml").read_text() == expected
    assert (tmp_path / "y.yaml").read_bytes().endswith(b"  type: webhook\r\n  keyRotation: 1")
    assert subprocess.run(command, capture_output=True).returncode == 64
    assert subprocess.run([*command, "--all", "EventSource/a"], capture_output=True).returncode == 64
    (tmp_path / "bad.yaml").write_text("kind: EventSource\nmetadata: {name: e}\nspec: {}\n")
    before = (tmp_path / "x.yaml").read_bytes()
    assert subprocess.run([*command, "--all"], capture_output=True).returncode == 5
    assert (tmp_path / "x.yaml").read_bytes() == before
