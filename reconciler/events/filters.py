"""Whether an event passes: the filters of a source and of a connection. Pure; what cannot be evaluated is a reason, no crash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reconciler.manifests.cel import ExpressionError, compile_constraints, compile_filter


@dataclass(frozen=True, slots=True)
class FilterResult:
    """``reason`` is empty when the event passes, else ``filtered`` or ``error``."""

    reason: str = ""
    message: str = ""

    @property
    def passes(self) -> bool:
        """Whether it does."""
        return not self.reason


PASSES = FilterResult()
EVERY = "*"
"""The event type that means all events."""


def check_filters(holder: Mapping[str, Any], payload: Any, headers: Mapping[str, str]) -> FilterResult:
    """Return whether ``payload`` passes the ``filters`` of ``holder``, joined by its ``filterOperator``."""
    filters: Sequence[Mapping[str, Any]] = holder.get("filters", ())
    if not filters:
        return PASSES
    either = holder.get("filterOperator", "and") == "or"
    worst = PASSES
    for one in filters:
        verdict = _one(one, payload, headers)
        if verdict.passes and either:
            return PASSES
        if not verdict.passes:
            if not either:
                return verdict
            worst = verdict if worst.passes or verdict.reason == "error" else worst
    return worst


def _one(one: Mapping[str, Any], payload: Any, headers: Mapping[str, str]) -> FilterResult:
    kind = one["type"]
    try:
        if kind == "payload":
            return _constraints(one["payload"], payload)
        expression = one[kind]["expression"]
        if compile_filter(expression).evaluate(payload, headers):
            return PASSES
    except ExpressionError as error:
        return FilterResult("error", f"{_shown(one)}: {error.message}")
    except (TypeError, RecursionError):
        return FilterResult("error", f"{_shown(one)}: what it looks at is nested too deep")
    return FilterResult("filtered", f"not true: {_shown(one)}")


def _constraints(patterns: Mapping[str, str], payload: Any) -> FilterResult:
    for key, pattern in patterns.items():
        if not compile_constraints({key: pattern}).evaluate(payload):
            return FilterResult("filtered", f"not found: {pattern!r} in {key}")
    return PASSES


def _shown(one: Mapping[str, Any]) -> str:
    inner = one[one["type"]]
    return str(inner.get("expression", inner))[:200]


def check_source(spec: Mapping[str, Any], types: Sequence[str], payload: Any, headers: Mapping[str, str]) -> FilterResult:
    """Return whether a source lets an event through: one of its ``events`` has one of ``types`` and its filters hold; none: all pass.

    Types are compared without regard to case: manifests may use either.
    """
    names = {one.casefold() for one in types}
    declared = spec.get("events") or ()
    if not declared:
        return PASSES
    fitting = [one for one in declared if one["type"] == EVERY or str(one["type"]).casefold() in names]
    if not fitting:
        return FilterResult(
            "filtered", f"the source takes {', '.join(sorted({one['type'] for one in declared}))}, not {types[0]}"
        )
    verdict = PASSES
    for one in fitting:
        verdict = check_filters(one, payload, headers)
        if verdict.passes:
            return PASSES
    return verdict
