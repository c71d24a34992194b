"""A collector that hangs, refuses, is slow or answers nonsense costs nothing but its spans, and not even those of the state."""

import asyncio
import json
import socket
import threading
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from reconciler.telemetry import exporter as module
from reconciler.telemetry.recorder import CAPACITY
from tests.flow.stage_world import StageWorld
from tests.support.collector import Collector
from tests.telemetry.exporting import exporting, span


async def test_both_kinds_of_spans_are_exported_once_and_forgotten(tmp_path: Path, collector: Collector) -> None:
    async with exporting(tmp_path, collector.url) as bench:
        bench.keep(span("stored"), span("too"))
        bench.recorder.record(span("live"))
        await bench.exporter.turn()
        await bench.exporter.turn()
        assert sorted(each.name for each in collector.spans) == ["span live", "span stored", "span too"]
        assert (bench.store.count_spans(), len(bench.recorder)) == (0, 0)
        assert bench.counts == {"exported": 3}
        assert bench.log.lines == []


@pytest.mark.parametrize("answer", ["garbage", "huge", "slow"])
async def test_spans_that_were_accepted_are_not_sent_again_whatever_the_answer_says(
    answer: str, tmp_path: Path, collector: Collector
) -> None:
    collector.answer = answer
    async with exporting(tmp_path, collector.url, timeout="1s") as bench:
        bench.keep(span())
        await bench.exporter.turn()
        assert len(collector.spans) == 1
        assert bench.store.count_spans() == 0
        assert bench.counts == {"exported": 1}


@pytest.mark.parametrize("answer", ["429", "503", "reset", "hang", "refused"])
async def test_spans_wait_while_the_collector_cannot_take_them_and_one_line_says_so(
    answer: str, tmp_path: Path, collector: Collector
) -> None:
    collector.answer = answer
    url = collector.url
    if answer == "refused":
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{sock.getsockname()[1]}/v1/traces"
    async with exporting(tmp_path, url, timeout="1s") as bench:
        bench.keep(span("stored"))
        bench.recorder.record(span("live"))
        for _ in range(2):
            await bench.exporter.turn()
        assert (bench.store.count_spans(), len(bench.recorder)) == (1, 1)
        assert bench.counts == {}
        ((event, fields),) = bench.log.lines
        assert event == "telemetry_export_failed"
        assert url not in str(fields)
        assert bench.exporter._pause_s >= 0.8
        if answer != "refused":
            collector.answer = "ok"
            await bench.exporter.turn()
            assert bench.counts == {"exported": 2}


@pytest.mark.parametrize("answer", ["400", "redirect"])
async def test_spans_that_the_collector_refuses_for_good_are_counted_and_given_up(
    answer: str, tmp_path: Path, collector: Collector
) -> None:
    collector.answer = answer
    async with exporting(tmp_path, collector.url) as bench:
        bench.keep(span("a"), span("b"))
        await bench.exporter.turn()
        assert bench.counts == {"refused": 2}
        assert bench.store.count_spans() == 0
        assert [event for event, _ in bench.log.lines] == ["telemetry_export_failed"]
        assert len(collector.requests) == 1


async def test_a_part_that_the_collector_refuses_is_counted(tmp_path: Path, collector: Collector) -> None:
    collector.answer = "partial"
    async with exporting(tmp_path, collector.url) as bench:
        bench.keep(span("a"), span("b"))
        await bench.exporter.turn()
        assert bench.counts == {"exported": 1, "refused": 1}
        assert bench.log.lines[0][1]["dropped"] == 1


async def test_memory_and_state_are_bounded_and_what_is_dropped_is_counted(
    tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CAPACITY_STORED", 10)
    collector.answer = "503"
    async with exporting(tmp_path, collector.url) as bench:
        for number in range(CAPACITY + 5):
            bench.recorder.record(span(number))
        for number in range(12):
            bench.keep(span(number), span(number))
        await bench.exporter.turn()
        assert len(bench.recorder) == CAPACITY
        assert bench.store.count_spans() == 10
        assert bench.counts == {"dropped": 5 + 14}
        assert bench.log.lines[0][1]["dropped"] == 19


async def test_a_row_that_cannot_be_read_does_not_stop_the_others(tmp_path: Path, collector: Collector) -> None:
    async with exporting(tmp_path, collector.url) as bench:
        with bench.store._write() as connection:
            connection.exec_driver_sql("INSERT INTO trace_span (spans, payload) VALUES (3, '[[1]]')")
        await bench.exporter.turn()
        assert bench.counts == {"dropped": 3}
        bench.keep(span())
        await bench.exporter.turn()
        assert bench.counts == {"dropped": 3, "exported": 1}


async def test_a_span_that_cannot_be_encoded_does_not_hold_up_the_others(tmp_path: Path, collector: Collector) -> None:
    async with exporting(tmp_path, collector.url) as bench:
        bench.recorder.record(span("half \ud800 of a pair", reason="\udfff"))
        bench.recorder.record(replace(span("bad"), trace_id="no hexadecimal"))
        await bench.exporter.turn()
        assert [each.name for each in collector.spans] == ["span half ? of a pair"]
        assert bench.counts == {"exported": 1, "refused": 1}
        assert len(bench.recorder) == 0


async def test_an_export_waits_for_the_end_of_a_burst_but_not_for_ever(
    tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HOLD_S", 0.2)
    monkeypatch.setattr(module, "PAUSE_S", 0.0)
    async with exporting(tmp_path, collector.url, busy=lambda _: True) as bench:
        bench.keep(span())
        bench.exporter._pause_s = 0.0
        began = time.monotonic()
        task = asyncio.create_task(bench.exporter.run())
        while not collector.spans:
            await asyncio.sleep(0.01)
        assert time.monotonic() - began >= 0.2
        task.cancel()
        await bench.exporter.flush()


async def test_the_last_export_is_bounded_and_leaves_the_state_to_the_next_process(
    tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FLUSH_S", 0.3)
    collector.answer = "hang"
    async with exporting(tmp_path, collector.url) as bench:
        bench.keep(span())
        began = time.monotonic()
        await bench.exporter.flush()
        assert time.monotonic() - began < 2
        assert bench.store.count_spans() == 1


async def test_one_of_several_processes_exports_what_is_stored(postgres: object, tmp_path: Path, collector: Collector) -> None:
    state = postgres.database()  # type: ignore[attr-defined]
    async with (
        exporting(tmp_path / "a", collector.url, state=state) as one,
        exporting(tmp_path / "b", collector.url, state=state) as two,
    ):
        two.exporter._holder = "other"
        one.keep(*(span(number) for number in range(20)))
        await asyncio.gather(one.exporter.turn(), two.exporter.turn())
        await asyncio.gather(one.exporter.turn(), two.exporter.turn())
        assert len(collector.spans) == 20
        assert collector.twice() == []
        assert one.store.count_spans() == 0


async def test_texts_are_cut_and_secrets_are_masked(tmp_path: Path, collector: Collector) -> None:
    async with exporting(tmp_path, collector.url, headers="authorization=Bearer canary-5f1e", compression="none") as bench:
        bench.redactor.add("canary-value-77")
        bench.keep(span("with canary-value-77", reason="x" * 5000, matched=("canary-value-77", "b"), other="kept"))
        await bench.exporter.turn()
        (found,) = collector.spans
        assert "canary" not in found.name
        assert len(found.attributes["reconciler.reason"]) == 1024
        assert found.attributes["reconciler.filter.matched"][1] == "b"
        assert found.attributes["reconciler.other"] == "kept"
        ((_, headers, body),) = collector.requests
        assert b"canary" not in body
        assert headers["authorization"] == "Bearer canary-5f1e"


class Deaf:
    """Accepts connections, reads nothing and never answers."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.kept: list[socket.socket] = []
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}/v1/traces"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        try:
            while True:
                self.kept.append(self.socket.accept()[0])
        except OSError:
            return

    def close(self) -> None:
        # A close alone does not end the accept, which may then take a connection of a later server.
        self.socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        for each in [self.socket, *self.kept]:
            each.close()


def test_a_collector_that_never_answers_costs_a_daemon_nothing(world: StageWorld, collector: Collector) -> None:
    """Deliveries are answered, stages run, the process is healthy and ends in time; the next one exports what it left."""
    deaf = Deaf()
    try:
        world.configure(telemetry=f"{{enabled: true, endpoint: '{deaf.url}', timeout: 60s}}")
        world.webhook()
        world.stage("noop", after="{type: event-source, name: own}")
        world.ready()
        slowest = 0.0
        for number in range(20):
            began = time.monotonic()
            assert world.send("own", {"n": number}, delivery=f"d{number}") == 202
            slowest = max(slowest, time.monotonic() - began)
        world.finished("noop", 20)
        assert deaf.kept, "the daemon tried"
        assert slowest < 2
        began = time.monotonic()
        world.stop()
        assert time.monotonic() - began < 10
    finally:
        deaf.close()
    world.configure(telemetry=f"{{enabled: true, endpoint: '{collector.url}'}}")
    world.daemon()
    world.wait(lambda: len(collector.named("RUN noop")) == 20, "all spans")
    assert collector.twice() == []
    assert {"trace_id"} <= {key for line in world.log().splitlines() if "item_queued" in line for key in json.loads(line)}
