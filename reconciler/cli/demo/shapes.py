"""What the demo reads of the simulated providers: their state, and the answers of their APIs."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

# -- GitHub's API -------------------------------------------------------------------------------------------------------


class WebhookConfig(msgspec.Struct, frozen=True):
    url: str
    secret: str = ""


class RepositoryWebhook(msgspec.Struct, frozen=True):
    id: int
    active: bool
    events: tuple[str, ...]
    config: WebhookConfig


# -- GitHub's state -----------------------------------------------------------------------------------------------------


class StoredRequest(msgspec.Struct, frozen=True):
    headers: dict[str, str]
    payload: dict[str, object]


class ListedDelivery(msgspec.Struct, frozen=True):
    """A delivery in GitHub's list. ``status_code`` is 0 while it is under way."""

    id: int
    guid: str
    event: str
    status: str
    status_code: int
    url: str
    request: StoredRequest

    @property
    def commit(self) -> str:
        """The pushed commit; empty for another event."""
        return str(self.request.payload.get("after", ""))


class StoredStatus(msgspec.Struct, frozen=True):
    state: str
    sha: str = ""


class ListedDeployment(msgspec.Struct, frozen=True):
    """``statuses``: oldest first."""

    statuses: tuple[StoredStatus, ...]


class ListedButton(msgspec.Struct, frozen=True):
    label: str
    description: str
    identifier: str


class ShownOutput(msgspec.Struct, frozen=True):
    title: str = ""


class ListedCheck(msgspec.Struct, frozen=True):
    """A check run. ``conclusion`` is None while it is open."""

    id: int
    head_sha: str
    name: str
    conclusion: str | None
    output: ShownOutput
    actions: tuple[ListedButton, ...]


class ListedComment(msgspec.Struct, frozen=True):
    """A comment of a pull request."""

    id: int
    number: int
    author: str
    body: str


class StoredRepository(msgspec.Struct, frozen=True):
    id: int


class GitHubRows(msgspec.Struct, frozen=True):
    """Rows by the id of their repository, deliveries by the id of their webhook."""

    repos: dict[str, StoredRepository]
    deliveries: dict[str, list[ListedDelivery]]
    runs: dict[str, list[object]]
    deployments: dict[str, list[ListedDeployment]]
    commit_statuses: dict[str, list[StoredStatus]]
    checks: dict[str, list[ListedCheck]]
    comments: dict[str, list[ListedComment]]

    def of(self, repository: str) -> str:
        """Return the key of a repository's rows."""
        return str(self.repos[repository].id)


# -- Slack --------------------------------------------------------------------------------------------------------------


class SlackField(msgspec.Struct, frozen=True):
    """A text of a block."""

    text: str


class SlackBlock(msgspec.Struct, frozen=True):
    text: SlackField | None = None
    elements: tuple[SlackField, ...] = ()


class SlackAttachment(msgspec.Struct, frozen=True):
    blocks: tuple[SlackBlock, ...] = ()


class SlackMessage(msgspec.Struct, frozen=True):
    """A message of the bot. ``text``: its headline; ``edits``: how often it was edited."""

    ts: str
    text: str
    edits: int
    attachments: tuple[SlackAttachment, ...] = ()


class SlackRows(msgspec.Struct, frozen=True):
    """``messages``: by channel, oldest first."""

    messages: dict[str, list[SlackMessage]]


# -- Semaphore and Buddy ------------------------------------------------------------------------------------------------


class StoredPipeline(msgspec.Struct, frozen=True):
    ppl_id: str
    wf_id: str


class SemaphoreRows(msgspec.Struct, frozen=True):
    """``pipelines``: every pipeline that was ever started, oldest first."""

    pipelines: list[StoredPipeline]


class NotifiedWebhook(msgspec.Struct, frozen=True):
    endpoint: str


class NotifyTargets(msgspec.Struct, frozen=True):
    webhook: NotifiedWebhook


class NotifyRule(msgspec.Struct, frozen=True):
    notify: NotifyTargets


class NotifyRules(msgspec.Struct, frozen=True):
    rules: list[NotifyRule]


class NotifyMetadata(msgspec.Struct, frozen=True):
    id: str


class ListedNotification(msgspec.Struct, frozen=True):
    metadata: NotifyMetadata
    spec: NotifyRules

    @property
    def endpoint(self) -> str:
        """The URL that the first rule sends to."""
        return self.spec.rules[0].notify.webhook.endpoint


class NotificationList(msgspec.Struct, frozen=True):
    notifications: list[ListedNotification]


class ListedIntegration(msgspec.Struct, frozen=True):
    identifier: str


class IntegrationList(msgspec.Struct, frozen=True):
    integrations: list[ListedIntegration]


class SandboxTokens(msgspec.Struct, frozen=True):
    """The tokens of a simulator, with what each may do."""

    tokens: Mapping[str, object]


# -- the output of `reconciler plan` ------------------------------------------------------------------------------------


class PlannedChange(msgspec.Struct, frozen=True):
    action: str


class PlannedIntegration(msgspec.Struct, frozen=True):
    changes: tuple[PlannedChange, ...]


class PlanOutput(msgspec.Struct, frozen=True):
    sha256: str
    plans: tuple[PlannedIntegration, ...]
