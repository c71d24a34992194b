"""`/metrics`: the table is what a real daemon shows, labels are bounded, and scrapes that hang cost nothing."""

from __future__ import annotations

import gzip
import re
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from reconciler.model.resources import ResourceId
from reconciler.server.metric_families import MAX_SERIES, Families
from reconciler.server.metric_table import GROUPS, MAX_NAMES, METRICS, OTHER
from reconciler.server.metrics import Metrics
from tests.engine.world import TOKENS
from tests.flow.stage_world import StageWorld
from tests.server.asked import TOKENS as API_TOKENS
from tests.server.asked import Asked

NEEDS = {
    "reconciler_credential_expiry_timestamp_seconds": "a credential with an end",
    "reconciler_rate_limit_limit": "a provider that reports its rate",
    "reconciler_rate_limit_remaining": "a provider that reports its rate",
    "reconciler_rate_limit_reset_timestamp_seconds": "a provider that reports its rate",
    "reconciler_condition_oldest_timestamp_seconds": "a resource that is not ready",
    "reconciler_events_oldest_pending_timestamp_seconds": "an event that waits",
    "reconciler_items_oldest_timestamp_seconds": "an item that waits",
    "reconciler_executions_oldest_timestamp_seconds": "an execution under way",
    "reconciler_reconciles_oldest_due_timestamp_seconds": "a reconcile that is due",
    "reconciler_reports_oldest_due_timestamp_seconds": "a status that waits",
    "reconciler_notifications_total": "a Notification",
    "reconciler_notification_failing": "a Notification",
    "reconciler_notifications_waiting": "a Notification",
    "reconciler_notifications_oldest_timestamp_seconds": "a Notification",
    "reconciler_telemetry_spans_total": "telemetry",
    "reconciler_telemetry_spans_waiting": "telemetry",
    "reconciler_reviews_total": "a review",
    "reconciler_executions_total": "an execution",
    "reconciler_execution_duration_seconds": "an execution",
}
"""Metrics without a sample while there is nothing to count. All have their HELP and TYPE."""


def scrape(url: str, **headers: str) -> tuple[str, str]:
    """Return the content type and the text of a scrape."""
    request = urllib.request.Request(f"{url}/metrics", headers={name.replace("_", "-"): value for name, value in headers.items()})
    with urllib.request.urlopen(request, timeout=10) as answer:
        body = answer.read()
        coding = answer.headers.get("content-encoding", "")
        return answer.headers["content-type"], (gzip.decompress(body) if coding == "gzip" else body).decode()


def name_of(family: Any) -> str:
    return family.name + ("_total" if family.type == "counter" else "")


def test_a_real_daemon_shows_exactly_the_metrics_of_the_table(asked: Asked) -> None:
    asked.wait(lambda: "reconciler_audit_intact 1.0" in scrape(asked.url)[1], "the audit log is verified")
    kind, text = scrape(asked.url)
    assert kind.startswith("text/plain; version=0.0.4")
    families = {name_of(family): family for family in parse_text(text)}
    assert {*families} == {*METRICS}
    for name, spec in METRICS.items():
        family = families[name]
        assert (family.type, bool(family.documentation)) == (spec.type, True), name
        assert bool(family.samples) or name in NEEDS, name
        if name.startswith("reconciler_"):
            assert family.documentation == spec.help
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert labels <= set(spec.labels), name
        assert not family.samples or labels == set(spec.labels), name


def test_openmetrics_is_answered_to_who_asks_for_it_and_compressed(asked: Asked) -> None:
    kind, text = scrape(asked.url, accept="application/openmetrics-text;version=1.0.0,text/plain;q=0.5", accept_encoding="gzip")
    assert kind.startswith("application/openmetrics-text")
    assert {name_of(family) for family in parse_openmetrics(text)} >= {name for name in METRICS if name.startswith("reconciler_")}


def test_no_scrape_shows_a_secret(asked: Asked) -> None:
    text = scrape(asked.url)[1]
    for value in (*TOKENS.values(), *API_TOKENS.values()):
        assert value not in text


def test_names_follow_the_conventions_of_prometheus() -> None:
    names = [spec.name for group in GROUPS for spec in group.metrics]
    assert len(names) == len(set(names))
    for spec in METRICS.values():
        assert re.fullmatch(r"[a-z][a-z0-9_]*", spec.name)
        assert spec.name.endswith("_total") == (spec.type == "counter"), spec.name
        assert spec.type != "counter" or spec.name.removesuffix("_total") not in METRICS, "OpenMetrics takes them for one"
        assert (spec.type == "histogram") == bool(spec.buckets)
        assert spec.help.endswith((".", ",")), spec.name
        assert not re.search(r"_(ms|minutes|milliseconds|kb|mb|percent)(_|$)", spec.name)


# -- bounded -------------------------------------------------------------------------------------------------------------


def ended(number: int) -> Any:
    stage = ResourceId("Stage", "default", f"s{number}")
    return SimpleNamespace(stage=stage, result=None, why=None, finished_at=2.0, created_at=1.0)


def test_a_label_has_a_limited_number_of_values() -> None:
    current: Any = SimpleNamespace()
    metrics = Metrics(current)
    for number in range(MAX_NAMES + 50):
        metrics.observe_execution(ended(number))
    stages = {
        sample.labels["stage"]: sample.value
        for family in metrics._executions.collect()
        for sample in family.samples
        if sample.name == "reconciler_executions_total" and sample.labels["result"] == "failed"
    }
    assert len(stages) == MAX_NAMES + 1
    assert stages[OTHER] == 50


def test_a_gauge_leaves_out_what_is_too_much_and_says_so() -> None:
    families = Families()
    rows = [((f"i{number}",), 1.0) for number in range(MAX_NAMES + 7)]
    assert len(families.rows("reconciler_credential_valid", rows).samples) == MAX_NAMES
    assert families.dropped == 7
    more = [((f"i{number}", "valid"), 1.0) for number in range(MAX_SERIES + 1)]
    assert len(families.rows("reconciler_credential_unknown", more).samples) == MAX_SERIES
    assert families.dropped == 8


def test_text_from_the_manifests_cannot_forge_a_line() -> None:
    families = Families()
    family = families.rows("reconciler_credential_valid", [(('x"} 1\nup{a="b',), 1.0)])
    registry: Any = SimpleNamespace(collect=lambda: [family])
    from prometheus_client import generate_latest

    lines = [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]
    assert lines == ['reconciler_credential_valid{integration="x\\"} 1\\nup{a=\\"b"} 1.0']


# -- scrapes that hang ---------------------------------------------------------------------------------------------------


READER_S = 3.0
"""When the daemon drops a peer that reads nothing; ten seconds in production."""


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[StageWorld]:
    """A daemon with so many stages that a scrape is large."""
    world = StageWorld(tmp_path)
    names = [f"stage-{number:04}-" + "x" * 40 for number in range(1500)]
    documents = [
        f"kind: Stage\nmetadata: {{name: {name}}}\nspec: {{connections: [{{type: event-source, name: hand}}], executor: {{type: noop}}}}"
        for name in names
    ]
    world.manual()
    world.write("stages.yaml", "\n---\n".join(documents))
    world.source("web")
    world.hurry(READER_S)
    world.ready()
    yield world
    world.close()


def resident(pid: int) -> int:
    """Return the resident memory of a process in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def connections(port: int) -> int:
    """Return the number of connections that the kernel holds for a server: open, or with an end that the peer has not read."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1].endswith(f":{port:04X}") and row[3] in {"01", "04", "05"} for row in rows)


def hanging_scrape(port: int) -> socket.socket:
    """Ask for the metrics, more often than the buffers of the kernel can hold, and read nothing."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", port))
    sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 40)
    return sock


def closed(sock: socket.socket) -> bool:
    """Whether the daemon has ended the connection, after what is left in the buffers was read."""
    sock.settimeout(2)
    try:
        while sock.recv(1 << 20):
            pass
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    finally:
        sock.close()
    return True


def test_fifty_scrapes_that_hang_cost_nothing_and_are_dropped(busy: StageWorld) -> None:
    pid, url = busy.processes[-1].pid, f"http://127.0.0.1:{busy.port}"
    size = len(scrape(url)[1])
    assert size > 200_000
    before, began = resident(pid), time.monotonic()
    hanging = [hanging_scrape(busy.port) for _ in range(50)]
    slowest = 0.0
    for path in ("/metrics", "/healthz", "/readyz") * 5:
        asked_at = time.monotonic()
        with urllib.request.urlopen(url + path, timeout=10) as answer:
            assert answer.status == 200
            answer.read()
        slowest = max(slowest, time.monotonic() - asked_at)
    assert slowest < 5.0  # of a busy machine
    assert resident(pid) - before < 50 * size  # each holds one part of the text, and the kernel the rest
    assert connections(busy.port) >= 50
    while connections(busy.port):
        assert time.monotonic() - began < READER_S + 20, "they still have their connections"
        time.sleep(0.2)
    assert [closed(sock) for sock in hanging] == [True] * 50
