"""The example is sent for real: each of its Notifications reaches a service, and the incident starts and ends there."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from reconciler.model.errors import ReconcilerError
from reconciler.notifications.delivery import send_test
from reconciler.sandbox.pagerduty.app import KEY
from reconciler.sandbox.server import SandboxServer
from reconciler.sandbox.slack.app import CHANNEL, TOKEN
from tests.docs.pages import ROOT
from tests.notifications.notified import Notified, messages
from tests.notifications.test_email import MailServer
from tests.support.receiving import Receiver, receiving

SENT = ["ops", "night-shift", "payments-team", "alertmanager", "tickets", "release-managers"]


@pytest.fixture(scope="module")
def mail() -> Iterator[MailServer]:
    server = MailServer()
    yield server
    server.stop()


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


async def test_every_sink_of_the_example_gets_its_test(
    notified: Notified, slack: SandboxServer, pagerduty: SandboxServer, mail: MailServer, hook: Receiver
) -> None:
    here = f"http://127.0.0.1:{hook.server_port}"
    text = (ROOT / "examples" / "notifications" / "notifications.yaml").read_text()
    for declared, local in (
        ("channel: C0123456789", f"channel: {CHANNEL}\n      url: {slack.url}/api"),
        ("key: key}}}\n", f"key: key}}}}}}\n      url: {pagerduty.url}\n"),
        ("http://alertmanager.example.internal:9093", f"{here}/alertmanager"),
        ("https://tickets.example.com", here),
        ("host: smtp.example.com", f"host: 127.0.0.1\n        port: {mail.controllers['none'].port}\n        tls: none"),
        ("        user: reconciler\n        password: {valueFrom: {secret: {name: mail, key: password}}}\n", ""),
    ):
        assert text.count(declared) == 1, declared
        text = text.replace(declared, local)
    notified.world.write("example.yaml", text)
    values = {"SLACK": TOKEN, "PAGERDUTY": KEY, "TEAMS": f"{here}/workflows/{'w' * 20}?sig=abc", "MAIL": "m" * 9}
    for name, value in (values | {"GITHUB_TOKEN": "t" * 20}).items():
        notified.set(name, value)
    await notified.within.sync()
    assert notified.problems() == []
    for name in SENT:
        assert (await send_test(notified.engine.current, {"name": name}, "ada"))["notification"].endswith(name)
    with pytest.raises(ReconcilerError, match="not a repository at a code host"):
        await send_test(notified.engine.current, {"name": "commits"}, "ada")

    assert [row["text"] for row in messages(slack)] == ["Test: Notification/ops reaches you"]
    assert [row["status"] for row in pagerduty.admin.state()["alerts"].values()] == ["resolved"]
    assert [got["Subject"].partition("] ")[2] for got in mail.box.mails] == ["Test: Notification/payments-team reaches you"]
    bodies = [json.loads(body) for _, _, body in hook.got]
    assert bodies[0][0]["labels"]["notification"] == "Notification/alertmanager"
    assert bodies[1]["type"] == "incident.test"
    assert bodies[2]["attachments"][0]["content"]["type"] == "AdaptiveCard"
