"""A plan as a pull request comment, with a hidden marker and a bounded size."""

from __future__ import annotations

import re

from reconciler.model.errors import Problem
from reconciler.model.plan import Change, Plan, PlanSet, ResourceChange
from reconciler.model.printable import plain
from reconciler.planning.render.words import (
    CLASS_TITLES,
    RESOURCES_TITLE,
    SYMBOLS,
    by_class,
    details,
    resource_details,
    state_text,
    summary,
)

MARKER = "<!-- reconciler-plan -->"
LIMIT = 65_536
"""A longer body of a comment is refused; counted in bytes here, which is never less than characters."""
_ROOM = 600  # for the closing lines
_BLOCK_LIMIT = 12_000


def render_markdown(planset: PlanSet, problems: tuple[Problem, ...] = (), *, approvable: bool = True, limit: int = LIMIT) -> str:
    """Return the comment; what does not fit into ``limit`` bytes is counted in its last lines."""
    head = [MARKER, "### Reconciler plan", ""]
    if planset.revision:
        head += [f"Revision {_code(planset.revision)}", ""]
    head += [f"**{summary(planset)}**", ""]
    head.append("")
    blocks = [_problem(problem) for problem in problems]
    if planset.unread:
        blocks.append("**Could not be read; no changes are planned there**\n")
        blocks += [_problem(problem) for problem in planset.unread]
    if planset.resources:
        blocks.append(f"\n#### {RESOURCES_TITLE}\n")
        blocks += [_resource(change) for change in planset.resources]
    for plan in planset.plans:
        blocks += _plan(plan, approvable)
    text = "\n".join(head)
    shown = 0
    for block in blocks:
        if len((text + block).encode()) > limit - _ROOM:
            break
        text += block + "\n"
        shown += 1
    if shown < len(blocks):
        text += f"\n_{len(blocks) - shown} more entries do not fit here; `reconciler plan` shows all of them._\n"
    if not planset.empty:
        text += f"\nDigest {_code(planset.sha256)}" + ("" if approvable else " (it approves nothing)") + "\n"
    return text


def _plan(plan: Plan, approvable: bool) -> list[str]:
    if not plan.changes and not plan.notes:
        return []
    blocks = [f"\n#### {_code(str(plan.integration))}\n"]
    for cls, changes in by_class(plan.changes):
        blocks.append(f"**{CLASS_TITLES[cls]}**\n")
        blocks += [_change(change) for change in changes]
    blocks += [f"- note: {_code(note)}" for note in plan.notes]
    if plan.blocked_sha256 is not None and approvable:
        blocks.append(
            f"\n**{len(plan.blocked)} blocked.** To allow exactly these:\n\n"
            f"```sh\nreconciler approve {plan.blocked_sha256}\n```\n"
        )
    return blocks


def _change(change: Change) -> str:
    state = state_text(change)
    line = f"- {_code(SYMBOLS[change.action])} {change.action.value} {_code(str(change.resource))} {_code(str(change.scope))}"
    line += f" **{_bold(state)}**" if state else ""
    line += f" at {_code(str(change.location))}" if change.location.file else ""
    return _entry(line, ([change.message] if change.message else []) + list(details(change)))


def _resource(change: ResourceChange) -> str:
    line = f"- {_code(SYMBOLS[change.action])} {change.action.value} {_code(str(change.resource))}"
    line += f" at {_code(str(change.location))}" if change.location.file else ""
    return _entry(line, list(resource_details(change)))


def _entry(line: str, lines: list[str]) -> str:
    """Return a list item with ``lines`` in a fence below it, so that nothing in them is markup."""
    if not lines:
        return line
    body = "\n".join(plain(line) for line in lines)
    body = body if len(body) <= _BLOCK_LIMIT else body[:_BLOCK_LIMIT] + "…"
    fence = _fence(body)
    return f"{line}\n\n" + "\n".join(f"  {part}" for part in (fence + "text", *body.split("\n"), fence)) + "\n"


def _bold(text: str) -> str:
    """Words of ours as they are; with anything that Markdown could read, as code."""
    return text if re.fullmatch(r"[A-Za-z0-9 ,:]*", text) else _code(text)


def _problem(problem: Problem) -> str:
    place = f" at {_code(str(problem.location))}" if problem.location.file else ""
    return f"- **{problem.severity.value} {problem.code}**{place}: {_code(problem.message)}"


def _fence(body: str) -> str:
    """A fence longer than any run of backticks inside, so that no value can leave it."""
    return "`" * max(3, max((len(run) for run in re.findall(r"`+", body)), default=0) + 1)


def _code(text: str) -> str:
    text = plain(text) or "(empty)"  # a code span cannot be empty: its ticks would start one that ends elsewhere
    ticks = "`" * (max((len(run) for run in re.findall(r"`+", text)), default=0) + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{ticks}{pad}{text}{pad}{ticks}"
