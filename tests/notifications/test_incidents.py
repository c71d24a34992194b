"""How incidents follow from conditions: one cause is one incident, with edges that are reported once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import pytest

from reconciler.engine.incidents import FLAPPING_S, SETTLE_S, IncidentInputs, RevisionState, Route, fold_of
from reconciler.engine.signals import RETRYING, SignalSet, SourceFacts, signals_of
from reconciler.manifests.notification_spec import ResourcesSpec
from reconciler.model.errors import Problem, SourceError
from reconciler.model.incidents import (
    DEFAULT_TOPICS,
    MEMBERS,
    Incident,
    IncidentChange,
    IncidentSeverity,
    NoticePhase,
    Occurrence,
    Topic,
)
from reconciler.model.resources import Kind, Location, Resource, ResourceId
from reconciler.model.status import Condition, ConditionStatus, ConditionType, ResourceStatus

T, F = ConditionStatus.TRUE, ConditionStatus.FALSE
OPS = "Notification/default/ops"
ALL = Route(OPS, frozenset(Topic), IncidentSeverity.INFO)
READ = SourceFacts(fetched=True)
NO_REVISION = RevisionState()


def integration(
    name: str = "code", *, api: str = "", **conditions: tuple[ConditionStatus, str]
) -> tuple[Resource, ResourceStatus]:
    identity = ResourceId(Kind.INTEGRATION.value, "default", name)
    spec = {"type": "a-provider", **({"apiUrl": api} if api else {})}
    return Resource(identity, spec, Location("a.yaml")), status(identity, **conditions)


def source(name: str, of: str = "code", **conditions: tuple[ConditionStatus, str]) -> tuple[Resource, ResourceStatus]:
    identity = ResourceId(Kind.EVENT_SOURCE.value, "default", name)
    spec = {"integration": {"name": of}}
    reference = ResourceId(Kind.INTEGRATION.value, "default", of)
    return Resource(identity, spec, Location("a.yaml"), references=(reference,)), status(identity, **conditions)


def status(identity: ResourceId, *, attempts: int = 5, **conditions: tuple[ConditionStatus, str]) -> ResourceStatus:
    rows = [Condition(ConditionType(kind), state, reason, f"because of {reason}") for kind, (state, reason) in conditions.items()]
    return ResourceStatus(identity, Location("a.yaml"), conditions=tuple(rows), attempts=attempts)


def signals(*rows: tuple[Resource, ResourceStatus], facts: SourceFacts = READ) -> SignalSet:
    return signals_of({s.id: s for _, s in rows}, {r.id: r for r, _ in rows}, facts)


class Ledger:
    """Keeps the incidents between comparisons."""

    def __init__(self, route: Route = ALL) -> None:
        self.route, self.stored = route, dict[tuple[str, str], Incident]()
        self.suppressed: list[str] = []
        self.stages = frozenset({"Stage/default/x"})

    def see(
        self, now: float, found: SignalSet, occurrences: Iterable[Occurrence] = (), revision: RevisionState = NO_REVISION
    ) -> list[tuple[str, str]]:
        """Return (key, phase) of each message that follows."""
        inputs = IncidentInputs((self.route,), found, {}, revision, self.stages)
        changes = fold_of(inputs)(self.stored, list(occurrences), now)
        return [pair for change in changes for pair in self._keep(change)]

    def _keep(self, change: IncidentChange) -> list[tuple[str, str]]:
        self.stored[change.incident.notification, change.incident.key] = change.incident
        if change.suppressed:
            self.suppressed.append(change.suppressed)
        return [(change.incident.key, phase.value) for phase in change.phases]

    @property
    def only(self) -> Incident:
        [incident] = self.stored.values()
        return incident


def drift(name: str = "a") -> SignalSet:
    return signals(integration(), source(name, Drifted=(T, "DriftDetected")))


def quiet() -> SignalSet:
    return signals(integration(), source("a"))


def test_an_incident_starts_and_ends_with_its_condition_and_repeats_nothing() -> None:
    ledger = Ledger()
    assert ledger.see(0, quiet()) == []
    assert ledger.see(1, drift()) == [("drift/Integration/default/code", "start")]
    assert ledger.see(2, drift()) == []
    assert ledger.see(3, quiet()) == [("drift/Integration/default/code", "end")]
    assert ledger.see(4, quiet()) == []
    assert (ledger.only.opened_at, ledger.only.closed_at) == (1, 3)


def test_a_thousand_resources_behind_one_dead_credential_are_one_incident_with_a_bounded_list() -> None:
    refused = integration(CredentialsValid=(F, "Refused"), Stalled=(T, "AuthFailed"))
    behind = [source(f"s{n:04}", Stalled=(T, "AuthFailed")) for n in range(1000)]
    ledger = Ledger()
    assert ledger.see(0, signals(refused, *behind)) == [("credential/Integration/default/code", "start")]
    assert (ledger.only.count, len(ledger.only.members)) == (1001, MEMBERS)
    assert (ledger.only.topic, ledger.only.severity) == (Topic.CREDENTIAL_INVALID, IncidentSeverity.CRITICAL)
    assert ledger.see(1, signals(integration(), *[source(f"s{n:04}") for n in range(1000)])) == [
        ("credential/Integration/default/code", "end")
    ]


def test_blocked_deletes_of_one_integration_are_one_incident_also_where_no_manifest_is_left() -> None:
    leaving = [
        dataclasses.replace(row, deleting=True, integration="Integration/default/code")
        for _, row in (source(f"s{n}", PlanBlocked=(T, "DeletePercent")) for n in range(4))
    ]
    rows = signals_of({row.id: row for row in leaving}, {}, READ).rows
    assert {row.key for row in rows} == {"blocked/Integration/default/code"}
    assert len(rows) == 4


def test_a_dead_credential_is_a_failed_sync_for_whoever_does_not_follow_credentials() -> None:
    ledger = Ledger(Route(OPS, frozenset({Topic.SYNC_FAILED}), IncidentSeverity.INFO))
    refused = integration(CredentialsValid=(F, "Refused"), Stalled=(T, "AuthFailed"))
    assert len(ledger.see(0, signals(refused, source("a", Stalled=(T, "AuthFailed"))))) == 1
    assert ledger.only.topic is Topic.SYNC_FAILED


def test_two_integrations_of_one_unreachable_provider_are_one_incident() -> None:
    away = {"Reconciling": (T, "ProviderUnavailable")}
    rows = [integration(name, api="https://git.example", **away) for name in ("one", "two")]
    rows += [source(f"s{n}", "one" if n % 2 else "two", **away) for n in range(6)]
    ledger = Ledger()
    assert ledger.see(0, signals(*rows)) == [("provider/a-provider/https://git.example", "start")]
    assert ledger.only.count == 8


def test_a_failure_that_passes_by_itself_is_not_reported_at_its_first_sight() -> None:
    resource, seen = integration(Reconciling=(T, "ProviderUnavailable"))
    assert signals((resource, dataclasses.replace(seen, attempts=1))).rows == ()
    assert len(signals((resource, seen)).rows) == 1
    assert signals(integration(Reconciling=(T, "Pending")), integration("b", Reconciling=(T, "RateLimited"))).rows == ()


def test_equal_errors_of_one_integration_are_one_incident_and_another_error_is_another() -> None:
    rows = [source(f"s{n}", Stalled=(T, "ValidationFailed")) for n in range(50)]
    found = signals(integration(), *rows, source("other", Stalled=(T, "Conflict")))
    assert sorted(Ledger().see(0, found)) == [
        ("sync/Integration/default/code/Conflict", "start"),
        ("sync/Integration/default/code/ValidationFailed", "start"),
    ]


def test_more_resources_are_a_change_and_another_wording_is_none() -> None:
    ledger = Ledger()
    ledger.see(0, drift())
    reworded = drift()
    reworded = dataclasses.replace(reworded, rows=tuple(dataclasses.replace(row, message="for 3 m") for row in reworded.rows))
    assert ledger.see(1, reworded) == []
    more = signals(integration(), source("a", Drifted=(T, "DriftDetected")), source("b", Drifted=(T, "DriftDetected")))
    assert ledger.see(2, more) == [("drift/Integration/default/code", "update")]


def test_a_change_waits_for_further_ones_and_a_start_for_none() -> None:
    ledger = Ledger()
    first = fold_of(IncidentInputs((ALL,), drift(), {}))(ledger.stored, [], 0)
    ledger.see(0, drift())
    more = signals(integration(), source("a", Drifted=(T, "DriftDetected")), source("b", Drifted=(T, "DriftDetected")))
    second = fold_of(IncidentInputs((ALL,), more, {}))(ledger.stored, [], 1)
    assert [change.delay_s for change in (*first, *second)] == [0, SETTLE_S]


def test_three_edges_in_ten_minutes_are_said_once_and_the_end_when_it_is_stable() -> None:
    ledger = Ledger()
    phases = []
    for number in range(10):  # 20 edges
        phases += ledger.see(number * 20, drift())
        phases += ledger.see(number * 20 + 10, quiet())
    assert [phase for _, phase in phases] == ["start", "end", "flapping"]
    assert set(ledger.suppressed) == {"flapping"}
    assert ledger.see(190 + FLAPPING_S - 1, quiet()) == []
    assert [phase for _, phase in ledger.see(190 + FLAPPING_S + 1, quiet())] == ["end"]
    assert ledger.see(5000, quiet()) == []
    assert [phase for _, phase in ledger.see(6000, drift())] == ["start"]


def test_what_flapped_and_stays_is_reported_as_lasting() -> None:
    ledger = Ledger()
    for now in (0, 10, 20):
        ledger.see(now, drift() if now != 10 else quiet())
    assert ledger.only.flapping
    assert [phase for _, phase in ledger.see(20 + FLAPPING_S + 1, drift())] == ["update"]
    assert not ledger.only.flapping
    assert [phase for _, phase in ledger.see(5000, quiet())] == ["end"]


def test_a_slow_alternation_is_not_flapping_and_each_is_an_incident_of_its_own() -> None:
    ledger = Ledger()
    ids = set()
    for number in range(3):
        assert [phase for _, phase in ledger.see(number * 2000, drift())] == ["start"]
        ids.add(ledger.only.id)
        assert [phase for _, phase in ledger.see(number * 2000 + 1000, quiet())] == ["end"]
    assert len(ids) == 3


def test_nothing_is_said_of_a_suspended_resource_neither_start_nor_end() -> None:
    ledger = Ledger()
    suspended = signals(integration(), source("a", Suspended=(T, "Suspended"), Drifted=(T, "DriftDetected")))
    assert ledger.see(0, suspended) == []
    assert len(ledger.see(1, drift())) == 1
    assert ledger.see(2, suspended) == []
    assert ledger.only.open
    assert [phase for _, phase in ledger.see(3, quiet())] == ["end"]


def test_a_suspended_notification_counts_what_it_does_not_say() -> None:
    ledger = Ledger(dataclasses.replace(ALL, suspended=True))
    assert ledger.see(0, drift()) == []
    assert ledger.suppressed == ["the Notification is suspended"]
    assert ledger.only.open


def test_what_lasts_when_the_notification_is_resumed_starts_then_and_once() -> None:
    ledger = Ledger(dataclasses.replace(ALL, suspended=True))
    ledger.see(0, drift())
    ledger.see(60, drift("b"))
    assert ledger.suppressed == ["the Notification is suspended"]
    ledger.route = ALL
    assert [phase for _, phase in ledger.see(120, drift("b"))] == ["start"]
    assert (ledger.only.opened_at, ledger.only.unreported) == (0, False)
    assert ledger.see(180, drift("b")) == []
    assert [phase for _, phase in ledger.see(240, quiet())] == ["end"]


@pytest.mark.parametrize("sink", ["a", "b"])
def test_a_stage_that_failed_while_the_notification_was_suspended_is_reported_when_it_is_resumed(sink: str) -> None:
    ledger = Ledger(dataclasses.replace(ALL, sink="a", suspended=True))
    assert ledger.see(0, quiet(), [stage(at=0)]) == []
    ledger.route = dataclasses.replace(ALL, sink=sink)
    assert [phase for _, phase in ledger.see(60, quiet()) if phase != "release"] == ["start"]
    assert ledger.see(120, quiet()) == []


def test_a_suspended_notification_does_not_say_that_something_flaps() -> None:
    ledger = Ledger()
    ledger.see(0, drift())
    ledger.see(10, quiet())
    ledger.route = dataclasses.replace(ALL, suspended=True)
    assert ledger.see(20, drift()) == []
    ledger.route = ALL
    assert [phase for _, phase in ledger.see(20 + FLAPPING_S + 1, drift())] == ["update"]


def test_a_message_that_the_next_attempts_may_send_is_no_incident() -> None:
    other = ResourceId(Kind.NOTIFICATION.value, "default", "other")
    retrying = signals_of({other: status(other, Delivering=(F, RETRYING))}, {}, READ)
    assert Ledger().see(0, retrying) == []


def test_a_source_that_was_not_read_yet_ends_nothing() -> None:
    ledger = Ledger()
    failed = SourceFacts(SourceError("no route", code="RC2001"), fetched=True)
    assert ledger.see(0, signals(facts=failed)) == [("source", "start")]
    assert ledger.see(1, signals(facts=SourceFacts())) == []
    assert ledger.see(2, signals(facts=READ)) == [("source", "end")]


def test_invalid_manifests_last_until_the_source_was_read_again() -> None:
    ledger = Ledger()
    problems = (Problem(Location("a.yaml", 1), "RC1100", "unknown key"),)
    assert ledger.see(0, signals(facts=SourceFacts(fetched=True, problems=problems))) == [("manifests", "start")]
    assert ledger.see(1, signals(facts=SourceFacts())) == []
    assert ledger.see(2, signals(facts=READ)) == [("manifests", "end")]


@pytest.mark.parametrize(
    ("resources", "said"),
    [
        (ResourcesSpec(kinds=(Kind.STAGE,)), False),
        (ResourcesSpec(kinds=(Kind.EVENT_SOURCE,)), True),
        (ResourcesSpec(names=("pay*",)), False),
        (ResourcesSpec(names=("x", "a?c")), True),
        (ResourcesSpec(canvases=("default",)), True),
        (ResourcesSpec(canvases=("other",)), False),
        (ResourcesSpec(labels={"team": "a"}), True),
        (ResourcesSpec(labels={"team": "b"}), False),
    ],
)
def test_resources_are_selected_by_kind_name_canvas_and_label(resources: ResourcesSpec, said: bool) -> None:
    route = dataclasses.replace(ALL, resources=resources)
    labels: Mapping[str, Mapping[str, str]] = {"EventSource/default/abc": {"team": "a"}}
    changes = fold_of(IncidentInputs((route,), drift("abc"), labels))({}, [], 0.0)
    assert bool(changes) is said


def test_topics_and_the_least_severity_decide_and_the_own_state_is_left_out() -> None:
    assert Ledger(Route(OPS, frozenset({Topic.SYNC_FAILED}), IncidentSeverity.INFO)).see(0, drift()) == []
    assert Ledger(Route(OPS, frozenset(Topic), IncidentSeverity.ERROR)).see(0, drift()) == []
    own = ResourceId(Kind.NOTIFICATION.value, "default", "ops")
    failing = signals_of({own: status(own, Delivering=(F, "DeliveriesFail"))}, {}, READ)
    assert Ledger().see(0, failing) == []
    assert len(Ledger(dataclasses.replace(ALL, notification="Notification/default/other")).see(0, failing)) == 1


def test_an_incident_whose_severity_falls_below_the_least_is_over() -> None:
    ledger = Ledger(Route(OPS, frozenset(DEFAULT_TOPICS), IncidentSeverity.ERROR))
    key = "x"
    grave = SignalSet((dataclasses.replace(drift().rows[0], key=key, severity=IncidentSeverity.ERROR),))
    assert [phase for _, phase in ledger.see(0, grave)] == ["start"]
    light = SignalSet((dataclasses.replace(drift().rows[0], key=key),))
    assert [phase for _, phase in ledger.see(1, light)] == ["end"]


def stage(*, ends: bool = False, at: float = 0.0, name: str = "x") -> Occurrence:
    path = f"Stage/default/{name}"
    return Occurrence(Topic.STAGE_FAILED, path, f"stage/{path}", IncidentSeverity.ERROR, "failed", at=at, ends=ends)


def test_a_stage_that_fails_again_changes_its_incident_and_a_pass_ends_it() -> None:
    ledger = Ledger()
    assert ledger.see(0, quiet(), [stage(at=0)]) == [("stage/Stage/default/x", "start")]
    assert ledger.see(1, quiet()) == []
    assert ledger.see(2, quiet(), [stage(at=2)]) == [("stage/Stage/default/x", "update")]
    assert ledger.see(3, quiet(), [stage(ends=True)]) == [("stage/Stage/default/x", "end")]
    assert ledger.see(4, quiet(), [stage(ends=True)]) == []


def test_an_instant_occurrence_starts_and_ends_once() -> None:
    repaired = Occurrence(Topic.REPAIRED, "", "repaired/1", IncidentSeverity.INFO, "repaired", at=1.0, instant=True)
    ledger = Ledger()
    assert ledger.see(1, quiet(), [repaired]) == [("repaired/1", "start"), ("repaired/1", "end")]
    assert ledger.see(2, quiet(), [repaired]) == []
    assert ledger.see(3, quiet()) == []


def test_a_revision_is_pending_then_ends_as_its_sync_does() -> None:
    ledger = Ledger(dataclasses.replace(ALL, follows_revision=True))
    one, two = "main@sha1:" + "1" * 40, "main@sha1:" + "2" * 40
    states = []
    for now, (revision, applied, found) in enumerate(
        [(one, False, quiet()), (one, False, quiet()), (one, True, quiet()), (one, False, quiet()), (two, False, quiet())]
    ):
        if ledger.see(now, found, revision=RevisionState(revision, applied)):
            states.append((ledger.only.message[-1], ledger.only.reason))
    failing = signals(integration(), source("a", Stalled=(T, "ValidationFailed")))
    ledger.see(9, failing, revision=RevisionState(two, applied=True))
    states.append((ledger.only.message[-1], ledger.only.reason))
    assert states == [("1", "pending"), ("1", "success"), ("2", "pending"), ("2", "failure")]
    assert NoticePhase.END.value not in [phase for _, phase in ledger.see(10, quiet(), revision=RevisionState(two, applied=True))]
