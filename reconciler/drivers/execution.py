"""What executors share: checks of an intent, providers without job tokens or events, and logs that are read part by part."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Annotated, TypeVar

import msgspec

from reconciler.drivers.connection import Api
from reconciler.model.errors import ValidationFailed
from reconciler.model.executions import LogLines, Run
from reconciler.model.values import JsonObject, canonical_json, is_no_commit

PartT = TypeVar("PartT")
LOOK_BACK_S = 120
"""How much older than its intent a run may look: clock offsets are measured, not exact."""


def require_commit(spec: JsonObject) -> None:
    """Raise `ValidationFailed` if ``spec`` (an intent's) names a commit of zeros: what Git writes for a deleted ref."""
    for key in ("ref", "branch", "tag", "revision"):
        if is_no_commit(spec.get(key)):
            raise ValidationFailed(
                f"`{key}` is {spec[key][:12]}…, which is no commit: the branch or tag was deleted",
                hint="Leave events of deleted refs out with a filter: `!$.deleted`.",
            )


class NoJobToken:
    """Part of an `Executor` whose jobs have no token that names their run: outputs cannot be pushed."""

    def matches_job_token(self, claims: Mapping[str, object], run: Run) -> bool:
        return False

    def expects(self, run: Run) -> Mapping[str, tuple[str, ...]]:
        return {}

    def issuer(self, api: Api) -> str:
        return ""


class CountsNoAttempts:
    """Part of an `Executor` whose provider's events do not tell which attempt of a run they are about."""

    def attempt_of(self, event_type: str, payload: object) -> int:
        return 0


class NoEvents(CountsNoAttempts):
    """Part of an `Executor` whose provider sends no events about its runs."""

    def run_id_of(self, event_type: str, payload: object) -> str:
        return ""


class LogCursor:
    """How far each part (a job, an action) of a run's log was read.

    Its text is JSON: ``{part: lines returned, or null once read to its end}``. Any other text starts from the beginning.
    """

    def __init__(self, text: str) -> None:
        try:
            self._positions = msgspec.json.decode(text or "{}", type=dict[str, Annotated[int, msgspec.Meta(ge=0)] | None])
        except msgspec.DecodeError:
            self._positions = {}

    def is_complete(self, part: str) -> bool:
        """Whether ``part`` was read to its end."""
        return self._positions.get(part, 0) is None

    def take(self, part: str, lines: Sequence[str], *, ended: bool) -> Sequence[str]:
        """Return those of ``lines`` (all lines of ``part``) that were not returned before; ``ended``: there will be no more."""
        start = self._positions.get(part) or 0
        self._positions[part] = None if ended else max(start, len(lines))
        return lines[start:]

    def __str__(self) -> str:
        return canonical_json(self._positions).decode()


async def read_log(
    parts: Iterable[tuple[str, str, PartT]],
    cursor: str,
    read: Callable[[PartT], Awaitable[tuple[Sequence[str], bool]]],
    *,
    done: bool,
) -> LogLines:
    """Return the lines after ``cursor`` of ``parts``: (key, prefix of its lines, part), in the order of the log.

    ``read`` returns all lines of a part so far, and whether there will be no more. A part that was read to its end is not read
    again. ``done``: the run has ended, so the log is complete once every part was read to its end.
    """
    positions, lines, parts = LogCursor(cursor), list[str](), list(parts)
    for key, prefix, part in parts:
        if not positions.is_complete(key):
            part_lines, ended = await read(part)
            lines += [prefix + line for line in positions.take(key, part_lines, ended=ended)]
    return LogLines(tuple(lines), str(positions), done and all(positions.is_complete(key) for key, _, _ in parts))
