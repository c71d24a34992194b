"""The plan on a page: the digests of the plan itself, what waits first, bounded and redacted."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from reconciler.engine.reconcile import ReconcileResult
from reconciler.engine.revision import ActiveRevision
from reconciler.manifests import SourceFile, load
from reconciler.model.errors import AuthFailed
from reconciler.model.objects import Scope
from reconciler.model.plan import Action, Change, ChangeClass, Disposition, FieldChange, Loss, Plan, PlanSet
from reconciler.model.resources import Resource, ResourceId
from reconciler.model.values import Address
from reconciler.server.dashboard.plans import MOST_VALUES, PAGE_ENTRIES, VALUE, PlanInputs, PlanPage, entries_of, plan_page

GITHUB, OTHER = (ResourceId("Integration", "default", name) for name in ("github", "other"))
SECRET = "canary-of-a-value-77"
NOW = 1_780_000_000.0


def _change(number: int, integration: ResourceId = GITHUB, **more: object) -> Change:
    resource = ResourceId("EventSource", "default", f"s{number:04}")
    scope = Scope("github/repository-webhook", f"acme/r{number}")
    address = Address(f"{resource.path}#{scope}")
    values: dict[str, Any] = {
        "action": Action.UPDATE,
        "cls": ChangeClass.COMMIT,
        "fields": (FieldChange("/active", False, True),),
        **more,
    }
    return Change(address=address, resource=resource, integration=integration, scope=scope, **values)


def _inputs(*results: ReconcileResult, before: str = "", after: str = "") -> PlanInputs:
    old, new = _resources(before), _resources(after)
    return PlanInputs(ActiveRevision("main@sha1:" + "a" * 40, new), old, {each.integration: each for each in results}, NOW)


def _resources(text: str) -> Mapping[ResourceId, Resource]:
    return load([SourceFile("all.yaml", text, text.encode())], revision="main@sha1:1", sandbox=True).by_id() if text else {}


def _clean(text: str) -> str:
    return text.replace(SECRET, "***")


def _titles(page: PlanPage) -> list[str]:
    return [row.entry.title for section in page.sections for group in section.groups for row in group.entries]


def _pages(inputs: PlanInputs) -> Iterable[PlanPage]:
    return [plan_page(inputs, number, _clean) for number in range(1, plan_page(inputs, 1, _clean).pages + 1)]


def test_every_change_is_on_one_page_and_what_waits_is_on_the_first() -> None:
    quiet = Plan(OTHER, tuple(_change(number, OTHER) for number in range(70)))
    blocked = [_change(900 + n, disposition=Disposition.BLOCKED, cls=ChangeClass.DRIFT) for n in range(3)]
    busy = Plan(GITHUB, (*(_change(100 + n) for n in range(60)), *blocked), owned=200)
    inputs = _inputs(ReconcileResult(OTHER, plan=quiet), ReconcileResult(GITHUB, plan=busy))
    pages = _pages(inputs)
    assert len(pages) == 3
    seen = [title for page in pages for title in _titles(page)]
    assert len(seen) == len(set(seen)) == 133
    assert {f"EventSource/s0{900 + n}" for n in range(3)} <= set(_titles(pages[0]))
    assert plan_page(inputs, 99, _clean).number == 3
    assert plan_page(inputs, 0, _clean).number == 1


def test_digests_are_those_of_the_plan_whatever_the_order_on_the_page() -> None:
    changes = (
        _change(1),
        _change(2, disposition=Disposition.BLOCKED, cls=ChangeClass.DRIFT),
        _change(3, disposition=Disposition.BLOCKED),
    )
    plan = Plan(GITHUB, changes, owned=9)
    page = plan_page(_inputs(ReconcileResult(GITHUB, plan=plan)), 1, _clean)
    assert page.sha256 == PlanSet("", (plan,)).sha256
    [section] = page.sections
    assert section.blocked is not None
    assert (section.blocked.sha256, section.blocked.count, section.total) == (plan.blocked_sha256, 2, 3)
    assert page.summary == "Plan: 1 to update; 2 blocked."


def test_a_delete_says_what_is_lost_and_a_create_what_is_written() -> None:
    gone = _change(1, action=Action.DELETE, fields=(), loss=Loss({"url": "https://x.example"}, ("/secret",)))
    page = plan_page(_inputs(ReconcileResult(GITHUB, plan=Plan(GITHUB, (gone,)))), 1, _clean)
    [row] = page.sections[0].groups[0].entries
    assert [(each.name, each.before, each.after) for each in row.changed] == [
        ("/url", '"https://x.example"', None),
        ("/secret", "(secret)", None),
    ]


def test_secrets_are_masked_and_values_cut_where_they_differ() -> None:
    fields = (
        FieldChange("/token", f"a {SECRET}", f"b {SECRET}"),
        FieldChange("/long", "x" * 5_000 + "old", "x" * 5_000 + "new"),
        *(FieldChange(f"/more/{n}", n, n + 1) for n in range(MOST_VALUES)),
    )
    change = _change(1, fields=fields, message=f"it was {SECRET}")
    page = plan_page(_inputs(ReconcileResult(GITHUB, plan=Plan(GITHUB, (change,)))), 1, _clean)
    [row] = page.sections[0].groups[0].entries
    assert SECRET not in repr((row.changed, row.entry.why))
    long = next(each for each in row.changed if each.name == "/long")
    assert long.before is not None
    assert long.after is not None
    assert "old" in long.before
    assert "new" in long.after
    assert max(len(long.before), len(long.after)) <= VALUE
    assert row.more == 2


def test_what_could_not_be_read_is_said_and_is_not_nothing_to_do() -> None:
    page = plan_page(_inputs(ReconcileResult(GITHUB, error=AuthFailed(f"refused {SECRET}"))), 1, _clean)
    assert page.is_empty
    assert "refused ***" in page.unread[0].message


STAGE = (
    "kind: Stage\nmetadata: {name: deploy}\nspec:\n  connections: [{type: event-source, name: hand}]\n  executor: {type: noop}\n"
)
HAND = "kind: EventSource\nmetadata: {name: hand}\nspec: {type: manual}\n---\n"
APPROVAL = "  conditions: [{type: approval, approval: {count: 2}}]\n"


def test_a_revision_that_changes_what_runs_says_so_here_and_on_the_page_of_the_stage() -> None:
    inputs = _inputs(before=HAND + STAGE, after=HAND + STAGE + APPROVAL)
    page = plan_page(inputs, 1, _clean)
    [row] = page.manifests
    assert row.entry.title == "Stage/deploy"
    assert ("after approval", None, "2 of anyone who may approve") in [(d.name, d.before, d.after) for d in row.changed]
    assert "runs" in [detail.name for detail in row.unchanged]
    assert page.is_empty  # it is in force already: nothing is left to do
    entries, total = entries_of(ResourceId("Stage", "default", "deploy"), inputs, _clean)
    assert (len(entries), total) == (1, 1)
    assert entries_of(ResourceId("EventSource", "default", "hand"), inputs, _clean) == ((), 0)
    assert plan_page(_inputs(after=HAND + STAGE), 1, _clean).manifests == ()  # the first revision that is seen


def test_the_page_of_a_plan_of_five_thousand_changes_costs_what_a_small_one_does() -> None:
    plan = Plan(GITHUB, tuple(_change(number) for number in range(5_000)))
    inputs = _inputs(ReconcileResult(GITHUB, plan=plan))
    began = time.perf_counter()
    page = plan_page(inputs, 2, _clean)
    print(f"5,000 changes: {(time.perf_counter() - began) * 1_000:.0f} ms")  # measured, not asserted: the machine is shared
    assert len(_titles(page)) == PAGE_ENTRIES
