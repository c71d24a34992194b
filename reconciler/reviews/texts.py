"""The texts of a review: check, commit status and comment. Pure.

Everything that a pull request or a provider says stands in a code span or a fence that it cannot close: no mention, link or image.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from reconciler.model.printable import plain
from reconciler.model.reviews import CheckReport, Conclusion, PullComment, ReviewState
from reconciler.model.times import iso
from reconciler.planning.render.markdown import code_span
from reconciler.reviews.verdict import approve_button

MAX_COMMENT = 65_000
"""Characters of a comment."""
FOLD_OVER = 20_000
"""Characters of a plan that is folded."""
MAX_WORDS = 300
MAX_BEFORE = 20
"""Resources of an open pull request that are not ready."""
STATES = {
    Conclusion.SUCCESS: "success",
    Conclusion.NEUTRAL: "success",
    Conclusion.FAILURE: "failure",
    Conclusion.ACTION_REQUIRED: "failure",
    Conclusion.CANCELLED: "error",
    Conclusion.TIMED_OUT: "error",
}
"""Conclusion of a check → state of a commit status."""
_NOTES = {
    Conclusion.ACTION_REQUIRED: "Blocked changes are not made until they are approved: by the button of the check, if it has one, or after "
    "the merge by `reconciler approve`.",
    Conclusion.FAILURE: "Fix the errors: after a merge the resources concerned would stay at their last valid manifests.",
    Conclusion.NEUTRAL: "No manifest changes.",
}


@dataclass(frozen=True, slots=True)
class OutcomeRow:
    """The state of a resource."""

    resource: str
    state: str
    message: str = ""


def code(text: str) -> str:
    """Return ``text`` as a code span of one line, at most `MAX_WORDS` characters."""
    line = plain(text)
    return code_span(line if len(line) <= MAX_WORDS else line[: MAX_WORDS - 1] + "…")


def redacted(text: str, redact: Callable[[str], str]) -> str:
    """Redact Markdown. What stands between backticks is redacted apart, so that no mask takes the end of a span or a fence."""
    return "".join(part if part.startswith("`") else redact(part) for part in re.split(r"(`+)", text))


def comment_marker(owner: str) -> str:
    """Return the first line of the comment of an installation."""
    return f"<!-- reconciler-review {owner} -->"


def check_marker(owner: str, name: str) -> str:
    """Return what identifies our check of a commit."""
    return f"reconciler/{owner}/{name}"


def opened(state: ReviewState, name: str, owner: str) -> CheckReport:
    """Return the check while the plan is made."""
    summary = f"The manifests at {code(state.head[:12])} are compared with those of the base branch."
    return CheckReport(state.repository, state.head, name, check_marker(owner, name), "planning", summary)


def closed(state: ReviewState, name: str, owner: str) -> CheckReport:
    """Return the check of a commit that needs no verdict any more."""
    title, summary = f"superseded by {state.head[:8]}", "A newer commit is reviewed instead."
    if state.closed:
        title, summary = "the pull request is closed", "The review ended with the pull request."
        if not state.number:
            title, summary = "no longer in the merge queue", "The merge queue does not need this commit any more."
    marker = check_marker(owner, name)
    return CheckReport(state.repository, state.open_head, name, marker, title, summary, conclusion=Conclusion.CANCELLED)


def finished(state: ReviewState, name: str, owner: str, context: str) -> CheckReport:
    """Return the check with its verdict; ``context``: which commits were compared."""
    conclusion = Conclusion(state.conclusion)
    granted = _granted(state)
    notes = [context, *([granted] if granted else [_NOTES[conclusion]] if conclusion in _NOTES else [])]
    if granted and conclusion is Conclusion.ACTION_REQUIRED:
        conclusion = Conclusion.SUCCESS
    buttons = (approve_button(state.digest),) if conclusion is Conclusion.ACTION_REQUIRED and state.number else ()
    return CheckReport(
        repository=state.repository,
        head=state.head,
        name=name,
        marker=check_marker(owner, name),
        title=state.outcome,
        summary="\n\n".join([f"**{_words(state.outcome)}**", *(note for note in notes if note)]),
        text=state.plan,
        conclusion=conclusion,
        buttons=buttons,
    )


def _granted(state: ReviewState) -> str:
    grant = state.approval
    if grant is None:
        return ""
    return f"The blocked changes ({code(grant.digest[:19])}) were approved by {code(grant.login)} at {iso(grant.at)}."


def comment(state: ReviewState, owner: str, context: str, rows: Iterable[OutcomeRow] = ()) -> PullComment:
    """Return the comment: verdict, plan, and after the merge what became of it.

    ``rows``: after the merge all resources that it changes, before it those that are not ready.
    """
    marker = comment_marker(owner)
    outcome = state.outcome.replace("Plan: ", "")
    head = [marker, f"### Reconciler plan: {_words(outcome)}", context, _granted(state)]
    if state.conclusion == Conclusion.ACTION_REQUIRED and not _granted(state):
        head.append(_NOTES[Conclusion.ACTION_REQUIRED])
    after = _after(state, tuple(rows))
    text = "\n\n".join(part for part in (*head, *after) if part)
    room = MAX_COMMENT - len(text) - 200
    body = state.plan
    if body and len(body) > room:
        body = "The plan does not fit into a comment. The details of the check show it."
    elif len(body) > FOLD_OVER or (body and state.closed):
        body = f"<details><summary>Plan</summary>\n\n{body}\n\n</details>"
    return PullComment(state.repository, state.number, marker, f"{text}\n\n{body}".rstrip() + "\n")


def _after(state: ReviewState, rows: tuple[OutcomeRow, ...]) -> list[str]:
    if state.closed != "merged":
        return ["**Not ready when it was reviewed:**", _listed(rows[:MAX_BEFORE])] if rows else []
    by = f" by {code(state.merged_by)}" if state.merged_by else ""
    commit = f" as {code(state.merge_commit[:12])}" if state.merge_commit else ""
    lines = [f"Merged{commit}{by} at {iso(state.closed_at)}."]
    if not rows:
        return lines
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.state] = counts.get(row.state, 0) + 1
    lines.append("**" + ", ".join(f"{count} {_words(word)}" for word, count in sorted(counts.items())) + "**")
    shown = sorted(rows, key=lambda row: (row.state == "ready", row.resource))[:100]
    lines.append(_listed(shown))
    if len(rows) > len(shown):
        lines.append(f"{len(rows) - len(shown)} more.")
    if state.more_resources:
        lines.append(f"{state.more_resources} more resources are not followed here; `reconciler status` shows them.")
    return lines


def _listed(rows: Iterable[OutcomeRow]) -> str:
    return "\n".join(
        f"- {_words(row.state)}: {code(row.resource)}" + (f" {code(row.message)}" if row.message else "") for row in rows
    )


def _words(text: str) -> str:
    """Return words of ours as they are; with anything that Markdown could read, as code."""
    return text if re.fullmatch(r"[A-Za-z0-9 ,:;.%()]*", text) else code(text)


def context_of(state: ReviewState, base: str, behind: int) -> str:
    """Return which commits were compared."""
    text = f"Commit {code(state.head[:12])} against {code(base[:12])}"
    if state.number:
        text += f" of {code(state.base)}"
    if behind:
        text += f", which is {behind} commit{'s' if behind != 1 else ''} behind"
    fork = " It comes from a fork." if state.fork else ""
    return f"{text}. The plan compares manifests with manifests: no secret was read, and no provider was asked.{fork}"


__all__ = [
    "MAX_COMMENT",
    "STATES",
    "OutcomeRow",
    "check_marker",
    "closed",
    "code",
    "comment",
    "comment_marker",
    "context_of",
    "finished",
    "opened",
    "redacted",
]
