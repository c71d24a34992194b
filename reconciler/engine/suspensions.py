"""Suspensions by manifest (``lifecycle.suspend``) and by command. A suspended Integration suspends all its users."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.engine.compile import users_of
from reconciler.engine.revision import ActiveRevision
from reconciler.model.resources import Resource, ResourceId, Suspension
from reconciler.model.times import has_passed


@dataclass(frozen=True, slots=True)
class Suspensions:
    """All suspensions; ``by_command``: those in the state."""

    by_command: Mapping[ResourceId, Suspension] = field(default_factory=dict)

    def reason(self, identity: ResourceId, resource: Resource | None, now: float) -> str | None:
        """Return the reason why ``identity`` is suspended now, or None. A suspension ends at its ``until``."""
        for suspension in (self.by_command.get(identity), resource.lifecycle.suspend if resource is not None else None):
            if suspension is not None and not has_passed(suspension.until, now):
                return suspension.reason + (f" (until {suspension.until})" if suspension.until else "")
        return None

    def of(self, integration: ResourceId, live: ActiveRevision, now: float) -> dict[ResourceId, str]:
        """Return the suspended resources that use ``integration``, and itself, with their reasons."""
        whole = self.reason(integration, live.resources.get(integration), now)
        suspended = {integration: whole} if whole is not None else {}
        for resource in users_of(integration, live.resources.values()):
            reason = self.reason(resource.id, resource, now) or (
                f"{integration} is suspended: {whole}" if whole is not None else None
            )
            if reason is not None:
                suspended[resource.id] = reason
        return suspended
