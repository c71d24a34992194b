"""What executors share: logs that are read part by part."""

from __future__ import annotations

import pytest

from reconciler.drivers.execution import read_log, require_commit
from reconciler.model.errors import ValidationFailed
from reconciler.model.executions import LogLines

LOGS = {"a": (["1", "2"], True), "b": (["3"], False)}


async def read(cursor: str, *, done: bool, logs: dict[str, tuple[list[str], bool]] = LOGS) -> tuple[LogLines, list[str]]:
    """Return the lines after ``cursor``, and the parts that were read."""
    parts: list[str] = []

    async def part(key: str) -> tuple[list[str], bool]:
        parts.append(key)
        return logs[key]

    return await read_log([(key, f"[{key}] ", key) for key in logs], cursor, part, done=done), parts


async def test_lines_are_in_the_order_of_the_parts_and_each_comes_once() -> None:
    log, parts = await read("", done=False)
    assert (log.lines, parts) == (("[a] 1", "[a] 2", "[b] 3"), ["a", "b"])
    more = {**LOGS, "b": (["3", "4"], True)}
    log, parts = await read(log.cursor, done=False, logs=more)
    assert (log.lines, parts) == (("[b] 4",), ["b"])
    log, parts = await read(log.cursor, done=True, logs=more)
    assert (log.lines, parts, log.complete) == ((), [], True)


@pytest.mark.parametrize(("ended", "done", "complete"), [(True, True, True), (False, True, False), (True, False, False)])
async def test_a_log_is_complete_once_the_run_and_every_part_have_ended(ended: bool, done: bool, complete: bool) -> None:
    log, _ = await read("", done=done, logs={"a": ([], True), "b": ([], ended)})
    assert log.complete is complete


@pytest.mark.parametrize("key", ["ref", "branch", "tag", "revision"])
def test_the_commit_of_a_deleted_ref_is_refused(key: str) -> None:
    with pytest.raises(ValidationFailed, match=key):
        require_commit({key: "0" * 40})
    require_commit({key: "main"})
