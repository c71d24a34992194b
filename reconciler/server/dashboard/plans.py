"""Plans on a page: the entries of the plan document, redacted and bounded, what waits for an approval first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from reconciler.engine.plan_document import plan_document
from reconciler.engine.read_errors import unread_of
from reconciler.engine.reconcile import ReconcileResult
from reconciler.engine.revision import ActiveRevision
from reconciler.model.errors import Problem
from reconciler.model.plan import Change, ChangeClass, Disposition, Manifests, Plan, PlanSet
from reconciler.model.resources import Resource, ResourceId
from reconciler.planning.render.document import BlockedSet, Detail, PlanEntry, PlanSection
from reconciler.planning.render.values import bounded, excerpts
from reconciler.planning.render.words import summary
from reconciler.planning.resources import resource_changes

PAGE_ENTRIES = 50
"""Entries of one page of the plan."""
MOST_VALUES = 40
"""Values of one entry; the rest is counted."""
VALUE = 400
"""Characters of one value. Of two long ones, the part that differs is shown."""
SENTENCE = 1_000
Redact = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class PlanInputs:
    """What the pages of plans follow from, as of now. ``former``: the manifests before the active revision."""

    active: ActiveRevision
    former: Mapping[ResourceId, Resource]
    results: Mapping[ResourceId, ReconcileResult]
    now: float


@dataclass(frozen=True, slots=True)
class ShownEntry:
    """An entry with as many values as a page has room for."""

    entry: PlanEntry
    changed: tuple[Detail, ...]
    unchanged: tuple[Detail, ...] = ()
    """Facts that stay as they are: what else the resource does."""
    more: int = 0


@dataclass(frozen=True, slots=True)
class ShownGroup:
    """Entries of one class."""

    title: str
    entries: tuple[ShownEntry, ...]


@dataclass(frozen=True, slots=True)
class ShownSection:
    """The part of an integration's plan that is on one page. ``total``: all its changes; ``blocked``: all that wait."""

    integration: str
    identity: str
    total: int
    blocked: BlockedSet | None
    notes: tuple[str, ...]
    orphans: tuple[str, ...]
    groups: tuple[ShownGroup, ...]


@dataclass(frozen=True, slots=True)
class PlanPage:
    """One page of the plan of all integrations. ``manifests``: what the newest revision changed, which is in force already."""

    revision: str
    summary: str
    sha256: str
    is_empty: bool
    unread: tuple[Problem, ...]
    manifests: tuple[ShownEntry, ...]
    more_manifests: int
    sections: tuple[ShownSection, ...]
    number: int
    pages: int


def plan_page(inputs: PlanInputs, number: int, redact: Redact) -> PlanPage:
    """Return page ``number`` (from 1). Only its entries are built, so that a plan of thousands costs no more than a small one."""
    known = inputs.active.resources
    results = [inputs.results[key] for key in sorted(inputs.results)]
    plans = tuple(result.plan for result in results if result.plan is not None)
    whole = PlanSet(inputs.active.revision, plans, (), unread_of(results, known), Manifests(known, known))
    pages = max(1, -(-len(whole.changes) // PAGE_ENTRIES))
    number = max(1, min(number, pages))
    ordered = sorted(map(_blocked_first, plans), key=lambda plan: (not plan.blocked, plan.integration))
    here = replace(whole, plans=tuple(_slice(ordered, (number - 1) * PAGE_ENTRIES, number)))
    full = {plan.integration: plan for plan in plans}
    manifests = _manifest_entries(inputs) if number == 1 else ()
    return PlanPage(
        whole.revision,
        summary(whole),
        whole.sha256,
        whole.empty,
        tuple(replace(each, message=redact(each.message), hint=redact(each.hint)) for each in whole.unread),
        tuple(_shown(entry, redact) for entry in manifests[:PAGE_ENTRIES]),
        max(0, len(manifests) - PAGE_ENTRIES),
        tuple(_sections(plan_document(here, now=inputs.now).sections, full, redact)),
        number,
        pages,
    )


def entries_of(identity: ResourceId, inputs: PlanInputs, redact: Redact) -> tuple[tuple[ShownEntry, ...], int]:
    """Return what is planned for one resource, the change of its own manifest first, and how many entries there are."""
    known = inputs.active.resources
    plans = [
        replace(result.plan, changes=changes, notes=(), orphans=())
        for result in inputs.results.values()
        if result.plan is not None and (changes := tuple(change for change in result.plan.changes if change.resource == identity))
    ]
    planned = plan_document(PlanSet("", tuple(plans), manifests=Manifests(known, known)), now=inputs.now)
    entries = [*_manifest_entries(inputs, identity), *planned.entries]
    return tuple(_shown(entry, redact) for entry in entries[:PAGE_ENTRIES]), len(entries)


def _manifest_entries(inputs: PlanInputs, only: ResourceId | None = None) -> tuple[PlanEntry, ...]:
    """Return what the newest revision changed in the manifests; nothing for the first one that this process knows."""
    before, after = inputs.former, inputs.active.resources
    if not before:
        return ()
    changes = [each for each in resource_changes(before, after) if only is None or each.resource == only]
    if not changes:
        return ()
    return plan_document(PlanSet("", (), tuple(changes), manifests=Manifests(before, after)), now=inputs.now).manifests


def _blocked_first(plan: Plan) -> Plan:
    """Return ``plan`` with its changes in the order of the pages. Its digests are others: they cover the order."""
    return replace(plan, changes=tuple(sorted(plan.changes, key=_order)))


def _order(change: Change) -> tuple[bool, int]:
    return change.disposition is not Disposition.BLOCKED, list(ChangeClass).index(change.cls)


def _slice(plans: Iterable[Plan], start: int, number: int) -> Iterator[Plan]:
    """Yield the plans of one page with its changes. Notes and orphans are on the page where the changes of their plan begin."""
    first = 0
    for plan in plans:
        lower, upper = max(0, start - first), start + PAGE_ENTRIES - first
        begins = start <= first < start + PAGE_ENTRIES if plan.changes else number == 1
        first += len(plan.changes)
        if upper <= 0 or (plan.changes and lower >= len(plan.changes)):
            continue
        part = replace(plan, changes=plan.changes[lower:upper])
        yield part if begins else replace(part, notes=(), orphans=())


def _sections(sections: Iterable[PlanSection], full: Mapping[ResourceId, Plan], redact: Redact) -> Iterator[ShownSection]:
    for section in sections:
        if section.empty:
            continue
        plan = full[section.plan.integration]
        yield ShownSection(
            section.integration,
            redact(section.identity),
            len(plan.changes),
            BlockedSet.of(plan),
            tuple(redact(note) for note in section.notes[:MOST_VALUES]),
            tuple(redact(f"{orphan.scope} {orphan.external_id}") for orphan in section.orphans[:MOST_VALUES]),
            tuple(ShownGroup(group.title, tuple(_shown(entry, redact) for entry in group.entries)) for group in section.groups),
        )


def _shown(entry: PlanEntry, redact: Redact) -> ShownEntry:
    """Return an entry for a page. Values are redacted whole, and cut afterwards: half a secret would not be recognized."""
    changed = [detail for detail in entry.details if detail.changed or detail.before is None or detail.after is None]
    same = [detail for detail in entry.details if detail not in changed]
    clean = replace(
        entry,
        title=redact(entry.title),
        place=redact(entry.place),
        external_id=redact(entry.external_id),
        state=redact(entry.state),
        why=tuple(bounded(redact(sentence), SENTENCE) for sentence in entry.why),
    )
    return ShownEntry(
        clean,
        tuple(_cut(detail, redact) for detail in changed[:MOST_VALUES]),
        tuple(_cut(detail, redact) for detail in same[:MOST_VALUES]),
        max(0, len(changed) - MOST_VALUES) + max(0, len(same) - MOST_VALUES),
    )


def _cut(detail: Detail, redact: Redact) -> Detail:
    before = redact(detail.before) if detail.before is not None else None
    after = redact(detail.after) if detail.after is not None else None
    if before is not None and after is not None:
        before, after = excerpts(before, after, VALUE)
    else:
        before, after = (bounded(text, VALUE) if text is not None else None for text in (before, after))
    return replace(detail, name=redact(detail.name), before=before, after=after)


__all__ = ["PlanInputs", "PlanPage", "ShownEntry", "entries_of", "plan_page"]
