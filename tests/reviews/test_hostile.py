"""Hostile manifests, as people see them: the comment and the check are rendered, by GitHub's own renderer where it is installed."""

from __future__ import annotations

import itertools
import json
import subprocess
from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt
from msgspec.structs import replace

from reconciler.config.settings import Config
from reconciler.engine.offline import compared, parse_offline
from reconciler.model.reviews import ReviewState
from reconciler.reviews import texts
from reconciler.reviews.verdict import Verdict, verdict_of
from reconciler.source.base import FileData, Revision, Snapshot

PARTS = [
    "@everyone", "@acme/admins", "#1", "GH-1", "acme/web#7", "![x](https://evil/x.png)", "[a](https://evil)", "<!-- x", "-->",
    "</details>", "</summary>", "<details open>", "</code>", "</pre>", "```", "````", "~~~", "`", "``", "\\", "https://evil.example",
    "www.evil.example", "<img src=x onerror=alert(1)>", "<script>", "&lt;b&gt;", "&#64;everyone", "\n\n# evil", "\n---\n", "| a |",
    "\u202egnp.evil", "\u200b@all", "$evil$", ":evil:", "javascript:evil", "a" * 400,
]  # fmt: skip
LINK = "https://hooks.example/reviews/7"
VOID = {"hr", "br", "input"}
GITHUB = (
    "kind: Secret\nmetadata: {name: s}\nspec: {provider: env, data: {t: {env: RECONCILER_SECRET_T}}}\n---\n"
    "kind: Integration\nmetadata: {name: github}\nspec: {type: github, url: https://github.com/acme, "
    "auth: {use: token, token: {valueFrom: {secret: {name: s, key: t}}}}}\n"
)


def hostile(at: int, name: str) -> FileData:
    """One manifest with ``name`` wherever free text may be, and now and then an error."""
    text = json.dumps(name)
    spec = f"{{type: webhook, integration: {{name: github}}, resource: {{type: repository, name: {text}}}}}"
    stage = (
        f"kind: Stage\nmetadata: {{name: h{at}, annotations: {{note: {text}}}, labels: {{l: {text}}}}}\n"
        f"spec:\n  inputs: [{{name: x, description: {text}}}]\n  connections: [{{type: event-source, name: {text}}}]\n"
        f"  executor: {{type: http, spec: {{url: {text}, body: {text}}}}}\n"
    )
    source = f"kind: EventSource\nmetadata: {{name: h{at}, annotations: {{note: {text}}}}}\nspec: {spec}\n"
    schedule = f"kind: EventSource\nmetadata: {{name: h{at}, description: {text}}}\nspec: {{type: manual}}\n"
    path = f"h/{at}-{name[:40].replace('/', '_')}.yaml"
    return path, str(at), ((stage, source, schedule)[at % 3]).encode()


def verdict(files: list[FileData]) -> Verdict:
    config = Config()
    base = parse_offline([("g.yaml", "g", GITHUB.encode())], Snapshot(Revision("main@sha1:0", "0" * 40, "main"), ()), config)
    head = Snapshot(Revision("#7@sha1:1", "1" * 40, "#7"), ())
    after = parse_offline([("g.yaml", "g", GITHUB.encode()), *files], head, config)
    return verdict_of(compared(base.resources, after, config), after.by_id(), 1_700_000_000.0, details_url=LINK)


class Seen(HTMLParser):
    """What a browser gets: tags, links, and the text outside of code."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.links: set[str] = set()
        self.text = ""
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links |= {str(value) for name, value in attrs if name in {"href", "src"}}
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, "the elements are nested"

    def handle_data(self, data: str) -> None:
        if not {"code", "pre"} & set(self.open):
            self.text += data


RENDERERS = ("markdown-it", "cmark-gfm")


def rendered(name: str, body: str) -> Seen:
    if name == "cmark-gfm":
        extensions = [word for each in ("table", "autolink", "strikethrough", "tasklist") for word in ("-e", each)]
        done = subprocess.run(
            ["cmark-gfm", "--unsafe", *extensions], input=body.encode(), capture_output=True, check=True, timeout=30
        )
        page = done.stdout.decode()
    else:
        page = MarkdownIt("gfm-like", {"linkify": False}).render(body)
    seen = Seen()
    seen.feed(page)
    seen.close()
    assert seen.open == []
    return seen


@pytest.mark.parametrize("name", RENDERERS)
@pytest.mark.parametrize("size", [3, 40, 250])
def test_hostile_manifests_make_no_link_mention_image_or_broken_fold(name: str, size: int) -> None:
    words = itertools.cycle([*PARTS, *(f"{a} {b}" for a, b in itertools.pairwise(PARTS)), *(f"{a}{a}" for a in PARTS)])
    judged = verdict([hostile(at, word) for at, word in zip(range(size), words, strict=False)])
    state = ReviewState(
        "acme/web", number=7, head="1" * 40, base="main", title="".join(PARTS), conclusion=judged.conclusion.value
    )
    state = replace(state, outcome=judged.outcome, plan=judged.plan, context=texts.context_of(state, "0" * 40, 2))
    rows = [texts.OutcomeRow(f"Stage/{word}", "stalled", word) for word in PARTS]
    merged = replace(state, closed="merged", merged_by="@eve [a](https://evil)", merge_commit="`@evil`")
    report = texts.finished(state, "reconciler/plan", "team-a", state.context)
    bodies = [texts.comment(state, "team-a", state.context).body, texts.comment(merged, "team-a", state.context, rows).body]
    for body in (*bodies, report.summary, report.text):
        assert len(body) <= 65_000
        seen = rendered(name, body)
        assert seen.links <= {LINK}
        assert not seen.tags & {"img", "script", "style", "iframe", "input", "table", "h1"}
        assert not {each for each in seen.attributes if each.startswith("on")}
        assert not [word for word in ("@", "evil", "#1", "#7", "GH-1", "$") if word in seen.text], seen.text
    assert judged.plan.startswith("Revision `"), "the revision is first"
    assert "Digest `sha256:" in judged.plan.splitlines()[-1], "the digest is last"
