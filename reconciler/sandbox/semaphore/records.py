"""The state of the Semaphore simulator, by type. The parts' ``restored`` fill in what a state from outside leaves out."""

from __future__ import annotations

from typing import NotRequired, TypedDict


class SemaphoreOrganization(TypedDict):
    """The organization that the simulator is."""

    name: str
    id: str


class SemaphoreToken(TypedDict, total=False):
    """A token; without permissions it may do nothing."""

    user: str
    permissions: list[str]


class StoredNotificationSpec(TypedDict):
    """Rules as requests sent them."""

    rules: list[dict[str, object]]


class StoredNotification(TypedDict):
    """A notification. Times are epoch seconds, as text."""

    id: str
    name: str
    spec: StoredNotificationSpec
    create_time: NotRequired[str]
    update_time: NotRequired[str]
    creator_id: NotRequired[str]


class SecretData(TypedDict):
    """What a secret holds: variables have ``name`` and ``value``, files ``path`` and ``content``."""

    env_vars: list[dict[str, str]]
    files: list[dict[str, str]]


class StoredSecret(TypedDict):
    """A secret of the organization."""

    id: str
    name: str
    data: SecretData
    create_time: str
    update_time: str


class StoredSemaphoreProject(TypedDict):
    """A project; a hidden one is out of reach of every token."""

    name: str
    hidden: NotRequired[bool]


class StoredSemaphoreWorkflow(TypedDict):
    """A workflow; ``reference`` is whole (``refs/heads/main``)."""

    wf_id: str
    project: str
    project_id: str
    repository_id: str
    branch_id: str
    hook_id: str
    triggered_by: str
    requester_id: str
    rerun_of: str
    request_token: str
    reference: str
    commit_sha: str
    commit_message: str
    created_at: float
    initial_ppl_id: str


class PipelineJob(TypedDict):
    """A job of a pipeline, and the lines that it logs."""

    id: str
    name: str
    logs: list[str]


class PromotionEvent(TypedDict):
    """A promotion that was triggered."""

    name: str
    triggered_at: float
    triggered_by: str
    override: bool
    request_token: str
    scheduled_at: float
    scheduled_pipeline_id: str


class StoredSemaphorePipeline(TypedDict):
    """A pipeline of a workflow. A negative duration lasts until an action finishes it."""

    ppl_id: str
    wf_id: str
    project: str
    name: str
    file: str
    created_at: float
    queued_s: float
    duration_s: float
    result: str
    reason: str
    error: str
    stopping_s: float
    stopped_at: float | None
    finished_at: float | None
    terminated_by: str
    promotion_of: str
    partial_rerun_of: str
    partially_rerun_by: str
    request_token: str
    env_vars: dict[str, str]
    behaviour: dict[str, object]
    promotions: list[dict[str, object]]
    promoted: list[PromotionEvent]
    switch_id: str
    block_id: str
    block: str
    jobs: list[PipelineJob]
    settled: bool


class TaskParameter(TypedDict):
    """A parameter that a task declares."""

    name: str
    required: bool
    description: str
    default_value: str
    options: list[str]
    regex_pattern: str
    validate_input_format: bool


class StoredSemaphoreTask(TypedDict):
    """A task; ``triggers`` are its manual runs, oldest first, as answers show them."""

    id: str
    name: str
    reference: str
    pipeline_file: str
    at: str
    recurring: bool
    paused: bool
    suspended: bool
    description: str
    parameters: list[TaskParameter]
    triggers: list[dict[str, object]]


class SendAttempt(TypedDict):
    """One try to send a notification; status 0 was not answered."""

    at: float
    status: int


class SemaphoreDelivery(TypedDict):
    """One request of a notification that was sent, or lost."""

    id: str
    at: float
    notification: str
    rule: str
    pipeline_id: str
    url: str
    method: str
    headers: dict[str, str]
    body: str
    attempts: list[SendAttempt]
    outcome: str


class SemaphoreRecords(TypedDict):
    """The whole state."""

    organization: SemaphoreOrganization
    tokens: dict[str, SemaphoreToken]
    notifications: list[StoredNotification]
    secrets: list[StoredSecret]
    projects: list[StoredSemaphoreProject]
    workflows: list[StoredSemaphoreWorkflow]
    pipelines: list[StoredSemaphorePipeline]
    heads: dict[str, dict[str, str]]
    behaviour: dict[str, dict[str, object]]
    tasks: dict[str, list[StoredSemaphoreTask]]
    deliveries: list[SemaphoreDelivery]
