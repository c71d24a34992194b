"""From the plan of a pull request to the verdict of its check. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from reconciler.engine.offline import Comparison
from reconciler.engine.plan_document import plan_document
from reconciler.model.errors import Problem
from reconciler.model.plan import Change, PlanSet
from reconciler.model.printable import plain
from reconciler.model.resources import Resource, ResourceId
from reconciler.model.reviews import Annotation, CheckButton, Conclusion, ReviewedBlock
from reconciler.model.values import digest_of
from reconciler.planning import render
from reconciler.planning.render.words import summary

PLAN_BYTES = 60_000
"""Longest plan in a check and a comment: both take 65,535 characters, and say more than the plan."""
MAX_RESOURCES = 500
APPROVE = "approve-"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of one review."""

    conclusion: Conclusion
    outcome: str
    """One line."""
    plan: str = ""
    """The plan as Markdown."""
    annotations: tuple[Annotation, ...] = ()
    blocked: tuple[ReviewedBlock, ...] = ()
    resources: tuple[str, ...] = ()
    more_resources: int = 0
    """How many are not among ``resources``."""
    base: str = ""
    behind: int = 0
    """How many commits of the base branch the head lacks."""

    @property
    def digest(self) -> str:
        """Digest of the blocked changes; empty without any."""
        return digest_of([[b.integration, b.resource, b.address, b.action, b.spec] for b in self.blocked]) if self.blocked else ""


def verdict_of(comparison: Comparison, after: Mapping[ResourceId, Resource], now: float, *, details_url: str = "") -> Verdict:
    """Return the verdict at ``now`` (epoch seconds): invalid manifests fail, blocked changes need an approval.

    ``details_url``: where the whole plan is.
    """
    plan = comparison.plan
    problems = (*comparison.problems, *comparison.unread)
    errors = [problem for problem in problems if problem.is_error]
    blocked = tuple(_block(change, after) for each in plan.plans for change in each.blocked)
    resources = tuple(dict.fromkeys(_resources(plan)))
    parts = [summary(plan)] if not plan.empty else ["no changes"]
    conclusion = Conclusion.SUCCESS
    if errors:
        conclusion = Conclusion.FAILURE
        parts.insert(0, f"{len(errors)} error{'s' if len(errors) != 1 else ''} in the manifests")
    elif blocked:
        conclusion = Conclusion.ACTION_REQUIRED
    return Verdict(
        conclusion=conclusion,
        outcome="; ".join(parts),
        plan=plan_markdown(plan, comparison.problems, now, details_url=details_url),
        annotations=tuple(annotations_of(problems)),
        blocked=blocked,
        resources=resources[:MAX_RESOURCES],
        more_resources=max(0, len(resources) - MAX_RESOURCES),
    )


def plan_markdown(plan: PlanSet, problems: tuple[Problem, ...], now: float, *, details_url: str = "") -> str:
    """Return the plan as Markdown of at most `PLAN_BYTES`, without marker and title."""
    document = plan_document(plan, problems, now=now, approvable=False)
    return render.markdown(document, limit=PLAN_BYTES, marker="", details_url=details_url).partition("\n\n")[2].strip()


def plan_text(comparison: Comparison, now: float) -> str:
    """Return the plan as text for a page: the errors first, then every change."""
    errors = [f"{problem.location}: {problem.code} {problem.message}" for problem in comparison.problems if problem.is_error]
    document = plan_document(comparison.plan, comparison.problems, now=now, approvable=False)
    return "\n".join([*errors, *([""] if errors else []), render.text(document)])


def _block(change: Change, after: Mapping[ResourceId, Resource]) -> ReviewedBlock:
    resource = after.get(change.resource)
    return ReviewedBlock(
        integration=change.integration.path,
        resource=change.resource.path,
        address=change.address,
        action=change.action.value,
        spec=resource.spec_digest if resource is not None else "",
    )


def _resources(plan: PlanSet) -> Iterator[str]:
    yield from (change.resource.path for change in plan.resources)
    yield from (change.resource.path for change in plan.changes)


def annotations_of(problems: Iterable[Problem]) -> Iterator[Annotation]:
    """Yield the problems that have a file."""
    for problem in problems:
        if problem.location.file:
            message = plain(problem.message) + (f"\n{plain(problem.hint)}" if problem.hint else "")
            yield Annotation(problem.location.file, problem.location.line or 1, problem.is_error, problem.code, message)


def approve_button(digest: str) -> CheckButton:
    """Return the button that approves exactly the blocked changes with ``digest``."""
    return CheckButton("Approve", "Approve exactly these blocked changes", button_id(digest))


def button_id(digest: str) -> str:
    """Return the identifier of the button: 20 characters, of which 12 are of the digest."""
    return APPROVE + digest.partition(":")[2][:12]


__all__ = ["Verdict", "annotations_of", "approve_button", "button_id", "plan_markdown", "plan_text", "verdict_of"]
