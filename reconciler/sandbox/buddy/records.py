"""The state of the Buddy simulator, by type. `BuddyState.restored` fills in what a state from outside leaves out."""

from __future__ import annotations

from typing import NotRequired, TypedDict


class BuddyToken(TypedDict, total=False):
    """A token; without scopes it may do nothing."""

    name: str
    scopes: list[str]
    expires_at: str | None


class BuddyIdentityProvider(TypedDict, total=False):
    """Whom Buddy trusts; every condition must hold."""

    issuer: str
    audience: str
    conditions: dict[str, str]
    scopes: list[str]
    lifetime_s: float


class PipelineEvent(TypedDict, total=False):
    """What starts a pipeline; without refs, on any of them."""

    type: str
    refs: list[str]


class PipelineAction(TypedDict, total=False):
    """One action of a pipeline, and what it does in each execution."""

    id: int
    name: str
    type: str
    logs: list[str]
    outputs: dict[str, object]
    result: str
    error: str


class StoredBuddyPipeline(TypedDict):
    """A pipeline of a project; ``behaviour`` is as `reconciler.sandbox.buddy.pipelines` says."""

    id: int
    name: str
    identifier: NotRequired[str]
    refs: NotRequired[list[str]]
    events: NotRequired[list[PipelineEvent]]
    disabled: NotRequired[bool]
    behaviour: NotRequired[dict[str, object]]
    actions: NotRequired[list[PipelineAction]]


class StoredBuddyProject(TypedDict):
    """A project with its pipelines."""

    name: str
    pipelines: list[StoredBuddyPipeline]


class BuddyBehaviour(TypedDict):
    """How an execution of a pipeline goes."""

    duration_s: float
    queued_s: float
    result: str
    logs: list[str]
    outputs: dict[str, object]
    error: str
    waits_for: str
    terminating_s: float


class OutputVariable(TypedDict):
    """A variable that an action sets."""

    key: str
    value: str
    type: str
    encrypted: bool


class ActionPlan(TypedDict):
    """What one action does in one execution."""

    id: int
    execution_id: str
    name: str
    type: str
    result: str
    error: str
    logs: list[str]
    outputs: list[OutputVariable]


class ExecutionPlan(TypedDict):
    """One attempt of an execution. Times are epoch seconds."""

    attempt: int
    queued_s: float
    duration_s: float
    result: str
    waits_for: str
    terminating_s: float
    made_at: float
    resumed_at: float | None
    stopped_at: float | None
    finished_at: float | None
    actions: list[ActionPlan]
    sent: list[str]


class ExecutedPipeline(TypedDict):
    """What an execution shows of its pipeline."""

    id: int
    identifier: str
    name: str


class StoredBuddyExecution(ExecutionPlan):
    """An execution of a pipeline, with its latest attempt."""

    id: int
    workspace: str
    project: str
    pipeline: ExecutedPipeline
    created_at: float
    triggered_on: object
    to_revision: object
    branch: object
    tag: object
    pull_request: object
    from_revision: object
    environment: object
    comment: str
    priority: object
    refresh: bool
    clear_cache: bool
    variables: list[dict[str, object]]
    creator: object


class WebhookFields(TypedDict):
    """What a request sets of a webhook; no projects means all of them."""

    target_url: str
    events: list[str]
    secret_key: object
    projects: list[str]


class StoredBuddyWebhook(WebhookFields):
    """A webhook; ``requests`` are its latest deliveries, newest first."""

    id: int
    requests: list[dict[str, object]]


class StoredBuddyWorkspace(TypedDict):
    """A workspace; its integrations are as requests sent them, with their secrets."""

    id: int
    integrations: list[dict[str, object]]
    webhooks: list[StoredBuddyWebhook]
    projects: list[StoredBuddyProject]
    members: list[dict[str, object]]
    groups: list[dict[str, object]]
    executions: list[StoredBuddyExecution]
    api_enabled: NotRequired[bool]


class BuddyDelivery(TypedDict):
    """One event that was sent to a webhook, or lost."""

    id: int
    at: float
    workspace: str
    webhook_id: int
    event: str
    url: str
    body: str
    status: int
    outcome: str


class BuddyRecords(TypedDict):
    """The whole state."""

    tokens: dict[str, BuddyToken]
    oidc_providers: dict[str, BuddyIdentityProvider]
    issuers: NotRequired[dict[str, str]]
    workspaces: dict[str, StoredBuddyWorkspace]
    deliveries: list[BuddyDelivery]
