"""Suspension: by manifest (``lifecycle.suspend``) or by command; on an Integration it holds for all that uses it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.engine.compile import users_of
from reconciler.engine.revision import ActiveRevision
from reconciler.model.resources import Resource, ResourceId, Suspension
from reconciler.model.times import has_passed


@dataclass(frozen=True, slots=True)
class Suspensions:
    """Those made by command, as the state keeps them."""

    by_command: Mapping[ResourceId, Suspension] = field(default_factory=dict)

    def reason(self, identity: ResourceId, resource: Resource | None, now: float) -> str | None:
        """Return why ``identity`` is suspended now, or None. Both kinds end by themselves at ``until``."""
        for suspension in (self.by_command.get(identity), resource.lifecycle.suspend if resource is not None else None):
            if suspension is not None and not has_passed(suspension.until, now):
                return suspension.reason + (f" (until {suspension.until})" if suspension.until else "")
        return None

    def of(self, integration: ResourceId, live: ActiveRevision, now: float) -> dict[ResourceId, str]:
        """Return what is suspended on ``integration``, with the reason: the resources that use it, and itself."""
        whole = self.reason(integration, live.resources.get(integration), now)
        found = {integration: whole} if whole is not None else {}
        for resource in users_of(integration, live.resources.values()):
            reason = self.reason(resource.id, resource, now) or (
                f"{integration} is suspended: {whole}" if whole is not None else None
            )
            if reason is not None:
                found[resource.id] = reason
        return found
