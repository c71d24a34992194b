"""The specs of the kinds as types, after the schema accepted a manifest and `normalize` folded it.

Field names are those of the manifests in snake case, enum values are the short forms, and durations are seconds. Defaults are the
schema's; a field without a default in the schema is None, or an empty tuple or mapping, if it is missing. Users see the schema: a test compares each
struct with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import msgspec

from reconciler.drivers.specs import OBJECT_KINDS
from reconciler.manifests.notification_spec import NotificationSpec
from reconciler.manifests.secret_spec import SecretSpec
from reconciler.model.specs import ConnectionSpec, Credential, FilterSpec, Reference, SecretSource, Spec

WeekDay: TypeAlias = Literal["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]


class CanvasSpec(Spec, frozen=True):
    description: str | None = None


class OidcSpec(Spec, frozen=True):
    audience: str | None = None
    subject: str | None = None
    role_arn: str | None = None
    session_name: str | None = None
    duration: float | None = None
    tenant_id: str | None = None
    client_id: str | None = None
    subscription_id: str | None = None
    workload_identity_provider: str | None = None
    service_account: str | None = None
    provider_id: str | None = None


class AppSpec(Spec, frozen=True):
    private_key: Credential
    app_id: int | str | None = None
    client_id: str | None = None
    installation_id: int | str | None = None
    webhook_secret: Credential | None = None


class BasicSpec(Spec, frozen=True):
    username: str
    password: Credential


class AccessKeySpec(Spec, frozen=True):
    id: Credential
    secret: Credential


class RoleSpec(Spec, frozen=True):
    arn: str
    external_id: str | None = None
    duration: float | None = None


class ClientSecretSpec(Spec, frozen=True):
    tenant_id: str
    client_id: str
    secret: Credential
    subscription_id: str | None = None


class AuthSpec(Spec, frozen=True):
    use: Literal["token", "oidc", "github-app", "basic", "access-key", "client-secret", "service-account-key", "none"]
    token: Credential | None = None
    oidc: OidcSpec | None = None
    github_app: AppSpec | None = None
    basic: BasicSpec | None = None
    access_key: AccessKeySpec | None = None
    role_assumptions: tuple[RoleSpec, ...] | None = None
    client_secret: ClientSecretSpec | None = None
    service_account_key: Credential | None = None


class IntegrationOidcSpec(Spec, frozen=True):
    issuers: tuple[str, ...] = ()


class AppWebhookSpec(Spec, frozen=True):
    manage: bool = False


class IntegrationSpec(Spec, frozen=True):
    type: str
    auth: AuthSpec
    url: str | None = None
    api_url: str | None = None
    permissions: Mapping[str, Literal["read", "write", "admin"]] = {}
    oidc: IntegrationOidcSpec | None = None
    app_webhook: AppWebhookSpec | None = None
    region: str | None = None
    account_id: int | str | None = None


class ResourceSpec(Spec, frozen=True):
    type: Literal["repository", "organization", "project", "group", "workspace", "account"]
    name: str | None = None
    names: tuple[str, ...] = ()
    match: str | None = None


class EventSpec(Spec, frozen=True):
    type: str
    filters: tuple[FilterSpec, ...] = ()
    filter_operator: Literal["and", "or"] = "and"


class HourlySpec(Spec, frozen=True):
    minute: int


class DailySpec(Spec, frozen=True):
    time: str


class WeeklySpec(Spec, frozen=True):
    week_day: WeekDay
    time: str


class ScheduleSpec(Spec, frozen=True):
    cron: str | None = None
    time_zone: str = "UTC"
    type: Literal["hourly", "daily", "weekly"] | None = None
    hourly: HourlySpec | None = None
    daily: DailySpec | None = None
    weekly: WeeklySpec | None = None


class WebhookSpec(Spec, frozen=True):
    signature: Literal["hmac-sha256", "standard-webhooks"] = "hmac-sha256"


class EventSourceSpec(Spec, frozen=True):
    type: str | None = None
    integration: Reference | None = None
    resource: ResourceSpec | None = None
    events: tuple[EventSpec, ...] = ()
    schedule: ScheduleSpec | None = None
    webhook: WebhookSpec | None = None
    description: str | None = None
    key_rotation: int = 0


class InputSpec(Spec, frozen=True):
    name: str
    description: str | None = None
    pattern: str | None = None


class TriggeredBySpec(Spec, frozen=True):
    connection: str


class WhenSpec(Spec, frozen=True):
    triggered_by: TriggeredBySpec


class EventDataSpec(Spec, frozen=True):
    connection: str
    expression: str


class LastExecutionSpec(Spec, frozen=True):
    results: tuple[Literal["passed", "failed", "cancelled"], ...]


class ValueFromSpec(Spec, frozen=True):
    event_data: EventDataSpec | None = None
    last_execution: LastExecutionSpec | None = None


class ValueSpec(Spec, frozen=True):
    name: str
    value: str | int | float | bool | None = None
    value_from: ValueFromSpec | None = None


class InputMappingSpec(Spec, frozen=True):
    values: tuple[ValueSpec, ...]
    when: WhenSpec | None = None


class OutputSpec(Spec, frozen=True):
    name: str
    description: str | None = None
    required: bool = False


class StageSecretSpec(Spec, frozen=True):
    name: str
    value_from: SecretSource


class ApprovalSpec(Spec, frozen=True):
    count: int
    approvers: tuple[str, ...] | None = None


class TimeWindowSpec(Spec, frozen=True):
    start: str
    end: str
    week_days: tuple[WeekDay, ...]
    time_zone: str = "UTC"


class ConditionSpec(Spec, frozen=True):
    type: Literal["approval", "time-window"]
    approval: ApprovalSpec | None = None
    time_window: TimeWindowSpec | None = None


class ExecutorResourceSpec(Spec, frozen=True):
    type: Literal["project", "repository", "pipeline"]
    name: str | None = None
    id: int | None = None


class OwnTokenSpec(Spec, frozen=True):
    audience: str


class CallAuthSpec(Spec, frozen=True):
    """Whose identity the requests of an `http` executor carry."""

    integration: str | None = None
    audience: str | None = None
    service: str | None = None
    region: str | None = None
    oidc: OwnTokenSpec | None = None


class ExecutorSpec(Spec, frozen=True):
    type: str
    name: str | None = None
    integration: Reference | None = None
    resource: ExecutorResourceSpec | None = None
    allow: tuple[str, ...] = ()
    spec: Mapping[str, Any] = {}

    @property
    def resource_name(self) -> str:
        return (self.resource.name or "") if self.resource is not None else ""

    @property
    def call_auth(self) -> CallAuthSpec | None:
        """``spec.auth`` of an `http` executor, as the manifest has it: no value of an event becomes part of it."""
        auth = self.spec.get("auth") if self.type == "http" else None
        return msgspec.convert(auth, CallAuthSpec) if auth is not None else None

    @property
    def integration_name(self) -> str:
        """The Integration with whose credential the executor works; empty if there is none."""
        auth = self.call_auth
        named = auth.integration if auth is not None else None
        return self.integration.name if self.integration is not None else named or ""


class RetrySpec(Spec, frozen=True):
    limit: int
    backoff: float | None = None


class DeploymentSpec(Spec, frozen=True):
    create: bool = False
    environment: str | None = None
    ref: str | None = None
    task: str | None = None
    description: str | None = None
    environment_url: str | None = None
    log_url: str | None = None
    transient: bool | None = None
    production: bool | None = None
    automatic: bool = False


class CommitStatusSpec(Spec, frozen=True):
    context: str


class ReportSpec(Spec, frozen=True):
    deployment_status: bool = False
    deployment: DeploymentSpec | None = None
    commit_status: CommitStatusSpec | None = None


class StageSpec(Spec, frozen=True):
    connections: tuple[ConnectionSpec, ...]
    executor: ExecutorSpec
    inputs: tuple[InputSpec, ...] = ()
    input_mappings: tuple[InputMappingSpec, ...] = ()
    outputs: tuple[OutputSpec, ...] = ()
    secrets: tuple[StageSecretSpec, ...] = ()
    conditions: tuple[ConditionSpec, ...] = ()
    concurrency: int = 1
    queue: Literal["fifo", "latest"] = "fifo"
    timeout: float | None = None
    retry: RetrySpec | None = None
    description: str | None = None
    dry_run: bool = False
    report: ReportSpec | None = None


class FieldSpec(Spec, frozen=True):
    name: str
    expression: str


class GroupBySpec(Spec, frozen=True):
    fields: tuple[FieldSpec, ...]


class ConnectionGroupSpec(Spec, frozen=True):
    connections: tuple[ConnectionSpec, ...]
    group_by: GroupBySpec
    timeout: float | None = None
    description: str | None = None
    timeout_behavior: Literal["none", "drop", "emit"] = "none"


KINDS: Mapping[str, type[Spec]] = {
    "Canvas": CanvasSpec,
    "Secret": SecretSpec,
    "Integration": IntegrationSpec,
    "EventSource": EventSourceSpec,
    "Stage": StageSpec,
    "ConnectionGroup": ConnectionGroupSpec,
    "Notification": NotificationSpec,
    **{kind: rules.spec for kind, (_, rules) in OBJECT_KINDS.items()},
}
