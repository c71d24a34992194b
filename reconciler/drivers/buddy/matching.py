"""What the pattern in ``resource.match`` of an event source finds."""

from __future__ import annotations

from fnmatch import fnmatchcase

from reconciler.drivers.base import Api
from reconciler.drivers.buddy import lookup as names
from reconciler.drivers.buddy.compile import required_workspace
from reconciler.model.errors import ValidationFailed
from reconciler.model.resources import Resource
from reconciler.model.values import JsonObject


async def matched(api: Api, resource: Resource) -> JsonObject:
    """Return ``{"projects": […]}`` or ``{"workspaces": […]}``, empty without a pattern; raises `ValidationFailed` if none matches."""
    target = resource.spec.get("resource") or {}
    pattern = str(target.get("match") or "")
    if not pattern:
        return {}
    if target.get("type") == "workspace":
        what, known = "workspaces", await names.workspaces(api)
    else:
        what, known = "projects", await names.project_names(api, required_workspace(resource, "", api.connection.account))
    found = [name for name in known if fnmatchcase(name, pattern)]
    if not found:
        raise ValidationFailed(
            f"{resource.id}: none of the {what} that the token sees matches '{pattern}'",
            hint="Mend `resource.match`; nothing is made, since a webhook without projects gets all events.",
        )
    return {what: found}
