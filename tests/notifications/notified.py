"""Notifications in this process: Secrets that are missing make the incidents, and the test lets each turn happen."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest
from sqlalchemy import select

from reconciler.model.codec import decode
from reconciler.model.incidents import Notice
from reconciler.model.resources import Kind, ResourceId
from reconciler.model.status import Condition, ConditionType
from reconciler.state import incident_tables
from tests.flow.inside import Inside

PREFIX = "RECONCILER_SECRET_"


class Notified:
    """`Inside` with Notifications. A Secret ``NAME`` reads the variable ``RECONCILER_SECRET_NAME``."""

    def __init__(self, within: Inside, environment: pytest.MonkeyPatch) -> None:
        self.within, self._environment = within, environment
        self.engine, self.store, self.world = within.engine, within.store, within.world

    def secret(self, name: str, value: str | None = "a-value-of-a-secret") -> None:
        """Declare a Secret with the key ``value``; without a value it is missing."""
        variable = PREFIX + name.upper().replace("-", "_")
        self.world.write(
            f"secret-{name}.yaml",
            f"kind: Secret\nmetadata: {{name: {name}}}\nspec: {{provider: env, data: {{value: {{env: {variable}}}}}}}",
        )
        self.set(name, value)

    def set(self, name: str, value: str | None) -> None:
        variable = PREFIX + name.upper().replace("-", "_")
        if value is None:
            self._environment.delenv(variable, raising=False)
        else:
            self._environment.setenv(variable, value)
        self.engine.current.secrets.forget()

    def notification(self, name: str, sink: str, more: str = "") -> None:
        body = textwrap.indent(textwrap.dedent(sink).strip(), "    ")
        self.world.write(
            f"notification-{name}.yaml", f"kind: Notification\nmetadata: {{name: {name}}}\nspec:\n  {more}\n  sink:\n{body}"
        )

    async def turn(self) -> None:
        """Sync, compute the statuses, and send what is due."""
        await self.within.sync()
        await self.look()

    async def look(self) -> None:
        await self.engine.finish_pass()
        await self.send()

    async def send(self) -> None:
        await self.within.working.outbox.settle(20)

    def notices(self, *, waiting: bool = False) -> list[Notice]:
        n = incident_tables.notice
        query = select(n.c.payload).where(n.c.done_at == 0 if waiting else n.c.seq > 0).order_by(n.c.seq)
        with self.store._read() as connection:
            return [decode(Notice, payload) for payload in connection.execute(query).scalars()]

    def phases(self) -> list[str]:
        return [notice.phase.value for notice in self.notices()]

    def delivering(self, name: str) -> Condition:
        status = self.engine.current.view.statuses[ResourceId(Kind.NOTIFICATION.value, "default", name)]
        condition = status.condition(ConditionType.DELIVERING)
        assert condition is not None
        return condition

    def problems(self) -> list[str]:
        return [str(problem) for problem in self.engine.current.active.problems]


def reference(name: str) -> str:
    return f"{{valueFrom: {{secret: {{name: {name}, key: value}}}}}}"


def messages(server: Any) -> list[dict[str, Any]]:
    """Return the messages in all channels of a simulated Slack."""
    return [row for rows in server.admin.state()["messages"].values() for row in rows]
