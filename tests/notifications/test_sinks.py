"""Each sink over HTTP or SMTP: the message starts, changes and ends as the service allows, and failures are clear conditions."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from reconciler.engine.signals import RETRYING
from reconciler.model.errors import ReconcilerError
from reconciler.model.incidents import Incident, IncidentSeverity, Notice, NoticePhase, Topic
from reconciler.model.records import AuditEntry
from reconciler.model.resources import Kind, ResourceId, Suspension
from reconciler.model.status import ConditionStatus
from reconciler.model.times import epoch_of
from reconciler.notifications.delivery import send_test
from reconciler.notifications.message import message_of
from reconciler.sandbox.pagerduty.app import KEY
from reconciler.sandbox.server import SandboxServer
from reconciler.sandbox.slack.app import CHANNEL, HOOK, TOKEN
from tests.notifications.notified import Notified, messages, reference
from tests.support.receiving import Receiver
from tests.support.receiving import receiving as receiver


def bot(server: SandboxServer, channel: str = CHANNEL) -> str:
    return f"slack: {{token: {reference('bot')}, channel: '{channel}', url: '{server.url}/api'}}"


def text_of(message: dict[str, Any]) -> str:
    return json.dumps(message["attachments"])


async def test_a_bot_posts_one_message_edits_it_and_ends_it(notified: Notified, slack: SandboxServer) -> None:
    notified.secret("bot", TOKEN)
    notified.secret("one", None)
    notified.notification("ops", bot(slack))
    await notified.turn()
    [first] = messages(slack)
    assert first["text"] == "Secret/one cannot be read"
    assert "RECONCILER_SECRET_ONE" in text_of(first)

    notified.set("one", "present-now")
    await notified.look()
    [ended] = messages(slack)
    assert (ended["ts"], ended["edits"], ended["text"]) == (first["ts"], 1, "Over: Secret/one cannot be read")
    assert notified.phases() == ["start", "end"]
    await notified.look()
    delivering = notified.delivering("ops")
    assert (delivering.status, delivering.message) == (ConditionStatus.TRUE, "2 sent")


async def test_a_hook_posts_a_second_message_for_the_end(notified: Notified, slack: SandboxServer) -> None:
    # The host of a hook is Slack's own; on loopback the Secret holds the simulator's.
    notified.secret("hook", f"{slack.url}/services/{HOOK}")
    notified.secret("one", None)
    notified.notification("ops", f"slack: {{webhook: {reference('hook')}}}")
    await notified.turn()
    notified.set("one", "present-now")
    await notified.look()
    assert [row["text"] for row in messages(slack)] == ["Secret/one cannot be read", "Over: Secret/one cannot be read"]


async def test_a_message_that_was_removed_is_posted_again_at_the_end(notified: Notified, slack: SandboxServer) -> None:
    notified.secret("bot", TOKEN)
    notified.secret("one", None)
    notified.notification("ops", bot(slack))
    await notified.turn()
    slack.admin.put_state({"messages": {CHANNEL: []}})
    notified.set("one", "present-now")
    await notified.look()
    assert [row["text"] for row in messages(slack)] == ["Over: Secret/one cannot be read"]


async def test_an_answer_that_is_lost_makes_no_second_message(notified: Notified, slack: SandboxServer) -> None:
    notified.secret("bot", TOKEN)
    notified.secret("one", None)
    notified.notification("ops", bot(slack))
    slack.admin.fault(path="chat.postMessage", effect="reset", commit=True)
    await notified.turn()
    assert len(messages(slack)) == 1
    await notified.engine.finish_pass()
    assert notified.delivering("ops").status is ConditionStatus.FALSE
    notified.within.later(60)
    await notified.send()
    assert len(messages(slack)) == 1
    assert notified.notices(waiting=True) == []
    assert slack.admin.state()["messages"][CHANNEL][0]["edits"] == 1


async def test_a_busy_channel_is_searched_by_pages(notified: Notified, slack: SandboxServer) -> None:
    notified.secret("bot", TOKEN)
    notified.secret("one", None)
    notified.notification("ops", bot(slack))
    now = notified.within.now
    chatter = [{"ts": f"{now - 300:.0f}.{number:06}", "text": "hello", "bot": "token", "edits": 0} for number in range(250)]
    slack.admin.put_state({"messages": {CHANNEL: chatter}})
    slack.admin.settings(clock_skew_s=now - time.time())
    slack.admin.fault(path="chat.postMessage", effect="reset", commit=True)
    await notified.turn()
    notified.within.later(60)
    await notified.send()
    assert len(messages(slack)) == 251
    assert messages(slack)[250]["edits"] == 1


async def test_without_the_right_to_search_a_lost_answer_may_double_but_never_lose(
    notified: Notified, slack: SandboxServer
) -> None:
    slack.admin.put_state({"tokens": {TOKEN: {"scopes": ["chat:write"]}}})
    notified.secret("bot", TOKEN)
    notified.secret("one", None)
    notified.notification("ops", bot(slack))
    slack.admin.fault(path="chat.postMessage", effect="reset", commit=True)
    await notified.turn()
    notified.within.later(60)
    await notified.send()
    assert len(messages(slack)) == 2


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        ({"status": 429, "headers": {"retry-after": "30"}}, "RC5017", "rate limit"),
        ({"status": 500, "body": {"ok": False}}, "RC5020", "failed"),
        ({"status": 200, "body": "<!doctype html><html>log in</html>"}, "RC8101", "HTML page"),
        ({"effect": "malformed"}, "RC5020", "not JSON"),
        ({"status": 200, "body": {"ok": False, "error": "not_in_channel"}}, "RC8103", "/invite @BOT"),
        ({"status": 200, "body": {"ok": False, "error": "token_revoked"}}, "RC8102", "Replace the token"),
        (
            {"status": 302, "headers": {"location": "https://evil.example/steal"}},
            "RC5021",
            "redirected to another host (evil.example); not followed",
        ),
        ({"effect": "reset"}, "RC50", ""),
    ],
)
async def test_a_failure_is_a_condition_and_the_message_arrives_later(
    notified: Notified, slack: SandboxServer, fault: dict[str, Any], code: str, words: str
) -> None:
    notified.secret("bot", TOKEN)
    notified.secret("one", None)
    notified.notification("ops", bot(slack))
    slack.admin.fault(path="chat.postMessage", **fault)
    await notified.turn()
    await notified.engine.finish_pass()
    delivering = notified.delivering("ops")
    assert delivering.status is ConditionStatus.FALSE
    assert delivering.message.startswith(code), delivering.message
    assert words in delivering.message
    assert TOKEN not in delivering.message
    assert delivering.reason == RETRYING
    notified.within.later(130)
    await notified.send()
    assert len(messages(slack)) == 1
    await notified.engine.finish_pass()
    assert notified.delivering("ops").status is ConditionStatus.TRUE


async def test_a_failing_sink_delays_no_other_and_keeps_its_own_order(
    notified: Notified, slack: SandboxServer, pagerduty: SandboxServer
) -> None:
    notified.secret("bot", TOKEN)
    notified.secret("key", KEY)
    notified.secret("one", None)
    notified.notification("chat", bot(slack))
    notified.notification("pager", f"pagerduty: {{routingKey: {reference('key')}, url: '{pagerduty.url}'}}")
    slack.admin.fault(path="chat.postMessage", status=503, times=0)
    await notified.turn()
    assert "triggered" in {alert["status"] for alert in pagerduty.admin.state()["alerts"].values()}
    notified.set("one", "present-now")
    await notified.look()
    slack.admin.clear_faults()
    notified.within.later(400)
    await notified.send()
    assert [row["text"] for row in messages(slack)][:1] == ["Over: Secret/one cannot be read"]
    [alert] = [alert for alert in pagerduty.admin.state()["alerts"].values() if "one" in alert["summary"]]
    assert (alert["status"], alert["opened"]) == ("resolved", 1)


async def test_text_from_outside_has_no_markup_no_mention_and_no_secret(notified: Notified, slack: SandboxServer) -> None:
    from reconciler.model.incidents import IncidentSeverity, Occurrence, Topic

    notified.secret("bot", TOKEN)
    notified.notification("ops", bot(slack), "'on': [stage-failed]")
    await notified.turn()
    hostile = f"<!channel> *bold* <https://evil.example|click> \u202e {TOKEN} \x1b[31m" + "x" * 5000
    path = "Stage/default/x"
    notified.store.add_occurrences(
        [Occurrence(Topic.STAGE_FAILED, path, f"stage/{path}", IncidentSeverity.ERROR, hostile, hostile, "javascript:alert(1)")]
    )
    await notified.look()
    [message] = messages(slack)
    shown = json.dumps(message)
    assert "<!channel>" not in message["text"]
    assert TOKEN not in shown
    assert "javascript:" not in shown
    assert "\\u202e" not in shown.replace("\\\\u202e", "")
    types = {block["text"]["type"] for block in message["attachments"][0]["blocks"] if "text" in block}
    assert types == {"plain_text"}


async def test_a_rate_limit_needs_no_search_stops_a_test_too_and_says_until_when(
    notified: Notified, slack: SandboxServer
) -> None:
    notified.secret("bot", TOKEN)
    for name in ("one", "two"):
        notified.secret(name, None)
    notified.notification("ops", bot(slack))
    slack.admin.fault(path="chat.postMessage", status=429, headers={"retry-after": "900"})
    await notified.turn()
    await notified.engine.finish_pass()
    [until] = re.findall(r"2 waiting since \S+, next attempt at (\S+)", notified.delivering("ops").message)
    assert epoch_of(until) - notified.within.now > 600  # that of the first, for which the second waits
    with pytest.raises(ReconcilerError) as refused:
        await send_test(notified.engine.current, {"name": "ops"}, "ada")
    assert refused.value.hint == f"Try again after {until}."
    notified.within.later(910)
    await notified.send()
    assert len(messages(slack)) == 2
    assert slack.admin.requests(path="conversations.history") == []


async def test_other_notifications_report_a_failure_only_if_the_third_attempt_fails_too(
    notified: Notified, slack: SandboxServer
) -> None:
    notified.secret("bot", TOKEN)
    notified.secret("one", None)
    notified.notification("ops", bot(slack))
    slack.admin.fault(path="chat.postMessage", status=500, times=3)
    await notified.turn()
    seen = []
    for _ in range(4):
        await notified.engine.finish_pass()
        seen.append(notified.delivering("ops").reason)
        notified.within.later(130)
        await notified.send()
    assert seen == [RETRYING, RETRYING, "DeliveriesFail", "Delivered"]
    slack.admin.fault(path="chat.update", status=500)
    notified.set("one", "present-now")
    await notified.look()
    await notified.engine.finish_pass()
    assert notified.delivering("ops").reason == RETRYING  # counted from the last success


async def test_a_full_outbox_suppresses_starts_and_counts_them(
    notified: Notified, slack: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.state.incidents.LONGEST_OUTBOX", 2)
    notified.secret("bot", TOKEN)
    for name in ("one", "two", "three"):
        notified.secret(name, None)
    notified.notification("ops", bot(slack))
    slack.admin.fault(path="chat.postMessage", status=500)
    await notified.turn()
    await notified.engine.finish_pass()
    assert len(notified.notices(waiting=True)) == 2
    assert "1 suppressed (the outbox is full)" in notified.delivering("ops").message


async def test_a_changed_notification_is_tried_at_once(notified: Notified, slack: SandboxServer) -> None:
    notified.secret("bot", TOKEN)
    notified.secret("one", None)
    notified.notification("ops", bot(slack))
    slack.admin.fault(path="chat.postMessage", status=500, times=5)
    await notified.turn()
    for _ in range(4):
        notified.within.later(130)
        await notified.send()
    assert messages(slack) == []
    notified.notification("ops", bot(slack), "severity: error")
    await notified.turn()
    assert len(messages(slack)) == 1


async def test_a_suspended_notification_sends_nothing_that_waits_until_it_is_resumed(
    notified: Notified, slack: SandboxServer
) -> None:
    notified.secret("bot", TOKEN)
    notified.secret("one", None)
    notified.notification("ops", bot(slack))
    slack.admin.fault(path="chat.postMessage", status=500)
    await notified.turn()
    identity = ResourceId(Kind.NOTIFICATION.value, "default", "ops")
    notified.store.suspend(identity, Suspension("quiet"), audit=AuditEntry(1.0, "ada", "suspend"))
    await notified.engine.current.refresh_suspensions()
    notified.within.later(130)
    await notified.send()
    assert messages(slack) == []
    notified.store.unsuspend(identity, audit=AuditEntry(1.0, "ada", "resume"))
    await notified.engine.current.refresh_suspensions()
    await notified.send()
    assert len(messages(slack)) == 1


async def test_a_source_is_reported_when_the_second_attempt_fails_too(notified: Notified, slack: SandboxServer) -> None:
    notified.secret("bot", TOKEN)
    notified.notification("ops", bot(slack))
    await notified.turn()
    aside = notified.world.manifests.with_name("aside")
    for failures, texts in ((1, []), (2, ["The source of the manifests cannot be read; the last good revision stays in force"])):
        notified.world.manifests.rename(aside)
        for _ in range(failures):
            await notified.turn()
        assert [row["text"] for row in messages(slack)] == texts
        aside.rename(notified.world.manifests)
        await notified.turn()
    assert [row["text"].partition(": ")[0] for row in messages(slack)] == ["Over"]


# -- webhook ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def receiving() -> Iterator[Receiver]:
    with receiver() as server:
        yield server


async def test_a_webhook_is_verified_by_another_implementation_and_has_one_id(notified: Notified, receiving: Receiver) -> None:
    notified.secret("one", None)
    notified.notification("ops", f"webhook: {{url: '{receiving.url}'}}")
    await notified.turn()
    notified.set("one", "present-now")
    await notified.look()
    context = notified.engine.deps
    identity = next(i for i in notified.engine.current.active.resources if i.kind == "Notification")
    key = context.keyring.standard_webhooks_secret(context.owner, identity.uid(context.owner), 0).reveal()
    events = []
    for _, headers, body in receiving.got:
        lowered = {name.lower(): value for name, value in headers.items()}
        events.append(Webhook(key).verify(body, lowered))
    assert [event["type"] for event in events] == ["incident.start", "incident.end"]
    assert len({event["data"]["id"] for event in events}) == 1
    assert events[1]["data"]["endedAt"]


async def test_while_a_key_is_replaced_the_old_and_the_new_one_verify(notified: Notified, receiving: Receiver) -> None:
    keys = ["whsec_" + base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2)]
    notified.secret("signing", " ".join(keys))
    notified.secret("one", None)
    notified.notification("ops", f"webhook: {{url: '{receiving.url}', key: {reference('signing')}}}")
    await notified.turn()
    [(_, headers, body)] = receiving.got
    for key in keys:
        assert Webhook(key).verify(body, headers)["type"] == "incident.start"
    stale = {**headers, "webhook-timestamp": str(int(headers["webhook-timestamp"]) - 600)}
    with pytest.raises(WebhookVerificationError):
        Webhook(keys[0]).verify(body, stale)


def test_an_update_with_newer_facts_has_an_id_of_its_own_so_that_no_receiver_drops_it() -> None:
    incident = Incident("inc-1", "Notification/default/ops", "k", Topic.DRIFT, IncidentSeverity.ERROR, "differs", "Drifted")
    ids = [message_of(Notice(7, NoticePhase.UPDATE, incident, version)).id for version in (1, 2)]
    assert len(set(ids)) == 2


async def test_a_retried_webhook_has_the_id_of_the_first_attempt(notified: Notified, receiving: Receiver) -> None:
    notified.secret("one", None)
    notified.notification("ops", f"webhook: {{url: '{receiving.url}'}}")
    receiving.status = 500
    await notified.turn()
    receiving.status = 204
    notified.within.later(60)
    await notified.send()
    ids = [{name.lower(): value for name, value in headers.items()}["webhook-id"] for _, headers, _ in receiving.got]
    assert len(ids) == 2
    assert len(set(ids)) == 1


async def test_a_key_that_is_none_is_said_before_anything_is_sent(notified: Notified, receiving: Receiver) -> None:
    notified.secret("key", "not-a-key-at-all")
    notified.secret("one", None)
    notified.notification("ops", f"webhook: {{url: '{receiving.url}', key: {reference('key')}}}")
    await notified.turn()
    await notified.engine.finish_pass()
    assert "RC8104" in notified.delivering("ops").message
    assert receiving.got == []


async def test_a_teams_card_is_posted_for_start_and_end_and_its_signature_is_not_shown(
    notified: Notified, receiving: Receiver
) -> None:
    notified.secret("flow", f"http://127.0.0.1:{receiving.server_port}/workflows/abc/triggers/manual?sig=s3cr3t-signature-value")
    notified.secret("one", None)
    notified.notification("ops", f"teams: {{workflow: {reference('flow')}}}")
    receiving.status = 500
    await notified.turn()
    await notified.engine.finish_pass()
    assert "s3cr3t" not in notified.delivering("ops").message
    assert "/workflows/abc" not in notified.delivering("ops").message
    receiving.status = 202
    notified.set("one", "present-now")
    await notified.engine.finish_pass()
    notified.within.later(60)
    await notified.send()
    cards = [payload["attachments"][0]["content"] for payload in receiving.payloads()[1:]]
    assert [card["body"][0]["text"] for card in cards] == ["Secret/one cannot be read", "Over: Secret/one cannot be read"]
    assert {card["type"] for card in cards} == {"AdaptiveCard"}


async def test_the_url_of_a_retired_connector_is_refused_with_the_way_out(notified: Notified) -> None:
    notified.secret("flow", "https://acme.webhook.office.com/webhookb2/abcdef")
    notified.secret("one", None)
    notified.notification("ops", f"teams: {{workflow: {reference('flow')}}}")
    await notified.turn()
    await notified.engine.finish_pass()
    assert "RC8107" in notified.delivering("ops").message
    assert "Workflow" in notified.delivering("ops").message


async def test_a_host_that_is_not_allowed_is_not_called(notified: Notified) -> None:
    notified.secret("one", None)
    notified.notification("ops", "webhook: {url: 'https://169.254.169.254/latest'}")
    await notified.turn()
    await notified.engine.finish_pass()
    if not notified.problems():
        assert "RC5023" in notified.delivering("ops").message


# -- PagerDuty --------------------------------------------------------------------------------------------------------


async def test_pagerduty_resolves_by_the_key_of_the_incident(notified: Notified, pagerduty: SandboxServer) -> None:
    notified.secret("key", KEY)
    notified.secret("one", None)
    notified.notification("ops", f"pagerduty: {{routingKey: {reference('key')}, url: '{pagerduty.url}'}}", "severity: error")
    pagerduty.admin.fault(path="enqueue", effect="reset", commit=True)
    await notified.turn()
    notified.within.later(60)
    await notified.send()
    [(key, alert)] = pagerduty.admin.state()["alerts"].items()
    assert (alert["status"], alert["opened"], alert["severity"]) == ("triggered", 1, "error")
    notified.set("one", "present-now")
    await notified.look()
    assert pagerduty.admin.state()["alerts"][key]["status"] == "resolved"


async def test_a_wrong_routing_key_is_abandoned_after_three_attempts_and_blocks_nothing(
    notified: Notified, pagerduty: SandboxServer
) -> None:
    notified.secret("key", "x" * 32)
    notified.secret("one", None)
    notified.notification("ops", f"pagerduty: {{routingKey: {reference('key')}, url: '{pagerduty.url}'}}")
    await notified.turn()
    for _ in range(3):
        notified.within.later(400)
        await notified.send()
    await notified.engine.finish_pass()
    assert "1 abandoned" in notified.delivering("ops").message
    assert notified.notices(waiting=True) == []
