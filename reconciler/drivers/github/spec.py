"""GitHub, as data: github.com, ghe.com and GitHub Enterprise Server.

Facts: GitHub's documentation of webhook events and payloads, rate limits, and names of accounts and repositories.
"""

from reconciler.drivers.capabilities import (
    AccountRule,
    ExecutorRule,
    ExportRule,
    NameRule,
    PayloadPaths,
    ProviderLimits,
    ProviderSpec,
)

EVENTS = (
    "*", "branch_protection_configuration", "branch_protection_rule", "check_run", "check_suite", "code_scanning_alert",
    "commit_comment", "create", "custom_property", "custom_property_values", "delete", "dependabot_alert", "deploy_key",
    "deployment", "deployment_protection_rule", "deployment_review", "deployment_status", "discussion", "discussion_comment",
    "fork", "gollum", "issue_comment", "issue_dependencies", "issues", "label", "member", "membership", "merge_group", "meta",
    "milestone", "org_block", "organization", "package", "page_build", "project", "project_card", "project_column",
    "projects_v2", "projects_v2_item", "projects_v2_status_update", "public", "pull_request", "pull_request_review",
    "pull_request_review_comment", "pull_request_review_thread", "push", "registry_package", "release", "repository",
    "repository_advisory", "repository_dispatch", "repository_import", "repository_ruleset", "repository_vulnerability_alert",
    "secret_scanning_alert", "secret_scanning_alert_location", "secret_scanning_scan", "security_and_analysis", "star",
    "status", "sub_issues", "team", "team_add", "watch", "workflow_dispatch", "workflow_job", "workflow_run",
)  # fmt: skip
"""Events that a webhook of a repository or an organization can subscribe to."""
_ACCOUNT = r"[A-Za-z0-9][A-Za-z0-9_-]{0,38}"
_REPOSITORY = r"(?!\.{1,2}\Z)(?!.*\.[gG][iI][tT]\Z)[A-Za-z0-9._-]{1,100}"
_RESERVED = frozenset({
    "orgs", "organizations", "users", "enterprises", "settings", "apps", "marketplace", "login", "about", "topics", "search",
    "sponsors", "features", "notifications", "repos", "api", "new", "explore", "collections", "codespaces", "issues", "pulls",
})  # fmt: skip
_PULL_REQUEST = ("pull_request", "pull_request_review", "pull_request_review_comment", "pull_request_review_thread")
_PULL_SHA = (("pull_request", "head", "sha"),)
_PAYLOAD = PayloadPaths(
    commit={
        "push": (("head_commit", "id"),),  # of an annotated tag `after` is the tag object, which takes no status
        **dict.fromkeys((*_PULL_REQUEST, "pull_request_target"), _PULL_SHA),
        "merge_group": (("merge_group", "head_sha"),),
        "workflow_run": (("workflow_run", "head_sha"),),
        "workflow_job": (("workflow_job", "head_sha"),),
        "check_run": (("check_run", "head_sha"),),
        "check_suite": (("check_suite", "head_sha"),),
        "deployment": (("deployment", "sha"),),
        "deployment_status": (("deployment", "sha"),),
        "deployment_review": (("workflow_run", "head_sha"),),
        "deployment_protection_rule": (("deployment", "sha"),),
        "status": (("sha",),),
        "commit_comment": (("comment", "commit_id"),),
        "code_scanning_alert": (("commit_oid",), ("alert", "most_recent_instance", "commit_sha")),
        "secret_scanning_alert_location": (("location", "details", "commit_sha"),),
        "page_build": (("build", "commit"),),
        "package": (("package", "package_version", "target_oid"),),
        "registry_package": (("registry_package", "package_version", "target_oid"),),
    },
    ref={
        "push": (("ref",),),
        **dict.fromkeys(_PULL_REQUEST, (("pull_request", "head", "ref"),)),
        "merge_group": (("merge_group", "head_ref"),),
        "workflow_run": (("workflow_run", "head_branch"),),
        "workflow_job": (("workflow_job", "head_branch"),),
        "check_run": (("check_run", "check_suite", "head_branch"),),
        "check_suite": (("check_suite", "head_branch"),),
        "deployment": (("deployment", "ref"),),
        "deployment_status": (("deployment", "ref"),),
        "deployment_protection_rule": (("deployment", "ref"),),
        "release": (("release", "tag_name"),),
        "create": (("ref",),),
        "workflow_dispatch": (("ref",),),
        "repository_dispatch": (("branch",),),
        "code_scanning_alert": (("ref",),),
    },
    message=(
        ("head_commit", "message"),
        ("merge_group", "head_commit", "message"),
        ("pull_request", "title"),
        ("workflow_run", "head_commit", "message"),
        ("workflow_run", "display_title"),
        ("check_suite", "head_commit", "message"),
        ("commit", "commit", "message"),
        ("release", "name"),
        ("deployment", "description"),
        ("issue", "title"),
        ("discussion", "title"),
    ),
    author=(
        ("head_commit", "author", "username"),
        ("head_commit", "author", "name"),
        ("merge_group", "head_commit", "author", "name"),
        ("pull_request", "user", "login"),
        ("workflow_run", "head_commit", "author", "name"),
        ("check_suite", "head_commit", "author", "name"),
        ("commit", "author", "login"),
        ("commit", "commit", "author", "name"),
        ("release", "author", "login"),
        ("deployment", "creator", "login"),
        ("issue", "user", "login"),
        ("comment", "user", "login"),
    ),
    sender=(("sender", "login"), ("pusher", "name"), ("invoker", "name")),
)

SPEC = ProviderSpec(
    name="github",
    title="GitHub",
    spellings=("GIT_HUB",),
    auth=("token", "github-app", "basic"),
    why_not={"oidc": "GitHub's API does not accept ID tokens; use token or github-app"},
    needs_url=True,
    account=AccountRule(
        what="GitHub account",
        example="https://github.com/ACCOUNT",
        path=f"{_ACCOUNT}(?:/{_REPOSITORY})?",
        reserved=_RESERVED,
    ),
    hosts=("api.github.com",),
    limits=ProviderLimits(
        writes_per_minute=80, writes_per_hour=500, points_per_minute=900, read_points=1, write_points=5, concurrent=100
    ),
    sources={
        "repository": NameRule(
            pattern=f"(?:{_ACCOUNT}/)?{_REPOSITORY}",
            hint="Write `repo`, or `owner/repo`.",
            match=rf"(?:{_ACCOUNT}/)?[A-Za-z0-9._*?\[\]!-]+",
            match_hint="For example `svc-*`, or `owner/svc-*`.",
        ),
        "organization": NameRule(
            pattern=_ACCOUNT,
            hint="Write its name as in its URL, without a slash.",
            match="",
            match_hint="Use `name` or `names`.",
        ),
    },
    fold_names=True,
    events=EVENTS,
    payload=_PAYLOAD,
    executor=ExecutorRule(
        resource="repository",
        qualifier="account",
        required=("workflow", "eventType"),
        most_keys={"clientPayload": 9},
        most_keys_hint="GitHub takes ten, and one is the execution's id. Put some of them into an object of their own.",
    ),
    guarded=True,
    job_tokens=True,
    takes_statuses=True,
    commit_page="/{repository}/commit/{sha}",
    sink="github-commit-status",
    export=(
        ExportRule(type="github/repository-webhook", resource="repository", qualified=True),
        ExportRule(type="github/organization-webhook", resource="organization", qualified=False),
    ),
    token_patterns=(r"gh[pour]_[A-Za-z0-9]{20,255}", r"ghs_[A-Za-z0-9._]{20,2000}", r"github_pat_[A-Za-z0-9_]{22,255}"),
)
