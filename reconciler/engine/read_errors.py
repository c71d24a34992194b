"""Read errors: an integration, a resource or a scope that could not be read, and is missing in the plan."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from reconciler.engine.compile import users_of
from reconciler.engine.reconcile import ReconcileResult
from reconciler.model.errors import NotImplementedYet, Problem, ReconcilerError, Severity
from reconciler.model.objects import Scope
from reconciler.model.resources import Location, Resource, ResourceId

_NAMED = 3
"""Number of scopes with the same error that are named; the others are counted."""


def unread_of(results: Iterable[ReconcileResult], resources: Mapping[ResourceId, Resource]) -> tuple[Problem, ...]:
    """Return a problem for each read error of ``results``, with the manifest that it belongs to."""
    problems: list[Problem] = []
    for result in results:
        if result.error is not None:
            problem = problem_of(result.integration, result.error, resources)
            # A type without a driver in this version is an error only if a resource uses the integration.
            idle = isinstance(result.error, NotImplementedYet) and not users_of(result.integration, resources.values())
            problems.append(dataclasses.replace(problem, severity=Severity.WARNING) if idle else problem)
        problems += [problem_of(resource, error, resources) for resource, error in sorted(result.compiled.stalled.items())]
        problems += _scopes(result, resources)
    return tuple(problems)


def problem_of(resource: ResourceId, error: ReconcilerError, resources: Mapping[ResourceId, Resource], what: str = "") -> Problem:
    """Return ``error`` as a problem of ``resource``, at the place of its manifest."""
    known = resources.get(resource)
    place = error.location or (known.location if known is not None else Location(""))
    return Problem(place, error.code, f"{what or resource}: {error.message}", hint=error.hint, resource=resource)


def _scopes(result: ReconcileResult, resources: Mapping[ResourceId, Resource]) -> list[Problem]:
    """One problem for each error and resource: a rate limit that stops a thousand reads is reported once."""
    owners: dict[Scope, ResourceId] = {record.scope: record.resource for record in result.recorded}
    owners |= {desired.scope: desired.resource for desired in result.compiled.objects}
    groups: dict[tuple[ResourceId, str, str], tuple[ReconcilerError, list[Scope]]] = {}
    for scope, error in sorted(result.scope_errors.items()):
        owner = owners.get(scope, result.integration)
        groups.setdefault((owner, error.code, error.message), (error, []))[1].append(scope)
    return [problem_of(owner, error, resources, _names(scopes)) for (owner, _, _), (error, scopes) in groups.items()]


def _names(scopes: list[Scope]) -> str:
    more = len(scopes) - _NAMED
    return ", ".join(str(scope) for scope in scopes[:_NAMED]) + (f" and {more} more" if more > 0 else "")


__all__ = ["problem_of", "unread_of"]
