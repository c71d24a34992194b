"""Buddy, as data: its regions and installations of one's own, and the spec of a BuddyIntegration in Buddy's own spelling.

Facts: the provider's documentation of its API (integrations, webhooks, executions). No limit is published; every answer
carries what is left.
"""

from __future__ import annotations

from typing import Literal

from reconciler.drivers.capabilities import (
    AccountRule,
    ExecutorRule,
    ExportRule,
    NameRule,
    ObjectKind,
    PayloadPaths,
    ProviderLimits,
    ProviderSpec,
)
from reconciler.model.specs import Credential, Reference, Spec

EVENTS = ("EXECUTION_FAILED", "EXECUTION_FINISHED", "EXECUTION_STARTED", "EXECUTION_SUCCESSFUL", "PUSH")
_EXECUTIONS = tuple(event for event in EVENTS if event.startswith("EXECUTION_"))
_WORKSPACE = r"[a-z0-9](?:[a-z0-9_-]{0,98}[a-z0-9])?"
_PROJECT = r"[A-Za-z0-9_.-]{1,255}"
_TOKEN_TYPES = (
    "GIT_HUB", "GIT_LAB", "DIGITAL_OCEAN", "SENTRY", "SENTRY_ENTERPRISE", "ROLLBAR", "DATADOG", "HONEYBADGER", "VULTR", "LOGGLY",
    "FIREBASE", "GHOST_INSPECTOR", "NEW_RELIC", "SHOPIFY",
)  # fmt: skip


class RoleAssumptionSpec(Spec, frozen=True, rename=None):
    arn: str
    external_id: str | None = None
    duration: int | None = None


class UserSpec(Spec, frozen=True, rename=None):
    access_level: Literal["DENIED", "USE_ONLY", "MANAGE"]
    id: int | None = None
    name: str | None = None
    email: str | None = None


class GroupSpec(Spec, frozen=True, rename=None):
    access_level: Literal["DENIED", "USE_ONLY", "MANAGE"]
    id: int | None = None
    name: str | None = None


class PermissionsSpec(Spec, frozen=True, rename=None):
    admins: Literal["DENIED", "USE_ONLY", "MANAGE"] | None = None
    others: Literal["DENIED", "USE_ONLY", "MANAGE"] | None = None
    users: tuple[UserSpec, ...] = ()
    groups: tuple[GroupSpec, ...] = ()


class AllowedPipelineSpec(Spec, frozen=True, rename=None):
    id: int | None = None
    name: str | None = None
    project: str | None = None


class BuddyIntegrationSpec(Spec, frozen=True, rename=None):
    integration: Reference
    workspace: str
    type: str
    identifier: str | None = None
    name: str | None = None
    scope: Literal["WORKSPACE", "PROJECT", "ENVIRONMENT"] = "WORKSPACE"
    project_name: str | None = None
    auth_type: (
        Literal["OAUTH", "TOKEN", "API_KEY", "APP", "APP_SPRYKER", "TOKEN_APP_EXTENSION", "DEFAULT", "OIDC", "TRUSTED", "APP_RW"]
        | None
    ) = None
    audience: str | None = None
    role_assumptions: tuple[RoleAssumptionSpec, ...] = ()
    permissions: PermissionsSpec | None = None
    all_pipelines_allowed: bool = True
    allowed_pipelines: tuple[int | str | AllowedPipelineSpec, ...] = ()
    region: str | None = None
    token: Credential | None = None
    partner_token: Credential | None = None
    api_key: Credential | None = None
    access_key: Credential | None = None
    secret_key: Credential | None = None
    password: Credential | None = None
    client_token: Credential | None = None
    server_token: Credential | None = None
    application_key: Credential | None = None
    webhook_address: Credential | None = None
    username: str | None = None
    email: str | None = None
    shop: str | None = None
    url: str | None = None
    host_url: str | None = None
    chat_id: str | None = None
    git_hub_user_id: str | None = None
    git_hub_user_name: str | None = None
    app_id: str | None = None
    tenant_id: str | None = None
    subscription_id: str | None = None
    client_id: str | None = None
    server_id: str | None = None
    key_id: Credential | None = None
    slack_user_id: str | None = None
    google_project: str | None = None
    config: str | None = None


_INTEGRATION = ObjectKind(
    kind="BuddyIntegration",
    spec=BuddyIntegrationSpec,
    type_aliases={
        "github": "GIT_HUB",
        "gitlab": "GIT_LAB",
        "aws": "AMAZON",
        "amazon": "AMAZON",
        "azure": "AZURE_CLOUD",
        "AZURE": "AZURE_CLOUD",
        "dockerhub": "DOCKER_HUB",
        "digitalocean": "DIGITAL_OCEAN",
        "google": "GOOGLE_SERVICE_ACCOUNT",
        "newrelic": "NEW_RELIC",
    },
    key_aliases={"access_key_id": "access_key", "secret_access_key": "secret_key"},
    required={
        ("AMAZON", "DEFAULT"): (("access_key", "secret_key"),),
        ("AMAZON", "TRUSTED"): (("role_assumptions",),),
        ("AMAZON", "OIDC"): (("role_assumptions", "audience"),),
        ("AZURE_CLOUD", "DEFAULT"): (("app_id", "tenant_id", "password"),),
        ("AZURE_CLOUD", "OIDC"): (("app_id", "tenant_id", "audience"),),
        ("GOOGLE_SERVICE_ACCOUNT", "DEFAULT"): (("api_key",),),
        ("GOOGLE_SERVICE_ACCOUNT", "OIDC"): (("config", "google_project"),),
        ("PUSHOVER", ""): (("token", "access_key"),),
        ("RACKSPACE", ""): (("username", "token"),),
        ("DO_SPACES", ""): (("access_key", "secret_key"),),
        ("BACKBLAZE", ""): (("key_id", "application_key"),),
        ("UPCLOUD", ""): (("username", "password"),),
        ("DOCKER_HUB", ""): (("username", "password"),),
        ("STACK_HAWK", ""): (("api_key",),),
        ("CLOUDFLARE", ""): (("token",), ("api_key", "email")),
        **{(name, ""): (("token",),) for name in _TOKEN_TYPES},
    },
    scope="scope",
    scopes={"PROJECT": "project_name", "WORKSPACE": ""},
    unless={"allowed_pipelines": "all_pipelines_allowed"},
    lists={"allowed_pipelines": "pipeline"},
    people={("permissions", "users"): "user", ("permissions", "groups"): "group"},
    by_email=(("permissions", "users"),),
)

SPEC = ProviderSpec(
    name="buddy",
    title="Buddy",
    spellings=("BUDDY",),
    auth=("token", "oidc"),
    oidc_needs=("providerId",),
    audience="https://api.buddy.works",
    exchange_audiences=("https://api.buddy.works",),
    account=AccountRule(what="workspace of Buddy", example="https://app.buddy.works/WORKSPACE", path=f"(?:{_WORKSPACE})?"),
    hosts=("api.buddy.works", "api.eu.buddy.works"),
    limits=ProviderLimits(concurrent=16),
    sources={
        "workspace": NameRule(
            pattern=_WORKSPACE,
            hint="Write its domain as in its URL, in lower case.",
            match=r"[a-z0-9_*?\[\]!-]+",
            match_hint="The names of the workspaces are matched: no slash, no space.",
        ),
        "project": NameRule(
            pattern=f"{_PROJECT}(?:/{_PROJECT})?",
            hint="Write `project`, or `workspace/project`, as in its URL.",
            match=r"[A-Za-z0-9._*?\[\]!-]+",
            match_hint="The names of the projects are matched: no slash, no space.",
        ),
    },
    events=EVENTS,
    events_upper=True,
    payload=PayloadPaths(
        commit=dict.fromkeys(_EXECUTIONS, (("execution", "to_revision", "revision"),)),
        ref=dict.fromkeys(_EXECUTIONS, (("execution", "branch", "name"), ("execution", "tag", "name"))),
        message=(("execution", "to_revision", "message"), ("execution", "comment")),
        author=(("execution", "to_revision", "author", "name"), ("execution", "creator", "name")),
    ),
    executor=ExecutorRule(resource="pipeline", qualifier="project", titles=True),
    guarded=True,
    objects=(_INTEGRATION,),
    export=(
        ExportRule(type="buddy/integration", kind=_INTEGRATION.kind),
        ExportRule(type="buddy/webhook", resource="workspace"),
    ),
)
