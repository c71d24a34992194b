"""Processes on one PostgreSQL: one trace, each span once, whoever did the work and whoever was killed."""

from pathlib import Path

import pytest

from tests.flow.stage_world import WORKFLOW, StageWorld
from tests.flow.test_several_processes import Peer, declare, first_up, signed
from tests.support.collector import Collector
from tests.support.postgres import Postgres

pytestmark = pytest.mark.fault
RUNS = 6


def test_a_peer_that_is_killed_leaves_no_hole_and_nothing_is_exported_twice(
    tmp_path: Path, postgres: Postgres, collector: Collector
) -> None:
    world = StageWorld(tmp_path)
    try:
        url = postgres.database()
        world.configure(state=f'{{url: "{url}"}}')
        peers = [Peer(world, number, url) for number in range(2)]
        for peer in peers:
            with peer.config.open("a") as config:
                config.write(f"telemetry: {{enabled: true, endpoint: '{collector.url}'}}\n")
        declare(world)
        world.workflows("web", {**WORKFLOW, "duration_s": 1.0, "outputs": {}})
        first_up(world, peers)
        path, key, _ = world.place("own")
        for number in range(RUNS):
            body = f'{{"number": "{number}"}}'.encode()
            headers = {**signed(key, body), "x-delivery-id": f"d{number}"}
            assert peers[number % 2].request("POST", path, body, headers) == 202
        world.wait(lambda: len(world.runs()) >= RUNS, "all run")
        assert peers[0].process is not None
        peers[0].process.kill()
        counted = {"queue build": RUNS, "start build": RUNS, "RUN build": RUNS, "web": RUNS}

        def complete() -> bool:
            return all(len(collector.named(name)) >= number for name, number in counted.items())

        world.wait(complete, f"all spans: {sorted((span.name, span.trace[:6]) for span in collector.spans)}", 40)
        assert collector.twice() == []
        assert {name: len(collector.named(name)) for name in counted} == counted
        assert len({span.trace for span in collector.named("RUN build")}) == RUNS
        parents = {span.id for span in collector.spans}
        assert all(span.parent in parents for name in counted for span in collector.named(name))
    finally:
        world.close()
