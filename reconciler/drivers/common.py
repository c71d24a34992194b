"""What several drivers do alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.drivers.base import Api
from reconciler.model.errors import ValidationFailed
from reconciler.model.executions import Run
from reconciler.model.values import JsonObject, is_no_commit


def require_commit(spec: JsonObject) -> None:
    """Raise `ValidationFailed` where ``spec`` (an intent's) asks for a run on zeros: what Git writes for a ref that was deleted."""
    for field in ("ref", "branch", "tag", "revision"):
        if is_no_commit(spec.get(field)):
            raise ValidationFailed(
                f"`{field}` is {spec[field][:12]}…, which is no commit: the branch or tag was deleted",
                hint="Leave events of deleted refs out with a filter: `!$.deleted`.",
            )


class NoJobToken:
    """Part of an `Executor` whose jobs have no token that names their run: outputs cannot be pushed."""

    def matches_job_token(self, claims: Mapping[str, Any], run: Run) -> bool:
        """Never."""
        return False

    def expects(self, run: Run) -> Mapping[str, tuple[str, ...]]:
        """There is no token."""
        return {}

    def issuer(self, api: Api) -> str:
        """There is none."""
        return ""
