"""Filters of sources and connections: whether an event passes. Pure. A filter that cannot be evaluated is an ``error``, not a crash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reconciler.manifests.cel import ExpressionError, compile_constraints, compile_filter
from reconciler.manifests.kinds import EventSourceSpec, EventSpec
from reconciler.model.json import Json
from reconciler.model.specs import ConnectionSpec, FilterSpec


@dataclass(frozen=True, slots=True)
class FilterResult:
    """``reason`` is empty when the event passes, else ``filtered`` or ``error``."""

    reason: str = ""
    message: str = ""

    @property
    def passes(self) -> bool:
        """Whether the event passes."""
        return not self.reason


PASSES = FilterResult()
EVERY = "*"
"""The event type that means all events."""
MAX_SHOWN = 200
"""Characters of a filter that a reason quotes."""


def check_filters(declared: ConnectionSpec | EventSpec, payload: Json, headers: Mapping[str, str]) -> FilterResult:
    """Return whether ``payload`` passes the ``filters`` of ``declared``, joined by its ``filterOperator``."""
    either = declared.filter_operator == "or"
    worst = PASSES
    for each in declared.filters:
        verdict = _check(each, payload, headers)
        if verdict.passes and either:
            return PASSES
        if not verdict.passes:
            if not either:
                return verdict
            worst = verdict if worst.passes or verdict.reason == "error" else worst
    return worst


def _check(declared: FilterSpec, payload: Json, headers: Mapping[str, str]) -> FilterResult:
    expression = declared.data or declared.header
    shown = (str(declared.payload) if expression is None else expression.expression)[:MAX_SHOWN]
    try:
        if expression is None:
            return _constraints(declared.payload, payload)
        if compile_filter(expression.expression).evaluate(payload, headers):
            return PASSES
    except ExpressionError as error:
        return FilterResult("error", f"{shown}: {error.message}")
    except (TypeError, RecursionError):
        return FilterResult("error", f"{shown}: the value is nested too deeply")
    return FilterResult("filtered", f"not true: {shown}")


def _constraints(patterns: Mapping[str, str], payload: Json) -> FilterResult:
    for key, pattern in patterns.items():
        if not compile_constraints({key: pattern}).evaluate(payload):
            return FilterResult("filtered", f"not found: {pattern!r} in {key}")
    return PASSES


def check_source(spec: EventSourceSpec, types: Sequence[str], payload: Json, headers: Mapping[str, str]) -> FilterResult:
    """Return whether a source accepts an event: one of its ``events`` has one of ``types``, and its filters pass.

    A source without ``events`` accepts all. Types are compared without regard to case, since manifests may use either.
    """
    if not spec.events:
        return PASSES
    names = {name.casefold() for name in types}
    matching = [each for each in spec.events if each.type == EVERY or each.type.casefold() in names]
    if not matching:
        accepted = ", ".join(sorted({each.type for each in spec.events}))
        return FilterResult("filtered", f"the source takes {accepted}, not {types[0]}")
    verdict = PASSES
    for each in matching:
        verdict = check_filters(each, payload, headers)
        if verdict.passes:
            return PASSES
    return verdict
