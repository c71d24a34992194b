"""The parts of the simulated Semaphore that run pipelines, wired together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from reconciler.sandbox.app import Action, Route
from reconciler.sandbox.runs import DELIVERY_DEFAULTS, RUN_DEFAULTS
from reconciler.sandbox.semaphore import oidc as semaphore_oidc
from reconciler.sandbox.semaphore.delivery import NotificationSender
from reconciler.sandbox.semaphore.jobs import Jobs
from reconciler.sandbox.semaphore.oidc import OrganizationJobTokens
from reconciler.sandbox.semaphore.pipelines import SemaphorePipelines
from reconciler.sandbox.semaphore.promotions import Promotions
from reconciler.sandbox.semaphore.records import StoredSemaphorePipeline
from reconciler.sandbox.semaphore.state import SemaphoreState
from reconciler.sandbox.semaphore.tasks import Tasks
from reconciler.sandbox.semaphore.workflows import Workflows

DEFAULTS: Mapping[str, object] = {**RUN_DEFAULTS, **DELIVERY_DEFAULTS}
OPEN = semaphore_oidc.ROOT
"""Where paths begin that need no token."""


class Plumber:
    """Workflows, their pipelines with jobs and promotions, tasks, notifications, and the tokens of jobs."""

    def __init__(self, app: SemaphoreState) -> None:
        self.notifier = NotificationSender(app)
        self.pipelines = SemaphorePipelines(app, self._pipeline_done)
        self.workflows = Workflows(app, self.pipelines)
        self.promotions, self.tasks = Promotions(app, self.pipelines), Tasks(app, self.workflows)
        self.jobs, self.tokens = Jobs(app, self.pipelines), OrganizationJobTokens(app, self.pipelines)

    def routes(self) -> Iterable[Route]:
        """Return the paths of all parts."""
        for part in (self.workflows, self.pipelines, self.promotions, self.tasks, self.jobs, self.tokens):
            yield from part.routes()

    def actions(self) -> Mapping[str, Action]:
        """What can be done without an API call; the methods say what each takes."""
        return {
            "run_pipeline": self.workflows.push,
            "finish_pipeline": self.pipelines.finish,
            "lose_workflow": self.workflows.lose,
            "promote": self.promotions.by_hand,
            **self.tokens.actions(),
        }

    def restored(self) -> None:
        """Fill what a state from outside leaves out, and resume its pipelines."""
        for part in (self.notifier, self.workflows, self.tasks, self.pipelines):
            part.restored()

    def _pipeline_done(self, pipeline: StoredSemaphorePipeline) -> None:
        self.notifier.pipeline_done(pipeline)
        self.promotions.pipeline_done(pipeline)
