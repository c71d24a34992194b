"""kill -9 between a delivery and its last status: the trace goes on, no span of it is missing, and none is twice."""

from pathlib import Path

import pytest

from tests.flow.stage_world import StageWorld
from tests.support.collector import Collector
from tests.telemetry.exporting import exporting, span
from tests.telemetry.test_whole_trace import CI, REPORT

pytestmark = pytest.mark.fault

POINTS = (
    "inbox-after-commit",
    "events-after-settle",
    "execution-after-start",
    "execution-before-finish",
    "report-after-send:1",
)
"""The delivery is answered at the second: the first process dies with it, and the code host sends it again."""
EXPECTED = {
    "event push": 1,
    "filter push": 1,
    "queue build": 1,
    "start build": 1,
    "RUN build": 1,
    "web": 1,
    "report commit": 2,
    "event execution_finished": 1,
}


def test_a5_a_trace_survives_kills_in_every_phase(world: StageWorld, collector: Collector) -> None:
    world.source("web")
    world.stage("build", CI, REPORT, after="{type: event-source, name: web}")
    assert world.cli("apply", "--yes").returncode == 0
    first = world.doomed(POINTS[0])
    world.wait(world.listens, "the receiver listens")
    world.push()
    world.died(first, POINTS[0])
    for point in POINTS[1:]:
        world.died(world.doomed(point), point)
    world.daemon()

    def counted() -> dict[str, int]:
        (trace,) = {each.trace for each in collector.named("event push")} or {""}
        names = [each.name for each in collector.spans if each.trace == trace]
        return {name: names.count(name) for name in EXPECTED}

    world.finished("build")
    world.wait(lambda: counted() == EXPECTED, f"every span once: {counted()}", 30)
    world.stop()
    assert counted() == EXPECTED
    assert collector.twice() == []
    run, event, start = (collector.named(name)[0] for name in ("RUN build", "event push", "start build"))
    assert run.parent == event.id
    assert start.start == run.start  # of the state, not of the process that ended it


async def test_a_kill_between_the_collectors_answer_and_its_record_repeats_spans_with_their_ids(
    tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one place where a span may be exported twice. The failpoint ends the export here, and not the process."""

    def end(name: str) -> None:
        assert name == "telemetry-after-send"
        raise RuntimeError(name)

    async with exporting(tmp_path, collector.url) as bench:
        bench.keep(span("a"), span("b"))
        with monkeypatch.context() as patch:
            patch.setattr("reconciler.telemetry.exporter.failpoint", end)
            await bench.exporter.turn()
        assert bench.store.count_spans() == 2
        await bench.exporter.turn()
        assert bench.store.count_spans() == 0
    assert len(collector.spans) == 4
    assert len(set(collector.spans)) == 2  # equal in ids, names and times
