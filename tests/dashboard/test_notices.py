"""What the page Notifications says of incidents, messages and sinks."""

from __future__ import annotations

from dataclasses import replace

from reconciler.manifests import SourceFile, load
from reconciler.model.incidents import Incident, IncidentSeverity, Notice, NoticePhase, SinkRecord, Topic, WaitingNotices
from reconciler.server.dashboard.notices import incident_rows, involving, message_row, sink_rows, waiting_rows
from reconciler.state.notice_log import NoticeRow

TEAM, PAGER = "Notification/default/team", "Notification/default/pager"
ONE = Incident(
    "inc-1", TEAM, "sync/x", Topic.SYNC_FAILED, IncidentSeverity.ERROR, "Stage/x fails", "Broken", members=("Stage/default/x",)
)
MANIFESTS = """
kind: Notification
metadata: {name: team}
spec: {sink: {slack: {token: {valueFrom: {secret: {name: bot, key: token}}}, channel: C1}}}
---
kind: Notification
metadata: {name: pager}
spec: {sink: {webhook: {url: 'https://hooks.example/a-secret-path?key=a-secret-key'}}}
---
kind: Secret
metadata: {name: bot}
spec: {provider: env, data: {token: {env: RECONCILER_SECRET_BOT}}}
"""


def _row(seq: int, path: str = TEAM, *, done_at: float = 0.0, **more: object) -> NoticeRow:
    notice = Notice(seq, NoticePhase.START, replace(ONE, notification=path))
    return NoticeRow(replace(notice, **more), 100.0, done_at, 0.0)  # type: ignore[arg-type]


def test_one_cause_is_one_incident_however_many_notifications_report_it() -> None:
    rows = incident_rows([ONE, replace(ONE, notification=PAGER), replace(ONE, key="sync/y", severity=IncidentSeverity.WARNING)])
    assert [(row["tone"], row["notifications"]) for row in rows] == [("bad", [TEAM, PAGER]), ("warn", [TEAM])]


def test_the_page_of_a_resource_has_its_incidents_and_that_of_a_notification_what_it_reports() -> None:
    assert involving([ONE], "Stage/default/x") == involving([ONE], TEAM) == [ONE]
    assert involving([ONE], "Stage/default/y") == involving([ONE], PAGER) == []


def test_a_message_waits_for_those_before_it_to_the_same_sink_only() -> None:
    rows = waiting_rows([_row(3), _row(2, failures=2, error="refused"), _row(1, PAGER)], {}, {})
    assert [(row["seq"], row["is_first"], row["state"]) for row in rows] == [
        (1, True, "waiting"),
        (2, True, "failing"),
        (3, False, "waiting"),
    ]
    assert rows[1]["reason"] == "refused"


def test_what_was_not_sent_says_so_and_a_suspended_sink_says_why() -> None:
    states = [message_row(row, {}, {})["state"] for row in (_row(1, done_at=5.0), _row(2, done_at=5.0, unsent="abandoned"))]
    assert states == ["sent", "abandoned"]
    row = message_row(_row(3), {TEAM: "slack C1"}, {TEAM: "holidays"})
    assert (row["is_suspended"], row["reason"], row["place"]) == (True, "holidays", "slack C1")


def test_sinks_that_fail_come_first_and_show_no_secret() -> None:
    resources = load([SourceFile("all.yaml", MANIFESTS, MANIFESTS.encode())], revision="main@sha1:1", sandbox=True).by_id()
    records = {TEAM: SinkRecord(sent=3, sent_at=9.0), PAGER: SinkRecord(error="refused", code="RC5019", failed_at=7.0)}
    first, second = sink_rows(resources, records, {PAGER: WaitingNotices(2)}, {})
    assert (first["path"], first["state"], first["why"], first["waiting"]) == (PAGER, "failing", "refused", 2)
    assert (first["place"], second["place"], second["state"]) == ("hooks.example", "C1", "working")
    assert "a-secret" not in repr((first, second))
    [suspended, _] = sink_rows(resources, {}, {}, {PAGER: "holidays"})
    assert (suspended["state"], suspended["why"]) == ("suspended", "holidays")
