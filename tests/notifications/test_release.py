"""Nothing is left open where it was shown: a Notification that is removed, moved or narrowed ends what it started."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from reconciler.engine.incidents import FLAPPING_S
from reconciler.manifests.notification_spec import ResourcesSpec
from reconciler.model.incidents import IncidentSeverity, Topic
from reconciler.model.records import AuditEntry
from reconciler.model.resources import Kind, ResourceId, Suspension
from reconciler.model.status import ConditionStatus
from reconciler.notifications.delivery import send_test
from reconciler.sandbox.pagerduty.app import KEY
from reconciler.sandbox.server import SandboxServer
from reconciler.sandbox.slack.app import TOKEN
from tests.notifications.notified import Notified, messages, reference
from tests.notifications.test_incidents import ALL, F, Ledger, T, drift, integration, quiet, signals, source, stage
from tests.notifications.test_sinks import bot, text_of

OTHER = "R0OTHER" + "1" * 25
TITLE = "Secret/one cannot be read"


def pager(server: SandboxServer, key: str = "key") -> str:
    return f"pagerduty: {{routingKey: {reference(key)}, url: '{server.url}'}}"


def alerts(server: SandboxServer) -> list[tuple[str, str]]:
    """Return (key, status) of each alert."""
    return [(name.partition("/")[0], row["status"]) for name, row in server.admin.state()["alerts"].items()]


@pytest.fixture
def open_alert(notified: Notified, pagerduty: SandboxServer) -> Notified:
    pagerduty.admin.put_state({"keys": [KEY, OTHER]})
    notified.secret("key", KEY)
    notified.secret("one", None)
    notified.notification("ops", pager(pagerduty))
    return notified


def remove(notified: Notified, *names: str) -> None:
    for name in names:
        (notified.world.manifests / f"{name}.yaml").unlink()


@pytest.mark.parametrize("gone", [["notification-ops"], ["notification-ops", "secret-key"], ["notification-ops", "secret-one"]])
async def test_a_removed_notification_resolves_its_alerts(
    open_alert: Notified, pagerduty: SandboxServer, gone: list[str]
) -> None:
    await open_alert.turn()
    assert alerts(pagerduty) == [(KEY, "triggered")]
    remove(open_alert, *gone)
    await open_alert.turn()
    assert alerts(pagerduty) == [(KEY, "resolved")]
    assert open_alert.notices(waiting=True) == []


async def test_the_end_of_a_removed_notification_survives_a_failing_sink_and_a_restart(
    open_alert: Notified, pagerduty: SandboxServer
) -> None:
    await open_alert.turn()
    remove(open_alert, "notification-ops")
    pagerduty.admin.fault(status=503, times=0)
    await open_alert.turn()
    assert alerts(pagerduty) == [(KEY, "triggered")]
    open_alert.within.restarted()
    pagerduty.admin.clear_faults()
    await open_alert.turn()
    open_alert.within.later(120)
    await open_alert.send()
    assert alerts(pagerduty) == [(KEY, "resolved")]


async def test_an_end_that_waits_is_sent_after_the_notification_is_removed_and_an_unsent_start_is_not(
    open_alert: Notified, pagerduty: SandboxServer
) -> None:
    await open_alert.turn()
    pagerduty.admin.fault(status=503, times=0)
    open_alert.set("one", "present-now")
    await open_alert.look()
    open_alert.secret("two", None)
    await open_alert.turn()
    assert [notice.phase.value for notice in open_alert.notices(waiting=True)] == ["end", "start"]
    remove(open_alert, "notification-ops")
    pagerduty.admin.clear_faults()
    await open_alert.turn()
    assert alerts(pagerduty) == [(KEY, "resolved")]


async def test_another_routing_key_resolves_at_the_former_one_and_alerts_at_the_new_one(
    open_alert: Notified, pagerduty: SandboxServer
) -> None:
    await open_alert.turn()
    open_alert.secret("second", OTHER)
    open_alert.notification("ops", pager(pagerduty, "second"))
    await open_alert.turn()
    assert alerts(pagerduty) == [(KEY, "resolved"), (OTHER, "triggered")]
    open_alert.set("one", "present-now")
    await open_alert.look()
    assert alerts(pagerduty) == [(KEY, "resolved"), (OTHER, "resolved")]


async def test_a_start_with_an_unknown_outcome_is_ended_where_it_may_have_arrived(
    open_alert: Notified, pagerduty: SandboxServer
) -> None:
    pagerduty.admin.fault(effect="reset", commit=True)
    await open_alert.turn()
    assert alerts(pagerduty) == [(KEY, "triggered")]
    open_alert.secret("second", OTHER)
    open_alert.notification("ops", pager(pagerduty, "second"))
    await open_alert.turn()
    assert alerts(pagerduty) == [(KEY, "resolved"), (OTHER, "triggered")]


async def test_a_former_sink_that_is_dead_delays_nothing_and_is_named_in_the_condition(
    open_alert: Notified, pagerduty: SandboxServer, slack: SandboxServer
) -> None:
    await open_alert.turn()
    pagerduty.admin.fault(status=503, times=0)
    open_alert.secret("bot", TOKEN)
    open_alert.notification("ops", bot(slack))
    await open_alert.turn()
    await open_alert.send()
    assert [row["text"] for row in messages(slack)] == [TITLE]
    await open_alert.engine.finish_pass()
    condition = open_alert.delivering("ops")
    assert (condition.status, condition.reason) == (ConditionStatus.FALSE, "FormerSinkFails")
    assert "1 waiting since" in condition.message
    pagerduty.admin.clear_faults()
    open_alert.within.later(120)
    await open_alert.send()
    assert alerts(pagerduty) == [(KEY, "resolved")]
    await open_alert.engine.finish_pass()
    assert open_alert.delivering("ops").status is ConditionStatus.TRUE


async def test_a_narrower_filter_says_that_it_reports_no_more_and_not_that_it_is_over(
    notified: Notified, slack: SandboxServer
) -> None:
    notified.secret("bot", TOKEN)
    notified.secret("one", None)
    notified.notification("ops", bot(slack))
    await notified.turn()
    notified.notification("ops", bot(slack), "on: [drift]")
    await notified.turn()
    [row] = messages(slack)
    assert row["text"] == f"Not reported here any more: {TITLE}"
    assert "do not select it any more" in text_of(row)
    notified.notification("ops", bot(slack))
    await notified.turn()
    assert [row["text"] for row in messages(slack)] == [f"Not reported here any more: {TITLE}", TITLE]


async def test_a_change_that_leaves_the_place_edits_the_same_message(notified: Notified, slack: SandboxServer) -> None:
    notified.secret("bot", TOKEN)
    notified.secret("newer", TOKEN)
    notified.secret("one", None)
    notified.notification("ops", bot(slack))
    await notified.turn()
    notified.notification("ops", bot(slack).replace("name: bot", "name: newer"), "on: [sync-failed, drift]")
    await notified.turn()
    notified.set("one", "present-now")
    await notified.look()
    assert [(row["text"], row["edits"]) for row in messages(slack)] == [(f"Over: {TITLE}", 1)]


async def test_a_suspended_notification_moves_when_it_is_resumed(open_alert: Notified, pagerduty: SandboxServer) -> None:
    await open_alert.turn()
    open_alert.secret("second", OTHER)
    open_alert.notification("ops", pager(pagerduty, "second"))
    identity = ResourceId(Kind.NOTIFICATION.value, "default", "ops")
    open_alert.store.suspend(identity, Suspension("quiet"), audit=AuditEntry(1.0, "ada", "suspend"))
    await open_alert.engine.current.refresh_suspensions()
    await open_alert.turn()
    assert alerts(pagerduty) == [(KEY, "triggered")]
    open_alert.store.unsuspend(identity, audit=AuditEntry(1.0, "ada", "resume"))
    await open_alert.engine.current.refresh_suspensions()
    await open_alert.turn()
    assert alerts(pagerduty) == [(KEY, "resolved"), (OTHER, "triggered")]


async def test_an_abandoned_start_is_sent_when_a_test_shows_that_the_sink_works(
    open_alert: Notified, pagerduty: SandboxServer
) -> None:
    pagerduty.admin.put_state({"keys": []})
    await open_alert.turn()
    for _ in range(3):
        open_alert.within.later(400)
        await open_alert.send()
    assert open_alert.notices(waiting=True) == []
    pagerduty.admin.put_state({"keys": [KEY]})
    await send_test(open_alert.engine.current, {"name": "ops"}, "ada")
    await open_alert.send()
    assert sorted(status for _, status in alerts(pagerduty)) == ["resolved", "triggered"]  # the test, and the incident


async def test_a_clock_that_is_set_back_makes_no_incident_flap_and_none_wait(
    open_alert: Notified, pagerduty: SandboxServer
) -> None:
    current = open_alert.engine.current
    open_alert.within.set_clock(7200)
    await current.check_clock()
    await open_alert.turn()
    open_alert.within.set_clock(-7200)
    await current.check_clock()
    [notice] = open_alert.notices()
    assert notice.incident.opened_at <= open_alert.within.now
    open_alert.set("one", "present-now")
    await open_alert.look()
    assert alerts(pagerduty) == [(KEY, "resolved")]
    open_alert.within.later(FLAPPING_S + 60)
    open_alert.set("one", None)
    await open_alert.look()
    assert alerts(pagerduty) == [(KEY, "resolved"), (KEY, "triggered")]


# -- the same decisions, without a state ------------------------------------------------------------------------------


def test_one_suspended_resource_does_not_keep_the_incident_of_the_others() -> None:
    dead = integration(CredentialsValid=(F, "AuthFailed"))
    rows = [source(f"s{number}", Stalled=(T, "AuthFailed")) for number in range(3)]
    ledger = Ledger()
    ledger.see(0, signals(dead, *rows))
    well = [integration(), source("s0", Suspended=(T, "Suspended")), source("s1"), source("s2")]
    assert [phase for _, phase in ledger.see(1, signals(*well))] == ["end"]


def test_a_stage_that_is_not_declared_any_more_ends_its_incident() -> None:
    ledger = Ledger()
    ledger.see(0, quiet(), [stage()])
    ledger.stages = frozenset()
    assert [phase for _, phase in ledger.see(1, quiet())] == ["end"]
    assert ledger.see(2, quiet()) == []


@pytest.mark.parametrize(
    "changes",
    [{"topics": frozenset({Topic.DRIFT})}, {"severity": IncidentSeverity.CRITICAL}, {"sink": "b"}, {"follows_revision": True}],
)
def test_a_failed_stage_that_is_not_selected_any_more_is_released(changes: dict[str, Any]) -> None:
    ledger = Ledger(dataclasses.replace(ALL, sink="a"))
    ledger.see(0, quiet(), [stage()])
    if "follows_revision" in changes:
        changes = {**changes, "sink": "b"}
    ledger.route = dataclasses.replace(ledger.route, **changes)
    phases = [phase for _, phase in ledger.see(1, quiet())]
    assert phases == (["release", "start"] if changes.keys() == {"sink"} else ["release"])
    assert ledger.see(2, quiet()) == []


def test_a_stage_that_flapped_ends_when_it_is_stable() -> None:
    ledger = Ledger()
    seen = []
    for now in range(0, 40, 10):
        seen += [phase for _, phase in ledger.see(now, quiet(), [stage(at=now, ends=bool(now % 20))])]
    assert seen == ["start", "end", "flapping"]
    assert [phase for _, phase in ledger.see(40 + FLAPPING_S, quiet())] == ["end"]
    assert ledger.see(50 + FLAPPING_S, quiet()) == []


def test_what_is_well_for_the_members_of_an_incident_is_over_although_others_fail_alike() -> None:
    ledger = Ledger(dataclasses.replace(ALL, resources=ResourcesSpec(names=("a",))))
    ledger.see(0, drift("a"))
    assert [phase for _, phase in ledger.see(1, drift("b"))] == ["end"]


def test_a_stage_that_flapped_and_stays_failed_is_reported_as_lasting() -> None:
    ledger = Ledger()
    for now in (0, 10, 20):
        ledger.see(now, quiet(), [stage(at=now, ends=now == 10)])
    assert ledger.only.flapping
    assert [phase for _, phase in ledger.see(30 + FLAPPING_S, quiet())] == ["update"]
    assert [phase for _, phase in ledger.see(40 + FLAPPING_S, quiet(), [stage(ends=True)])] == ["end"]


def test_a_higher_least_severity_releases_what_is_less_severe() -> None:
    ledger = Ledger()
    ledger.see(0, drift())
    ledger.route = dataclasses.replace(ALL, severity=IncidentSeverity.ERROR)
    assert [phase for _, phase in ledger.see(1, drift())] == ["release"]


def test_what_changes_while_the_notification_is_suspended_is_moved_afterwards() -> None:
    ledger = Ledger(dataclasses.replace(ALL, sink="a"))
    ledger.see(0, drift("a"))
    ledger.route = dataclasses.replace(ALL, sink="b", suspended=True)
    both = signals(integration(), source("a", Drifted=(T, "DriftDetected")), source("c", Drifted=(T, "DriftDetected")))
    ledger.see(1, both)
    ledger.route = dataclasses.replace(ALL, sink="b")
    assert [phase for _, phase in ledger.see(2, both)] == ["release", "start"]
    assert ledger.see(3, both) == []
