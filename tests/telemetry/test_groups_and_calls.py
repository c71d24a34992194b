"""Traces beyond the main one: a group of events, a call that carries its place, a sender's trace, a review."""

from pathlib import Path

from tests.flow.stage_world import StageWorld
from tests.reviews.world import ReviewWorld
from tests.support.called import called
from tests.support.collector import Collector

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GROUP = """kind: ConnectionGroup
metadata: {name: both}
spec:
  connections: [{type: event-source, name: a}, {type: event-source, name: b}]
  groupBy: {fields: [{name: ref, expression: $.ref}]}"""


def test_a_group_links_its_events_and_a_named_host_is_told_the_trace(world: StageWorld, collector: Collector) -> None:
    world.configure(telemetry=f"{{enabled: true, endpoint: '{collector.url}', propagate: [127.0.0.1]}}")
    world.webhook("a")
    world.webhook("b")
    world.write("group.yaml", GROUP)
    with called() as service:
        world.stage(
            "call",
            f"executor: {{type: http, spec: {{url: '{service.url}/deploy?key=canary-query', method: PUT}}}}",
            after="{type: connection-group, name: both}",
        )
        world.ready()
        assert world.send("a", {"ref": "main"}, delivery="d1", traceparent=f"00-{TRACE}-{SPAN}-01") == 202
        world.wait(lambda: not world.ask("events", state="pending")["events"], "the first is routed")
        assert world.send("b", {"ref": "main"}, delivery="d2", traceparent="nonsense") == 202
        world.finished("call")
        spans = collector.wait("event field_set_completed", "RUN call", "PUT")
        (request,) = service.seen
    first, second = sorted((span for span in collector.spans if span.name == "event webhook"), key=lambda span: span.start)
    assert first.trace != TRACE
    assert (first.links, second.links) == ((f"{TRACE}-{SPAN}",), ())
    joined = spans["event field_set_completed"]
    assert (joined.trace, joined.parent) == (second.trace, second.id)
    assert joined.links == (f"{first.trace}-{first.id}",)
    put = spans["PUT"]
    assert put.parent == spans["RUN call"].id
    assert put.attributes["url.full"].endswith("/deploy")
    assert request.header("traceparent") == f"00-{second.trace}-{put.id}-01"
    assert all("canary" not in str(span.attributes) for span in collector.spans)


def test_a_review_is_a_trace_with_its_commit(tmp_path: Path, collector: Collector) -> None:
    world = ReviewWorld(tmp_path, app=False)
    try:
        world.settings(telemetry=f"{{enabled: true, endpoint: '{collector.url}'}}")
        world.ready()
        number, head = world.open_pull({"more.yaml": "kind: EventSource\nmetadata: {name: more}\nspec: {type: manual}"})
        review = collector.wait("review reconciler/plan")["review reconciler/plan"]
        assert review.attributes["vcs.ref.head.revision"] == head
        assert review.attributes["vcs.change.id"] == str(number)
        assert review.attributes["vcs.repository.name"] == "acme/payments"
        assert review.attributes["reconciler.conclusion"] == "success"
        assert {span.name for span in collector.spans if span.parent == review.id} >= {"POST"}
        line = next(line for line in world.log().splitlines() if "review_finished" in line)
        assert review.trace in line
    finally:
        world.close()
