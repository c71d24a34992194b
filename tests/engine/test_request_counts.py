"""How many requests a pass makes: each has a reason, and their number does not creep up."""

from __future__ import annotations

import re
from collections import Counter

from tests.engine.world import World

HOOKS = 100


def counted(world: World) -> dict[tuple[str, str], int]:
    paths = Counter((row["method"], re.sub(r"/r\d+(?=/|$)", "/R", row["path"])) for row in world.requests())
    world.forget_requests()
    return dict(paths)


def test_a_pass_over_many_hooks_asks_only_what_it_has_to(world: World) -> None:
    """Cold: a look, the write, a look at what was written, and once the repository's id, by which a rename is found."""
    names = [f"r{number}" for number in range(HOOKS)]
    world.repos(*names)
    for name in names:
        world.source(name)
    hooks = "/repos/acme/R/hooks"
    assert world.cli("apply", "--yes", timeout=120).returncode == 0
    cold = {("GET", hooks): 2 * HOOKS, ("POST", hooks): HOOKS, ("GET", "/repos/acme/R"): HOOKS, ("GET", "/user"): 2}
    assert counted(world) == cold
    assert world.cli("run", "--once", timeout=120).returncode == 0
    assert counted(world) == {("GET", hooks): HOOKS, ("GET", "/user"): 1}
