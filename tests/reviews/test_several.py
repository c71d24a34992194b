"""Two processes on one PostgreSQL review the same pull requests: one check for each head, one comment, one status."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flow.test_app_several_processes import Balancer
from tests.flow.test_several_processes import Peer, first_up
from tests.reviews.test_reviews import SHOP
from tests.reviews.world import ReviewWorld
from tests.support.postgres import Postgres

REVIEW = "review: {integration: github, interval: 1s, timeout: 60s}\n"


@pytest.fixture
def several(tmp_path: Path, postgres: Postgres) -> Iterator[tuple[ReviewWorld, list[Peer]]]:
    world = ReviewWorld(tmp_path)
    url = postgres.database()
    world.settings(state=f'{{url: "{url}"}}')
    peers = [Peer(world, number, url) for number in range(2)]
    for peer in peers:
        text = peer.config.read_text().replace(f'"{world.manifests}"', f'"{world.server.url("acme/payments.git")}"')
        peer.config.write_text(text + REVIEW)
    balancer = Balancer(world.port, peers)
    yield world, peers
    balancer.close()
    world.close()


@pytest.mark.timeout(300)
def test_two_processes_write_one_check_one_comment_and_one_final_status(several: tuple[ReviewWorld, list[Peer]]) -> None:
    world, peers = several
    first_up(world, peers)
    world.connect_app()
    opened = [world.open_pull({"shop.yaml": SHOP + f"# {at}\n"}) for at in range(6)]
    victim = peers[0].process
    assert victim is not None
    world.wait(lambda: len(world.checks()) >= 2, "they work")
    victim.kill()
    victim.wait()
    peers[0].start()
    for number, head in opened:
        assert world.reviewed(head, 120) == "success"
        world.wait(lambda number=number: world.comments(number), "the comment")
    second = world.push_pull(opened[0][0], {"shop.yaml": SHOP + "# second\n"})
    assert world.reviewed(second) == "success"
    world.wait(lambda: second[:12] in world.comments(opened[0][0])[0]["body"], "the comment of the second head")
    assert set(Counter(row["number"] for row in world.comments()).values()) == {1}
    assert set(Counter(row["head_sha"] for row in world.checks()).values()) == {1}
    world.merge(opened[0][0])
    world.wait(lambda: "ready: `EventSource/shop`" in world.comments(opened[0][0])[0]["body"], "the outcome")
    merged = world.git.git("rev-parse", "main")
    world.wait(lambda: "success" in [row[0] for row in world.statuses(merged)], "the status of the merged revision", 60)
    rows = world.statuses(merged)
    assert rows[-1][0] == "success"
    assert len(rows) == len(set(rows)), "no status is written twice"
