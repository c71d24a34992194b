"""Commands about events and stages: the admin socket, the API and the CLI all use these.

Every command takes its request (`reconciler.events.requests`). Those that change something also take ``who``: the name of the token
or of the local user, which is recorded in the audit log and counts as an approver.
"""

from __future__ import annotations

from collections.abc import Callable

from reconciler.engine.current import Current
from reconciler.events.app_intake import AppIntake
from reconciler.events.approvals import Approvals
from reconciler.events.event_commands import EventCommands
from reconciler.events.execution_commands import ExecutionCommands
from reconciler.events.lookup import Lookup, NoSuch, NotCounted, TooLate, Waits
from reconciler.events.recovery import Recovery


class Commands:
    """All commands, by name. ``wake_events`` and ``wake_stages`` wake the loops of this process."""

    def __init__(
        self,
        current: Current,
        recovery: Recovery,
        apps: AppIntake,
        *,
        wake_events: Callable[[], None],
        wake_stages: Callable[[], None],
    ) -> None:
        lookup = Lookup(current)
        events = EventCommands(current, lookup, recovery, apps, wake_events)
        executions = ExecutionCommands(current, lookup, wake_stages)
        self.events, self.event = events.events, events.event
        self.trigger, self.replay, self.redeliver = events.trigger, events.replay, events.redeliver
        self.executions, self.execution = executions.executions, executions.execution
        self.cancel, self.rerun = executions.cancel, executions.rerun
        self.approve = Approvals(current, lookup, wake_stages).approve


__all__ = ["Commands", "NoSuch", "NotCounted", "TooLate", "Waits"]
