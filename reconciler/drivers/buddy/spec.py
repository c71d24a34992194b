"""Buddy, as data: its regions and installations of one's own.

Facts: the provider's documentation of its API (integrations, webhooks, executions). No limit is published; every answer
carries what is left.
"""

from reconciler.drivers.buddy.kinds import BuddyIntegrationSpec
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

EVENTS = ("EXECUTION_FAILED", "EXECUTION_FINISHED", "EXECUTION_STARTED", "EXECUTION_SUCCESSFUL", "PUSH")
_EXECUTIONS = tuple(event for event in EVENTS if event.startswith("EXECUTION_"))
_WORKSPACE = r"[a-z0-9](?:[a-z0-9_-]{0,98}[a-z0-9])?"
_PROJECT = r"[A-Za-z0-9_.-]{1,255}"
_TOKEN_TYPES = (
    "GIT_HUB", "GIT_LAB", "DIGITAL_OCEAN", "SENTRY", "SENTRY_ENTERPRISE", "ROLLBAR", "DATADOG", "HONEYBADGER", "VULTR", "LOGGLY",
    "FIREBASE", "GHOST_INSPECTOR", "NEW_RELIC", "SHOPIFY",
)  # fmt: skip
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
