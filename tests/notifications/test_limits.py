"""The longest message that an incident can make is within what each service takes, and a service that answers badly is bounded."""

from __future__ import annotations

import dataclasses
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from reconciler.drivers.http.transport import Bounds
from reconciler.model.incidents import MEMBERS, TEXT, TITLE, Incident, IncidentSeverity, Notice, NoticePhase, Topic
from reconciler.model.secrets import SecretValue
from reconciler.model.status import ConditionStatus
from reconciler.notifications.message import Message, message_of
from reconciler.notifications.sinks import alertmanager, pagerduty, slack, teams
from tests.notifications.notified import Notified

WIDE = "<!channel> *日* "
TEAMS_BYTES = 28 << 10
PAGERDUTY_BYTES = 512 << 10


def longest(phase: NoticePhase, url: str = "https://ci.example/" + "a" * 1900) -> Message:
    names = tuple(f"EventSource/{'c' * 63}/{number:02}{'n' * 61}" for number in range(MEMBERS))
    incident = Incident(
        "inc-" + "0" * 24, f"Notification/{'c' * 63}/{'n' * 63}", "k", Topic.CREDENTIAL_INVALID, IncidentSeverity.CRITICAL,
        (WIDE * TITLE)[:TITLE], "AuthenticationRefused", (WIDE * TEXT)[:TEXT], url, names, 1000, opened_at=1.0, closed_at=2.0,
    )  # fmt: skip
    return message_of(Notice(1 << 40, phase, incident))


@pytest.mark.parametrize("phase", list(NoticePhase))
def test_the_longest_message_is_within_every_limit(phase: NoticePhase) -> None:
    message = longest(phase)
    assert len(json.dumps(teams.card_of(message), ensure_ascii=False).encode()) <= TEAMS_BYTES
    event = pagerduty.event_of(message, SecretValue("k" * 32), "owner")
    assert len(json.dumps(event).encode()) <= PAGERDUTY_BYTES
    assert len(event["dedup_key"]) <= 255
    assert len(event.get("payload", {}).get("summary", "")) <= 1024
    body = slack.body_of(message)
    assert "<!" not in body["text"]
    blocks = body["attachments"][0]["blocks"]
    texts = [block["text"]["text"] for block in blocks if "text" in block] + [
        e["text"] for b in blocks for e in b.get("elements", ())
    ]
    assert all(1 <= len(text) <= 3000 for text in texts)
    alert = alertmanager.alert_of(message, {"topic": "drift", "severity": "error"}, "owner", 5.0)
    assert alert["startsAt"] <= alert["endsAt"]
    assert all(alert["labels"].values())


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "https://x/ y", 'https://x/"', "https://x/<!channel>", "https://x/" + "a" * 9000]
)
def test_a_link_that_some_service_would_refuse_is_left_out(url: str) -> None:
    assert not longest(NoticePhase.START, url).url


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n"
ANSWERS = {
    "a gigabyte": (HEAD + b"content-length: 1073741824\r\n\r\n", b"x" * 65536, 0.0),
    "a drip of body": (HEAD + b"content-length: 100000\r\n\r\n", b"x", 0.05),
    "a drip of headers": (HEAD, b"x-a: b\r\n", 0.05),
    "nothing": (b"", b"", 0.05),
    "no HTTP": (b"220 mail.example ESMTP\r\n", b"", 0.05),
}


@contextmanager
def answering(first: bytes, again: bytes, pause_s: float) -> Iterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    closing = threading.Event()

    def answer(connection: socket.socket) -> None:
        with connection:
            try:
                connection.recv(65536)
                connection.sendall(first)
                while not closing.is_set():
                    connection.sendall(again)
                    time.sleep(pause_s)
            except OSError:
                pass

    def accept() -> None:
        while not closing.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/in"
    finally:
        closing.set()
        listener.shutdown(socket.SHUT_RDWR)  # ends the accept
        listener.close()


@pytest.mark.parametrize("answer", ANSWERS)
async def test_a_service_that_answers_badly_is_a_failure_in_bounded_time(notified: Notified, answer: str) -> None:
    session = notified.engine.current.context.session
    session.bounds = dataclasses.replace(Bounds(), read_s=0.6, write_s=0.6)
    notified.secret("one", None)
    with answering(*ANSWERS[answer]) as url:
        notified.notification("ops", f"webhook: {{url: '{url}'}}")
        began = time.monotonic()
        await notified.turn()
        assert time.monotonic() - began < 10
    await notified.engine.finish_pass()
    condition = notified.delivering("ops")
    assert condition.status is ConditionStatus.FALSE
    assert condition.message.startswith("RC5"), condition.message
