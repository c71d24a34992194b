"""Many schedules that fire at once are stored together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.flow.inside import inside

SCHEDULES = 300


async def test_n62_schedules_of_one_minute_are_one_commit_and_their_progress_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with inside(tmp_path) as here:
        one = "kind: EventSource\nmetadata: {{name: s{}}}\nspec: {{type: schedule, schedule: {{cron: '* * * * *'}}}}\n"
        here.world.write("schedules.yaml", "---\n".join(one.format(number) for number in range(SCHEDULES)))
        await here.sync()
        await here.working.schedules.turn()
        here.later(60)
        writes: list[str] = []
        for name in ("add_events", "set_cursors"):
            real: Any = getattr(here.store, name)
            monkeypatch.setattr(here.store, name, lambda rows, real=real, name=name: (writes.append(name), real(rows))[1])
        await here.working.schedules.turn()
        assert writes == ["add_events", "set_cursors"]
        found = await here.deps.store.pending_events(2 * SCHEDULES)
        assert len({event.source for event, _ in found}) == SCHEDULES == len(found)
        await here.working.schedules.turn()
        assert len(await here.deps.store.pending_events(2 * SCHEDULES)) == SCHEDULES
