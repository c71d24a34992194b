"""Hostile text in a comment stays text: parsed by markdown-it-py, which knows nothing of how the comment was written.

The oracle is the token stream. Outside of code, a comment about hostile text must read exactly as one about harmless text, so no
mention, link, image, heading, entity or fold can come from it, whatever a renderer of Markdown does with plain text afterwards.
"""

from __future__ import annotations

import dataclasses
import re
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from reconciler.model.errors import Problem
from reconciler.model.plan import Action, FieldChange, Manifests, PlanSet, ResourceChange
from reconciler.model.resources import Location, Resource, ResourceId
from reconciler.planning import render

from .test_hostile_text import HOSTILE, texts
from .world import INTEGRATION, desired, foreign, observed, plan, recorded

PARSERS = [MarkdownIt("commonmark", {"html": True}), MarkdownIt("gfm-like", {"html": True, "linkify": False})]
MORE = (
    "@octocat", "fixes #1", "</code></summary></details>", "<details open>", "</summary>", "<summary>", "```diff", "````", "~~~~",
    "<script>alert(1)</script>", "<!-- reconciler-plan -->", "![](//evil.example/x)", "[a]: https://evil.example", "&#64;octocat",
    "<a href=//evil.example>x</a>", "www.evil.example", "a@evil.example", "\u2066\u202e\u2069", "$$x$$", ":tada:", "|a|b|\n|-|-|",
    "##[add-mask]x", "0123456789abcdef0123456789abcdef01234567", "</pre>", "\\`", "` ", " `", "<b", "<!--", "]]>", "\n    x", "\n> x",
)  # fmt: skip


def hostile_plan(text: str, *, others: int = 0) -> tuple[PlanSet, tuple[Problem, ...]]:
    """A plan in which every text that others write says ``text``."""
    drifted, stuck, fresh, gone = desired("drifted"), desired("stuck"), desired("fresh", note=text), desired("gone", note=text)
    one = plan(
        drifted,
        stuck,
        fresh,
        *(desired(f"other{number}") for number in range(others)),
        have=[recorded(drifted, "10"), recorded(gone, "11")],
        see=[observed(drifted, "10", events=["push", text]), foreign(stuck, "9", link="x"), observed(gone, "11", note=text)],
    )
    changes = tuple(
        dataclasses.replace(
            change,
            message=text,
            reason=text,
            external_id=text,
            resource=ResourceId("EventSource", text, text),
            location=Location(f"{text}.yaml", 3),
        )
        for change in one.changes
    )
    stage = ResourceId("Stage", "default", text)
    spec = {"connections": [{"type": "event-source", "name": text}], "executor": {"type": text, "spec": {text: text}}}
    integration = Resource(INTEGRATION, {"type": text, "url": text, "auth": {"use": text}}, Location("i.yaml", 1))
    after = {stage: Resource(stage, spec, Location(f"{text}.yaml", 1)), INTEGRATION: integration}
    changed = ResourceChange(stage, Action.UPDATE, (FieldChange(f"/{text}", text, f"{text}2"),), "d", Location(f"{text}.yaml", 1))
    problem = Problem(Location(f"dir/{text}.yaml", 3, 4), "RC1101", text, f"/spec/{text}", text)
    made = PlanSet(f"{text}@sha1:1", (dataclasses.replace(one, changes=changes, notes=(text,)),), (changed,), (problem,))
    return dataclasses.replace(made, manifests=Manifests(after, after)), (problem,)


def skeleton(tokens: list[Token]) -> list[str]:
    """Return the comment without code: what a page would show as text or read as markup."""
    shape: list[str] = []
    for token in tokens:
        if token.type == "fence":
            assert re.fullmatch("diff|sh", token.info), token.info
            shape.append("fence")
        elif token.type == "inline":
            shape += skeleton(token.children or [])
        elif token.type == "code_inline":
            shape.append("code")
        elif token.type in {"html_block", "html_inline"}:
            shape.append(re.sub(r"<code>[^<>]*</code>", "CODE", re.sub(r"sha256:\w+", "", token.content)))
        else:
            shape.append(f"{token.type} {re.sub(r'[0-9a-f]{64}', '', token.content)}")
    return shape


def check(text: str, *, others: int = 0) -> None:
    shown, expected = (render.markdown(render.document(*hostile_plan(one, others=others))) for one in (text, "harm-less"))
    for parser in PARSERS:
        assert skeleton(parser.parse(shown)) == skeleton(parser.parse(expected))
    html = PARSERS[0].render(shown)
    assert "<a " not in html
    assert "<img" not in html
    assert html.count("<details>") == html.count("</details>") == html.count("<summary>") == html.count("</summary>")
    assert "##[" not in shown
    assert all(line.isprintable() for line in shown.split("\n"))
    assert sum(token.content.startswith("<!-- reconciler-plan -->") for token in PARSERS[0].parse(shown)) == 1


@pytest.mark.parametrize("text", [*HOSTILE, *MORE])
def test_a_hostile_text_in_every_place_of_a_plan_is_text(text):
    check(text.strip() or "x")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(MORE), texts), min_size=1, max_size=4).map("".join))
def test_no_mixture_of_hostile_texts_changes_the_structure_of_a_comment(text):
    check(text, others=12)  # everything is folded, however many lines a text takes


@pytest.mark.parametrize("limit", [4_000, 9_000])
def test_a_cut_never_breaks_a_fence_or_a_fold(limit):
    for text in ("`" * 500, "</details>" * 300, "😀`" * 400, "<b>" * 2_000):
        shown = render.markdown(render.document(*hostile_plan(text)), limit=limit)
        assert len(shown.encode()) <= limit
        html = PARSERS[0].render(shown)
        assert html.count("<details>") == html.count("</details>")
        assert "<b>" not in re.sub(r"<b><code>", "", html)
        assert "Digest" in PARSERS[0].render(shown).rpartition("</pre>")[2].rpartition("</details>")[2]


EXTENSIONS = ("table", "strikethrough", "autolink", "tagfilter", "tasklist")
GITHUB = ["cmark-gfm", "--unsafe", *(word for name in EXTENSIONS for word in ("-e", name))]


@pytest.mark.parametrize("text", [*HOSTILE, *MORE])
def test_github_s_own_parser_shows_hostile_text_as_text(text):
    def page(one: str) -> str:
        shown = render.markdown(render.document(*hostile_plan(one)))
        html = subprocess.run(GITHUB, input=shown.encode(), capture_output=True, check=True, timeout=20).stdout.decode()
        assert not re.search(r"<a |<img|<input|<del|##\[", html)
        return re.sub(r"sha256:\w+|(?<=<code>)[^<]*(?=</code>)|(?<=<code class=\"language-diff\">)[^<]*(?=</code>)", "", html)

    assert page(text.strip() or "x") == page("harm-less")
