"""Types of events that each provider sends to a webhook: what a manifest may name. Read by validation and by the drivers."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

GITHUB = (
    "*",
    "branch_protection_configuration",
    "branch_protection_rule",
    "check_run",
    "check_suite",
    "code_scanning_alert",
    "commit_comment",
    "create",
    "custom_property",
    "custom_property_values",
    "delete",
    "dependabot_alert",
    "deploy_key",
    "deployment",
    "deployment_protection_rule",
    "deployment_review",
    "deployment_status",
    "discussion",
    "discussion_comment",
    "fork",
    "gollum",
    "issue_comment",
    "issue_dependencies",
    "issues",
    "label",
    "member",
    "membership",
    "merge_group",
    "meta",
    "milestone",
    "org_block",
    "organization",
    "package",
    "page_build",
    "project",
    "project_card",
    "project_column",
    "projects_v2",
    "projects_v2_item",
    "projects_v2_status_update",
    "public",
    "pull_request",
    "pull_request_review",
    "pull_request_review_comment",
    "pull_request_review_thread",
    "push",
    "registry_package",
    "release",
    "repository",
    "repository_advisory",
    "repository_dispatch",
    "repository_import",
    "repository_ruleset",
    "repository_vulnerability_alert",
    "secret_scanning_alert",
    "secret_scanning_alert_location",
    "secret_scanning_scan",
    "security_and_analysis",
    "star",
    "status",
    "sub_issues",
    "team",
    "team_add",
    "watch",
    "workflow_dispatch",
    "workflow_job",
    "workflow_run",
)
"""Events that a hook on a repository or an organization may ask for (GitHub's "webhook events and payloads")."""
SEMAPHORE = ("pipeline_done",)
BUDDY = ("EXECUTION_FAILED", "EXECUTION_FINISHED", "EXECUTION_STARTED", "EXECUTION_SUCCESSFUL", "PUSH")
EVENT_TYPES: Mapping[str, tuple[str, ...]] = MappingProxyType({"github": GITHUB, "semaphore": SEMAPHORE, "buddy": BUDDY})
"""By type of integration. A source of another type gets whatever is sent to it or made by hand."""


def is_event(kind: str, name: str) -> bool:
    """Whether a source of type ``kind`` can send the event ``name``; Buddy's may be written in any case."""
    known = EVENT_TYPES.get(kind)
    return known is None or (name.upper() if kind == "buddy" else name) in known
