"""The document of a plan: what a person or a program reads, before it has a format.

It is built once. Text, Markdown, JSON, annotations, SARIF and pages render it, so that all of them show the same. Every text in it
is escaped and bounded (`values`); a renderer adds only the escaping of its own format, and cuts further where it has less room.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from reconciler.model.errors import Problem
from reconciler.model.plan import Action, Change, Disposition, FieldChange, Manifests, Orphan, Plan, PlanSet, ResourceChange
from reconciler.model.resources import Location, Resource, ResourceId
from reconciler.model.values import Digest
from reconciler.planning.behaviour import Fact, NextRuns, Surroundings, facts_of, identity_text
from reconciler.planning.render.values import leaves, said, shown, value_text, value_texts
from reconciler.planning.render.words import CLASS_TITLES, SECRET, by_class, counts_of, explanation, state_text, summary


@dataclass(frozen=True, slots=True)
class Detail:
    """A value: with ``after`` alone it is new, with ``before`` alone it is lost, with both it changes. A secret reads "(secret)"."""

    name: str
    """A JSON pointer, or the name of a fact."""
    before: str | None = None
    after: str | None = None
    fact: bool = False
    """Whether it says what the resource does (`reconciler.planning.behaviour`) instead of quoting a field."""

    @property
    def changed(self) -> bool:
        return self.before is not None and self.after is not None and self.before != self.after


@dataclass(frozen=True, slots=True)
class PlanEntry:
    """One change of an object or of a manifest."""

    action: Action
    title: str
    """``EventSource/payments``."""
    source: Change | ResourceChange
    place: str = ""
    """The scope at the provider; empty for a manifest."""
    external_id: str = ""
    location: Location = Location("")
    anchor: Location = Location("")
    """Where an annotation belongs: `location`, or that of the Integration. Code scanning refuses a result without a place."""
    level: Disposition = Disposition.EXECUTE
    state: str = ""
    """``blocked: DeletePercent``; empty for an ordinary change."""
    why: tuple[str, ...] = ()
    details: tuple[Detail, ...] = ()
    facts: tuple[Fact, ...] = ()
    """What the resource does, or did if it is removed."""

    @property
    def at(self) -> str:
        """``file:line:column``; empty if it is unknown."""
        return shown(str(self.location)) if self.location.file else ""


@dataclass(frozen=True, slots=True)
class PlanGroup:
    """Entries of one class: committed, drift, unverifiable."""

    title: str
    entries: tuple[PlanEntry, ...]


@dataclass(frozen=True, slots=True)
class BlockedSet:
    """What one approval names. ``sha256`` is None if the plan cannot be approved."""

    sha256: Digest | None
    count: int
    owned: int

    @classmethod
    def of(cls, plan: Plan, *, approvable: bool = True) -> BlockedSet | None:
        """Return the blocked changes of ``plan``; None if there are none."""
        digest = plan.blocked_sha256
        return cls(digest if approvable else None, len(plan.blocked), plan.owned) if digest is not None else None


@dataclass(frozen=True, slots=True)
class PlanSection:
    """The plan of one integration."""

    plan: Plan
    integration: str
    identity: str
    """On whose behalf, and at which provider; empty if the manifest is not known."""
    groups: tuple[PlanGroup, ...]
    notes: tuple[str, ...] = ()
    orphans: tuple[Orphan, ...] = ()
    blocked: BlockedSet | None = None

    @property
    def empty(self) -> bool:
        """Whether there is nothing to show of it."""
        return not self.groups and not self.notes and not self.orphans


@dataclass(frozen=True, slots=True)
class PlanDocument:
    """A plan to review. ``sha256`` covers every change of an object and of a manifest: `apply --plan` takes this one digest."""

    revision: str
    sha256: Digest
    approvable: bool
    empty: bool
    summary: str
    counts: Mapping[str, int]
    problems: tuple[Problem, ...] = ()
    unread: tuple[Problem, ...] = ()
    manifests: tuple[PlanEntry, ...] = ()
    sections: tuple[PlanSection, ...] = ()

    @property
    def entries(self) -> Iterator[PlanEntry]:
        """All entries, in the order in which they are shown."""
        yield from self.manifests
        for section in self.sections:
            for group in section.groups:
                yield from group.entries


@dataclass(frozen=True, slots=True)
class PlanClock:
    """The time of the plan (epoch seconds; 0: unknown), and how schedules are computed."""

    now: float = 0.0
    next_runs: NextRuns | None = None


def document(
    planset: PlanSet, problems: Iterable[Problem] = (), *, approvable: bool = True, clock: PlanClock | None = None
) -> PlanDocument:
    """Return the document of ``planset``. ``approvable`` is False for a plan that was made without credentials or state."""
    clock = clock or PlanClock()
    known = planset.manifests
    old, new = (Surroundings.of(side, clock.now, clock.next_runs) for side in (known.before, known.after))
    return PlanDocument(
        revision=shown(planset.revision),
        sha256=planset.sha256,
        approvable=approvable,
        empty=planset.empty,
        summary=summary(planset),
        counts=counts_of(planset),
        problems=tuple(problems),
        unread=planset.unread,
        manifests=tuple(_manifest(change, old, new) for change in planset.resources),
        sections=tuple(_section(plan, known, approvable) for plan in planset.plans),
    )


def _section(plan: Plan, manifests: Manifests, approvable: bool) -> PlanSection:
    declared = manifests.latest(plan.integration)
    return PlanSection(
        plan=plan,
        integration=shown(str(plan.integration)),
        identity=said(identity_text(declared)) if declared is not None else "",
        groups=tuple(
            PlanGroup(CLASS_TITLES[cls], tuple(_change(change, manifests) for change in changes))
            for cls, changes in by_class(plan.changes)
        ),
        notes=tuple(said(note) for note in plan.notes),
        orphans=plan.orphans,
        blocked=BlockedSet.of(plan, approvable=approvable),
    )


def _change(change: Change, manifests: Manifests) -> PlanEntry:
    """Return the entry of one change; ``manifests`` explain it and give its place."""
    location = change.location if change.location.file else _place_of(change.resource, manifests)
    return PlanEntry(
        action=change.action,
        title=shown(str(change.resource)),
        place=shown(str(change.scope)),
        external_id=shown(change.external_id or ""),
        location=location,
        anchor=location if location.file else _place_of(change.integration, manifests),
        level=change.disposition,
        state=shown(state_text(change)),
        why=tuple(explanation(change, manifests)),
        details=tuple(_details(change)),
        source=change,
    )


def _place_of(identity: ResourceId, manifests: Manifests) -> Location:
    """Return where a resource is declared, or was if it is no longer."""
    resource = manifests.latest(identity)
    return resource.location if resource is not None else Location("")


def _details(change: Change) -> Iterator[Detail]:
    """Yield each difference; of a create, each attribute that it writes; of a delete, each that is lost."""
    if change.action is Action.DELETE and change.loss is not None:
        yield from (Detail(shown(path), before=value_text(value)) for path, value in leaves(change.loss.attributes))
        yield from (Detail(shown(path), before=SECRET) for path in change.loss.write_only)
        return
    if change.action is Action.CREATE and change.desired is not None and not change.fields:
        yield from (Detail(shown(path), after=value_text(value)) for path, value in leaves(change.desired.attributes))
        for secret in sorted(change.desired.write_only, key=lambda secret: secret.pointer):
            yield Detail(shown(secret.pointer), after=shown(f"{secret.ref} (write-only)"))
        return
    yield from (_field(field, _reference_at(change, field)) for field in change.fields)


def _reference_at(change: Change, field: FieldChange) -> str:
    secrets = change.desired.write_only if change.desired is not None else ()
    return next((str(secret.ref) for secret in secrets if secret.pointer == field.path), "")


def _field(field: FieldChange, reference: str = "") -> Detail:
    if field.sensitive:
        return Detail(shown(field.path), SECRET, shown(f"{SECRET} from {reference}") if reference else f"{SECRET}, changed")
    before, after = value_texts(field.before, field.after)
    if before == after and field.before != field.after:  # a token in a URL, or the rest of a huge value
        after += " (it differs in a part that is not shown)"
    return Detail(shown(field.path), before, after)


def _manifest(change: ResourceChange, old: Surroundings, new: Surroundings) -> PlanEntry:
    before, after = behaviour(change.resource, old), behaviour(change.resource, new)
    return PlanEntry(
        action=change.action,
        title=shown(str(change.resource)),
        location=change.location,
        anchor=change.location,
        why=tuple(shown(why) for why in _consequence(change, old.resources.get(change.resource))),
        details=(*_compared_facts(before, after), *_fields(change)),
        facts=after or before,
        source=change,
    )


def _consequence(change: ResourceChange, former: Resource | None) -> Iterator[str]:
    if change.action is Action.DELETE and former is not None:
        yield "no longer declared: what it did ends"
    if any(field.path.startswith("/references/") for field in change.fields):
        yield "a name in it refers to another resource now"


def behaviour(identity: ResourceId, around: Surroundings) -> tuple[Fact, ...]:
    """Return what a resource does, as text to show; nothing for one that is not declared."""
    resource = around.resources.get(identity)
    facts = facts_of(resource, around) if resource is not None else ()
    return tuple(Fact(fact.name, said(fact.text)) for fact in facts)


def _compared_facts(before: tuple[Fact, ...], after: tuple[Fact, ...]) -> Iterator[Detail]:
    """Yield the facts in order. An unchanged one has equal sides; a changed one is paired with its former text by its name."""
    gone = [fact for fact in before if fact not in after]
    for fact in after:
        if fact in before:
            yield Detail(fact.name, fact.text, fact.text, fact=True)
            continue
        former = next((old for old in gone if old.name == fact.name), None)
        if former is not None:
            gone.remove(former)
        yield Detail(fact.name, former.text if former is not None else None, fact.text, fact=True)
    yield from (Detail(fact.name, fact.text, None, fact=True) for fact in gone)


def _fields(change: ResourceChange) -> Iterator[Detail]:
    """Yield the values of a changed manifest: the new ones, the lost ones, or both sides of each difference."""
    for difference in change.fields:
        detail = _field(difference)
        # A manifest has no null: None is a key that is not there.
        before = change.action is not Action.CREATE and (difference.sensitive or difference.before is not None)
        after = change.action is not Action.DELETE and (difference.sensitive or difference.after is not None)
        new = SECRET if difference.sensitive and not before else detail.after
        yield Detail(detail.name, detail.before if before else None, new if after else None)
