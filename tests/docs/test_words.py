"""User-facing text uses the standard terms of the field and plain English: a list of expressions that it must not contain."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from reconciler.cli import main as cli
from reconciler.cli.verbs import VERBS
from reconciler.model.codes import CODES
from tests.docs.pages import ROOT

WORDS: Mapping[str, str] = {
    r"(is|are|was|were|be) wanted": "is required, must",
    r"mend(s|ed|ing)?": "fix, repair",
    r"(is|are|was|were|be|been) told": "receives, is notified",
    r"tells? (of|who|whether|strangers|its sender|people|nobody)": "reports, shows",
    r"whom": "a sentence with another subject",
    r"nobody('s)?|no one's": "a sentence with a positive subject, or 'no'",
    r"in doubt|doubtful": "with unknown outcome",
    r"world moved|(plan|provider|branch|stamp) moved": "changed",
    r"anew": "again",
    r"(what|that|which) is no(?! longer)|what (is|are) not": "anything except, a sentence with a noun",
    r"(?<!there )(is|are) no (?!longer|more)": "is not a",
    r"there (is|are) none|is none (of|that)|none that": "does not exist, is not one of",
    r"without a word": "silently",
    r"by (itself|themselves)(?! \()": "automatically",
    r"for ever": "endlessly, never",
    r"(is|are|not|be) believed|believes?": "is trusted, is authenticated",
    r"(make|made|makes) again|made up for": "recreated, caught up",
    r"made[- ]up": "simulated",
    r"(is|are|was|were|be) looked (at|for|into|through)|looks? again": "is read, is checked, reconciles",
    r"(good|complete|next|first|last) looks?": "read, fetch",
    r"go(es)? on": "continues",
    r"stands? (in|at|there|twice|where|beside|before|alone)": "is in, appears",
    r"(comes?|came|coming) in": "arrives",
    r"hand(s|ed|ing)? (it |them |an event |a stored event )?on": "passes on, routes",
    r"taken in|takes? (all |everything |deliveries |events )?in": "accepts, recovers",
    r"(be|is|was) had": "be read",
    r"what became of|whatever became": "result, outcome",
    r"of which none|of several [^.]{1,30} the (newest|one)": "a sentence with a subject first",
    r"folds? case|names fold": "is case-insensitive",
    r"passed over": "skipped, overlooked",
    r"(sends?|sent|ran|runs|begins?|began) well|went well|ended well": "succeeded",
    r"misspelled of|likewise": "the same applies to",
    r"somebody else's|somebody's|other people's": "another user's",
    r"a write in doubt|start in doubt": "a write with unknown outcome",
    r"is (asked|read|tried) for|(is|are|was) asked (for|of)": "is requested, requires",
    r"what (came|comes|runs|ran|waits|lies) (in|there|and|beside)": "a noun: events, items, executions",
    r"(its|our|their) due\b|in due course": "when required",
    r"as it (stands|lies|was)": "unchanged",
    r"one word a thing|one (file|key|line) a": "one per",
    r"lies? (below|beside|in|among|there|inside|outside)": "is in, is next to",
    r"perhaps|surely|hitherto|therein|thereof|whereupon": "a plain sentence",
    r"leads? to nothing|led to nothing": "has no effect",
    r"slices?": "reconciliation",
    r"the sweep|sweeps?|swept": "recovery, search",
}
"""What must not be written (a regular expression, whole words, any case) → what to write instead."""

EVENT_PARTS = {"told", "wanted", "mended", "whom", "nobody", "anew", "heard", "doubt", "world", "asked", "believed"}
"""Words that a log event's name must not contain: it is a noun of the field and a past participle."""

_BANNED = [(re.compile(rf"(?<![\w/-])(?:{words})(?![\w-])", re.IGNORECASE), plain) for words, plain in WORDS.items()]
_CODE = re.compile(r"`[^`\n]*`|\]\([^)\n]*\)|<!--.*?-->")
_FENCE = re.compile(r"^```\w*\n.*?^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Text:
    """A text that a user reads, and where it is: a file and its line, or a name."""

    place: str
    text: str


def findings(text: Text) -> Iterator[str]:
    """Yield ``place: 'what is written' → what to write`` for each banned expression."""
    for pattern, plain in _BANNED:
        for match in pattern.finditer(_CODE.sub("``", text.text)):
            yield f"{text.place}: '{match[0]}' → {plain}"


def _prose(name: str, page: str) -> Iterator[Text]:
    """Yield the lines of a page's prose; an expression over a line break is found in the first of the two lines."""
    lines = _FENCE.sub(lambda match: "\n" * match[0].count("\n"), page).splitlines()
    for number, line in enumerate(lines, 1):
        yield Text(f"{name}:{number}", line)
    for number, (first, second) in enumerate(pairwise(lines), 1):
        tail, head = " ".join(first.split()[-2:]), " ".join(second.split()[:2])
        if tail and head and not second.startswith(("|", "#", "- ")):
            joined = Text(f"{name}:{number}", f"{tail} {head}")
            known = {one.partition(": ")[2] for part in (tail, head) for one in findings(Text("", part))}
            if any(one.partition(": ")[2] not in known for one in findings(joined)):
                yield joined


def _pages() -> Iterator[Text]:
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        if path.parent.name != "errors":
            yield from _prose(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8"))


def _help() -> Iterator[Text]:
    parser = cli.build_parser()
    yield Text("reconciler --help", " ".join(parser.format_help().split()))
    for verb in VERBS:
        yield Text(f"reconciler {verb.name} --help", f"{verb.help} {verb.description}")
        for flags, options in verb.arguments:
            yield Text(f"reconciler {verb.name} --help, {flags[-1]}", str(options.get("help", "")))


def _errors() -> Iterator[Text]:
    for code in CODES.values():
        yield Text(f"reconciler/model/codes.py, {code.id}", f"{code.title}. {code.cause} {code.fix}")


def _schemas() -> Iterator[Text]:
    for path in sorted((ROOT / "schemas").glob("*.json")):
        for pointer, text in _descriptions(json.loads(path.read_text(encoding="utf-8")), ""):
            yield Text(f"{path.relative_to(ROOT)}#{pointer}", text)


def _descriptions(node: Any, pointer: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, dict):
        if isinstance(node.get("description"), str):
            yield pointer, node["description"]
        for key, value in node.items():
            yield from _descriptions(value, f"{pointer}/{key}")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _descriptions(value, f"{pointer}/{index}")


def _all(texts: Iterator[Text]) -> list[str]:
    return [finding for text in texts for finding in findings(text)]


def test_the_pages_are_in_plain_english() -> None:
    assert _all(_pages()) == []


def test_the_help_of_every_verb_is_in_plain_english() -> None:
    assert _all(_help()) == []


def test_the_error_table_is_in_plain_english() -> None:
    assert _all(_errors()) == []


def test_the_descriptions_in_the_schemas_are_in_plain_english() -> None:
    assert _all(_schemas()) == []


def test_the_names_of_log_events_are_terms_of_the_field() -> None:
    section = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8").partition("\n## Logs\n")[2].partition("\n## ")[0]
    events = {
        name
        for line in section.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`([a-z_]+)`", line.partition(" | ")[0])
    }
    assert len(events) > 50
    assert {name for name in events if EVENT_PARTS & set(name.split("_"))} == set()


def test_a_banned_expression_is_found_with_its_place_and_the_plain_form() -> None:
    assert _all(iter([Text("docs/x.md:3", "A name is wanted here.")])) == ["docs/x.md:3: 'is wanted' → is required, must"]
    assert _all(iter([Text("x", "Mend it; nobody is told.")])) != []
    assert _all(iter([Text("x", "See [how to mend it](#x).")])) != []  # the text of a link is read
    assert _all(iter([Text("x", "Run `mend`, amend [it](mend.md#mend), and recommend it; the key is not a name.")])) == []


def test_an_expression_over_a_line_break_is_found_once() -> None:
    page = "first\na name is\nwanted here\n```text\nis wanted\n```\nmend\n"
    assert _all(_prose("x.md", page)) == ["x.md:7: 'mend' → fix, repair", "x.md:2: 'is wanted' → is required, must"]
