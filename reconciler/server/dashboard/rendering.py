"""Templates, compiled once. Everything that a template writes is escaped, and a name that it does not know is an error."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context
from jinja2.runtime import Context

from reconciler.model.resources import ResourceId
from reconciler.server.dashboard import layout, words
from reconciler.server.dashboard.actions import ACTIONS, PageAction
from reconciler.server.dashboard.responses import StaticFiles
from reconciler.server.dashboard.visitors import Visitor

PACKAGE = "reconciler.server.dashboard"
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
        environment = Environment(
            loader=PackageLoader(PACKAGE),
            autoescape=True,
            undefined=StrictUndefined,
            auto_reload=False,
            cache_size=-1,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters |= {
            "age": _age,
            "block": words.block,
            "counted": words.counted,
            "name": words.name_of,
            "resource": words.identity,
            "safe_url": words.safe_url,
            "short": words.short,
            "shown": words.shown,
            "state": words.state_of,
            "cause": words.cause_of,
            "tone": words.tone,
        }
        environment.globals |= {
            "url": self.url,
            "resource_url": self.resource_url,
            "event_url": lambda identity: self.url(words.event_place(identity)),
            "static": lambda name: self.url(static.address(name)),
            "took": words.took,
            "navigation": NAVIGATION,
            "box": {"width": layout.WIDTH, "height": layout.HEIGHT},
        }
        self._templates = {name: environment.get_template(name) for name in environment.list_templates(["html"])}

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
        return self._templates[template].render({"now": time.time(), **values})


@pass_context
def _age(context: Context, text: str) -> str:
    return words.age(text, context["now"])


def offers(visitor: Visitor) -> Mapping[str, tuple[PageAction, bool]]:
    """Return the actions with whether this person may do them."""
    return {name: (action, visitor.may(action.operation.access)) for name, action in ACTIONS.items()}
