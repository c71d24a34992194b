"""The spec of a BuddyIntegration as a type, in Buddy's own spelling. Data: it knows the model and nothing else."""

from __future__ import annotations

from typing import Literal

from reconciler.model.specs import Credential, Reference, Spec


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
