"""A plan as text, JSON, Markdown and workflow annotations, problems also as SARIF; and the exit code it means."""

from __future__ import annotations

from reconciler.model.plan import ChangeClass, PlanSet
from reconciler.planning.render.annotations import render_annotations
from reconciler.planning.render.document import plan_document, render_json
from reconciler.planning.render.markdown import render_markdown
from reconciler.planning.render.sarif import render_sarif
from reconciler.planning.render.text import render_text

__all__ = ["exit_code", "plan_document", "render_annotations", "render_json", "render_markdown", "render_sarif", "render_text"]


def exit_code(planset: PlanSet, *, detailed: bool) -> int:
    """Return what ``plan`` and ``drift`` exit with; ``detailed``: 0 nothing to do, 2 changes pending, 3 only drift, 4 blocked.

    What could not be read goes before all of them: 1, since nothing is known of it.
    """
    changes = planset.changes
    if not detailed:
        return 0
    if any(problem.is_error for problem in planset.unread):
        return 1
    if planset.empty:
        return 0
    if any(plan.blocked for plan in planset.plans):
        return 4
    return 2 if planset.resources or any(change.cls is ChangeClass.COMMIT for change in changes) else 3
