"""A plan for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from reconciler.model.plan import Action, Change, Disposition, FieldChange, Plan, PlanSet, ResourceChange
from reconciler.model.printable import plain
from reconciler.planning.render.words import (
    CLASS_TITLES,
    RESOURCES_TITLE,
    SYMBOLS,
    by_class,
    cut,
    details,
    field_text,
    resource_details,
    short,
    state_text,
    summary,
    value_text,
)

_RESET, _BOLD, _DIM = "\x1b[0m", "\x1b[1m", "\x1b[2m"
_COLOURS = {Action.CREATE: "\x1b[32m", Action.DELETE: "\x1b[31m", Action.REPLACE: "\x1b[35m", Action.ADOPT: "\x1b[35m"}
_CHANGED = "\x1b[33m"
_FAILED = "\x1b[31m"


def render_text(planset: PlanSet, *, colour: bool = False, width: int = 100, approvable: bool = True) -> str:
    """Return the plan as text, the revision first, at most ``width`` columns where values can be cut.

    ``approvable`` is False for a plan that was made without credentials or state: its digests approve nothing.
    """
    paint = _Paint(colour)
    lines = [f"Revision: {plain(short(planset.revision))}", ""] if planset.revision else []
    if planset.resources:
        lines += [*_resources(planset.resources, paint, width), ""]
    for plan in planset.plans:
        if plan.changes or plan.notes or plan.orphans:
            lines += [*_plan(plan, paint, width, approvable), ""]
    if planset.unread:
        lines += [*_unread(planset, paint), ""]
    lines.append(paint(_BOLD, summary(planset)))
    if not planset.empty:
        lines.append(f"Digest: {planset.sha256}" + ("" if approvable else " (it approves nothing)"))
    return "\n".join(lines) + "\n"


class _Paint:
    """Puts colour on text, or not."""

    def __init__(self, colour: bool) -> None:
        self.colour = colour

    def __call__(self, code: str, text: str) -> str:
        return f"{code}{text}{_RESET}" if self.colour and text else text


def _plan(plan: Plan, paint: _Paint, width: int, approvable: bool) -> Iterator[str]:
    yield paint(_BOLD, str(plan.integration)) + (f"  {plan.sha256}" if plan.changes else "")
    for cls, changes in by_class(plan.changes):
        yield f"  {CLASS_TITLES[cls]}"
        for change in changes:
            yield from _change(change, paint, width)
    for note in plan.notes:
        yield cut(f"  note: {plain(note)}", max(width, 40))
    for orphan in plan.orphans:
        yield f"  orphan of ours: {plain(str(orphan.scope))} {plain(orphan.external_id)}"
    if plan.blocked_sha256 is not None and approvable:
        yield f"  Blocked: {len(plan.blocked)} of {plan.owned} owned objects. To allow exactly these:"
        yield f"    reconciler approve {plan.blocked_sha256}"


def _unread(planset: PlanSet, paint: _Paint) -> Iterator[str]:
    """Yield all problems, uncut, since they show how complete the plan is."""
    yield paint(_FAILED, "Could not be read; no changes are planned there:")
    for problem in planset.unread:
        place = f"{problem.location}: " if problem.location.file else ""
        yield f"  {plain(place)}{problem.code}: {plain(problem.message)}"
        if problem.hint:
            yield f"    {plain(problem.hint)}"


def _change(change: Change, paint: _Paint, width: int) -> Iterator[str]:
    colour = _COLOURS.get(change.action, _CHANGED) if change.disposition is Disposition.EXECUTE else _DIM
    state = state_text(change)
    head = f"    {SYMBOLS[change.action]} {change.action.value} {change.resource} {plain(str(change.scope))}"
    head += f" #{plain(change.external_id)}" if change.external_id else ""
    head += f" [{state}]" if state else ""
    yield paint(colour, head) + (f"  {paint(_DIM, plain(str(change.location)))}" if change.location.file else "")
    if change.previous is not None:
        yield f"        was {plain(change.previous)}"
    if change.message:
        for line in textwrap.wrap(plain(change.message), max(width, 60) - 8, break_on_hyphens=False):
            yield f"        {line}"
    if change.action is Action.CREATE and not change.fields:
        for line in details(change):
            yield cut(f"        {line}", max(width, 40))
    for field in change.fields:
        yield from _field(field, max(width, 40))


def _resources(changes: tuple[ResourceChange, ...], paint: _Paint, width: int) -> Iterator[str]:
    yield paint(_BOLD, RESOURCES_TITLE)
    for change in changes:
        head = f"    {SYMBOLS[change.action]} {change.action.value} {change.resource}"
        place = f"  {paint(_DIM, plain(str(change.location)))}" if change.location.file else ""
        yield paint(_COLOURS.get(change.action, _CHANGED), head) + place
        if change.action is Action.UPDATE:
            for field in change.fields:
                yield from _field(field, max(width, 40))
        else:
            for line in resource_details(change):
                yield cut(f"        {line}", max(width, 40))


def _field(field: FieldChange, width: int) -> Iterator[str]:
    """One line, or three where both values would not fit beside each other."""
    text = f"        {field_text(field)}"
    if len(text) <= width:
        yield text
        return
    yield cut(f"        {plain(field.path)}:", width)
    yield cut(f"          - {value_text(field.before)}", width)
    yield cut(f"          + {value_text(field.after)}", width)
