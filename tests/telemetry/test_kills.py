"""kill -9 between a delivery and its last status: the trace goes on, no span of it is missing, and none is twice."""

import pytest

from tests.flow.stage_world import StageWorld
from tests.support.collector import Collector
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
        (trace,) = {span.trace for span in collector.named("event push")} or {""}
        names = [span.name for span in collector.spans if span.trace == trace]
        return {name: names.count(name) for name in EXPECTED}

    world.finished("build")
    world.wait(lambda: counted() == EXPECTED, f"every span once: {counted()}", 30)
    world.stop()
    assert counted() == EXPECTED
    assert collector.twice() == []
    run, event, start = (collector.named(name)[0] for name in ("RUN build", "event push", "start build"))
    assert run.parent == event.id
    assert start.start == run.start  # of the state, not of the process that ended it


def test_a_kill_between_the_collectors_answer_and_its_record_repeats_spans_with_their_ids(
    world: StageWorld, collector: Collector
) -> None:
    world.manual()
    world.stage("noop")
    process = world.doomed("telemetry-after-send:2")
    world.up()
    world.trigger()
    world.died(process, "telemetry-after-send:2")
    world.daemon()
    spans = collector.wait("RUN noop", "event execution_finished")
    again = [span for span in collector.spans if (span.trace, span.id) in collector.twice()]
    own = [span for span in again if span.trace == spans["RUN noop"].trace]
    assert {(span.name, span.start, span.end) for span in own} == {(span.name, span.start, span.end) for span in set(own)}
    assert len(own) == 2 * len({span.id for span in own})
