"""A real Alertmanager sees an incident start, last and end: `amtool` shows it."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.model.incidents import Incident, IncidentSeverity, Notice, NoticePhase, Topic
from reconciler.model.resources import Kind, ResourceId
from reconciler.notifications.message import message_of
from reconciler.notifications.senders import SinkFactory
from reconciler.notifications.sinks.alertmanager import REFRESH_S
from tests.flow.stage_world import free_port
from tests.notifications.notified import Notified

SERVER = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
TOOL = shutil.which("amtool")


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    assert SERVER is not None, "run tests/setup-debian.sh"
    folder: Path = tmp_path_factory.mktemp("alertmanager")
    (folder / "config.yml").write_text("route: {receiver: none}\nreceivers: [{name: none}]\n")
    url = f"http://127.0.0.1:{free_port()}"
    arguments = [
        f"--config.file={folder}/config.yml",
        f"--storage.path={folder}",
        f"--web.listen-address={url.partition('://')[2]}",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([SERVER, *arguments, "--cluster.listen-address="], stdout=log, stderr=log)
    try:
        for _ in range(200):
            try:
                with urllib.request.urlopen(f"{url}/-/ready", timeout=1):
                    break
            except OSError:
                time.sleep(0.05)
        else:
            raise AssertionError((folder / "log").read_text())
        yield url
    finally:
        process.kill()
        process.wait()


def alerts(url: str, notification: str) -> list[dict[str, Any]]:
    assert TOOL is not None, "run tests/setup-debian.sh"
    done = subprocess.run(
        [TOOL, f"--alertmanager.url={url}", "alert", "query", "-o", "json", f'notification="Notification/{notification}"'],
        capture_output=True, text=True, check=True, timeout=20,
    )  # fmt: skip
    return list(json.loads(done.stdout or "[]") or [])


async def test_amtool_sees_the_start_and_the_end(notified: Notified, alertmanager: str) -> None:
    notified.within._clock[0] = 0  # the Alertmanager has the time of day
    notified.secret("one", None)
    notified.notification("amtool", f"alertmanager: {{url: '{alertmanager}'}}")
    await notified.turn()
    [alert] = alerts(alertmanager, "amtool")
    assert alert["labels"]["alertname"] == "ReconcilerSyncFailed"
    assert alert["labels"]["severity"] == "error"
    assert alert["annotations"]["summary"] == "Secret/one cannot be read"

    notified.set("one", "present-now")
    await notified.look()
    assert alerts(alertmanager, "amtool") == []
    assert notified.notices(waiting=True) == []


async def test_an_alert_is_repeated_before_it_expires_and_not_after_its_end(notified: Notified, alertmanager: str) -> None:
    notified.within._clock[0] = 0
    notified.secret("one", None)
    notified.notification("again", f"alertmanager: {{url: '{alertmanager}'}}")
    await notified.turn()
    [first] = alerts(alertmanager, "again")
    notified.within.later(REFRESH_S + 1)
    await notified.send()
    [repeated] = alerts(alertmanager, "again")
    assert repeated["endsAt"] > first["endsAt"]
    assert repeated["fingerprint"] == first["fingerprint"]

    notified.within._clock[0] = 0
    notified.secret("two", None)  # a change of another incident does not end the repetition of this one
    await notified.turn()
    assert len(alerts(alertmanager, "again")) == 2
    notified.set("one", "present-now")
    notified.set("two", "present-now")
    await notified.look()
    notified.within.later(2 * REFRESH_S)
    await notified.send()
    assert alerts(alertmanager, "again") == []
    await notified.engine.finish_pass()
    assert "4 sent" in notified.delivering("again").message


async def test_an_incident_that_becomes_worse_stays_one_alert(notified: Notified, alertmanager: str) -> None:
    notified.within._clock[0] = 0
    notified.notification("grave", f"alertmanager: {{url: '{alertmanager}'}}")
    await notified.turn()
    current, now = notified.engine.current, notified.within.now
    resource = current.active.resources[ResourceId(Kind.NOTIFICATION.value, "default", "grave")]
    sink = await SinkFactory(current, current.secrets).sink(resource)
    start = Incident(
        "inc-1",
        resource.id.path,
        "k",
        Topic.SYNC_FAILED,
        IncidentSeverity.ERROR,
        "fails",
        "Failed",
        opened_at=now,
        changed_at=now,
    )
    worse = dataclasses.replace(start, topic=Topic.CREDENTIAL_INVALID, severity=IncidentSeverity.CRITICAL, title="worse")
    target = await sink.send(message_of(Notice(1, NoticePhase.START, start)), {})
    await sink.send(message_of(Notice(2, NoticePhase.UPDATE, worse)), target)
    [alert] = alerts(alertmanager, "grave")
    assert alert["annotations"]["summary"] == "worse"
    await sink.send(message_of(Notice(3, NoticePhase.END, dataclasses.replace(worse, closed_at=now))), target)
    assert alerts(alertmanager, "grave") == []


async def test_amtool_sees_the_end_of_a_removed_and_of_a_narrowed_notification(notified: Notified, alertmanager: str) -> None:
    notified.within._clock[0] = 0
    notified.secret("one", None)
    for name in ("removed", "narrowed"):
        notified.notification(name, f"alertmanager: {{url: '{alertmanager}'}}")
    await notified.turn()
    assert len(alerts(alertmanager, "removed")) == len(alerts(alertmanager, "narrowed")) == 1
    (notified.world.manifests / "notification-removed.yaml").unlink()
    notified.notification("narrowed", f"alertmanager: {{url: '{alertmanager}'}}", "resources: {names: [other]}")
    await notified.turn()
    assert alerts(alertmanager, "removed") == alerts(alertmanager, "narrowed") == []
    notified.within.later(2 * REFRESH_S)
    await notified.send()
    assert alerts(alertmanager, "removed") == alerts(alertmanager, "narrowed") == []
