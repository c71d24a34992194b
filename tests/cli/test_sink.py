"""What the CLI prints: text of others never drives a terminal, and a reader that leaves or cannot read changes no exit code."""

import ast
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import reconciler.cli
from reconciler.cli import sink, tables
from tests.cli.staged import declare, started
from tests.engine.world import World

CLI = Path(reconciler.cli.__file__).parent
HOSTILE = (
    "\x1b[31m", "\x1b]0;owned\x07", "\x1b]8;;https://evil.example\x1b\\", "\x9b31m", "\x90q\x9c", "\x00", "\x07", "\x08", "\r", "\n",
    "\t", "\x7f", "\x85", "\u061c", "\u200b", "\u200d", "\u200e", "\u200f", "\u2028", "\u2029", "\u202a", "\u202e", "\u2066", "\u2069",
    "\u00ad", "\ufeff", "\u3164", "\u115f", "\U000e0041", "\U000e0101", "\ud800", "\udfff", "\ue000", "::error::x", "##[add-mask]x",
)  # fmt: skip
SHOWN = re.compile(
    r"[^\x00-\x1f\x7f-\x9f\u00ad\u061c\u115f\u1160\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\ud800-\udfff]*"
)
texts = st.lists(st.one_of(st.sampled_from(HOSTILE), st.text(max_size=6)), max_size=12).map("".join)


class Screen(io.TextIOWrapper):
    """A stdout that can be read again."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)

    def shown(self) -> str:
        return self.buffer.getvalue().decode("utf-8", "surrogatepass")  # type: ignore[attr-defined]


def fresh(monkeypatch: pytest.MonkeyPatch) -> Screen:
    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    return screen


def test_n13_only_the_sink_touches_the_standard_streams() -> None:
    found = []
    for path in sorted(CLI.glob("*.py")):
        if path.name == "sink.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Name) and node.id in {"print", "input"}:
                found.append(f"{path.name}:{node.lineno}: {node.id}")
            if (
                isinstance(node, ast.Attribute)
                and ast.unparse(node.value) in {"sys.stdout", "sys.stderr"}
                and node.attr != "isatty"
            ):
                found.append(f"{path.name}:{node.lineno}: {ast.unparse(node)}")
            if (
                isinstance(node, ast.Call)
                and any(ast.unparse(one) in {"sys.stdout", "sys.stderr"} for one in node.args)
                and ast.unparse(node.func) not in {"colour", "self.print_usage", "parser.print_help"}
            ):
                found.append(f"{path.name}:{node.lineno}: {ast.unparse(node)}")
    assert found == []


@given(texts)
def test_n13_a_line_is_one_line_without_anything_that_a_terminal_acts_upon(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        screen = fresh(patch)
        sink.out("before ", sink.Ink("", text), text, " after")
        shown = screen.shown()
    assert shown.endswith("\n")
    assert SHOWN.fullmatch(shown[:-1]), ascii(shown)


@given(st.lists(st.lists(texts, min_size=3, max_size=3), min_size=1, max_size=4))
def test_n13_a_table_has_one_line_a_row_whatever_its_cells_hold(rows: list[list[str]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        screen = fresh(patch)
        tables.table(("A", "B", "C"), rows, none="none")
        tables.fields(rows[0][0], [("one", rows[0][1]), ("two", "x" + rows[0][2])])
        lines = screen.shown().split("\n")
    assert len(lines) == len(rows) + 1 + 1 + 1 + bool(rows[0][1]) + 1
    assert all(SHOWN.fullmatch(line) for line in lines)


@given(texts)
def test_n13_a_log_keeps_colours_and_nothing_else(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        screen = fresh(patch)
        sink.coloured(text)
        shown = screen.shown()
    bare = re.sub("\x1b\\[[0-9;]*m", "", shown)
    assert all(SHOWN.fullmatch(line.replace("\t", "")) for line in bare.split("\n"))


@pytest.mark.parametrize("code", ["", "0", "31", "1;32", "38;5;208", "48;2;1;2;3", "97;40", "39;49"])
def test_n13_a_colour_of_a_log_is_kept_and_ends_with_its_line(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    screen = fresh(monkeypatch)
    sink.coloured(f"\x1b[{code}mred")
    assert screen.shown() == f"\x1b[{code}mred\x1b[0m\n"


@pytest.mark.parametrize(
    "sequence", ["\x1b[8m", "\x1b[5m", "\x1b[31;8m", "\x1b[2J", "\x1b[H", "\x1b[1A", "\x1bc", "\x1b[38;5;1;8m", "\x1b[?25l"]
)
def test_n13_what_hides_blinks_or_moves_is_no_colour(monkeypatch: pytest.MonkeyPatch, sequence: str) -> None:
    screen = fresh(monkeypatch)
    sink.coloured(f"a{sequence}b")
    assert screen.shown().startswith("a")
    assert "\x1b" not in screen.shown()


def _paired(text: str) -> str:
    """Two halves of a surrogate pair beside each other are one character to JSON."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


@given(st.dictionaries(texts, texts, max_size=4))
def test_n13_json_stays_the_same_document_and_shows_nothing_hidden(values: dict[str, str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        screen = fresh(patch)
        from reconciler.cli.output import emit_json

        emit_json({"values": values})
        shown = screen.shown()
    assert json.loads(shown)["values"] == {_paired(key): _paired(value) for key, value in values.items()}
    assert all(SHOWN.fullmatch(line) for line in shown.split("\n"))


@pytest.mark.parametrize("line", ["::error::x", "   ::add-mask::x", "x ##[warning]y"])
def test_n12_in_a_job_of_github_actions_no_line_is_a_command(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    screen = fresh(monkeypatch)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    sink.out(line)
    sink.coloured(line)
    assert len(screen.shown().splitlines()) == 2
    for shown in screen.shown().splitlines():
        assert not shown.lstrip().startswith("::")
        assert "##[" not in shown


def test_n13_names_from_events_are_escaped_by_every_verb_that_shows_them(tmp_path: Path) -> None:
    world = World(tmp_path)
    try:
        world.repos("one")
        declare(world)
        title = "rise\x1b]0;owned\x07\x1b[31m\u202e\u200b\nEXECUTION forged\u2028x"
        world.write(
            "named.yaml",
            "kind: Stage\nmetadata: {name: named}\nspec:\n"
            "  connections: [{type: event-source, name: hand}]\n"
            '  executor: {type: noop, name: "${{ event.title }}"}\n',
        )
        started(world)
        done = world.cli("trigger", "hand", "--payload", json.dumps({"for": "x", "title": title}), "--wait", "--timeout", "60")
        assert done.returncode == 0, done.stderr
        event = json.loads(world.cli("events", "--source", "hand", "-o", "json").stdout)["events"][0]["id"]
        item = json.loads(world.cli("events", event, "-o", "json").stdout)["items"][0]["id"]
        shown = [
            world.cli("executions"), world.cli("executions", item), world.cli("executions", item, "-o", "json"),
            world.cli("events", event), world.cli("events", event, "-o", "json"), world.cli("status"),
            world.cli("explain", "Stage/named"), world.cli("history"), world.cli("logs", item), done,
        ]  # fmt: skip
        assert any("\\x1b]0;owned" in one.stdout for one in shown), "the title is shown somewhere"
        for one in shown:
            for line in (one.stdout + one.stderr).split("\n"):
                assert SHOWN.fullmatch(line), ascii(line)
                assert not line.startswith("EXECUTION forged")
    finally:
        world.close()


def test_n13_errors_and_usage_are_escaped_too(tmp_path: Path) -> None:
    folder = tmp_path / "x\x1b[31m\u202e"
    for arguments in (["validate", str(folder)], ["validate\x1b[31m\u202e"], ["validate", "--nosuch\x1b[31m\u202e"]):
        done = subprocess.run([sys.executable, "-m", "reconciler", *arguments], capture_output=True, text=True)
        assert done.returncode == 64
        assert all(SHOWN.fullmatch(line) for line in done.stderr.split("\n")), ascii(done.stderr)


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", b"a -> b... \\u540d\n"), ("utf-8", "a → b… 名\n".encode())])
def test_n41_our_own_signs_have_a_form_in_ascii(monkeypatch: pytest.MonkeyPatch, encoding: str, shown: bytes) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding, write_through=True))
    sink.out("a → b… 名")
    assert raw.getvalue() == shown


def test_a_line_as_wide_as_the_terminal_keeps_its_last_character(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = fresh(monkeypatch)
    sink.redraw(["x" * 80, "y"])
    assert screen.shown() == f"\x1b[?7l\x1b[H\x1b[K{'x' * 80}\n\x1b[Jy\x1b[?7h"


# -- N41: streams that do not take what is written ------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "ascii:strict", "utf-16"])
def test_n41_apply_ends_with_0_on_a_stdout_that_cannot_encode_its_words(world: World, encoding: str) -> None:
    world.source("one")
    done = subprocess.run(world.command("apply", "--yes"), capture_output=True, env={**world.env, "PYTHONIOENCODING": encoding})
    assert (done.returncode, b"RC9001" in done.stderr) == (0, False), done.stderr
    assert b"applied" in done.stdout.replace(b"\0", b"")
    assert world.hooks("one")


@pytest.mark.parametrize("redirect", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", "| true", "2>&1 | true"])
def test_n41_apply_ends_with_0_when_its_reader_is_gone(world: World, redirect: str) -> None:
    for number in range(3):
        world.source("one", name=f"one-{number}")
    command = " ".join(f"'{part}'" for part in world.command("apply", "--yes"))
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} {redirect}"], capture_output=True, text=True, env=world.env, cwd=world.folder
    )
    assert done.returncode == 0, done.stderr
    assert not re.search("Traceback|RC[0-9]{4}|BrokenPipe", done.stderr), done.stderr
    assert len(world.hooks("one")) == 3


def test_n41_a_full_disk_under_stdout_is_an_error_of_what_only_shows_and_none_of_what_acts(world: World) -> None:
    world.source("one")
    with open("/dev/full", "w") as full:
        done = subprocess.run(world.command("apply", "--yes"), stdout=full, stderr=subprocess.PIPE, text=True, env=world.env)
        assert done.returncode == 0, done.stderr
        assert "RC3075" in done.stderr
        assert "RC9001" not in done.stderr
        for verb in (["plan"], ["plan", "-o", "json"], ["export", "github", "--scope", "acme/one"]):
            shown = subprocess.run(world.command(*verb), stdout=full, stderr=subprocess.PIPE, text=True, env=world.env)
            assert (shown.returncode, "RC3075" in shown.stderr) == (1, True), shown.stderr
    assert world.hooks("one")


def test_n41_a_closed_stdout_is_never_the_next_file_that_is_opened(tmp_path: Path) -> None:
    script = "from reconciler.cli import sink; sink.prepare(); f = open('victim', 'w'); sink.out('lost'); sink.finish(); print(f.fileno(), file=f)"
    subprocess.run(["bash", "-c", f'"{sys.executable}" -c "{script}" >&-'], cwd=tmp_path, check=True, env=dict(os.environ))
    assert int((tmp_path / "victim").read_text()) > 2
