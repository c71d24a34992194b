"""A plan for people and programs: one document, rendered as text, JSON, Markdown, workflow annotations and SARIF.

`document` builds it from a plan; every renderer takes the document alone. `exit_code` is what a plan means to a script.
"""

from __future__ import annotations

from reconciler.model.plan import ChangeClass, PlanSet
from reconciler.planning.render.annotations import problem_commands, workflow_commands
from reconciler.planning.render.document import PlanClock, PlanDocument, behaviour, document
from reconciler.planning.render.json_document import json_document, json_text
from reconciler.planning.render.markdown import markdown
from reconciler.planning.render.sarif import problems_as_sarif, sarif
from reconciler.planning.render.text import text

__all__ = [
    "PlanClock",
    "PlanDocument",
    "behaviour",
    "document",
    "exit_code",
    "json_document",
    "json_text",
    "markdown",
    "problem_commands",
    "problems_as_sarif",
    "sarif",
    "text",
    "workflow_commands",
]


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
