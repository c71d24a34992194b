"""The status file under load: what it costs while nothing changes, counted; and that it stays one whole document."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import stat
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reconciler.config.settings import Config
from reconciler.credentials.redact import Redactor
from reconciler.engine import statusfile
from reconciler.engine.publisher import Publisher
from reconciler.engine.revision import ActiveRevision
from reconciler.engine.status_manager import changed_statuses
from reconciler.engine.statusfile import DaemonInfo
from reconciler.engine.view import EventStatus, SourceState, View
from reconciler.model.resources import Location, ResourceId
from reconciler.model.status import Condition, ConditionStatus, ConditionType, ResourceStatus
from reconciler.state import Store

SECRET = "hunter2-canary-91af"
INFO = DaemonInfo("0.2.0", 1, 1_700_000_000.0, "running")


def status(number: int, message: str = "as declared") -> ResourceStatus:
    name = f"source-{number:05}"
    condition = Condition(ConditionType.READY, ConditionStatus.TRUE, "Reconciled", message, "2026-01-01T00:00:00Z", 1)
    return ResourceStatus(
        ResourceId("EventSource", "default", name),
        Location("a.yaml", number),
        1,
        1,
        "sha256:1",
        (condition,),
        objects=({"address": f"EventSource/default/{name}#x", "externalId": str(number), "url": ""},),
        next_reconcile_at="2026-01-01T00:05:00Z",
        history=({"at": "2026-01-01T00:00:00Z", "ready": "True", "reason": "Reconciled", "changed": True},),
    )


class Findings(SimpleNamespace):
    """The part of `Current` that the document is made of: facts, no behaviour."""

    def __init__(self, rows: int) -> None:
        statuses = {one.id: one for one in map(status, range(rows))}
        view = View(
            statuses=statuses, outside=EventStatus(stages=({"name": "build", "canvas": "default", "queue": 0, "last": None},))
        )
        super().__init__(
            view=view,
            source=SourceState(fetched_at=1_700_000_000.0),
            active=ActiveRevision("main@sha1:1"),
            context=SimpleNamespace(config=Config()),
        )

    def change(self, number: int, **fields: Any) -> None:
        one = list(self.view.statuses.values())[number]
        self.view.statuses = {**self.view.statuses, one.id: dataclasses.replace(one, **fields)}

    def look_again(self, at: str) -> None:
        """What a pass that finds nothing does: every row is another object, and only the time of the next look moved."""
        self.view.statuses = {
            identity: dataclasses.replace(one, next_reconcile_at=at) for identity, one in self.view.statuses.items()
        }


class Counting(Redactor):
    def __init__(self) -> None:
        super().__init__()
        self.texts = 0
        self.threads: set[str] = set()

    def redact(self, text: str) -> str:
        self.texts += 1
        self.threads.add(threading.current_thread().name)
        return super().redact(text)


@pytest.fixture
def made(tmp_path: Path) -> tuple[Any, Counting, Publisher, Path]:
    current, redactor, path = Findings(1_000), Counting(), tmp_path / "status.json"
    return current, redactor, Publisher(current, redactor, path), path


def publish(publisher: Publisher, info: DaemonInfo = INFO) -> None:
    asyncio.run(publisher.publish(info))


def test_n58_a_heartbeat_without_news_builds_no_row_and_writes_the_head_only(made: Any) -> None:
    _, redactor, publisher, path = made
    publish(publisher)
    assert publisher.rows_built == 1_001
    inode, built, texts = path.stat().st_ino, publisher.rows_built, redactor.texts
    for _ in range(5):
        publish(publisher)
    assert publisher.rows_built == built
    assert (redactor.texts - texts) / 5 < 60  # the head alone, however many rows there are
    assert (publisher.files, publisher.beats) == (1, 5)
    assert path.stat().st_ino == inode
    assert redactor.threads
    assert threading.main_thread().name not in redactor.threads


def test_n58_the_heartbeat_in_the_file_moves_and_the_file_stays_the_whole_document(
    made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    current, _, publisher, path = made
    now = 1_700_000_100.0
    monkeypatch.setattr("reconciler.engine.publisher.time.time", lambda: now)
    publish(publisher)
    assert json.loads(path.read_bytes()) == statusfile.document(current, INFO, now)
    now += 10
    current.source.fetched_at += 60
    publish(publisher)
    assert publisher.beats == 1
    document = json.loads(path.read_bytes())
    assert document == statusfile.document(current, INFO, now)
    assert document["daemon"]["heartbeatAt"] == "2023-11-14T22:15:10Z"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_n58_a_row_that_changed_is_the_only_one_that_is_built(made: Any) -> None:
    current, _, publisher, path = made
    publish(publisher)
    built = publisher.rows_built
    current.change(7, attempts=3)
    publish(publisher)
    assert publisher.rows_built == built + 1
    assert publisher.files == 2
    assert json.loads(path.read_bytes())["resources"][7]["attempts"] == 3


def test_n58_a_pass_that_finds_nothing_builds_no_row_though_every_next_look_moved(made: Any) -> None:
    current, _, publisher, path = made
    publish(publisher)
    built = publisher.rows_built
    current.look_again("2026-01-01T00:10:00Z")
    publish(publisher)
    assert publisher.rows_built == built
    rows = json.loads(path.read_bytes())["resources"]
    assert {row["nextReconcileAt"] for row in rows} == {"2026-01-01T00:10:00Z"}
    assert rows == [statusfile.resource_row(one) for one in current.view.statuses.values()]


def test_n58_a_secret_that_becomes_known_later_is_masked_in_rows_that_were_built_before(made: Any) -> None:
    current, redactor, publisher, path = made
    current.change(3, conditions=(dataclasses.replace(status(3).conditions[0], message=f"said {SECRET}"),))
    publish(publisher)
    assert SECRET in path.read_text()
    redactor.add(SECRET)
    publish(publisher)
    assert SECRET not in path.read_text()


def test_n58_a_text_that_looks_like_the_key_of_a_time_is_left_as_it_is(made: Any) -> None:
    current, _, publisher, path = made
    odd = '"nextReconcileAt":"" "heartbeatAt":"2026-01-01T00:00:00Z"'
    current.change(0, conditions=(dataclasses.replace(status(0).conditions[0], message=odd),), location=Location(odd, 1))
    for _ in range(2):
        publish(publisher)
        row = json.loads(path.read_bytes())["resources"][0]
        assert (row["conditions"][0]["message"], row["file"]) == (odd, odd)
        assert row["nextReconcileAt"] == "2026-01-01T00:05:00Z"


@pytest.mark.parametrize("damage", ["gone", "replaced", "cut", "folder-gone"])
def test_n58_a_file_that_somebody_else_touched_is_written_whole_again(made: Any, damage: str) -> None:
    _, _, publisher, path = made
    publish(publisher)
    if damage in {"gone", "folder-gone"}:
        path.unlink()
    if damage == "folder-gone":
        (path.parent / "snapshot.json").unlink()
        path.parent.rmdir()
    elif damage == "replaced":
        other = path.with_name("other")
        other.write_bytes(b"{}")
        other.replace(path)
    elif damage == "cut":
        os.truncate(path, 100)
    publish(publisher)
    assert publisher.files == 2
    assert len(json.loads(path.read_bytes())["resources"]) == 1_000


def test_n58_the_api_gives_the_same_document_without_building_a_row(made: Any) -> None:
    _, _, publisher, path = made
    publish(publisher)
    built = publisher.rows_built
    shown = json.loads(asyncio.run(publisher.encoded(INFO)))
    written = json.loads(path.read_bytes())
    shown["daemon"]["heartbeatAt"] = written["daemon"]["heartbeatAt"]
    assert shown == written
    assert publisher.rows_built == built


def test_n58_only_statuses_that_changed_are_stored_and_the_time_of_the_next_look_is_no_change(tmp_path: Path) -> None:
    current = Findings(1_200)
    stored = current.view.statuses
    current.look_again("2026-01-01T00:10:00Z")
    assert changed_statuses(stored, current.view.statuses) == ([], [])
    current.change(5, attempts=2)
    gone = list(current.view.statuses)[9]
    found = {identity: one for identity, one in current.view.statuses.items() if identity != gone}
    changed, dropped = changed_statuses(stored, found)
    assert [one.id.name for one in changed] == ["source-00005"]
    assert dropped == [gone]


def test_n58_peers_read_the_statuses_again_only_when_one_of_them_stored_another(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path / 'state.db'}", state_dir=tmp_path)
    assert store.statuses_mark() == ""
    mark = store.save_statuses([status(1)])
    assert store.statuses_mark() == mark
    assert store.save_statuses([], gone=[status(1).id]) != mark
    assert store.statuses() == {}
    store.close()
