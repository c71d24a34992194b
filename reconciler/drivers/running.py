"""The contracts of an `Executor` (runs something outside) and a `Reporter` (writes results back).

Like all of a driver: one attempt, typed errors, no state, no retry loop. What must be remembered comes back as an argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from reconciler.drivers.base import Api
from reconciler.model.errors import ValidationFailed
from reconciler.model.executions import DeploymentRequest, LogLines, Run, RunIntent, RunReport, StatusReport
from reconciler.model.values import JsonObject, is_no_commit


class Executor(Protocol):
    """Starts runs and follows them.

    ``settle_s``: how late a run that was started may appear in what `find` reads. After a start in doubt, absence counts only
    that long after the intent. ``poll_s``: how often `poll` is worth its cost while a run goes on; a run whose ``detail`` has a
    ``poll_s`` says so for itself. A run that `start` or `find` returns with ``done`` in its ``detail`` is over already.
    """

    type: str
    needs_integration: bool
    settle_s: float
    poll_s: float
    by_clock: bool
    """Whether `find` looks by time: then the absence of a run proves something only while the provider's clock is known."""

    def permissions(self, executor: JsonObject) -> Mapping[str, str]:
        """Return the permissions that ``executor`` (a Stage's ``spec.executor``) asks of its integration. Pure."""

    async def start(self, api: Api, intent: RunIntent) -> Run | None:
        """Start the run with the correlation id inside. None: it was taken, and its id is to be found with `find`.

        Raises a typed error; `OutcomeUnknown` when in doubt. `ValidationFailed`, `NotFound`, `PermissionDenied` mean: nothing
        was started.
        """

    async def find(self, api: Api, intent: RunIntent) -> Run | None:
        """Return the run that carries the correlation id, looking at everything since ``intent.intended_at`` less two minutes.

        None: a complete look did not show it, or starting twice does what starting once does: it may be started again. Raises
        `Ambiguous` when there may be a run and none can be told.
        """

    async def poll(self, api: Api, intent: RunIntent, run: Run) -> RunReport:
        """Return what the run is like now. Raises `NotFound` when it is not there any more; a run that was started again at the
        provider (another attempt) is followed: the report's `Run` has the newest attempt.
        """

    async def cancel(self, api: Api, intent: RunIntent, run: Run) -> None:
        """Ask the provider to end it; already ended is success."""

    async def logs(self, api: Api, intent: RunIntent, run: Run, cursor: str) -> LogLines:
        """Return the log after ``cursor`` (empty: from the start), as far as the provider shows it now."""

    def about(self, event_type: str, payload: Any) -> str:
        """Return the external id of the run that an event of the provider is about; empty if it is about none. Pure."""

    def attempt_of(self, event_type: str, payload: Any) -> int:
        """Return which attempt of its run an event says the end of; 0 where it says none, or the provider counts none. Pure."""

    def matches_job_token(self, claims: Mapping[str, Any], run: Run) -> bool:
        """Whether a job token's ``claims`` (issuer and audience checked already) are of this run's own job. Pure."""

    def expects(self, run: Run) -> Mapping[str, tuple[str, ...]]:
        """Return the claims that a job token of this run has, each with the values that it may have. Pure."""

    def issuer(self, api: Api) -> str:
        """Return the issuer of the provider's job tokens (OIDC); empty where it has none."""


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


class Reporter(Protocol):
    """Writes results to a code host, each once."""

    async def report(self, api: Api, status: StatusReport) -> bool:
        """Write ``status`` unless the target's list shows that state with our marker already; False if it did. Reads all pages."""

    async def deployment(self, api: Api, request: DeploymentRequest) -> str:
        """Return the id of the Deployment that carries the marker; make it if a complete list has none."""

    async def commit(self, api: Api, repository: str, ref: str) -> str:
        """Return the commit that ``ref`` leads to; raises `NotFound` where it does not exist."""
