"""Pages from templates, and the addresses in them. Jinja and a template are loaded with the first page that needs them: most daemons start
more often than somebody opens their dashboard.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from reconciler.model.resources import ResourceId
from reconciler.server.dashboard import layout, words
from reconciler.server.dashboard.actions import ACTIONS, PageAction
from reconciler.server.dashboard.responses import StaticFiles
from reconciler.server.dashboard.visitors import Visitor

if TYPE_CHECKING:
    from jinja2 import Environment

NAVIGATION = (
    ("/", "Overview"),
    ("/resources", "Resources"),
    ("/graph", "Graph"),
    ("/plan", "Plan"),
    ("/reviews", "Reviews"),
    ("/executions", "Executions"),
    ("/events", "Events"),
    ("/credentials", "Credentials"),
    ("/notifications", "Notifications"),
    ("/audit", "Audit"),
)


class Renderer:
    """The templates. ``base``: path of the dashboard in the eyes of browsers, without a final slash."""

    def __init__(self, base: str, static: StaticFiles) -> None:
        self._base = base
        self._static = static

    @cached_property
    def _environment(self) -> Environment:
        from reconciler.server.dashboard.environment import environment

        made = environment()
        made.globals |= {
            "url": self.url,
            "resource_url": self.resource_url,
            "event_url": lambda identity: self.url(words.event_place(identity)),
            "static": lambda name: self.url(self._static.address(name)),
            "took": words.took,
            "navigation": NAVIGATION,
            "box": {"width": layout.WIDTH, "height": layout.HEIGHT},
        }
        return made

    def url(self, place: str) -> str:
        """Return the address of a page by its path below the dashboard."""
        return self._base + place

    def resource_url(self, resource: object) -> str:
        """Return the address of a resource's page. It takes an identity, a row of the status document, or a name."""
        if isinstance(resource, str):
            resource = words.identity(resource) or ResourceId("", "", resource)
        kind, canvas, name = (str(getattr(resource, part)) for part in ("kind", "canvas", "name"))
        return self.url(words.place_of(ResourceId(kind, canvas, name)))

    def render(self, template: str, values: Mapping[str, Any]) -> str:
        """Return a page."""
        return self._environment.get_template(template).render({"now": time.time(), **values})


def offers(visitor: Visitor) -> Mapping[str, tuple[PageAction, bool]]:
    """Return the actions with whether this person may do them."""
    return {name: (action, visitor.may(action.operation.access)) for name, action in ACTIONS.items()}
