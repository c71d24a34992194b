"""Jinja as the dashboard uses it. Everything that a template writes is escaped, and a name that it does not know is an error."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context
from jinja2.runtime import Context

from reconciler.server.dashboard import words

PACKAGE = "reconciler.server.dashboard"


def environment() -> Environment:
    """Return an environment with the filters of all pages; it compiles a template once, when a page first needs it."""
    made = Environment(
        loader=PackageLoader(PACKAGE),
        autoescape=True,
        undefined=StrictUndefined,
        auto_reload=False,
        cache_size=-1,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
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
    return made


@pass_context
def _age(context: Context, text: str) -> str:
    return words.age(text, context["now"])
