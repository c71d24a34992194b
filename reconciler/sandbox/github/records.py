"""The state of the GitHub simulator, by type. The parts' ``restored`` fill in what a state from outside leaves out."""

from __future__ import annotations

from typing import NotRequired, TypedDict


class GitHubToken(TypedDict):
    """A token; ``kind`` is classic, fine or installation, ``repos`` are patterns or ``*``.

    One that an App minted has an ``installation_id``, ends at ``ends_at`` (epoch seconds), and is narrowed to ``repository_ids``
    (None: all of its installation).
    """

    login: str
    kind: str
    scopes: list[str]
    permissions: dict[str, str]
    repos: str | list[str]
    expires_at: str
    installation_id: int
    ends_at: float
    repository_ids: list[int] | None


class GitHubAccount(TypedDict):
    """A user or an organization."""

    id: int


class CommitFields(TypedDict, total=False):
    """What is known of a commit."""

    message: str
    author: str
    at: str


class GitHubRepository(TypedDict):
    """A repository; branches and tags lead to SHAs, ``tag_objects`` lead from annotated tags to commits."""

    id: int
    private: bool
    archived: bool
    default_branch: str
    branches: dict[str, str]
    tags: dict[str, str]
    commits: dict[str, CommitFields]
    tag_objects: dict[str, str]
    behind: NotRequired[list[str]]
    conflicts: NotRequired[list[str]]
    collaborators: NotRequired[dict[str, str]]
    """Login → ``admin``, ``write`` or ``read``."""


class StoredHook(TypedDict):
    """A hook, with its secret in ``config``."""

    id: int
    name: str
    active: bool
    events: list[str]
    config: dict[str, str]
    created_at: str
    updated_at: str
    last_response: dict[str, object]


class SentRequest(TypedDict):
    """What was sent to a hook."""

    headers: dict[str, str]
    payload: dict[str, object]


class StoredApp(TypedDict):
    """A GitHub App; ``public_key`` is PEM, ``hook`` is where its events go (inactive without a URL)."""

    id: int
    client_id: str
    slug: str
    name: str
    owner: str
    description: str | None
    external_url: str
    public_key: str
    permissions: dict[str, str]
    events: list[str]
    hook: StoredHook
    created_at: str
    updated_at: str


class StoredInstallation(TypedDict):
    """An App on an account. Its permissions and events stay behind the App's until the account's owner accepts them.

    ``repository_ids`` count with the selection ``selected`` only.
    """

    id: int
    app_id: int
    account: str
    repository_selection: str
    repository_ids: list[int]
    permissions: dict[str, str]
    events: list[str]
    suspended_at: str | None
    suspended_by: str | None
    created_at: str
    updated_at: str


class ManifestCode(TypedDict):
    """The one-time code of a manifest that a person confirmed."""

    owner: str
    manifest: dict[str, object]
    ends_at: float


class StoredDelivery(TypedDict):
    """A delivery, as its own answer shows it."""

    id: int
    guid: str
    delivered_at: str
    redelivery: bool
    duration: float
    status: str
    status_code: int
    event: str
    action: object
    installation_id: int | None
    repository_id: object
    throttled_at: None
    url: str
    request: SentRequest
    response: dict[str, object]


class InputDeclaration(TypedDict, total=False):
    """An input of a dispatch."""

    required: bool
    default: object
    type: str
    options: list[str]


class WorkflowTrigger(TypedDict, total=False):
    """The filter of one event in ``on``."""

    inputs: dict[str, InputDeclaration | None] | None
    types: list[str]
    branches: list[str]
    tags: list[str]


class JobDeclaration(TypedDict, total=False):
    """A job of a workflow."""

    name: str
    result: str
    steps: list[str]
    labels: list[str]
    logs: list[str]


class GitHubWorkflow(TypedDict):
    """A workflow; a duration of None lasts until an action ends the run."""

    id: int
    name: str
    path: str
    state: str
    on: dict[str, WorkflowTrigger | None]
    created_at: str
    run_name: str
    queued_s: float
    duration_s: float | None
    result: str
    logs: list[str] | dict[str, list[str]]
    jobs: list[JobDeclaration]
    outputs: dict[str, object]
    artifacts: dict[str, dict[str, str]]


class RunJob(TypedDict):
    """A job of an attempt, and how it is planned to end."""

    id: int
    attempt: int
    name: str
    result: str
    run_result: str
    steps: list[str]
    labels: list[str]
    logs: list[str]


class StoredArtifact(TypedDict):
    """An artifact that an attempt leaves when it has ended."""

    id: int
    name: str
    files: dict[str, str]


class HeldStatus(TypedDict):
    """The status that an action keeps an attempt in, and since when."""

    status: str
    at: float


class RunAttempt(TypedDict):
    """An attempt of a run with its plan, as `reconciler.sandbox.github.run_shapes` says."""

    number: int
    actor: str
    started_at: float
    queued_s: float
    duration_s: float | None
    result: str
    ended_at: float | None
    conclusion: str | None
    held: HeldStatus | None
    sent: list[str]
    jobs: list[RunJob]
    artifacts: list[StoredArtifact]


class StoredRun(TypedDict):
    """A workflow run."""

    id: int
    repository_id: int
    workflow_id: int
    name: str
    path: str
    run_number: int
    event: str
    ref: str
    head_branch: str
    head_sha: str
    actor: str
    inputs: dict[str, object]
    client_payload: dict[str, object]
    created_at: float
    check_suite_id: int
    attempts: list[RunAttempt]
    display_title: str


class DeploymentPlan(TypedDict):
    """What a request or a run says of a deployment."""

    sha: str
    ref: str
    task: str
    payload: object
    environment: str
    description: str | None
    transient_environment: bool
    production_environment: bool


class StatusFields(TypedDict):
    """What a request says of a deployment's status."""

    state: str
    description: str
    log_url: str
    environment_url: str


class StoredDeploymentStatus(StatusFields):
    """A status of a deployment."""

    id: int
    environment: str
    creator: str
    created_at: str


class StoredDeployment(DeploymentPlan):
    """A deployment with its statuses, oldest first; ``run_id`` is that of the run whose job made it."""

    id: int
    original_environment: str
    creator: str
    created_at: str
    updated_at: str
    run_id: int | None
    statuses: list[StoredDeploymentStatus]


class StoredCommitStatus(TypedDict):
    """A status of a commit."""

    id: int
    sha: str
    context: str
    state: str
    target_url: str | None
    description: str | None
    creator: str
    created_at: str


class StoredPull(TypedDict):
    """A pull request; ``head_repo`` is None where the fork was deleted, ``files`` are the names of the changed files."""

    number: int
    id: int
    title: str
    author: str
    state: str
    draft: bool
    head_repo: str | None
    head_ref: str
    head_sha: str
    base_ref: str
    base_sha: str
    files: list[str]
    merged_at: str | None
    merged_by: str | None
    merge_commit_sha: str | None
    created_at: str
    updated_at: str
    closed_at: str | None


class StoredCheck(TypedDict):
    """A check run. Only the App that made it can change it."""

    id: int
    app_id: int
    name: str
    head_sha: str
    external_id: str
    details_url: str
    status: str
    conclusion: str | None
    started_at: str | None
    completed_at: str | None
    output: dict[str, object]
    annotations: list[dict[str, object]]
    actions: list[dict[str, object]]


class StoredComment(TypedDict):
    """A comment of an issue or a pull request; ``app_id`` is 0 for one that no App wrote."""

    id: int
    number: int
    author: str
    app_id: int
    body: str
    created_at: str
    updated_at: str


class GitHubRecords(TypedDict):
    """The whole state. Hooks are by owner (``repos/101``, ``orgs/acme``), workflows by name, manifests by code, the rest by id."""

    tokens: dict[str, GitHubToken]
    orgs: dict[str, GitHubAccount]
    users: dict[str, GitHubAccount]
    repos: dict[str, GitHubRepository]
    renamed: dict[str, int]
    hooks: dict[str, list[StoredHook]]
    deliveries: dict[str, list[StoredDelivery]]
    workflows: dict[str, list[GitHubWorkflow]]
    runs: dict[str, list[StoredRun]]
    deployments: dict[str, list[StoredDeployment]]
    commit_statuses: dict[str, list[StoredCommitStatus]]
    pulls: dict[str, list[StoredPull]]
    checks: dict[str, list[StoredCheck]]
    comments: dict[str, list[StoredComment]]
    apps: dict[str, StoredApp]
    installations: dict[str, StoredInstallation]
    manifests: dict[str, ManifestCode]
